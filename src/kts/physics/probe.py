"""From a probe's readings to a fingerprint: slice and switch costs with intervals. Pure; see docs/physics.md.

A switch is seen directly: from the last reading of one process to the first of the next, as all read one clock. From
outside, the watcher's gaps hold the same figures, n q + (n + 1) c beside n neighbours; where the two ways disagree
the findings say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from kts.errors import DataError, RefusalError
from kts.files import decode
from kts.physics.values import Fingerprint, Floats, Gpu, Interval
from kts.units import NS_PER_MS
from kts.worker.probe.gaps import SliceCosts, Turns, count, interval, turns, usual
from kts.worker.probe.traces import READINGS_VERSION, Bursts, Crowd, GapTrace, Ints, Looks, Readings

LEAST_TURNS = 8
DISAGREE = 0.2
_SPREAD = 0.05


class CrowdFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Beside ``neighbours``: the watcher's usual turn and gap, a switch seen directly and from outside (ms).

    ``counted``, ``sure``: what `count` makes of the watcher's gaps alone, knowing the fingerprint.
    """

    neighbours: int
    turns: int
    on_ms: float
    off_ms: float
    switch_ms: Interval
    switch_from_gaps_ms: float
    counted: int
    sure: float


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """A fingerprint and what it rests on. ``away_alone``: share of the time with nobody invited."""

    fingerprint: Fingerprint
    crowds: tuple[CrowdFinding, ...]
    away_alone: float
    notes: tuple[str, ...] = ()


def decode_readings(raw: bytes, name: str) -> Readings:
    """A readings file; DataError where the text is none."""
    remedy = "give a file that kts probe --save-readings or python -m kts.worker.probe wrote"
    found = decode(raw, Readings, name, "not a probe's readings", remedy, newest=READINGS_VERSION)
    if not found.crowds:
        raise DataError(f"{name}: no readings beside any neighbour", remedy)
    return found


def findings(readings: Readings) -> Findings:
    """The fingerprint. RefusalError where the readings show no turns, or programs that ran at the same time."""
    resolution = timer_resolution_ns(np.array(readings.ticks, dtype=np.int64))
    blip, unsure = readings.blip_ns, (resolution or 0.0) / 2 / NS_PER_MS
    _check_turns(readings)
    on = [_turns_of_all(crowd, blip) for crowd in readings.crowds]
    slice_ms = _widened(interval(on, usual), unsure)
    switches = [_switches(crowd, blip) for crowd in readings.crowds]
    outside = [_switch_from_gaps(crowd, blip, slice_ms.value) for crowd in readings.crowds]
    preempt = tuple(
        _widened(interval([seen], usual), unsure) if len(seen) >= LEAST_TURNS else _from_outside(outer, unsure)
        for seen, outer in zip(switches, outside, strict=True)
    )
    before, after = _around_bursts(readings.bursts)
    yielding = (_widened(interval(after, usual), unsure),) if sum(map(len, after)) >= LEAST_TURNS else preempt[:1]
    fingerprint = Fingerprint(
        kts=readings.kts,
        gpu=Gpu.of(readings.device),
        mode=readings.mode,
        slice_ms=slice_ms,
        preempt_ms=preempt,
        yield_ms=yielding,
        wake_ms=_wake(readings),
        launch_gap_ms=_launch_gap(readings, resolution),
        timer_resolution_ns=resolution,
        how=_how(readings),
        slices=sum(map(len, on)),
        created_ns=readings.created_ns,
    )
    known = sharing_of(fingerprint)
    crowds = tuple(
        _crowd(readings, crowd, known, cost, usual(outer))
        for crowd, cost, outer in zip(readings.crowds, preempt, outside, strict=True)
    )
    notes = [*_notes(crowds, slice_ms), *_bursts_note(before, preempt[0])]
    return Findings(
        fingerprint=fingerprint,
        crowds=crowds,
        away_alone=turns(readings.alone, blip).away,
        notes=tuple(notes),
    )


def sharing_of(fingerprint: Fingerprint) -> SliceCosts:
    """What counting neighbours needs of it."""
    costs = tuple(cost.value for cost in fingerprint.preempt_ms)
    return SliceCosts(slice_ms=fingerprint.slice_ms.value, switch_ms=costs, yield_ms=fingerprint.yield_ms[0].value)


def timer_resolution_ns(ticks: Ints) -> float | None:
    """By how much the clock steps.

    Where the loop is faster than the clock, readings repeat: then the usual step is it. Else every step is a multiple
    of it: their greatest common divisor. None for fewer than two readings.
    """
    steps = np.diff(ticks)
    forward = steps[steps > 0]
    if not len(forward):
        return None
    if (steps == 0).any():
        return float(np.median(forward))
    return float(np.gcd.reduce(forward))


def _check_turns(readings: Readings) -> None:
    first = readings.crowds[0]
    seen = turns(first.watched, readings.blip_ns)
    window = first.watched.start_ns, first.watched.until_ns
    busy = sum(_within(trace, readings.blip_ns, window) for trace in (first.watched, *first.others))
    if first.others and busy > 1.5 * (window[1] - window[0]):
        raise RefusalError(
            f"{readings.device.label}: the probe and its neighbour ran at the same time, not by turns",
            "with MPS there is no slice to measure; stop its daemon, or measure the mix itself: kts run",
        )
    if len(seen.whole) < LEAST_TURNS:
        raise RefusalError(
            f"{readings.device.label}: only {len(seen.whole)} whole turns beside a saturating neighbour",
            "watch longer: --seconds; on MIG each instance has a slice of its own",
        )


def _within(trace: GapTrace, blip_ns: int, window: tuple[int, int]) -> int:
    """How long the process was on the device within the window (ns)."""
    begins, ends = (np.clip(edge, *window) for edge in _stays(trace, blip_ns))
    return int((ends - begins).sum())


def _turns_of_all(crowd: Crowd, blip_ns: int) -> Floats:
    """Turns of the watcher and of its neighbours while the watcher watched (ms)."""
    found = [turns(crowd.watched, blip_ns).whole]
    for other in crowd.others:
        begins, ends = _stays(other, blip_ns)
        inside = (begins > crowd.watched.start_ns) & (ends < crowd.watched.until_ns)
        inside[[0, -1]] = False  # of these an end may be the trace's own
        found.append((ends - begins)[inside] / NS_PER_MS)
    return np.concatenate(found)


def _stays(trace: GapTrace, blip_ns: int) -> tuple[Ints, Ints]:
    """When the process was on the device: begins and ends (ns), shape ``(n,)`` each, n >= 1."""
    gaps = trace.array
    gaps = gaps[gaps[:, 1] >= blip_ns]
    return np.append(trace.start_ns, gaps.sum(axis=1)), np.append(gaps[:, 0], trace.until_ns)


def _switches(crowd: Crowd, blip_ns: int) -> Floats:
    """From the end of one process's stay to the begin of the next one's (ms), while the watcher watched.

    Empty where the neighbours' own traces are not there.
    """
    if len(crowd.others) < crowd.neighbours:
        return np.empty(0)
    pairs = [_stays(trace, blip_ns) for trace in (crowd.watched, *crowd.others)]
    owner = np.repeat(np.arange(len(pairs)), [len(begins) for begins, _ in pairs])
    begins, ends = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.argsort(begins, kind="stable")
    owner, begins, ends = owner[order], begins[order], ends[order]
    handed = (owner[1:] != owner[:-1]) & (begins[1:] >= ends[:-1])
    handed &= (ends[:-1] > crowd.watched.start_ns) & (begins[1:] < crowd.watched.until_ns)
    found = (begins[1:] - ends[:-1])[handed] / NS_PER_MS
    longest = usual(turns(crowd.watched, blip_ns).off)  # a longer one is no switch: somebody else had a turn
    return np.asarray(found[found < longest / crowd.neighbours / 2])


def _switch_from_gaps(crowd: Crowd, blip_ns: int, slice_ms: float) -> Floats:
    """The same from the watcher's gaps alone: (off - n q) / (n + 1), ms."""
    n = crowd.neighbours
    return np.asarray((turns(crowd.watched, blip_ns).off - n * slice_ms) / (n + 1))


def _from_outside(switch: Floats, unsure: float) -> Interval:
    value, low, high = (max(figure, 0.0) for figure in interval([switch], usual))
    return _widened((value, low, high), unsure)


def _around_bursts(bursts: Sequence[Bursts]) -> tuple[list[Floats], list[Floats]]:
    """For each gap that holds one whole burst: from the gap's begin to the burst's, and from its end to the gap's."""
    before, after = [], []
    for some in bursts:
        gaps = some.watched.array
        pairs = np.array(some.pairs, dtype=np.int64).reshape(-1, 2)
        if not len(gaps) or not len(pairs):
            continue
        place = np.searchsorted(gaps[:, 0], pairs[:, 0], side="right") - 1
        held = (place >= 0) & (pairs[:, 1] <= gaps[place].sum(axis=1))
        held &= (pairs[:, 1] - pairs[:, 0]) < 1.2 * some.length_ns
        only = held & (np.bincount(np.maximum(place, 0), minlength=len(gaps))[place] == 1)
        before.append((pairs[only, 0] - gaps[place[only], 0]) / NS_PER_MS)
        after.append((gaps[place[only]].sum(axis=1) - pairs[only, 1]) / NS_PER_MS)
    return before, after


def _wake(readings: Readings) -> tuple[Interval, ...]:
    """What it costs to be another one than the last on an idle device: difference of the host times of a pulse."""
    same, other = (
        np.array(pulses, dtype=np.float64) / NS_PER_MS for pulses in (readings.pulse_same_ns, readings.pulse_other_ns)
    )
    if min(len(same), len(other)) < LEAST_TURNS:
        return ()
    value = usual(other) - usual(same)
    rng = np.random.default_rng(0)
    again = [
        usual(other[rng.integers(0, len(other), len(other))]) - usual(same[rng.integers(0, len(same), len(same))])
        for _ in range(400)
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    value, low, high = (max(float(figure), 0.0) for figure in (value, min(low, value), max(high, value)))
    return (Interval(value=value, lo=low, hi=high),)


def _launch_gap(readings: Readings, resolution_ns: float | None) -> Interval:
    """Mean time between kernels queued one behind the other: a mean, because the clock's steps may be coarser."""
    pairs = np.array(readings.chain, dtype=np.int64).reshape(-1, 2)
    between = (pairs[1:, 0] - pairs[:-1, 1]) / NS_PER_MS
    if len(between) < LEAST_TURNS:
        return Interval.exact(0.0)
    most = 5 * float(np.median(between)) + 2 * (resolution_ns or 0.0) / NS_PER_MS
    value, low, high = (max(figure, 0.0) for figure in interval([between[between <= most]], lambda v: float(v.mean())))
    return Interval(value=value, lo=low, hi=high)


def _widened(found: tuple[float, float, float], unsure: float) -> Interval:
    """An interval is never narrower than the clock's own step."""
    value, low, high = found
    return Interval(value=value, lo=max(low - unsure, 0.0), hi=high + unsure)


def _crowd(readings: Readings, crowd: Crowd, known: SliceCosts, switch: Interval, outside: float) -> CrowdFinding:
    seen: Turns = turns(crowd.watched, readings.blip_ns)
    looked = Looks(
        device=readings.device,
        mode=readings.mode,
        blip_ns=readings.blip_ns,
        kind="watch",
        looks=(crowd.watched,),
    )
    counted = count(looked, known)
    return CrowdFinding(
        neighbours=crowd.neighbours,
        turns=len(seen.whole),
        on_ms=usual(seen.whole),
        off_ms=usual(seen.off),
        switch_ms=switch,
        switch_from_gaps_ms=outside,
        counted=counted.neighbours,
        sure=counted.sure,
    )


def _notes(crowds: Sequence[CrowdFinding], slice_ms: Interval) -> list[str]:
    notes = [
        f"beside {c.neighbours} the gaps count {c.counted}: somebody else may have been there"
        for c in crowds
        if c.counted != c.neighbours
    ]
    notes += [
        f"beside {c.neighbours} a switch is {c.switch_ms.value * 1e3:.0f} us seen directly and "
        f"{c.switch_from_gaps_ms * 1e3:.0f} us from the gaps"
        for c in crowds
        if abs(c.switch_from_gaps_ms - c.switch_ms.value) > max(DISAGREE * c.switch_ms.value, 0.005 * slice_ms.value)
    ]
    notes += [
        f"beside {c.neighbours} a turn is {c.on_ms:.3f} ms, the slice over all {slice_ms.value:.3f} ms"
        for c in crowds
        if abs(c.on_ms / slice_ms.value - 1) > _SPREAD
    ]
    if slice_ms.hi - slice_ms.lo > _SPREAD * slice_ms.value:
        notes.append(f"turns vary: the slice is known to {(slice_ms.hi - slice_ms.lo) / slice_ms.value:.0%}")
    return notes


def _bursts_note(before: Sequence[Floats], preempt: Interval) -> list[str]:
    seen = np.concatenate(before) if before else np.empty(0)
    if len(seen) < LEAST_TURNS:
        return ["few bursts fell into a gap of their own: yielding is taken to cost what preempting does"]
    cost = usual(seen)
    if abs(cost - preempt.value) <= max(DISAGREE * preempt.value, 0.005):
        return []
    return [f"a switch to a burst costs {cost * 1e3:.0f} us, to a saturating neighbour {preempt.value * 1e3:.0f} us"]


def _how(readings: Readings) -> str:
    most = max(crowd.neighbours for crowd in readings.crowds)
    seconds = sum((c.watched.until_ns - c.watched.start_ns) / 1e9 for c in readings.crowds)
    with_what = readings.device.library
    return f"watched {seconds:.1f} s beside 1 to {most} saturating neighbours of the probe's own, kernel by {with_what}"
