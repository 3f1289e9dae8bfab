"""A run whose pods do not come ends by itself, with the cluster's reason: real conductor, Kubernetes in memory."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.helpers_cluster_here import ClusterHere, Object
from tests.helpers_wait import until

from kts.conduct.ports import Progress
from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.follow import attach, begin, session, waits
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.objects import pending
from kts.k8s.objects.settings import ClusterSettings
from kts.model.run import Outcome
from kts.plan import build
from kts.spec import load_text

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux"),
]

TEXT = """\
name: small
design: {design}
device: cpu
rounds: 2
tenants:
  a: {{workload: fft, size: 32, think_ms: 1, iterations: 200}}
  b: {{workload: fft, size: 32, think_ms: 1, iterations: 200}}
"""
NO_CPU = "0/1 nodes are available: 1 Insufficient cpu."
QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=2'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "LOOK_S"):
        monkeypatch.setattr(session, name, 0.1)
    monkeypatch.setattr(pending, "STUCK_S", 0.5)
    monkeypatch.setattr(waits, "ASK_S", 0.2)


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[ClusterHere]:
    with ClusterHere(tmp_path / "cluster") as cluster:
        yield cluster


class Watching:
    """What was shown meanwhile; the nth thing shown interrupts, if so wanted."""

    def __init__(self, interrupt_at: int = 0) -> None:
        self.texts: list[str] = []
        self._interrupt_at = interrupt_at

    def progress(self, progress: Progress) -> None:
        self.texts.append(progress.text)
        if len(self.texts) == self._interrupt_at:
            signal.raise_signal(signal.SIGINT)


def followed(cluster: ClusterHere, directory: Path, watcher: Watching, design: str = "interleaved") -> Outcome:
    """The end of a run that was begun there."""
    text = TEXT.format(design=design)
    settings = ClusterSettings(runtime_class="", resource="", node="node")
    plan = build(load_text(text, source="test").experiment)
    following = begin.start(cast(Api, cluster), plan, settings, text, directory, run="r-1", overwrite=False)
    try:
        info = following.finish(following.follow(watcher, Interrupts()))
    finally:
        following.close()
    following.done()
    return info.outcome


@pytest.mark.parametrize(
    ("design", "job", "kind"), [("interleaved", "kts-r-1-b", "failed"), ("classic", "kts-r-1-1-solo-b", "incomplete")]
)
def test_a_job_without_a_pod_ends_a_run_of_either_design_in_order(
    cluster: ClusterHere, tmp_path: Path, design: str, job: str, kind: str
) -> None:
    """Else one design would wait for what the other one names, or the conductor would not be told."""
    cluster.podless.add(job)

    class Telling(Watching):
        def progress(self, progress: Progress) -> None:
            super().progress(progress)
            if "waiting for b" in progress.text:  # the conductor's words: it answers
                cluster.tell("Job", job, "FailedCreate", QUOTA)

    watcher = Telling()
    outcome = followed(cluster, tmp_path / "out", watcher, design)
    assert (outcome.kind, outcome.exit_code) == (kind, 4)
    assert outcome.reason == f"Job {job} has no pod: {QUOTA}"
    assert "quota" in outcome.remedy
    assert any("exceeded quota" in text for text in watcher.texts)
    until(lambda: cluster.process("conductor").poll() == 4, "it ends as told, not killed")


def test_a_tenant_without_a_place_ends_the_run_though_its_conductor_runs(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else the run would last until the conductor stops to wait for the tenant."""
    cluster.placeless["kts-r-1-b"] = NO_CPU
    outcome = followed(cluster, tmp_path / "out", Watching())
    assert (outcome.reason, outcome.remedy) == (f"no place for tenant b: {NO_CPU}", "ask for less with --pod-cpu")


def test_a_conductor_without_a_place_is_told_as_such(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else nobody would be there to say why nothing happens."""
    cluster.placeless["conductor"] = NO_CPU
    outcome = followed(cluster, tmp_path / "out", Watching())
    assert (outcome.kind, outcome.reason) == ("failed", f"no place for the conductor: {NO_CPU}")


def test_a_taint_that_the_scheduler_does_not_name_is_told_by_the_node(cluster: ClusterHere, tmp_path: Path) -> None:
    """Else Kubernetes 1.34, which keeps it to itself, would leave the user without a remedy."""
    cluster.placeless["conductor"] = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
    cluster.taints = [{"key": "team", "value": "a", "effect": "NoSchedule"}, {"key": "x", "effect": "PreferNoSchedule"}]
    assert followed(cluster, tmp_path / "out", Watching()).remedy == "--toleration team=a:NoSchedule"


class Cut(ClusterHere):
    """A cluster whose client is killed after so many of its objects are made: nothing is made or tidied up by it."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder)
        self._left = after

    def create(self, obj: Object) -> Object:
        if not self._left:
            raise Killed
        self._left -= 1
        return super().create(obj)


class Killed(BaseException):
    """At once, by the kernel."""


@pytest.mark.parametrize(
    ("made", "missing"), [(2, "Pod kts-r-1-conductor"), (5, "Job kts-r-1-a"), (6, "Job kts-r-1-b")]
)
def test_a_run_whose_client_was_killed_while_it_began_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: int, missing: str
) -> None:
    """Else `kts attach` would wait without an end for what nobody makes."""
    monkeypatch.setattr(pending, "LACKING_S", 0.5)
    monkeypatch.setattr(begin, "remove", lambda *_: True)  # who is killed removes nothing
    with Cut(tmp_path / "cluster", made) as cluster:
        with pytest.raises(Killed):
            followed(cluster, tmp_path / "out", Watching())
        found = attach.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "attached")
        try:
            outcome = found.finish(found.follow(Watching(), Interrupts())).outcome
        finally:
            found.close()
    assert (outcome.kind, outcome.exit_code) == ("failed", 4)
    assert outcome.reason == f"{missing} is not there: it was never made, or is deleted"


def test_a_run_without_its_secret_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    """Else `kts attach` would deny a run that `kts runs` lists, and nobody would remove it."""
    with ClusterHere(tmp_path / "cluster") as cluster:
        with pytest.raises(SetupError, match="no run r-1 in"):
            attach.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out")
        cluster.create({"kind": "ConfigMap", "metadata": {"name": "kts-r-1", "labels": {}}, "data": {}})
        with pytest.raises(SetupError, match="its Secret kts-r-1 was never made") as error:
            attach.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out")
    assert error.value.remedy.startswith("kts clean r-1")


def test_ctrl_c_before_the_conductor_runs_ends_the_run_at_once(
    cluster: ClusterHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else kts would wait for an answer that cannot come."""
    monkeypatch.setattr(pending, "STUCK_S", 60.0)
    cluster.placeless["conductor"] = NO_CPU
    began = time.monotonic()
    outcome = followed(cluster, tmp_path / "out", Watching(interrupt_at=3))
    assert (outcome.kind, outcome.exit_code) == ("interrupted", 130)
    assert time.monotonic() - began < session.STOPPING_S / 2


def test_a_conductor_that_falls_silent_is_left_alone_after_a_while_and_may_be_attached_to(
    cluster: ClusterHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a lost node, whose pods stay Running for good, would be waited for without an end."""
    monkeypatch.setattr(session, "PATIENCE_S", 0.5)

    class Losing(Watching):
        def progress(self, progress: Progress) -> None:
            if progress.phase != "starting" and cluster.process("conductor").poll() is None:
                cluster.process("conductor").send_signal(signal.SIGSTOP)
                monkeypatch.setattr(cluster, "proxy", silent)

    def silent(*_: object, **__: object) -> bytes:
        raise Unavailable("no answer")

    with pytest.raises(Unavailable, match="its run may go on"):
        followed(cluster, tmp_path / "out", Losing())
