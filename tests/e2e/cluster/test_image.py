"""From `kts k8s image` to the published Jobs: a real engine builds, a real cluster loads, kubectl applies."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster

from kts.k8s.cluster.engine import ENGINES
from kts.k8s.objects import Object

NAMESPACE = "kts-e2e-image"
PUBLISHED = "localhost/kts-worker:v1"
BLOCKS = (("0-solo-fft",), ("1-solo-gemm",), ("2-shared-fft", "2-shared-gemm"))
EXPERIMENT = """\
name: published
design: classic
tenants:
  fft: {workload: fft, size: 64, think_ms: 5, iterations: 300}
  gemm: {workload: gemm, size: 64, think_ms: 5, iterations: 300}
"""
pytestmark = [
    *on_a_cluster(),
    pytest.mark.skipif(not any(map(shutil.which, ENGINES)), reason=f"needs one of {', '.join(ENGINES)}"),
    NEEDS_KUBECTL,
]


def kubectl(*arguments: str, given: str | None = None) -> str:
    """What it prints; the test fails if it does."""
    done = subprocess.run(
        ["kubectl", "--namespace", NAMESPACE, *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_published_jobs_run_by_kubectl_alone_and_attach_finishes(tmp_path: Path) -> None:
    """Else what is rendered would name an image that nobody loaded, or need kts to become a result."""
    loading = ("k8s", "image", "--extra", "cpu", "--tag", PUBLISHED)
    loaded = kts(*loading)
    assert (loaded.returncode, loaded.stdout) == (0, f"{PUBLISHED}\n"), loaded.stderr
    again = kts(*loading)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{PUBLISHED}\n", ""), "loaded twice"
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    place = ("--extra", "cpu", "--image", PUBLISHED, "--namespace", NAMESPACE, "--run-id", "r7")
    rendered = kts("k8s", "render", tmp_path / "experiment.yaml", *place)
    assert rendered.returncode == 0, rendered.stderr
    jobs = [obj for obj in yaml.safe_load_all(rendered.stdout) if obj["kind"] == "Job"]
    assert [job["metadata"]["name"] for job in jobs] == [f"kts-r7-{name}" for block in BLOCKS for name in block]
    for job in jobs:
        assert as_published(job)
    try:
        kubectl("apply", "-f", "-", given=rendered.stdout)
        for block in BLOCKS:
            for name in block:
                kubectl("patch", "job", f"kts-r7-{name}", "-p", '{"spec":{"suspend":false}}')
            kubectl("wait", "--for=condition=complete", "--timeout=180s", *(f"job/kts-r7-{name}" for name in block))
        logs = tmp_path / "logs"
        logs.mkdir()
        for name in (name for block in BLOCKS for name in block):
            text = kubectl("logs", f"job/kts-r7-{name}")
            assert text.count("KTS_APP,v1,") == 300
            (logs / f"{name}.log").write_text(text, encoding="utf-8")
        attached = kts("attach", "r7", "--namespace", NAMESPACE, "--out", tmp_path / "out", "--no-figures")
        assert attached.returncode == 0, attached.stderr
        assert json.loads((tmp_path / "out" / "run.json").read_bytes())["outcome"]["kind"] == "complete"
        assert kubectl("get", "configmap,secret,service,networkpolicy,job,pod", "-l", "kts.dev/run", "-o", "name") == ""
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--timeout=180s")
    assert kts("report", logs).returncode == 0
    assert (logs / "plots" / "four-panel.png").exists()
    for result in (logs, tmp_path / "out"):
        assert (result / "summary.csv").exists()


def as_published(job: Object) -> bool:
    """Whether a Job's pod is as the published system has it."""
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    asked = [container["resources"][kind].get("nvidia.com/gpu") for kind in ("limits", "requests")]
    image = (container["image"], container["imagePullPolicy"])
    return (image, asked, spec["runtimeClassName"]) == ((PUBLISHED, "Never"), ["1", "1"], "nvidia")
