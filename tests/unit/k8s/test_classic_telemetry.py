"""An exporter beside a run in the classic design, over a real socket and on a cluster in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
from tests.helpers_conduct import until
from tests.helpers_fake_cluster import OFFSET_NS, FakeCluster
from tests.helpers_log import T0
from tests.helpers_telemetry import OTHER_UUID, UUID, Exporter, S, exporter, exporter_text

from kts.conduct.ports import Progress, Watcher
from kts.errors import UsageError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import classic, classic_telemetry, logfollow, runs
from kts.k8s.objects.settings import ClusterSettings
from kts.model.run import ClockPair, RunInfo
from kts.model.summary import Activity
from kts.plan import build
from kts.spec import load_text
from kts.stats import analyse
from kts.store import layout, open_run

TEXT = """\
name: small
design: classic
device: cuda
tenants:
  fft: {workload: fft, size: 48, think_ms: 8, jitter: 0, iterations: 400}
  gemm: {workload: gemm, size: 32, think_ms: 8, jitter: 0, iterations: 400}
"""
PLAN = build(load_text(TEXT, source="test").experiment)
SOLO_FFT_NS = T0 + OFFSET_NS
"""Begin of the first block by the node's CLOCK_MONOTONIC; it lasts 4 s, and the next begins after 100 s."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((classic, "POLL_S"), (classic, "LOOK_S"), (logfollow, "_PAUSE_S")):
        monkeypatch.setattr(module, name, 0.002)


@pytest.fixture(name="served")
def _served() -> Iterator[Exporter]:
    with exporter() as served:
        yield served


def gpu_cluster() -> FakeCluster:
    """One whose workers find the exporter's GPU."""
    cluster = FakeCluster()
    cluster.kind = "cuda"
    cluster.uuids = dict.fromkeys("012", UUID)
    return cluster


class Scraping:
    """A watcher that lets the exporter's values change while block ``block`` is followed, until it was asked ``asks``
    times more (0: not at all); then ``end`` is raised, if there is one."""

    def __init__(
        self, served: Exporter, *, block: int = 1, asks: int = 6, end: type[BaseException] | None = None
    ) -> None:
        self.served, self.block, self.asks, self.end = served, block, asks, end

    def progress(self, progress: Progress) -> None:
        there = any(one.iterations for one in progress.tenants)
        if not self.asks or not there or not progress.text.startswith(f"block {self.block} "):
            return
        enough, self.asks = self.served.asked + self.asks, 0
        until(lambda: self._asked() >= enough)
        if self.end is not None:
            raise self.end

    def _asked(self) -> int:
        self.served.text = exporter_text(sm=self.served.asked % 89 / 100)
        return self.served.asked


class Breaking:
    """A watcher that has the exporter fail once it was asked, and waits until nothing asks any more."""

    def __init__(self, served: Exporter) -> None:
        self.served = served

    def progress(self, progress: Progress) -> None:
        if any(one.iterations for one in progress.tenants) and self.served.status == 200:
            until(lambda: self.served.asked > 1)
            self.served.status = 503
            until(no_thread)


def settings(url: str) -> ClusterSettings:
    """With this exporter."""
    return ClusterSettings(dcgm=url)


def started(cluster: FakeCluster, directory: Path, url: str) -> runs.RunSession:
    """A run that was begun."""
    return runs.start(cast(Api, cluster), PLAN, settings(url), TEXT, directory, run="r-1", overwrite=False)


def finished(session: runs.RunSession, watcher: Watcher) -> RunInfo:
    """The run at its end."""
    try:
        return session.finish(session.follow(watcher))
    finally:
        session.close()


def elsewhere(monkeypatch: pytest.MonkeyPatch, *, ahead_ns: int = S, skew_ns: int = 0) -> None:
    """This machine is another one than the node. By true time it is ``ahead_ns`` into the first block when this is
    called, and by this machine's time of day ``skew_ns`` later than that."""
    begin_ns = time.monotonic_ns()

    def pair() -> ClockPair:
        now_ns = time.monotonic_ns()
        realtime_ns = T0 + ahead_ns + skew_ns + now_ns - begin_ns
        return ClockPair(realtime_ns=realtime_ns, monotonic_ns=now_ns, error_ns=200)

    monkeypatch.setattr(classic_telemetry, "clock_pair", pair)


def broken_off(served: Exporter, directory: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster with a run whose kts, on another machine, ended by a mistake of its own after it had scraped."""
    cluster = gpu_cluster()
    elsewhere(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        finished(started(cluster, directory, served.url), Scraping(served, end=ZeroDivisionError))
    return cluster


def same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is this machine: its clocks are as far apart as the node's."""

    def pair() -> ClockPair:
        now_ns = time.monotonic_ns()
        return ClockPair(realtime_ns=now_ns - OFFSET_NS + 60, monotonic_ns=now_ns, error_ns=20)

    monkeypatch.setattr(classic_telemetry, "clock_pair", pair)


def moments(directory: Path) -> list[int]:
    """When each sample of SM activity was taken, as kept."""
    return [t for s in open_run(directory).telemetry() if s.metric == "sm_active_ratio" for t in s.t_ns.tolist()]


def activity(directory: Path, tenant: str) -> Activity:
    """What the report says of SM activity."""
    return next(a for a in analyse(open_run(directory)).summary.tenants[tenant].activity or () if a.role == "sm")


def no_thread() -> bool:
    """Whether nothing samples any more."""
    return not [thread for thread in threading.enumerate() if thread.name == "telemetry"]


def test_samples_of_another_machine_are_joined_by_the_nodes_clock(
    served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else DCGM's figures would belong to no iteration, or to those of another moment."""
    elsewhere(monkeypatch)
    info = finished(started(gpu_cluster(), tmp_path / "out", served.url), Scraping(served))
    assert info.outcome.kind == "complete"
    found = moments(tmp_path / "out")
    assert found
    assert all(SOLO_FFT_NS + S <= t_ns < SOLO_FFT_NS + 4 * S for t_ns in found)
    fft = activity(tmp_path / "out", "fft")
    assert (fft.source, fft.scope) == ("dcgm", "device")
    assert fft.solo.samples == len(found)
    assert 0 < (fft.solo.mean or 0) < 1
    assert fft.shared.samples == 0
    assert [state.source for state in info.telemetry] == ["dcgm"]
    assert "changed every" in info.telemetry[0].note
    assert info.telemetry[0].polls > 0
    assert any("moved by both machines' time of day" in note and "NTP" in note for note in info.notes)
    assert not any("no telemetry" in note for note in info.notes)
    assert (tmp_path / "out" / layout.TELEMETRY).exists()
    assert no_thread()


def test_on_one_machine_samples_stay_where_they_are(
    served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would be moved for nothing, and a note tell of another machine."""
    same_machine(monkeypatch)
    before_ns = time.monotonic_ns()
    info = finished(started(gpu_cluster(), tmp_path / "out", served.url), Scraping(served))
    assert moments(tmp_path / "out")
    assert all(before_ns < t_ns < time.monotonic_ns() for t_ns in moments(tmp_path / "out"))
    assert not any("DCGM" in note for note in info.notes)


def test_times_of_day_that_cannot_both_be_right_are_named(
    served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a join that is seconds off would look like any other."""
    elsewhere(monkeypatch, ahead_ns=0, skew_ns=-7 * S)
    info = finished(started(gpu_cluster(), tmp_path / "out", served.url), Scraping(served))
    assert any("ahead of this machine's" in note and "at least" in note for note in info.notes)


def test_nothing_is_asked_before_a_tenant_told_its_gpu(
    served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another GPU of the exporter would be taken for the tenants'."""
    cluster = gpu_cluster()
    elsewhere(monkeypatch)
    cluster.spoil = lambda _, lines: [line for line in lines if "KTS_META" not in line]
    info = finished(started(cluster, tmp_path / "out", served.url), Scraping(served, asks=0))
    assert (served.asked, info.outcome.kind) == (0, "incomplete")
    assert info.telemetry[0].missing == "no tenant opened its device"


@pytest.mark.parametrize("how", ["gone", "another GPU", "stops"])
def test_an_exporter_that_fails_costs_nothing_but_its_samples(
    how: str, served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a measurement would end because of what is only beside it."""
    elsewhere(monkeypatch)
    url = served.url
    if how == "gone":
        with exporter() as other:
            url = other.url
    elif how == "another GPU":
        served.text = served.text.replace(UUID, OTHER_UUID)
    watcher = Breaking(served) if how == "stops" else Scraping(served, asks=0)
    info = finished(started(gpu_cluster(), tmp_path / "out", url), watcher)
    assert info.outcome.kind == "complete"
    assert sum(block.valid for block in info.blocks) == 3
    (state,) = info.telemetry
    assert {"gone": "no metrics from", "another GPU": "tells nothing of", "stops": "stopped during the run"}[
        how
    ] in state.missing
    assert no_thread()


@pytest.mark.parametrize("ends", [ZeroDivisionError, KeyboardInterrupt])
def test_what_was_sampled_until_kts_ended_is_kept(
    ends: type[BaseException],
    served: Exporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else Ctrl-C would cost the samples, or leave a thread that scrapes."""
    elsewhere(monkeypatch)
    session = started(gpu_cluster(), tmp_path / "out", served.url)
    try:
        info = finished(session, Scraping(served, end=ends))
        assert info.outcome.kind == "interrupted"
    except ZeroDivisionError:
        assert ends is ZeroDivisionError
    assert moments(tmp_path / "out")
    assert no_thread()


@pytest.mark.parametrize("where", ["out", "another"])
@pytest.mark.parametrize("killed", [False, True])
def test_attach_goes_on_sampling_and_keeps_what_was_sampled(
    where: str, killed: bool, served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a closed laptop would cost what DCGM said so far, or all that it says from then on."""
    cluster = gpu_cluster()
    elsewhere(monkeypatch)
    cluster.held.add("solo-gemm")
    session = started(cluster, tmp_path / "out", served.url)
    with monkeypatch.context() as patched:
        if killed:  # nothing becomes Parquet
            patched.setattr("kts.store.writer.finish", lambda _, info: info)
        with pytest.raises(ZeroDivisionError):
            finished(session, Scraping(served, end=ZeroDivisionError))
    assert (tmp_path / "out" / layout.TELEMETRY_JOURNAL).exists() == killed
    first = moments(tmp_path / "out")
    cluster.held.clear()
    elsewhere(monkeypatch, ahead_ns=201 * S)
    info = finished(runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / where), Scraping(served, block=3, asks=15))
    assert info.outcome.kind == "complete"
    found = moments(tmp_path / where)
    second = [t_ns for t_ns in found if t_ns > SOLO_FFT_NS + 100 * S]
    assert second
    assert found == ([*first, *second] if where == "out" else second)
    fft = activity(tmp_path / where, "fft")
    assert (fft.solo.samples, fft.shared.samples) == (len(first) if where == "out" else 0, len(second))
    assert info.telemetry[0].polls >= 14
    assert any("only while a kts followed" in note for note in info.notes)


def test_an_exporter_that_is_gone_at_attach_stopped_in_the_run(
    served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the report would say of a source with samples that it was never there."""
    cluster = broken_off(served, tmp_path / "out", monkeypatch)
    first = moments(tmp_path / "out")
    served.status = 503
    info = finished(runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out"), Scraping(served, asks=0))
    (state,) = info.telemetry
    assert state.missing.startswith("stopped during the run: no metrics from")
    assert "sm_active_ratio" in state.metrics
    assert moments(tmp_path / "out") == first
    assert any("moved by both machines' time of day" in note for note in info.notes)


def test_collect_samples_nothing_and_keeps_what_is_there(
    served: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a look at a run would cost its samples, or begin new ones that nobody ends."""
    cluster = broken_off(served, tmp_path / "out", monkeypatch)
    first, asked = moments(tmp_path / "out"), served.asked
    session = runs.attach(cast(Api, cluster), "r-1", "kts", tmp_path / "out")
    info = session.collect()
    session.close()
    assert (moments(tmp_path / "out"), served.asked) == (first, asked)
    assert "changed every" in info.telemetry[0].note


def test_without_an_exporter_nothing_of_this_machine_is_sampled(tmp_path: Path) -> None:
    """Else the laptop's own GPU would be reported as the tenants'."""
    cluster = gpu_cluster()
    session = runs.start(cast(Api, cluster), PLAN, settings(""), TEXT, tmp_path / "out", run="r-1", overwrite=False)
    with exporter() as unused:
        info = finished(session, Scraping(unused, asks=0))
    assert info.telemetry == ()
    assert any("no telemetry" in note for note in info.notes)
    assert not (tmp_path / "out" / layout.TELEMETRY).exists()


def test_a_url_that_is_none_is_told_in_words(tmp_path: Path) -> None:
    """Else a ConfigMap that was changed by hand would end kts with a traceback in a thread."""
    session = started(gpu_cluster(), tmp_path / "out", "ftp://x")
    with pytest.raises(UsageError, match="--dcgm"):
        finished(session, Scraping(Exporter(), asks=0))
    assert msgspec.json.decode((tmp_path / "out" / layout.RUN).read_bytes())["outcome"]["kind"] == "incomplete"
