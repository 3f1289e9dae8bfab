"""A probe's readings as the simulator's tenants would have made them, and a probe without a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from kts.model.run import DeviceInfo
from kts.physics.simulate import Completed, SharingModel, Stream, simulate
from kts.physics.values import Floats, bursts
from kts.worker.probe.traces import Bursts, Crowd, GapTrace, Looks, Pair, Readings

STEP_MS = 0.002
"""Of the simulated loop that reads the clock."""
THRESHOLD_NS = 20_000
H200 = DeviceInfo(
    kind="cuda", uuid="GPU-1", name="H", label="NVIDIA H", library="cuda-core", driver="580", stopwatch="globaltimer"
)
HERE_NS = 1_700_000_000_000_000_000


def sharing(slice_ms: float = 2.087, preempt: Sequence[float] = (0.174,), yielding: float = 0.1) -> SharingModel:
    """A GPU's."""
    return SharingModel(slice_ms, tuple(preempt), (yielding,), (yielding,))


@cache
def _listed() -> object:
    return bursts([STEP_MS], 0.0)


def watching(ms: float) -> Stream:
    """A tenant that reads the clock, back to back."""
    n = int(ms / STEP_MS) + 1000
    return Stream(_listed(), np.zeros(n, np.int64), think_ms=np.zeros(n))  # type: ignore[arg-type]


def comes_and_goes(burst_ms: float, period_ms: float, ms: float, rng: np.random.Generator, jitter: float) -> Stream:
    """A tenant with work of ``burst_ms`` every ``period_ms``, more or less."""
    n = int(ms / period_ms) + 4
    due = np.sort(np.arange(n) * period_ms + rng.uniform(-jitter, jitter, n) * period_ms + period_ms)
    return Stream(bursts([burst_ms], 0.0), np.zeros(n, np.int64), due_ms=due)


def seen_by(tenant: Completed, *, rng: np.random.Generator | None = None, **noise: float) -> GapTrace:
    """The trace of a tenant made by `watching`. ``noise``: see `disturbed`."""
    reading = np.concatenate([[tenant.begin_ms[0]], tenant.end_ms])
    step = np.diff(reading)
    gap = np.flatnonzero(step * 1e6 > THRESHOLD_NS)
    begins, lengths = reading[gap], step[gap] - STEP_MS
    if rng is not None:
        begins, lengths = disturbed(begins, lengths, rng, **noise)
    pairs = [(HERE_NS + round(b * 1e6), round(g * 1e6)) for b, g in zip(begins, lengths, strict=True)]
    start, end = (HERE_NS + round(float(t) * 1e6) for t in (reading[0], reading[-1]))
    return GapTrace(start_ns=start, end_ns=end, gaps=tuple(pairs))


def disturbed(
    begins: Floats,
    lengths: Floats,
    rng: np.random.Generator,
    *,
    jitter_ms: float = 0.0,
    dropped: float = 0.0,
    step_ms: float = 0.0,
) -> tuple[Floats, Floats]:
    """Both ends of each gap off by a normal ``jitter_ms``, some gaps missing, and a clock with coarse steps."""
    ends = begins + lengths + rng.normal(0, jitter_ms, len(begins)) if jitter_ms else begins + lengths
    begins = begins + rng.normal(0, jitter_ms, len(begins)) if jitter_ms else begins
    if step_ms:
        begins, ends = np.floor(begins / step_ms) * step_ms, np.floor(ends / step_ms) * step_ms
    kept = rng.random(len(begins)) >= dropped
    return begins[kept], (ends - begins)[kept]


def watch_beside(others: Sequence[Stream], shared: SharingModel, ms: float, **noise: float) -> GapTrace:
    """What a watcher sees beside ``others``."""
    rng = np.random.default_rng(len(others))
    outcome = simulate([watching(ms), *others], shared, horizon_ms=ms)
    return seen_by(outcome.tenants[0], rng=rng if noise else None, **noise)


def watched(trace: GapTrace, blip_ns: int = THRESHOLD_NS) -> Looks:
    """One long watch."""
    return Looks(device=H200, mode="time-slicing", blip_ns=blip_ns, kind="watch", looks=(trace,))


def looks_of(trace: GapTrace, limit_ms: float, starts_ms: Sequence[float]) -> Looks:
    """Short looks: at each time the watcher gets its next turn and sees one gap, or waits for ``limit_ms``."""
    gaps = trace.array
    found = []
    for start in starts_ms:
        start_ns = HERE_NS + round(start * 1e6)
        later = gaps[gaps[:, 0] >= start_ns]
        if len(later) > 1 and later[0].sum() - start_ns < 100e6:
            start_ns = int(later[0].sum())  # the first turn begins where the device comes back
            later = later[1:]
        end_ns = start_ns + round(limit_ms * 1e6)
        inside = later[later[:, 0] < end_ns][:1]
        end_ns = int(inside[0].sum()) if len(inside) else end_ns
        seen = GapTrace(start_ns=start_ns, end_ns=end_ns, gaps=tuple((int(b), int(g)) for b, g in inside))
        found.append(seen)
    return Looks(device=H200, mode="time-slicing", blip_ns=THRESHOLD_NS, kind="looks", looks=tuple(found))


def readings(
    shared: SharingModel,
    *,
    ms: float = 400.0,
    most: int = 4,
    seed: int = 0,
    ticks: Sequence[int] | None = None,
    **noise: float,
) -> Readings:
    """All of a session on a simulated GPU."""
    rng = np.random.default_rng(seed)
    crowds = []
    for n in range(1, most + 1):
        outcome = simulate([watching(ms) for _ in range(n + 1)], shared, horizon_ms=ms)
        traces = [seen_by(tenant, rng=rng, **noise) for tenant in outcome.tenants]
        crowds.append(Crowd(neighbours=n, watched=traces[0], others=tuple(traces[1:])))
    short = [_bursts(shared, length, ms, rng) for length in (0.5, 1.0)]
    chain = np.cumsum([20_000, 1_200] * 32) + HERE_NS
    return Readings(
        device=H200,
        mode="time-slicing",
        blip_ns=THRESHOLD_NS,
        ticks=tuple(ticks if ticks is not None else range(0, 3200, 32)),
        alone=GapTrace(start_ns=HERE_NS, end_ns=HERE_NS + 400_000_000),
        crowds=tuple(crowds),
        bursts=tuple(short),
        chain=tuple(zip((chain[::2] - 20_000).tolist(), chain[::2].tolist(), strict=True)),
        pulse_same_ns=tuple(int(v) for v in 30_000 + rng.normal(0, 500, 60)),
        pulse_other_ns=tuple(int(v) for v in 130_000 + rng.normal(0, 500, 60)),
    )


def _bursts(shared: SharingModel, length_ms: float, ms: float, rng: np.random.Generator) -> Bursts:
    neighbour = comes_and_goes(length_ms, 8.0, ms, rng, 0.4)
    outcome = simulate([watching(ms), neighbour], shared, horizon_ms=ms)
    theirs = outcome.tenants[1]
    pairs = [
        (HERE_NS + round(b * 1e6), HERE_NS + round(e * 1e6))
        for b, e in zip(theirs.begin_ms, theirs.end_ms, strict=True)
    ]
    return Bursts(length_ns=round(length_ms * 1e6), watched=seen_by(outcome.tenants[0]), pairs=tuple(pairs))


class FakeProbe:
    """A device on which ``others`` always have work, told at each call; a turn and a gap per two and more ms."""

    def __init__(self, neighbours: Callable[[], int] = lambda: 0) -> None:
        self._neighbours = neighbours
        self._now_ns = HERE_NS
        self.closed = False

    def info(self) -> DeviceInfo:
        return H200

    def ticks(self, n: int) -> list[int]:
        return [self._now_ns + 32 * i for i in range(n)]

    def watch(self, seconds: float, *, threshold_ns: int, enough: int | None = None) -> GapTrace:
        n = self._neighbours()
        start = self._now_ns
        end = start + round(seconds * 1e9)
        gaps: list[Pair] = []
        away = n * 2_000_000 + (n + 1) * 200_000
        while n and away >= threshold_ns and self._now_ns + 2_000_000 < end and len(gaps) != enough:
            gaps.append((self._now_ns + 2_000_000, away))
            self._now_ns += 2_000_000 + away
        if len(gaps) != enough:
            self._now_ns = max(end, self._now_ns)
        return GapTrace(start_ns=start, end_ns=self._now_ns, gaps=tuple(gaps))

    def saturate(self, threshold_ns: int, started: Callable[[], None], stop: Callable[[float], bool]) -> GapTrace:
        start = self._now_ns
        started()
        while not stop(0.0):
            self._now_ns += 1_000_000
        self._now_ns += threshold_ns
        return GapTrace(start_ns=start, end_ns=self._now_ns)

    def bursts(self, length_ns: int, go_on: Callable[[], bool]) -> list[Pair]:
        pairs = []
        while go_on():
            pairs.append((self._now_ns, self._now_ns + length_ns))
            self._now_ns += length_ns
        return pairs

    def chain(self, n: int, length_ns: int) -> list[Pair]:
        found = []
        for _ in range(n):
            found.append((self._now_ns, self._now_ns + length_ns))
            self._now_ns += length_ns + 1_000
        return found

    def pulse(self) -> int:
        return 30_000

    def close(self) -> None:
        self.closed = True
