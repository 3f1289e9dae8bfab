"""The classic design block by block, on a cluster in memory: what counts, what does not, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.helpers_fake_cluster import OFFSET_NS, FakeCluster, Lines
from tests.helpers_log import T0

from kts.conduct.ports import Progress
from kts.errors import UsageError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.follow import classic, classic_block, logfollow, runs
from kts.k8s.objects import classic_jobs, manifests
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo
from kts.plan import build
from kts.spec import load_text
from kts.stats import analyse
from kts.store import open_run

TEXT = """\
name: small
design: classic
device: cuda
tenants:
  fft: {workload: fft, target_ms: 2, think_ms: 8, jitter: 0, iterations: 400}
  gemm: {workload: gemm, size: 32, think_ms: 8, jitter: 0, iterations: 400}
"""
PLAN: Plan = build(load_text(TEXT, source="test").experiment)


class Quiet:
    """A watcher; interrupts like a user once it was told ``until`` of a text."""

    def __init__(self, until: str = "") -> None:
        self.until = until

    def progress(self, progress: Progress) -> None:
        if self.until and self.until in progress.text:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (classic, "POLL_S"),
        (classic, "LOOK_S"),
        (logfollow, "_PAUSE_S"),
    ):
        monkeypatch.setattr(module, name, 0.002)
    monkeypatch.setattr(classic, "PATIENCE_S", 0.3)


def started(cluster: FakeCluster, directory: Path, plan: Plan = PLAN) -> runs.RunSession:
    """A run that was begun."""
    api = cast(Api, cluster)
    return runs.start(api, plan, ClusterSettings(), TEXT, directory, run="r-1", overwrite=False)


def finished(session: runs.RunSession, watcher: Quiet | None = None) -> RunInfo:
    """The run at its end."""
    try:
        return session.finish(session.follow(watcher or Quiet()))
    finally:
        session.close()


def without(*parts: str) -> Any:
    """A spoiler that loses every line with one of ``parts`` from the log of the pod with ``pod`` in its name."""

    def spoil(_: str, lines: Lines) -> Lines:
        return [line for line in lines if not any(part in line for part in parts)]

    return spoil


def shape(info: RunInfo) -> list[tuple[str, bool, dict[str, int]]]:
    """The blocks, in short."""
    return [(block.condition, block.valid, block.counts) for block in info.blocks]


WHOLE = [("solo-fft", True, {"fft": 400}), ("solo-gemm", True, {"gemm": 400})]


def test_three_sets_of_jobs_in_order_become_a_run_like_any_other(tmp_path: Path) -> None:
    """Else the design could not be reported, or its blocks would run at the same time."""
    cluster = FakeCluster()
    info = finished(started(cluster, tmp_path / "out"))
    assert info.outcome == Outcome(kind="complete")
    assert shape(info) == [*WHOLE, ("shared-fft+gemm", True, {"fft": 400, "gemm": 400})]
    names = [name.removeprefix("kts-r-1-") for name in cluster.created]
    assert names == ["0-solo-fft", "1-solo-gemm", "2-shared-fft", "2-shared-gemm"]
    run = open_run(tmp_path / "out")
    assert run.damage == ()
    records = run.records("fft", 0)
    assert records["submit_ns"][0] == T0 + OFFSET_NS
    assert records["device_ms"][3] == pytest.approx(1.002991)
    assert info.blocks[0].clocks[0].monotonic_ns == T0 + OFFSET_NS
    assert {w.tenant: (w.gpus, w.solo_ms, w.hostname) for w in info.workers} == {
        "fft": (("GPU-1",), 2.0, "fft-0"),
        "gemm": (("GPU-1",), None, "gemm-1"),
    }


def test_a_size_that_was_found_is_given_to_the_later_jobs(tmp_path: Path) -> None:
    """Else solo and shared would be different work."""
    cluster = FakeCluster()
    info = finished(started(cluster, tmp_path / "out"))
    assert info.plan.tenant("fft").work.size == 48
    env = [
        {e["name"]: e.get("value") for e in obj["spec"]["template"]["spec"]["containers"][0]["env"]}
        for (kind, _), obj in cluster.objects.items()
        if kind == "Job" and obj["metadata"]["labels"]["kts.dev/tenant"] == "fft"
    ]
    assert [(e.get("TARGET_MS"), e.get("MATRIX_SIZE")) for e in env] == [("2", None), (None, "48")]


def test_the_raw_logs_alone_give_the_same_figures(tmp_path: Path) -> None:
    """Else the logs would not be evidence for the figures."""
    finished(started(FakeCluster(), tmp_path / "out"))
    ours, theirs = (analyse(open_run(path)) for path in (tmp_path / "out", tmp_path / "out" / "logs"))
    logs = open_run(tmp_path / "out" / "logs")
    assert logs.damage == ()
    assert [block.condition for block in logs.blocks] == ["solo-fft", "solo-gemm", "shared-fft+gemm"]
    assert {w.device.label for w in logs.info.workers} == {"CPU core 1, not a GPU"}
    for name in ("fft", "gemm"):
        for block, clock in ((0 if name == "fft" else 1, "device_ms"), (2, "device_ms")):
            a, b = open_run(tmp_path / "out").records(name, block), logs.records(name, block)
            assert np.array_equal(a[clock], b[clock])
            assert np.array_equal(a["retire_ns"] - a["submit_ns"], b["retire_ns"] - b["submit_ns"])
    assert ours.summary.tenants == theirs.summary.tenants


def test_lines_that_only_their_echo_brought_are_noted(tmp_path: Path) -> None:
    """Else nobody would learn that the node's log lost lines."""
    cluster = FakeCluster()
    cluster.spoil = without("KTS_APP,v1,GEMM,7,", "KTS_APP,v1,GEMM,8,")
    info = finished(started(cluster, tmp_path / "out"))
    assert info.outcome.kind == "complete"
    assert any("2 lines of gemm's log of solo-gemm" in note for note in info.notes)


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (("v1,GEMM,7,",), "iteration 7 is missing"),
        (("KTS_END,v1,GEMM",), "no trailer"),
        (("v1,GEMM,399,", "KTS_END,v1,GEMM"), "no trailer"),
        (('"app":"GEMM"',), "no header"),
    ],
)
def test_a_loss_is_fatal_and_the_blocks_before_count(lost: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    """Else figures would be made of what happened to arrive, or one lost line would cost the whole run."""
    cluster = FakeCluster()
    cluster.spoil = without(*lost)
    info = finished(started(cluster, tmp_path / "out"))
    assert (info.outcome.kind, info.outcome.exit_code) == ("incomplete", 5)
    assert reason in info.outcome.reason
    assert "tenant gemm" in info.outcome.reason
    assert shape(info)[0] == WHOLE[0]
    assert not any(valid for _, valid, _ in shape(info)[1:])
    assert not any("shared" in name for name in cluster.created)
    assert open_run(tmp_path / "out").blocks[0].valid


def test_a_line_changed_on_the_way_is_fatal(tmp_path: Path) -> None:
    """Else a figure could be forged, or a bit flip pass."""
    cluster = FakeCluster()
    cluster.spoil = lambda _, lines: [line.replace(",1.002991,", ",0.002991,") for line in lines]
    info = finished(started(cluster, tmp_path / "out"))
    assert (info.outcome.exit_code, shape(info)[0][1]) == (5, False)
    assert "checksum" in info.outcome.reason


@pytest.mark.parametrize(("block", "kind", "code"), [("1", "incomplete", 5), ("2", "incomplete", 5)])
def test_another_gpu_is_refused(block: str, kind: str, code: int, tmp_path: Path) -> None:
    """Else two GPUs would be compared, and the difference be called sharing."""
    cluster = FakeCluster()
    cluster.uuids[block] = "GPU-2"
    info = finished(started(cluster, tmp_path / "out"))
    assert (info.outcome.kind, info.outcome.exit_code) == (kind, code)
    assert "GPU-2" in info.outcome.reason
    assert sum(valid for _, valid, _ in shape(info)) == int(block)


def test_a_pod_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    """Else the user would have to read the pods' logs."""
    cluster = FakeCluster()
    cluster.codes["gemm"] = 137
    cluster.spoil = lambda pod, lines: [*lines[:9], "error: no room\n"] if "gemm" in pod else lines
    info = finished(started(cluster, tmp_path / "out"))
    assert info.outcome.exit_code == 5
    assert "OOMKilled" in info.outcome.reason
    assert "no room" in info.outcome.reason
    assert shape(info)[0] == WHOLE[0]


def test_a_tenant_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a GPU that hangs would hold the run until its Job's deadline, hours later."""
    monkeypatch.setattr(classic_block, "SILENT_S", 0.05)
    monkeypatch.setattr(classic_jobs, "ECHO_S", 0.01)
    cluster = FakeCluster()
    cluster.hung.add("solo-gemm")
    cluster.spoil = lambda pod, lines: lines[:9] if "gemm" in pod else lines
    info = finished(started(cluster, tmp_path / "out"))
    assert info.outcome.exit_code == 5
    assert "tenant gemm: it printed nothing" in info.outcome.reason


def test_logs_that_stay_away_end_kts_and_not_the_run(tmp_path: Path) -> None:
    """Else a node that is cut off would look like a tenant that hangs, or be waited for for ever."""
    cluster = FakeCluster()
    cluster.cut_off.add("solo-fft")
    session = started(cluster, tmp_path / "out")
    with pytest.raises(Unavailable, match="logs of block 1"):
        session.follow(Quiet())
    session.close()
    assert open_run(tmp_path / "out").info.outcome.kind == "incomplete"
    cluster.cut_off.clear()
    again = runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out")
    assert finished(again).outcome.kind == "complete"


def test_ctrl_c_keeps_what_is_there(tmp_path: Path) -> None:
    """Else stopping a run would cost it."""
    cluster = FakeCluster()
    cluster.held.add("solo-gemm")
    info = finished(started(cluster, tmp_path / "out"), Quiet("block 2 of 3: solo-gemm"))
    assert (info.outcome.kind, info.outcome.exit_code) == ("interrupted", 130)
    assert shape(info)[0] == WHOLE[0]
    assert not [valid for _, valid, _ in shape(info)[1:] if valid]


def test_an_api_server_that_is_away_for_a_while_costs_nothing(tmp_path: Path) -> None:
    """Else every hiccup of a cluster would cost a measurement that does not need it."""
    cluster = FakeCluster()
    session = started(cluster, tmp_path / "out")
    cluster.away = 12
    assert finished(session).outcome.kind == "complete"


def test_an_api_server_that_stays_away_ends_kts_and_not_the_run(tmp_path: Path) -> None:
    """Else kts would wait for ever, or throw away what goes on."""
    cluster = FakeCluster()
    session = started(cluster, tmp_path / "out")
    cluster.away = 10**9
    with pytest.raises(Unavailable):
        session.follow(Quiet())
    session.close()
    cluster.away = 0
    again = runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "again")
    assert finished(again).outcome.kind == "complete"


def interrupted_after_one_block(cluster: FakeCluster, directory: Path) -> None:
    """A run whose kts was killed in its second block: it closed nothing, and its Jobs go on."""
    session = started(cluster, directory)
    cluster.held.add("solo-gemm")
    with pytest.raises(ZeroDivisionError):
        session.follow(cast(Any, Killer()))
    session.close()
    cluster.held.clear()


class Killer:
    """Ends kts in the second block with an error that nothing expects."""

    def progress(self, progress: Progress) -> None:
        if "block 2" in progress.text and any(one.iterations for one in progress.tenants):
            raise ZeroDivisionError


@pytest.mark.parametrize("where", ["out", "another"])
def test_attach_reads_what_ran_and_runs_what_is_missing(where: str, tmp_path: Path) -> None:
    """Else a closed laptop would cost the measurement, or measure a block twice."""
    cluster = FakeCluster()
    interrupted_after_one_block(cluster, tmp_path / "out")
    before = list(cluster.created)
    assert len(before) == 2
    info = finished(runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / where))
    assert info.outcome.kind == "complete"
    assert shape(info) == [*WHOLE, ("shared-fft+gemm", True, {"fft": 400, "gemm": 400})]
    assert len(cluster.created) == 4
    assert open_run(tmp_path / where / "logs").damage == ()


def test_attach_uses_the_lines_that_the_node_no_longer_has(tmp_path: Path) -> None:
    """Else a log that was rotated while kts was away would cost what had been fetched before."""
    cluster = FakeCluster()
    interrupted_after_one_block(cluster, tmp_path / "out")
    cluster.spoil = lambda pod, lines: lines[100:] if "solo-fft" in pod else lines
    assert finished(runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out")).outcome.kind == "complete"
    elsewhere = finished(runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "another"))
    assert elsewhere.outcome.kind == "incomplete"


def test_attach_does_not_overwrite_another_run(tmp_path: Path) -> None:
    """Else an ID that was mistyped would cost a run."""
    cluster = FakeCluster()
    started(cluster, tmp_path / "out").close()
    other = FakeCluster()
    session = runs.start(cast(Api, other), PLAN, ClusterSettings(), TEXT, tmp_path / "mine", run="r-2", overwrite=False)
    finished(session)
    with pytest.raises(UsageError, match="another run"):
        runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "mine")
    assert open_run(tmp_path / "mine").info.outcome.kind == "complete"


def test_collect_reports_what_is_over_and_ends_nothing(tmp_path: Path) -> None:
    """Else looking at a run would end it, or count a block that still runs."""
    cluster = FakeCluster()
    interrupted_after_one_block(cluster, tmp_path / "out")
    cluster.held.add("solo-gemm")
    session = runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "seen")
    info = session.collect()
    session.close()
    assert (info.outcome.kind, shape(info)[0]) == ("running", WHOLE[0])
    assert not any(valid for _, valid, _ in shape(info)[1:])
    assert len(cluster.created) == 2
    assert runs.runs(cast(Api, cluster), "kts")[0].state == "block 2 of 3 running"


def test_rendered_objects_are_run_by_attach(tmp_path: Path) -> None:
    """Else what `kts k8s render` prints could only be run by hand."""
    cluster = FakeCluster()
    stages = classic_jobs.stages(
        PLAN, run="r-1", settings=ClusterSettings(), experiment_text=TEXT, created="2026-01-01T00:00:00Z"
    )
    for obj in (obj for _, objects in stages for obj in objects if obj["kind"] != "Namespace"):
        cluster.create(obj)
    assert len([1 for kind, _ in cluster.objects if kind == "Pod"]) == 1
    info = finished(runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out"))
    assert info.outcome.kind == "complete"
    assert info.plan.tenant("fft").work.size == 48


def test_a_job_without_a_pod_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a quota or a policy that forbids the pod would look like waiting."""
    monkeypatch.setattr(classic_block, "NO_POD_S", 0.05)
    cluster = FakeCluster()
    monkeypatch.setattr(cluster, "_make_pod", lambda _: None)
    job = manifests.job_name("r-1", "0-solo-fft")
    cluster.objects["Event", "e"] = {
        "metadata": {"name": "e", "labels": {}},
        "involvedObject": {"kind": "Job", "name": job},
        "type": "Warning",
        "message": "exceeded quota: pods",
    }
    info = finished(started(cluster, tmp_path / "out"))
    assert (info.outcome.kind, info.outcome.exit_code) == ("incomplete", 5)
    assert "exceeded quota" in info.outcome.reason
