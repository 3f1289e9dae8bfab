"""Who was beside a run on a cluster, whoever looked: real conductor and workers as processes, Kubernetes in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.helpers_cluster_here import ClusterHere, Object
from tests.helpers_wait import until

from kts.conduct.ports import Progress
from kts.k8s.cluster.api import Api
from kts.k8s.follow import attach, begin, session
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.objects import classic_jobs
from kts.k8s.objects.settings import ClusterSettings
from kts.model.run import RunInfo
from kts.model.summary import Summary
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
device: cpu
rounds: 2
precision: null
tenants:
  fft: {workload: fft, size: 32, think_ms: 2, iterations: 200}
  gemm: {workload: gemm, size: 32, think_ms: 2, iterations: 200}
"""
CLASSIC = """\
name: small
design: classic
device: cpu
tenants:
  fft: {workload: fft, size: 32, think_ms: 2, iterations: 300}
  gemm: {workload: gemm, size: 32, think_ms: 2, jitter: 0, iterations: 2000}
"""
SETTINGS = ClusterSettings(runtime_class="")
STRANGER: Object = {
    "kind": "Pod",
    "metadata": {"name": "stranger", "namespace": "other", "labels": {}},
    "spec": {"nodeName": "node", "containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]},
    "status": {"phase": "Running"},
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "LOOK_S", "NEIGHBOURS_S"):
        monkeypatch.setattr(session, name, 0.1)


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[ClusterHere]:
    with ClusterHere(tmp_path / "cluster") as cluster:
        yield cluster


class KilledError(BaseException):
    """Ends kts as if it were killed."""


class KilledIn:
    """Ends kts in the block whose progress says ``text``."""

    def __init__(self, text: str) -> None:
        self.text = text

    def progress(self, progress: Progress) -> None:
        if self.text in progress.text and any(one.iterations for one in progress.tenants):
            raise KilledError


class Quiet:
    """Says nothing."""

    def progress(self, progress: Progress) -> None:
        """Nothing."""


def attached(cluster: ClusterHere, directory: Path) -> tuple[RunInfo, Summary]:
    """The run, followed to its end by another kts."""
    following = attach.attach(cast(Api, cluster), "r-1", "kts", directory)
    try:
        info = following.finish(following.follow(Quiet(), Interrupts()))
    finally:
        following.close()
        following.done()
    return info, analyse(open_run(directory)).summary


def test_a_neighbour_is_remembered_by_a_run_whose_kts_was_killed(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else kill and attach would give a clean result of a GPU that was not the run's alone."""
    plan = build(load_text(CLASSIC, source="test").experiment)
    following = begin.start(cast(Api, cluster), plan, SETTINGS, CLASSIC, tmp_path / "out", run="r-1", overwrite=False)
    cluster.objects["Pod", "stranger"] = STRANGER
    with pytest.raises(KilledError):
        following.follow(KilledIn("block 2 of 3"), Interrupts())
    following.close()
    del cluster.objects["Pod", "stranger"]
    until(lambda: cluster.process("1-solo-gemm").poll() is not None, "the second block's pod ends")
    info, summary = attached(cluster, tmp_path / "again")
    assert info.neighbours is not None
    seen = {(one.who, one.what, one.node) for one in info.neighbours.others}
    assert seen == {("other/stranger", "1 nvidia.com/gpu", "node")}
    (caution,) = [one.text for one in summary.warnings if one.code == "neighbour"]
    assert "other/stranger (1 nvidia.com/gpu) on node node" in caution
    assert "solo-fft" in caution
    assert "shared" not in caution  # it was gone by then
    assert [note for note in summary.notes if "nobody looked" in note and "of block 1 (solo-gemm)" in note]
    times = json.loads((tmp_path / "again" / "cluster.json").read_text(encoding="utf-8"))["times_s"]
    assert times["wall"] - times["blocks"] == pytest.approx(times["overhead"], abs=0.01)
    assert times["overhead"] >= 0


def test_a_run_that_nobody_followed_says_that_nobody_looked(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else rendered and applied objects would pass for a run without neighbours, its wall time for the fetching's."""
    plan = build(load_text(TEXT, source="test").experiment)
    stages = classic_jobs.stages(
        plan, run="r-1", token="t" * 32, settings=SETTINGS, experiment_text=TEXT, created="1970-01-01T00:00:00Z"
    )
    for obj in (obj for _, objects in stages for obj in objects if obj["kind"] != "Namespace"):
        cluster.create(obj)
    until(lambda: cluster.process("-fft").poll() is not None, "the pod ends")
    info, summary = attached(cluster, tmp_path / "out")
    assert info.outcome.kind == "complete"
    assert [note.split(" of ")[1].split(" (")[0] for note in summary.notes if "nobody looked" in note] == ["all blocks"]
    times = json.loads((tmp_path / "out" / "cluster.json").read_text(encoding="utf-8"))["times_s"]
    assert times["blocks"] <= times["wall"] <= 600


def test_a_run_that_goes_on_has_no_end_yet(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else collecting a live run would give an overhead of a run that is not over."""
    plan = build(load_text(CLASSIC, source="test").experiment)
    following = begin.start(cast(Api, cluster), plan, SETTINGS, CLASSIC, tmp_path / "out", run="r-1", overwrite=False)
    with pytest.raises(KilledError):
        following.follow(KilledIn("block 2 of 3"), Interrupts())
    following.close()
    seen = attach.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "seen")
    seen.collect()
    seen.close()
    times = json.loads((tmp_path / "seen" / "cluster.json").read_text(encoding="utf-8"))["times_s"]
    assert set(times) == {"blocks"}
