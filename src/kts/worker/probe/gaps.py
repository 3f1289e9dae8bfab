"""From gaps to what they say: turns, neighbours, bursts. Pure; the model is in docs/physics.md.

Beside n neighbours that always have work, a turn is one slice q, and then the device is away for n q + (n + 1) c, c
being the cost of a switch. Whoever has less than a slice of work makes a shorter gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from kts.units import NS_PER_MS
from kts.worker.probe.traces import GapTrace, Looks

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]

MOST = 16
"""Largest number of neighbours that is looked for."""
PRESENT = {"cuda": 0.7, "cpu": 0.5, "other": 0.7}
"""A neighbour that waits at the end of this share of my slices always has work; one seen less often has bursts. Linux
goes round less strictly than a GPU: whoever was late is let in first."""
STALE = {"cuda": 0.1, "cpu": 1e9, "other": 0.1}
"""By how much the turns beside saturating neighbours may differ from the fingerprint's. A CPU core's vary anyway."""
LONG_TURN = 1.5
"""In slices: at the end of the first one nobody was waiting."""
ROUNDING = 0.15
"""In neighbours: a gap may be this much too short for the number that it is counted as."""
RESAMPLES = 400
_CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Turns:
    """A trace as turns. Arrays, ms: ``on`` before each gap, ``off`` the gap, ``at`` when it began (from the start).

    ``last`` is the time on the device after the last gap, which may have gone on. ``whole``: which of ``on`` lie
    between two gaps; the first one may have begun earlier than the trace.
    """

    on: Floats
    off: Floats
    at: Floats
    last: float

    @property
    def whole(self) -> Floats:
        """``on`` without the first."""
        return self.on[1:]

    @property
    def away(self) -> float:
        """Share of the time that the device was away."""
        total = float(self.on.sum() + self.off.sum() + self.last)
        return float(self.off.sum()) / total if total else 0.0


def turns(trace: GapTrace, blip_ns: int) -> Turns:
    """The trace without gaps below ``blip_ns``, which count as time on the device."""
    gaps = trace.array
    gaps = gaps[gaps[:, 1] >= blip_ns]
    begins, ends = gaps[:, 0] - trace.start_ns, gaps.sum(axis=1) - trace.start_ns
    on = begins - np.concatenate([[0], ends[:-1]])[: len(begins)]
    last = trace.until_ns - trace.start_ns - (ends[-1] if len(ends) else 0)
    return Turns(on / NS_PER_MS, gaps[:, 1] / NS_PER_MS, begins / NS_PER_MS, max(float(last) / NS_PER_MS, 0.0))


class SliceCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the device (ms): its slice, and what a switch costs, by number of others that wait.

    ``yield_ms``: a switch from one whose work ran out; None: as the others.
    """

    slice_ms: float
    switch_ms: tuple[float, ...] = ()
    yield_ms: float | None = None

    def switch(self, waiting: int) -> float:
        """For that many; the last known one holds beyond, and 0 where none is known."""
        return self.switch_ms[min(max(waiting, 1), len(self.switch_ms)) - 1] if self.switch_ms else 0.0

    def leave(self, waiting: int) -> float:
        """A switch away from one whose work ran out."""
        return self.switch(waiting) if self.yield_ms is None else self.yield_ms

    def away_ms(self, neighbours: int) -> float:
        """How long a gap is beside that many who always have work."""
        return neighbours * self.slice_ms + (neighbours + 1) * self.switch(neighbours) if neighbours else 0.0

    def neighbours(self, off_ms: Floats) -> Floats:
        """How many neighbours' full turns each gap has room for: whole numbers where they took all of theirs."""
        room = np.array([self.away_ms(n) for n in range(MOST + 1)])
        return np.interp(off_ms, room, np.arange(MOST + 1))


class BurstPattern(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who comes and goes: bursts seen per second, their length, and the time from one to the next (ms).

    ``period_ms`` is None where fewer than four were seen or looks are too short to tell; ``regular``: most intervals
    are like it (`_period`).
    """

    per_second: float
    burst_ms: float
    burst_p90_ms: float
    period_ms: float | None = None
    regular: bool = False


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many neighbours always have work. ``sure``: share of resampled observations that give the same number.

    ``share``: of the observed time the device was away. ``present``: share of slice ends at which somebody waited who
    then took at least half a slice.
    ``slice_ms``: as known, or as seen; None where nobody was there. ``turns``: how many slice ends were observed.
    ``stale_ms``: the fingerprint's slice, where what was seen is another one; then it was not used.
    """

    neighbours: int
    sure: float
    share: float
    present: float
    turns: int
    slice_ms: float | None = None
    pattern: BurstPattern | None = None
    stale_ms: float | None = None


def usual(values: Floats) -> float:
    """The value around which most lie: the middle of the shortest interval with half of them. NaN if empty.

    Steadier than the median where many values are too short, as turns that an interrupt or a third party cut
    (Rousseeuw and Leroy 1988 on the shorth).
    """
    if not len(values):
        return float("nan")
    ordered = np.sort(values)
    half = len(ordered) // 2 + 1
    widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
    first = int(np.argmin(widths))
    return float(np.median(ordered[first : first + half]))


def count(looks: Looks, known: SliceCosts | None = None) -> Count:
    """Neighbours and bursts from what was seen, with the device's fingerprint or without.

    Without one the slice is the usual turn that ended in a gap, and a switch is taken to cost little beside it: right
    up to about q / c neighbours. A slice can be set anew at any time, so a fingerprint that does not fit is left out.
    """
    if known is None:
        return _count(looks, None)
    plain = _count(looks, None)
    fits = plain.slice_ms is None or abs(plain.slice_ms / known.slice_ms - 1) <= STALE[looks.device.kind]
    return _count(looks, known) if fits else replace(plain, stale_ms=known.slice_ms)


def _count(looks: Looks, known: SliceCosts | None) -> Count:
    parts = [turns(look, looks.blip_ns) for look in looks.looks]
    short = looks.kind == "looks"  # each begins with a turn of its own
    seen = np.concatenate([part.on if short else part.whole for part in parts]) if parts else np.empty(0)
    sharing = known or (SliceCosts(slice_ms=usual(seen)) if len(seen) else None)
    share = _share(parts)
    if sharing is None:
        ends = sum(max(1, round(_watched_ms(look) / 10)) for look in looks.looks)
        return Count(neighbours=0, sure=_worth(ends), share=share, present=0.0, turns=ends)
    room, weight = _ends_of_slices(parts, sharing, short)
    least = PRESENT[looks.device.kind]
    neighbours = _level(room, weight, least)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(room), (RESAMPLES, len(room)))
    agree = np.mean([_level(room[rows], weight[rows], least) == neighbours for rows in chosen])
    sure = min(float(agree), _worth(round(float(weight.sum()))))
    present = float(weight[room > 0].sum() / weight.sum())
    if known is None:
        sharing = _with_switch(sharing, parts, neighbours)
    return Count(
        neighbours=neighbours,
        sure=round(sure, 3),
        share=share,
        present=present,
        turns=round(float(weight.sum())),
        slice_ms=sharing.slice_ms if known or neighbours else None,
        pattern=_pattern(parts, sharing, neighbours, short, seen_slice=known is not None or neighbours > 0),
    )


def _with_switch(sharing: SliceCosts, parts: Sequence[Turns], neighbours: int) -> SliceCosts:
    """With the cost of a switch that makes the usual gap beside the ``neighbours`` just long enough."""
    off = np.concatenate([part.off[part.off >= sharing.slice_ms / 2] for part in parts])
    if not neighbours or not len(off):
        return sharing
    cost = (usual(off) - neighbours * sharing.slice_ms) / (neighbours + 1)
    return SliceCosts(slice_ms=sharing.slice_ms, switch_ms=(min(max(cost, 0.0), sharing.slice_ms / (neighbours + 1)),))


def _watched_ms(look: GapTrace) -> float:
    return (look.until_ns - look.start_ns) / NS_PER_MS


def _share(parts: Sequence[Turns]) -> float:
    total = sum(float(p.on.sum() + p.off.sum()) + p.last for p in parts)
    return sum(float(p.off.sum()) for p in parts) / total if total else 0.0


def _worth(n: int) -> float:
    """What ``n`` observations that agree are worth: (n + 1) / (n + 2), the rule of succession."""
    return (n + 1) / (n + 2)


def _ends_of_slices(parts: Sequence[Turns], sharing: SliceCosts, short: bool) -> tuple[Floats, Floats]:
    """Each end of a slice: the neighbours that the gap there had room for, and how many such ends it stands for.

    A gap below half a slice ends no turn of mine, nor was it a full turn of anybody: mine goes on behind it. A turn
    of several slices had ends at which nobody waited.
    """
    slice_ms = sharing.slice_ms
    rooms: list[Floats] = []
    weights: list[Floats] = []
    for part in parts:
        full = np.flatnonzero(part.off >= slice_ms / 2)
        upto = np.cumsum(part.on)
        on = np.diff(upto[full], prepend=0.0)
        tail = part.last + float(upto[-1] - (upto[full[-1]] if len(full) else 0.0)) if len(upto) else part.last
        off = part.off[full]
        if not short:
            on, off = on[1:], off[1:]
        alone = np.where(on > LONG_TURN * slice_ms, np.floor(on / slice_ms + 0.5) - 1, 0.0)
        # a look without a gap has waited for as long as it should
        rest = 0.0 if short and len(full) else max(np.floor(tail / slice_ms + 0.05), float(short))
        rooms += [sharing.neighbours(off), np.zeros(len(on) + 1)]
        weights += [np.ones(len(off)), np.append(alone, rest)]
    room, weight = np.concatenate(rooms), np.concatenate(weights)
    kept = weight > 0
    if not kept.any():
        return np.zeros(1), np.ones(1)
    return room[kept], weight[kept]


def _level(room: Floats, weight: Floats, least: float) -> int:
    """The largest n such that at least ``least`` of the slice ends had room for n neighbours' turns."""
    order = np.argsort(-room, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    place = int(np.searchsorted(reached, least - 1e-9))
    return int(np.floor(room[order][min(place, len(room) - 1)] + ROUNDING))


def _pattern(
    parts: Sequence[Turns], sharing: SliceCosts, neighbours: int, short: bool, *, seen_slice: bool
) -> BurstPattern | None:
    """What is there beyond the ``neighbours``. None where less than one slice end in 50 has any of it."""
    lengths: list[Floats] = []
    intervals: list[Floats] = []
    observed_ms = 0.0
    for part in parts:
        begins, extra = _episodes(part, sharing, neighbours)
        lengths.append(extra)
        intervals.append(np.diff(begins))
        observed_ms += float(part.on.sum() + part.off.sum() + part.last)
    length, interval = np.concatenate(lengths), np.concatenate(intervals)
    if not len(length) or observed_ms <= 0 or len(length) * sharing.slice_ms < observed_ms / 50 / (neighbours + 1):
        return None
    turn = sharing.slice_ms + sharing.away_ms(neighbours) if seen_slice else 0.0
    period, regular = (None, False) if short or len(interval) < 3 else _period(interval, turn)
    return BurstPattern(
        per_second=1e3 * len(length) / observed_ms,
        burst_ms=float(np.median(length)),
        burst_p90_ms=float(np.quantile(length, 0.9)),
        period_ms=period,
        regular=regular,
    )


def _period(interval: Floats, turn: float) -> tuple[float, bool]:
    """Mean time from one stay to the next, and whether most intervals are like it.

    A burst is seen when my slice ends, so each interval may be off by a round of turns (``turn``, ms); with a period
    of less than 2.5 rounds nothing can be said.
    """
    period = float(interval.mean())
    near = np.abs(interval - period) <= max(0.1 * period, turn)
    return period, bool(period >= 2.5 * turn and near.mean() >= 0.5)


def _episodes(part: Turns, sharing: SliceCosts, neighbours: int) -> tuple[Floats, Floats]:
    """When somebody beyond the ``neighbours`` came (ms), and how long they were on the device until they left.

    Gaps that follow each other slice upon slice are one stay: a burst longer than a slice is cut by mine.
    """
    cost = sharing.leave(neighbours + 1) + (0.0 if neighbours else sharing.switch(1))
    extra = part.off - sharing.away_ms(neighbours) - cost
    there = extra > 0.05 * sharing.slice_ms if neighbours else np.ones(len(part.off), dtype=np.bool_)
    goes_on = there.copy()
    goes_on[0:1] = False
    full = extra[:-1] >= 0.9 * sharing.slice_ms
    goes_on[1:] &= there[:-1] & full & (part.on[1:] <= 1.1 * sharing.slice_ms)
    first = np.flatnonzero(there & ~goes_on)
    if not len(first):
        return np.empty(0), np.empty(0)
    clipped = np.where(there, np.maximum(extra, 0.0), 0.0)
    return part.at[first], np.add.reduceat(clipped, first)


def interval(
    samples: Sequence[Floats], estimate: Statistic, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """``estimate`` of all samples, and the ends of its 95 % interval: resampled groups, then values within each.

    A percentile bootstrap in two stages, so that what differs from group to group widens the interval.
    """
    groups = [np.asarray(sample, dtype=np.float64) for sample in samples if len(sample)]
    value = estimate(np.concatenate(groups))
    rng = np.random.default_rng(seed)
    found = np.empty(resamples)
    for i in range(resamples):
        chosen = rng.integers(0, len(groups), len(groups))
        found[i] = estimate(np.concatenate([_again(rng, groups[g]) for g in chosen]))
    low, high = np.quantile(found, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return value, min(float(low), value), max(float(high), value)


def _again(rng: np.random.Generator, values: Floats) -> Floats:
    return values[rng.integers(0, len(values), len(values))]
