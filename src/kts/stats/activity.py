"""What telemetry says of each tenant: samples joined to its iterations by time. Pure.

A sample covers ``(t - span, t]``. A momentary one holds from its moment until the next of its series, at most
`HOLD_NS`. It counts in a block if it tells mostly of it: at least half of a span lies inside, or the moment does. So a
mean over 30 s is not the activity of a block of one second, and what was read before a block is not in it.

Means are weighted with time: over the tenant's iterations (submit to retire), and over the whole block. Samples are far
longer than most iterations: the first says what went on around them, not inside one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.model.run import BlockOutcome, RunInfo
from kts.model.summary import Activity, ActivityMean, ActivityRole, BlockActivity
from kts.model.telemetry import SampleSeries
from kts.stats.block import MeasuredBlock
from kts.stats.overlap import PORTION
from kts.stats.series import ActivityTrace, Side
from kts.units import NS_PER_MS

HOLD_NS = 500 * NS_PER_MS
TRACE_POINTS = 600

PREFERENCE: dict[ActivityRole, tuple[tuple[str, str], ...]] = {
    "sm": (("gpm", "sm_active_ratio"), ("dcgm", "sm_active_ratio"), ("nvml", "gpu_busy_ratio")),
    "dram": (("gpm", "dram_active_ratio"), ("dcgm", "dram_active_ratio"), ("nvml", "memory_busy_ratio")),
    "process-sm": (("nvml-process", "process_sm_ratio"), ("dcgm", "process_sm_ratio")),
    "cpu-run": (("schedstat", "cpu_run_ratio"), ("host", "running_threads")),
    "cpu-wait": (("schedstat", "cpu_wait_ratio"), ("host", "waiting_threads")),
}
"""Per role (source, metric), the best first. NVML's are neither SM nor DRAM activity: last, under their own names.
Runs of earlier versions have schedstat."""

OF_ONE_THREAD = frozenset({"cpu-run", "cpu-wait"})
"""Roles of tenants of ours alone: their one thread wants the core. A program's threads wait for each other, too."""

_UNITS = {"ratio": "ratio", "mhz": "MHz", "w": "W", "threads": "threads", "cores": "cores", "s": "B/s"}
"""By the last word of a metric's name; ``bytes_per_s`` are the only ones per second."""

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Cover:
    """What each sample of a series covers: ``begin_ns`` to ``end_ns``, never twice the same time; all ``(n,)``."""

    series: SampleSeries
    begin_ns: Times
    end_ns: Times

    @classmethod
    def of(cls, series: SampleSeries) -> Cover:
        """By the rules above."""
        t_ns, span_ns = series.t_ns, series.span_ns
        momentary = span_ns == 0
        following = np.append(t_ns[1:], t_ns[-1:] + HOLD_NS)
        begin_ns = np.where(momentary, t_ns, t_ns - span_ns)
        end_ns = np.where(momentary, np.minimum(following, t_ns + HOLD_NS), t_ns)
        begin_ns[1:] = np.maximum(begin_ns[1:], np.maximum.accumulate(end_ns)[:-1])
        return cls(series, begin_ns, np.maximum(end_ns, begin_ns))

    def inside(self, start_ns: int, end_ns: int) -> tuple[Times, Times, NDArray[np.float64]]:
        """(begin, end, value) of the samples that count in a block, cut to it; begin and end relative to its start."""
        first = int(np.searchsorted(self.end_ns, start_ns, side="right"))
        last = int(np.searchsorted(self.begin_ns, end_ns, side="left"))
        picked = slice(first, last)
        begin, end = self.begin_ns[picked], self.end_ns[picked]
        cut_begin, cut_end = np.maximum(begin, start_ns), np.minimum(end, end_ns)
        moment = self.series.span_ns[picked] == 0
        t_ns = self.series.t_ns[picked]
        mostly = np.where(moment, (t_ns >= start_ns) & (t_ns < end_ns), 2 * (cut_end - cut_begin) >= end - begin)
        counts = mostly & (cut_end > cut_begin)
        return cut_begin[counts] - start_ns, cut_end[counts] - start_ns, self.series.value[picked][counts]


@dataclass
class Sums:
    """Weighted sums; ``busy``: over iterations, ``all``: over blocks; nanoseconds."""

    busy_ns: float = 0.0
    busy_weight: float = 0.0
    busy_sum: float = 0.0
    all_weight: float = 0.0
    all_sum: float = 0.0
    samples: int = 0

    def add(self, other: Sums) -> None:
        """Adds another block's."""
        self.busy_ns += other.busy_ns
        self.busy_weight += other.busy_weight
        self.busy_sum += other.busy_sum
        self.all_weight += other.all_weight
        self.all_sum += other.all_sum
        self.samples += other.samples

    def mean(self) -> ActivityMean:
        """For the summary."""
        return ActivityMean(
            mean=self.busy_sum / self.busy_weight if self.busy_weight > 0 else None,
            block_mean=self.all_sum / self.all_weight if self.all_weight > 0 else None,
            samples=self.samples,
            covered=min(1.0, self.busy_weight / self.busy_ns) if self.busy_ns > 0 else 0.0,
        )


@dataclass
class _Joined:
    solo: Sums = field(default_factory=Sums)
    shared: Sums = field(default_factory=Sums)
    blocks: list[BlockActivity] = field(default_factory=list)


def covers(series: Sequence[SampleSeries], info: RunInfo) -> Mapping[str, list[Cover]]:
    """By tenant. A device's samples are for the tenants on it, a tenant's for itself."""
    devices = {worker.tenant: worker.device.uuid for worker in info.workers}
    told = [Cover.of(one) for one in series if len(one.t_ns)]
    return {
        tenant.name: [
            cover
            for cover in told
            if cover.series.subject == (devices.get(tenant.name) if cover.series.scope == "device" else tenant.name)
        ]
        for tenant in info.plan.tenants
    }


class Join:
    """A Pass. Gathers the activity of every tenant, block by block; small, whatever the number of iterations."""

    def __init__(self, series: Sequence[SampleSeries], info: RunInfo) -> None:
        self._covers = covers(series, info)
        self._joined = {name: [_Joined() for _ in found] for name, found in self._covers.items()}
        self._in_thread = frozenset(tenant.name for tenant in info.plan.tenants if tenant.work.in_thread)

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.kept.items():
            self.add(name, block.outcome, block.side, row.span.submit_ns, row.span.retire_ns)

    def add(self, tenant: str, block: BlockOutcome, side: Side | None, submit_ns: Times, retire_ns: Times) -> None:
        """A tenant's iterations in a block that counts. ``side`` None: in a mix besides the full house."""
        covers = self._covers[tenant]
        if not covers:
            return
        inside = [cover.inside(block.start_ns, block.end_ns) for cover in covers]
        begin, end = (np.concatenate([one[edge] for one in inside]) for edge in (0, 1))
        busy = Busy(submit_ns, retire_ns, block.end_ns - block.start_ns, block.start_ns)
        weights = np.split(busy.within(begin, end), np.cumsum([len(one[0]) for one in inside])[:-1])
        for joined, one, weight in zip(self._joined[tenant], inside, weights, strict=True):
            sums = _sums(one, weight, busy.total_ns)
            if side is not None:
                (joined.solo if side == "solo" else joined.shared).add(sums)
            if sums.samples:
                mean = msgspec.structs.asdict(sums.mean())
                joined.blocks.append(BlockActivity(block=block.index, condition=block.condition, **mean))

    def activity(self, tenant: str) -> tuple[Activity, ...]:
        """Every series that tells something of the tenant, those with a role first; blocks only of these."""
        found = [
            (cover.series, joined)
            for cover, joined in zip(self._covers[tenant], self._joined[tenant], strict=True)
            if joined.blocks
        ]
        roles = _roles([series for series, _ in found], in_thread=tenant in self._in_thread)
        figures = [
            Activity(
                metric=series.metric,
                source=series.source,
                scope=series.scope,
                unit=_UNITS.get(series.metric.rsplit("_", 1)[-1], ""),
                role=roles.get((series.source, series.metric), ""),
                solo=joined.solo.mean(),
                shared=joined.shared.mean(),
                blocks=tuple(joined.blocks) if (series.source, series.metric) in roles else (),
            )
            for series, joined in found
        ]
        order = [*PREFERENCE, ""]
        return tuple(sorted(figures, key=lambda a: (order.index(a.role), a.source, a.metric)))


class Busy:
    """The union of iterations' intervals, clipped to ``length_ns`` from ``start_ns`` on. A portion at a time: the
    temporary arrays would outweigh the iterations."""

    def __init__(self, begin_ns: Times, end_ns: Times, length_ns: int, start_ns: int = 0) -> None:
        if np.any(begin_ns[1:] < begin_ns[:-1]):
            order = np.argsort(begin_ns, kind="stable")
            begin_ns, end_ns = begin_ns[order], end_ns[order]
        self._begin_ns, self._end_ns, self._length_ns, self._start_ns = begin_ns, end_ns, length_ns, start_ns
        self.total_ns = float(self._until(np.array([length_ns]))[0])

    def within(self, begin_ns: Times, end_ns: Times) -> NDArray[np.float64]:
        """Busy time in each of the intervals, ns; these relative to ``start_ns``."""
        return (self._until(end_ns) - self._until(begin_ns)).astype(np.float64)

    def _until(self, edges_ns: Times) -> Times:
        """Busy time before each edge."""
        busy_ns = np.zeros(len(edges_ns), dtype=np.int64)
        over_ns = 0
        for first in range(0, len(self._begin_ns), PORTION):
            picked = slice(first, first + PORTION)
            begin, end = (
                np.clip(times[picked] - self._start_ns, over_ns, self._length_ns)
                for times in (self._begin_ns, self._end_ns)
            )
            end = np.maximum.accumulate(end)
            begin[1:] = np.maximum(begin[1:], end[:-1])
            lengths = end - begin
            reached = np.cumsum(lengths)
            at = np.searchsorted(begin, edges_ns, side="right") - 1
            inside = np.minimum(edges_ns - begin[at], lengths[at]) + reached[at] - lengths[at]
            busy_ns += np.where(at < 0, 0, inside)
            over_ns = int(end[-1])
        return busy_ns


def _sums(inside: tuple[Times, Times, NDArray[np.float64]], weight: NDArray[np.float64], busy_ns: float) -> Sums:
    begin, end, value = inside
    lengths = (end - begin).astype(np.float64)
    return Sums(
        busy_ns=busy_ns,
        busy_weight=float(weight.sum()),
        busy_sum=float(weight @ value),
        all_weight=float(lengths.sum()),
        all_sum=float(lengths @ value),
        samples=len(value),
    )


def _roles(series: Sequence[SampleSeries], *, in_thread: bool) -> dict[tuple[str, str], ActivityRole]:
    """(source, metric) that stands for each role: the best that is there. ``in_thread``: the tenant is one of ours."""
    there = {(one.source, one.metric) for one in series}
    found: dict[tuple[str, str], ActivityRole] = {}
    for role, choices in PREFERENCE.items():
        best = next((choice for choice in choices if choice in there), None)
        if best is not None and (in_thread or role not in OF_ONE_THREAD):
            found[best] = role
    return found


def traces(
    series: Sequence[SampleSeries], figures: Mapping[str, Sequence[Activity]], origin_ns: int, end_ns: int
) -> tuple[ActivityTrace, ...]:
    """The series that have a role for some tenant, thinned: time-weighted means of equal bins from origin to end."""
    roles = {
        (a.source, a.metric, tenant if a.scope == "tenant" else ""): a.role
        for tenant, of in figures.items()
        for a in of
        if a.role
    }
    found = []
    for role in PREFERENCE:
        for one in series:
            whose = one.subject if one.scope == "tenant" else ""
            if roles.get((one.source, one.metric, whose)) == role and len(one.t_ns):
                t_s, value = _binned(Cover.of(one), origin_ns, end_ns)
                found.append(
                    ActivityTrace(
                        role=role,
                        source=one.source,
                        metric=one.metric,
                        scope=one.scope,
                        subject=one.subject,
                        t_s=t_s,
                        value=value,
                    )
                )
    return tuple(found)


def _binned(cover: Cover, origin_ns: int, end_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(middle of each bin in seconds, mean in it); bins without a sample are left out."""
    longest = int(np.median(cover.end_ns - cover.begin_ns)) if len(cover.begin_ns) else 1
    count = max(1, min(TRACE_POINTS, (end_ns - origin_ns) // max(1, longest)))
    edges = np.linspace(0, max(1, end_ns - origin_ns), count + 1)
    begin, end = (cover.begin_ns - origin_ns).astype(np.float64), (cover.end_ns - origin_ns).astype(np.float64)
    knots = np.column_stack([begin, end]).ravel()
    lengths = end - begin
    held, total = np.cumsum(lengths), np.cumsum(lengths * cover.series.value)
    covered = np.column_stack([held - lengths, held]).ravel()
    summed = np.column_stack([total - lengths * cover.series.value, total]).ravel()
    weight = np.diff(np.interp(edges, knots, covered))
    value = np.diff(np.interp(edges, knots, summed))
    kept = weight > 0
    return ((edges[:-1] + edges[1:]) / 2e9)[kept], value[kept] / weight[kept]
