"""The classic design on a cluster, block by block: real conductor and workers as processes, Kubernetes in memory."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.helpers_cluster_here import ClusterHere
from tests.helpers_wait import until

from kts.conduct.ports import Progress
from kts.errors import UsageError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.follow import attach, begin, runs, session
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.objects import classic_jobs, pending, runnames
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo
from kts.plan import build
from kts.spec import load_text
from kts.stats import analyse
from kts.store import open_run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux"),
]

TEXT = """\
name: small
design: classic
device: cpu
tenants:
  fft: {workload: fft, size: 32, think_ms: 2, iterations: 300}
  gemm: {workload: gemm, size: 32, think_ms: 2, jitter: 0, iterations: 300}
"""
CALIBRATED = TEXT.replace("fft, size: 32", "fft, target_ms: 0.5")
ALONE = [("solo-fft", True, {"fft": 300}), ("solo-gemm", True, {"gemm": 300})]
WHOLE = [*ALONE, ("shared-fft+gemm", True, {"fft": 300, "gemm": 300})]
SLOW = TEXT.replace("jitter: 0, iterations: 300", "jitter: 0, iterations: 2000")
"""Its second block lasts so long that whoever watches sees it."""
SLOW_ALONE = [ALONE[0], ("solo-gemm", True, {"gemm": 2000})]
SLOW_WHOLE = [*SLOW_ALONE, ("shared-fft+gemm", True, {"fft": 300, "gemm": 2000})]
SETTINGS = ClusterSettings(runtime_class="", resource="")


def plan(text: str = TEXT) -> Plan:
    """The plan of an experiment."""
    return build(load_text(text, source="test").experiment)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "LOOK_S"):
        monkeypatch.setattr(session, name, 0.1)


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[ClusterHere]:
    with ClusterHere(tmp_path / "cluster") as cluster:
        yield cluster


class Watching:
    """A watcher that calls ``then`` once, when a progress says ``text`` and somebody has done iterations."""

    def __init__(self, text: str = "", then: Callable[[], None] = lambda: None) -> None:
        self.text, self.then, self.seen = text, then, False

    def progress(self, progress: Progress) -> None:
        if not self.seen and self.text in progress.text and any(one.iterations for one in progress.tenants):
            self.seen = True
            self.then()


def started(cluster: ClusterHere, directory: Path, text: str = TEXT) -> session.Session:
    """A run that was begun."""
    return begin.start(cast(Api, cluster), plan(text), SETTINGS, text, directory, run="r-1", overwrite=False)


def attached(cluster: ClusterHere, directory: Path) -> session.Session:
    """The same, found again."""
    return attach.attach(cast(Api, cluster), "r-1", "kts", directory)


def finished(following: session.Session, watcher: Watching | None = None) -> RunInfo:
    """The run at its end."""
    try:
        with Interrupts() as interrupts:
            return following.finish(following.follow(watcher or Watching(), interrupts), interrupts)
    finally:
        following.close()
        following.done()


def shape(info: RunInfo) -> list[tuple[str, bool, dict[str, int]]]:
    """The blocks, in short."""
    return [(block.condition, block.valid, block.counts) for block in info.blocks]


def test_three_sets_of_jobs_in_order_become_a_run_like_any_other(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else the design could not be reported, its blocks would overlap, or its logs would say something else."""
    info = finished(started(cluster, tmp_path / "out", CALIBRATED))
    assert (info.outcome, shape(info)) == (Outcome(kind="complete"), WHOLE)
    names = [name.removeprefix("kts-r-1-") for name in cluster.created]
    assert names == ["0-solo-fft", "1-solo-gemm", "2-shared-fft", "2-shared-gemm"]
    assert cluster.beside == [[], [], [], ["kts-r-1-2-shared-fft-0"]]
    until(lambda: all(process.poll() == 0 for process in cluster.processes.values()), "the pods end")
    run = open_run(tmp_path / "out")
    assert run.damage == ()
    assert (run.info.plan.tenant("fft").work.size or 0) > 0
    told = {source.source for source in run.info.telemetry if not source.missing}
    assert told >= {"host", "cores"}  # sampled in the pods, by their clock
    logs = open_run(tmp_path / "out" / "logs")
    assert [text for text in logs.damage if not text.startswith("conductor.log: ")] == []
    assert {path.stem for path in (tmp_path / "out" / "logs").iterdir()} == {
        "conductor", "fft-solo-fft", "gemm-solo-gemm", "fft-shared-fft+gemm", "gemm-shared-fft+gemm",
    }  # fmt: skip
    assert {worker.device for worker in logs.info.workers} == {worker.device for worker in run.info.workers}
    for tenant, block in (("fft", 0), ("gemm", 1), ("fft", 2), ("gemm", 2)):
        ours, theirs = run.records(tenant, block), logs.records(tenant, block)
        assert np.array_equal(ours["retire_ns"] - ours["submit_ns"], theirs["retire_ns"] - theirs["submit_ns"])
        assert np.allclose(ours["device_ms"], theirs["device_ms"], atol=1e-6)
    ours_summary, theirs_summary = (analyse(each).summary.tenants for each in (run, logs))
    for tenant in ("fft", "gemm"):
        assert ours_summary[tenant].response.solo == theirs_summary[tenant].response.solo


def test_a_tenant_that_dies_is_named_and_the_blocks_before_count(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else one pod's end would cost the whole run, or the rest be measured without it."""
    kill = Watching("block 2 of 3: solo-gemm", lambda: cluster.process("1-solo-gemm").kill())
    info = finished(started(cluster, tmp_path / "out", SLOW), kill)
    assert (info.outcome.kind, info.outcome.exit_code) == ("incomplete", 5)
    assert "tenant gemm" in info.outcome.reason
    assert "kts-r-1-1-solo-gemm" in info.outcome.reason
    assert shape(info)[0] == ALONE[0]
    assert [valid for _, valid, _ in shape(info)] == [True, False]
    assert not any("shared" in name for name in cluster.created)


def test_ctrl_c_keeps_what_is_there(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else stopping a run would cost it."""
    stop = Watching("block 2 of 3: solo-gemm", lambda: signal.raise_signal(signal.SIGINT))
    info = finished(started(cluster, tmp_path / "out", SLOW), stop)
    assert (info.outcome.kind, info.outcome.exit_code) == ("interrupted", 130)
    assert [(condition, valid) for condition, valid, _ in shape(info)] == [("solo-fft", True), ("solo-gemm", False)]


class KilledError(BaseException):
    """Ends kts as if it were killed."""


def killed_in_block_2(cluster: ClusterHere, directory: Path) -> None:
    """A run whose kts ends in its second block; its pods go on."""

    def kill() -> None:
        raise KilledError

    following = started(cluster, directory, SLOW)
    with pytest.raises(KilledError):
        following.follow(Watching("block 2 of 3", kill), Interrupts())
    following.close()


@pytest.mark.parametrize("where", ["out", "another"])
def test_a_run_that_was_left_is_listed_and_attach_runs_the_rest(
    where: str, cluster: ClusterHere, tmp_path: Path
) -> None:
    """Else a closed laptop would cost the measurement, or measure a block twice."""
    killed_in_block_2(cluster, tmp_path / "out")
    until(lambda: cluster.process("1-solo-gemm").poll() is not None, "the second block's pod ends")
    (listed,) = runs.runs(cast(Api, cluster), "kts")
    assert listed.state == "block 2 of 3 over"
    seen = attached(cluster, tmp_path / "seen")
    info = seen.collect()
    seen.close()
    assert (info.outcome.kind, shape(info)) == ("running", SLOW_ALONE)
    copied = open_run(tmp_path / "seen").info
    assert copied.outcome.kind == "running"
    assert "goes on in the cluster: this is of its first 2 whole blocks" in copied.outcome.reason
    assert "kts attach r-1" in copied.outcome.remedy
    assert len(cluster.created) == 2
    info = finished(attached(cluster, tmp_path / where))
    assert (info.outcome.kind, shape(info)) == ("complete", SLOW_WHOLE)
    assert len(cluster.created) == 4
    assert open_run(tmp_path / where).damage == ()


def test_attach_does_not_overwrite_another_run(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else an ID that was mistyped would cost a run."""
    started(cluster, tmp_path / "out").close()
    with ClusterHere(tmp_path / "second") as other:
        made = begin.start(cast(Api, other), plan(), SETTINGS, TEXT, tmp_path / "mine", run="r-2", overwrite=False)
        made.close()
    before = (tmp_path / "mine" / "run.json").read_bytes()
    with pytest.raises(UsageError, match="another run"):
        attached(cluster, tmp_path / "mine")
    assert (tmp_path / "mine" / "run.json").read_bytes() == before


def test_rendered_objects_run_their_first_block_and_attach_the_rest(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else what `kts k8s render` prints could only be run by hand."""
    stages = classic_jobs.stages(
        plan(), run="r-1", token="t" * 32, settings=SETTINGS, experiment_text=TEXT, created="2026-01-01T00:00:00Z"
    )
    for obj in (obj for _, objects in stages for obj in objects if obj["kind"] != "Namespace"):
        cluster.create(obj)
    assert [name for name in cluster.processes if "conductor" not in name] == ["kts-r-1-0-solo-fft-0"]
    info = finished(attached(cluster, tmp_path / "out"))
    assert (info.outcome.kind, shape(info)) == ("complete", WHOLE)


def test_a_job_that_runs_twice_is_refused_the_second_time(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else a second pod of a block would be measured in another one, or its end be taken for the tenant's."""
    twice = Watching("block 2 of 3", lambda: cluster.run_job("kts-r-1-1-solo-gemm"))
    again = Watching("block 2 of 3", lambda: cluster.run_job("kts-r-1-0-solo-fft"))

    class Both:
        def progress(self, progress: Progress) -> None:
            twice.progress(progress)
            again.progress(progress)

    info = finished(started(cluster, tmp_path / "out", SLOW), cast(Watching, Both()))
    assert (info.outcome.kind, shape(info)) == ("complete", SLOW_WHOLE)
    assert cluster.process("1-solo-gemm-1").wait(60) == 4
    assert cluster.process("0-solo-fft-1").wait(60) == 4


def test_a_job_that_asks_for_something_else_than_the_plan_is_refused(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else a pod spec that was changed by hand would change nothing, in silence."""
    create = cluster.create

    def changed(obj: dict[str, object]) -> dict[str, object]:
        if obj["kind"] == "Job":
            env = cast(list[dict[str, str]], obj["spec"]["template"]["spec"]["containers"][0]["env"])  # type: ignore[index]
            next(item for item in env if item["name"] == "ITERATIONS")["value"] = "100"
        return create(obj)

    cluster.create = changed  # type: ignore[method-assign]
    info = finished(started(cluster, tmp_path / "out"))
    assert info.outcome.kind == "failed"
    assert "ITERATIONS says '100'" in info.outcome.reason
    assert "'300'" in info.outcome.reason


def test_a_job_without_a_pod_is_named(cluster: ClusterHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a quota or a policy that forbids the pod would look like waiting."""
    monkeypatch.setattr(pending, "STUCK_S", 0.5)
    job = runnames.job_name("r-1", "0-solo-fft")
    cluster.podless.add(job)
    cluster.objects["Event", "e"] = {
        "metadata": {"name": "e", "labels": {}},
        "involvedObject": {"kind": "Job", "name": job},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": "exceeded quota: pods",
    }
    info = finished(started(cluster, tmp_path / "out"))
    assert (info.outcome.kind, info.outcome.exit_code) == ("failed", 4)
    assert "exceeded quota" in info.outcome.reason


def test_the_kubelet_has_a_say_in_which_gpu_it_is(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else a worker that computes elsewhere would hide that its pod has another GPU."""
    cluster.gpus = {0: "GPU-1", 1: "GPU-2", 2: "GPU-2"}
    info = finished(started(cluster, tmp_path / "out"))
    assert info.outcome.kind == "incomplete"
    assert "GPU-2" in info.outcome.reason
    assert shape(info)[0] == ALONE[0]
    assert not any(valid for _, valid, _ in shape(info)[1:])


def test_an_api_server_that_is_away_for_a_while_costs_nothing(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else every hiccup of a cluster would cost a measurement that does not need it."""
    following = started(cluster, tmp_path / "out")
    looks = 0

    class Hiccup:
        def progress(self, progress: Progress) -> None:
            del progress
            nonlocal looks
            looks += 1
            cluster.away = looks in range(5, 12)

    info = finished(following, cast(Watching, Hiccup()))
    assert (info.outcome.kind, shape(info)) == ("complete", WHOLE)


def test_an_api_server_that_stays_away_ends_kts_and_not_the_run(
    cluster: ClusterHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else kts would wait for ever, or throw away what goes on."""
    following = started(cluster, tmp_path / "out")
    monkeypatch.setattr(session, "PATIENCE_S", 0.5)
    cluster.away = True
    with pytest.raises(Unavailable):
        following.follow(Watching(), Interrupts())
    following.close()
    cluster.away = False
    assert finished(attached(cluster, tmp_path / "again")).outcome.kind == "complete"
