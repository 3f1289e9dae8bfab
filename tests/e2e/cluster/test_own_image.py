"""A tenant in an image of its own on a real cluster: from nothing but one file, as a user of its own, without a shell.

The image is made and loaded by the test: one static program in C, and nothing beside it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.helpers_cli import kts
from tests.helpers_cluster import on_a_cluster

from kts.k8s.cluster.api import Api
from kts.k8s.cluster.engine import ENGINES
from kts.k8s.objects.names import APP, LABEL_APP
from kts.store import layout

NAMESPACE = "kts-e2e"
IMAGE, OF_ROOT = "localhost/kts-e2e-own:1", "localhost/kts-e2e-own:root"
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static long long now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
int main(void) {
    fprintf(stderr, "uid %d, folder %s, told %s\n", getuid(), getcwd(0, 0), getenv("TOLD"));
    for (long i = 0;; i++) {
        long long began = now(CLOCK_REALTIME), from = now(CLOCK_MONOTONIC);
        while (now(CLOCK_MONOTONIC) - from < 1000000) {}
        printf("KTS_APP,v1,OWN,%ld,%lld,%lld,nan,x\n", i, began, now(CLOCK_REALTIME));
        fflush(stdout);
    }
}
"""
EXPERIMENT = """\
name: own
rounds: 2
precision: null
tenants:
  mine: {workload: command, image: "IMAGE", command: [/own], workdir: /work, env: {TOLD: "$(HOME) $x"}, iterations: 300}
  fft: {workload: fft, size: 32, think_ms: 1, iterations: 60}
"""
pytestmark = [
    *on_a_cluster(),
    pytest.mark.skipif(not any(map(shutil.which, ENGINES)), reason=f"needs one of {', '.join(ENGINES)}"),
    pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler"),
]


@pytest.fixture(scope="module", name="images")
def _images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both images on the node."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.c").write_text(PROGRAM, encoding="utf-8")
    cc = shutil.which("cc") or shutil.which("gcc")
    engine = next(name for name in ENGINES if shutil.which(name))
    _run(cc, "-static", "-O1", "-o", folder / "own", folder / "own.c")
    for image, user in ((IMAGE, "USER 4711:4711\n"), (OF_ROOT, "")):
        (folder / "Containerfile").write_text(f"FROM scratch\nCOPY own /own\n{user}", encoding="utf-8")
        archive = folder / f"{image.rpartition(':')[2]}.tar"
        further = shlex.split(os.environ.get("KTS_BUILD_ARGS", ""))
        _run(engine, "build", *further, "--tag", image, "--file", folder / "Containerfile", folder)
        _run(engine, "save", *(["--format", "oci-archive"] if engine == "podman" else []), "--output", archive, image)
        _run(*shlex.split(os.environ["KTS_IMAGE_LOADER"]), archive)


def _run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    api = Api.connect()
    kinds = ("ConfigMap", "Job", "Pod", "Secret", "Service", "NetworkPolicy")
    left = [f"{k}/{o['metadata']['name']}" for k in kinds for o in api.list(k, NAMESPACE, {LABEL_APP: APP})]
    api.close()
    assert left == []


def _kts_run(folder: Path, *, before: Sequence[object], after: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    where = ["--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu", "--extra", "cpu"]
    if given := os.environ.get("KTS_E2E_IMAGE"):
        where += ["--image", given]
    return kts("run", *before, *where, "--out", folder / "out", "--no-figures", *after)


@pytest.mark.usefixtures("images")
def test_a_program_in_an_image_of_its_own_is_measured(tmp_path: Path) -> None:
    """Else a user would have to put kts into the image, or give up its user, or a shell's absence."""
    path = tmp_path / "own.yaml"
    path.write_text(EXPERIMENT.replace("IMAGE", IMAGE), encoding="utf-8")
    done = _kts_run(tmp_path, before=[path])
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "complete"
    assert sum(block["counts"].get("mine", 0) for block in info["blocks"]) >= 120
    log = (tmp_path / "out" / "logs" / "mine.log").read_text(encoding="utf-8")
    assert "uid 4711, folder /work, told $(HOME) $x\n" in log
    pods = json.loads((tmp_path / "out" / "cluster.json").read_text(encoding="utf-8"))["pods"]
    own = next(pod for pod in pods if pod["tenant"] == "mine")
    assert next(one["image"] for one in own["containers"]) == IMAGE
    told = pq.read_table(tmp_path / "out" / layout.TELEMETRY).to_pylist()
    ran = [row["value"] for row in told if (row["subject"], row["metric"]) == ("mine", "running_threads")]
    assert sum(ran) > 0, "the worker sees into the program's container"


@pytest.mark.usefixtures("images")
def test_a_program_without_a_file_runs_in_its_image_and_one_of_root_is_refused(tmp_path: Path) -> None:
    """Else a user would wait for a timeout that does not say what is wrong."""
    done = _kts_run(tmp_path, before=["--program-image", OF_ROOT], after=["--", "/own"])
    assert done.returncode == 4
    assert "image will run as root" in done.stderr
    assert "runAsUser: 1000" in done.stderr
