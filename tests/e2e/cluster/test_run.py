"""`kts run --on k8s` on a real cluster: every end is a true result or a true refusal, and leaves nothing behind.

KTS_E2E_IMAGE names a worker image that the cluster has; without it the image is built and loaded.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers_cli import kts, start
from tests.helpers_cluster import has_plugin, on_a_cluster, tells_devices
from tests.helpers_wait import until

from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.follow.interrupts import ENDING_S
from kts.k8s.objects.names import APP, LABEL_APP, LABEL_RUN, LABEL_TENANT
from kts.k8s.objects.runnames import conductor_name

NAMESPACE = "kts-e2e"
NO_SLOT_S = 15.0
MEASURED_S, AGENTS_S = 48, 180
"""For measuring alone, and with all around it: image, pods, calibration, report."""
GPU_NUMBERS = ("KTS_CLUSTER_TWO_GPUS", "KTS_CLUSTER_ONE_GPU")
pytestmark = on_a_cluster()


def experiment(folder: Path, tenants: int, iterations: int = 300) -> Path:
    """A small experiment file."""
    names = "".join(
        f"  t{i}: {{workload: fft, size: 32, think_ms: 1, iterations: {iterations}}}\n" for i in range(tenants)
    )
    path = folder / "small.yaml"
    path.write_text(f"name: small\nrounds: 2\nprecision: null\ntenants:\n{names}", encoding="utf-8")
    return path


def options() -> list[str]:
    """Where to run."""
    image = os.environ.get("KTS_E2E_IMAGE")
    return [
        "--on",
        "k8s",
        "--namespace",
        NAMESPACE,
        "--device",
        "cpu",
        "--extra",
        "cpu",
        *(["--image", image] if image else []),
    ]


def left(api: Api) -> list[str]:
    """What kts has in the namespace."""
    kinds = ("ConfigMap", "Job", "Pod", "Secret", "Service", "NetworkPolicy")
    return [f"{k}/{o['metadata']['name']}" for k in kinds for o in api.list(k, NAMESPACE, {LABEL_APP: APP})]


@pytest.fixture
def api() -> Iterator[Api]:
    """The cluster; the test fails if it leaves anything there."""
    api = Api.connect()
    yield api
    api.close()
    fresh = Api.connect()  # a test may have stopped the server under the other one's connections
    try:
        until(lambda: _answers(fresh), "the API server answers")
        remaining = left(fresh)
    finally:
        fresh.close()
    assert remaining == []


def test_four_tenants_share_one_gpu_end_to_end(tmp_path: Path, api: Api) -> None:
    """Else the command would not do what it is for, or its proof would prove nothing."""
    done = kts("run", experiment(tmp_path, 4), *options(), "--out", tmp_path / "out", "--no-figures")
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert (info["backend"], info["outcome"]["kind"]) == ("k8s", "complete")
    assert "  t0: no p99 or DF99: 300 of 368 iterations alone" in done.stderr.partition("round 2/2")[0]
    assert info["foretold"][0]["enough"]
    proven = json.loads((tmp_path / "out" / "cluster.json").read_text(encoding="utf-8"))["gpus"]
    assert len(proven) == 4
    told = {"worker": has_plugin(api), "kubelet": has_plugin(api) and tells_devices()}
    for source, tells in told.items():
        gpus = {gpu for entry in proven.values() for gpu in entry[source]}
        assert len(gpus) == 1 or not (gpus or tells)
        silent = f"GPU proof: the {source} does not tell which GPU t0, t1, t2, t3 had"
        assert (silent in info["notes"]) == (not gpus)
    assert len({gpu for entry in proven.values() for gpu in (*entry["worker"], *entry["kubelet"])}) <= 1
    assert {"conductor.log", "t0.log", "t3.log"} <= {path.name for path in (tmp_path / "out" / "logs").iterdir()}


@pytest.mark.usefixtures("api")
def test_pods_of_a_node_that_did_not_know_the_service_find_the_conductor_by_name(tmp_path: Path) -> None:
    """Else a run that begins just after an outage of the API server would fail, as it did."""
    template = tmp_path / "template.yaml"
    late = '{name: KTS_CONDUCTOR, value: "$(KTS_NOT_KNOWN_SERVICE_HOST):7077"}'
    template.write_text(f"spec: {{containers: [{{name: worker, env: [{late}]}}]}}\n", encoding="utf-8")
    done = kts(
        *("run", experiment(tmp_path, 2), *options(), "--pod-template", template),
        *("--out", tmp_path / "out", "--no-figures"),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("api")
def test_a_tenant_too_many_is_refused_at_once(tmp_path: Path) -> None:
    """Else the user would wait for a timeout that does not say what is wrong."""
    began = time.monotonic()
    done = kts("run", experiment(tmp_path, 5), *options(), "--out", tmp_path / "out")
    took_s = time.monotonic() - began
    assert done.returncode == 4, done.stderr
    assert "no free slot" in done.stderr
    if os.environ.get("KTS_E2E_IMAGE"):  # building is not part of it
        assert took_s <= NO_SLOT_S


def test_a_run_whose_kts_was_killed_is_listed_attached_to_and_finished(tmp_path: Path, api: Api) -> None:
    """Else a closed laptop would cost the measurement."""
    path = experiment(tmp_path, 2, iterations=2000)
    process = start("run", path, *options(), "--out", tmp_path / "lost")
    run = _run_id(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert run in kts("runs", "--on", "k8s", "--namespace", NAMESPACE).stdout
    done = kts("attach", run, "--namespace", NAMESPACE, "--out", tmp_path / "found", "--no-figures")
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "found" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "complete"
    assert left(api) == []


@pytest.mark.parametrize("command", ["attach", "collect", "clean"])
def test_an_unknown_run_is_named(command: str, tmp_path: Path) -> None:
    """Else a typing mistake would look like a fault of the cluster."""
    done = kts(command, "nothing-here", "--namespace", NAMESPACE, cwd=tmp_path)
    assert done.returncode == 4
    assert "no run nothing-here" in done.stderr


def test_a_tenant_over_its_memory_limit_is_named(tmp_path: Path, api: Api) -> None:
    """Else the user would look for the fault in the GPU."""
    path = tmp_path / "fat.yaml"
    path.write_text(
        "name: fat\nrounds: 2\nprecision: null\ntenants:\n"
        "  thin: {workload: fft, size: 32, think_ms: 1, iterations: 100}\n"
        "  fat: {workload: fft, size: 8192, think_ms: 1, iterations: 100}\n",
        encoding="utf-8",
    )
    done = kts("run", path, *options(), "--out", tmp_path / "out", "--no-figures")
    assert done.returncode in (4, 5), done.stderr
    assert "fat" in done.stderr
    assert "OOMKilled" in done.stderr
    assert "more than 512Mi: --pod-memory" in done.stderr
    assert left(api) == []


def test_a_deleted_pod_ends_the_run_and_keeps_what_was_measured(tmp_path: Path, api: Api) -> None:
    """Else a drained node would look like a hung tenant, or cost the rounds before it."""
    process, run = running(tmp_path, iterations=12_000)
    until(lambda: _blocks(tmp_path / "out") >= 3, "blocks are measured")
    pod = api.list("Pod", NAMESPACE, {LABEL_RUN: run, LABEL_TENANT: "t1"})[0]
    api.delete("Pod", pod["metadata"]["name"], NAMESPACE)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 5, errors
    assert "t1" in errors
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "incomplete"
    assert sum(block["valid"] for block in info["blocks"]) >= 3


@pytest.mark.usefixtures("api")
def test_a_drained_conductor_ends_its_run_in_order_and_says_so(tmp_path: Path) -> None:
    """Else, as its container's first process, it would ignore the signal, and be killed with what was not yet kept; or
    its end would be taken for the user's."""
    process, run = running(tmp_path, iterations=12_000)
    until(lambda: _blocks(tmp_path / "out") >= 2, "blocks are measured")
    _evict(conductor_name(run))
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 5, errors
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "incomplete"
    assert "EvictionByEvictionAPI" in info["outcome"]["reason"]
    assert "kubectl drain" in info["outcome"]["remedy"]
    assert sum(block["valid"] for block in info["blocks"]) >= 2


def test_two_runs_at_once_do_not_mix_and_know_of_each_other(tmp_path: Path, api: Api) -> None:
    """Else a figure would hold a neighbour that nobody invited, and nobody would know."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, first_id = running(tmp_path / "a", iterations=10_000)
    second, second_id = running(tmp_path / "b", iterations=3_000)
    for process, folder, other in ((second, "b", first_id), (first, "a", second_id)):
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, errors
        info = json.loads((tmp_path / folder / "out" / "run.json").read_text(encoding="utf-8"))
        assert any(other in one["what"] for one in info["neighbours"]["others"])
        assert f"a tenant of run {other}" in (tmp_path / folder / "out" / "results.md").read_text(encoding="utf-8")
    assert left(api) == []


@pytest.mark.alone
def test_ctrl_c_keeps_what_was_measured_and_cleans_up(tmp_path: Path, api: Api) -> None:
    """Else stopping a run would cost it, or leave pods on the GPU."""
    process, _ = running(tmp_path, iterations=12_000)
    until(lambda: _blocks(tmp_path / "out") >= 3, "blocks are measured")
    errors = interrupted(process, signal.SIGINT)
    assert left(api) == []
    assert "nothing is left in the cluster" in errors
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "interrupted"
    assert sum(block["valid"] for block in info["blocks"]) >= 3


@pytest.mark.alone
@pytest.mark.parametrize("pods", [0, 3])
def test_a_job_that_is_cancelled_before_the_conductor_answers_leaves_nothing(
    pods: int, tmp_path: Path, api: Api
) -> None:
    """Else a CI job that is cancelled while its objects are made, or its pods start, would hold the GPU."""
    path = experiment(tmp_path, 2)
    process = start("run", path, *options(), "--out", tmp_path / "out", "--no-figures")
    until(
        lambda: (names := left(api)) and len([name for name in names if name.startswith("Pod/")]) >= pods,
        "its pods are there",
    )
    interrupted(process, signal.SIGTERM)
    assert left(api) == []


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What it said after the signal, within 5 s."""
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 130, errors
    assert time.monotonic() - began <= ENDING_S, errors
    return errors


@pytest.mark.usefixtures("api")
@pytest.mark.skipif(not os.environ.get("KTS_CLUSTER_FAULTS"), reason="needs KTS_CLUSTER_FAULTS, which breaks the node")
@pytest.mark.parametrize("component", ["kubelet", "apiserver"])
def test_a_run_outlives_the_control_plane(component: str, tmp_path: Path) -> None:
    """Else every hiccup of a cluster would cost a measurement that does not need it."""
    process, _ = running(tmp_path, iterations=9_000)
    until(lambda: _blocks(tmp_path / "out") >= 2, "blocks are measured")
    fault = shlex.split(os.environ["KTS_CLUSTER_FAULTS"])
    subprocess.run([*fault, f"stop-{component}"], check=True)
    try:
        over = time.monotonic() + 20
        until(lambda: time.monotonic() > over or process.poll() is not None, "the fault lasts a while")
    finally:
        subprocess.run([*fault, f"start-{component}"], check=True)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert "not everything could be removed" not in errors
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "complete"


@pytest.mark.alone
@pytest.mark.usefixtures("api")
def test_the_reference_pair_goes_from_image_to_report_by_one_command(tmp_path: Path) -> None:
    """Else the answer would not come while one waits for it."""
    began = time.monotonic()
    process = start("run", "agents-fast", *options(), "--max-seconds", str(MEASURED_S), "--out", tmp_path / "out")
    _, errors = process.communicate(timeout=2 * AGENTS_S)
    took_s = time.monotonic() - began
    assert process.returncode == 0, errors
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert not summary["is_gpu"]
    for name, enough in (("fft", True), ("gemm", False)):  # of gemm there are 80 iterations in each round of 15 s
        tenant = summary["tenants"][name]
        assert tenant["response"]["df"]["p50"]["lo"] is not None, tenant["verdict"]
        # Cores that others use, too, may make rounds so unlike that no p99 can be told; then that is the answer.
        why = "" if tenant["verdict"]["kind"] != "refused" else tenant["verdict"]["sentence"]
        told = tenant["response"]["df"]["p99"]["lo"] is not None
        assert told or "rounds differ" in why or (not enough and "needs 368 iterations" in why), tenant["verdict"]
    assert (tmp_path / "out" / "plots" / "degradation.png").exists()
    assert took_s <= AGENTS_S


def test_an_evicted_tenant_is_named_and_what_was_measured_is_kept(tmp_path: Path, api: Api) -> None:
    """Else a drained node would look like a fault of the tenant."""
    process, run = running(tmp_path, iterations=12_000)
    until(lambda: _blocks(tmp_path / "out") >= 3, "blocks are measured")
    name = api.list("Pod", NAMESPACE, {LABEL_RUN: run, LABEL_TENANT: "t1"})[0]["metadata"]["name"]
    _evict(name)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 5, errors
    assert "t1" in errors
    assert "evict" in errors.lower()
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "incomplete"
    assert sum(block["valid"] for block in info["blocks"]) >= 3


@pytest.mark.skipif(
    not all(map(os.environ.get, GPU_NUMBERS)), reason=f"needs {' and '.join(GPU_NUMBERS)}: commands that set the number"
)
def test_tenants_on_two_gpus_are_refused_with_the_remedy(tmp_path: Path, api: Api) -> None:
    """Else a figure would say that sharing costs nothing, of tenants that shared nothing."""
    two, one = (shlex.split(os.environ[name]) for name in GPU_NUMBERS)
    subprocess.run(two, check=True)
    try:
        done = kts("run", experiment(tmp_path, 4), *options(), "--out", tmp_path / "out", "--no-figures")
    finally:
        subprocess.run(one, check=True)
    assert done.returncode == 4, done.stderr
    assert "not on one device" in done.stderr
    assert "packed" in done.stderr
    assert left(api) == []


def running(folder: Path, iterations: int) -> tuple[subprocess.Popen[str], str]:
    """A run of two tenants that is in the cluster, into ``folder/out``; and its ID."""
    path = experiment(folder, 2, iterations=iterations)
    path.write_text(path.read_text(encoding="utf-8").replace("rounds: 2", "rounds: 10"), encoding="utf-8")
    process = start("run", path, *options(), "--out", folder / "out", "--no-figures")
    return process, _run_id(process)


def _evict(pod: str) -> None:
    """Through the eviction API, as `kubectl drain` does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    command = ["kubectl", "create", "--raw", path, "--filename", "-"]
    subprocess.run(command, input=json.dumps(body), text=True, check=True, capture_output=True)


def _blocks(directory: Path) -> int:
    """Blocks that the local copy knows of."""
    try:
        return len(json.loads((directory / "run.json").read_text(encoding="utf-8"))["blocks"])
    except (OSError, ValueError):
        return 0


def _answers(api: Api) -> bool:
    """Whether the API server does."""
    try:
        return bool(api.version())
    except Unavailable:
        return False


def _run_id(process: subprocess.Popen[str]) -> str:
    """From the line that `kts run` prints once the run is in the cluster."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("run "):
            return line.split()[1]
    raise AssertionError("kts ended without starting a run")
