"""The contract of `kts.worker.probe.Probe`: on this machine's devices, on a driver made of Python, and a fake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from tests.helpers_cuda import FakeCuda, fake_compiler
from tests.helpers_probe import FakeProbe

from kts.model.run import DeviceInfo
from kts.worker.detect import cuda_devices
from kts.worker.probe import Probe, cuda, open_probe
from kts.worker.probe.driver_api import Driver

MS = 1_000_000


@pytest.fixture(
    params=["fake", "cpu", "cuda on a made-up driver", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def probe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Probe]:
    if request.param == "cuda" and not cuda_devices():
        pytest.skip("no CUDA device")
    if request.param == "fake":
        opened: Probe = FakeProbe()
    elif request.param == "cuda on a made-up driver":
        info = DeviceInfo(kind="cuda", uuid="GPU-1", name="H", label="H", library="x", stopwatch="globaltimer")
        monkeypatch.setattr(cuda, "cuda_info", lambda *_: info)
        with fake_compiler():
            opened = cuda.CudaProbe(Driver(FakeCuda()))
    else:
        opened = open_probe(request.param)
    yield opened
    opened.close()


def test_it_says_what_it_is(probe: Probe) -> None:
    """Else a CPU core poses as a GPU, and fingerprints of two devices are mixed up."""
    info = probe.info()
    assert info.uuid.startswith({"cuda": "GPU-", "cpu": "cpu:"}[info.kind])
    assert info.stopwatch
    assert ("not a GPU" in info.label) == (info.kind == "cpu")
    assert info == probe.info()


def test_its_clock_goes_forward(probe: Probe) -> None:
    """Else gaps have no length."""
    ticks = np.array(probe.ticks(1000))
    assert len(ticks) == 1000
    assert (np.diff(ticks) >= 0).all()
    assert ticks[-1] > ticks[0]


def test_a_watch_lasts_as_long_as_asked_and_its_gaps_lie_within(probe: Probe) -> None:
    """Else turns are computed from gaps of another time."""
    trace = probe.watch(0.03, threshold_ns=20_000)
    assert trace.end_ns - trace.start_ns >= 30 * MS
    gaps = trace.array
    assert (gaps[:, 1] >= 20_000).all()
    assert (gaps[1:, 0] >= gaps[:-1].sum(axis=1)).all()
    if len(gaps):
        assert gaps[0, 0] >= trace.start_ns
        assert gaps[-1].sum() <= trace.end_ns


def test_two_watches_follow_each_other(probe: Probe) -> None:
    """Else the second one goes on with the first one's state."""
    first = probe.watch(0.005, threshold_ns=20_000)
    second = probe.watch(0.005, threshold_ns=20_000)
    assert second.start_ns >= first.end_ns


def test_saturating_begins_before_it_says_so_and_ends_when_told(probe: Probe) -> None:
    """Else the driver watches beside nobody, or waits for ever."""
    said: list[str] = []
    asked: list[float] = []

    def stop(most_s: float) -> bool:
        asked.append(most_s)
        return len(asked) > 20 and bool(said)

    trace = probe.saturate(20_000, lambda: said.append("running"), stop)
    assert said == ["running"]
    assert trace.end_ns > trace.start_ns


def test_bursts_are_as_many_and_as_long_as_asked(probe: Probe) -> None:
    """Else the cost of yielding is taken from the wrong moments."""
    left = [True] * 5 + [False]
    pairs = np.array(probe.bursts(200_000, lambda: left.pop(0)))
    assert len(pairs) == 5
    assert (pairs[:, 1] - pairs[:, 0] >= 200_000).all()
    assert (pairs[1:, 0] >= pairs[:-1, 1]).all()


def test_a_chain_is_in_order(probe: Probe) -> None:
    """Else the time between two queued kernels comes out negative."""
    pairs = np.array(probe.chain(16, 20_000))
    assert len(pairs) == 16
    assert (pairs[1:, 0] >= pairs[:-1, 1]).all()


def test_a_pulse_takes_time(probe: Probe) -> None:
    """Else waking costs nothing."""
    assert probe.pulse() > 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a spinning neighbour needs a core to share and one to go")
def test_a_cpu_core_is_seen_being_taken_away() -> None:
    """Else the loop misses what it is there for: a neighbour on its core."""
    core = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    program = f"import os; os.sched_setaffinity(0, {{{core}}}); print(1, flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
            os.sched_setaffinity(0, {core})
            trace = open_probe("cpu").watch(0.3, threshold_ns=500_000)
        finally:
            os.sched_setaffinity(0, before)
            neighbour.kill()
    assert trace.array[:, 1].sum() > 0.2 * (trace.end_ns - trace.start_ns)
