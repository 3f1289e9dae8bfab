"""Whether two probes take turns: what each saw of one clock, laid side by side. Pure.

Both only read the clock, in one block: contexts that take turns are never on the device together, and clients of an MPS
server always are, for both fit.
"""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.sharing_facts import TurnsKind, TurnsSeen
from kts.units import NS_PER_MS
from kts.worker.probe.traces import GapTrace, Pair

APART, TOGETHER = 0.1, 0.9
"""At most this share of the time with both on the device is turns, at least that is none."""
FEWEST = 5
"""Turns, of either, without which there may have been none to take."""
LEAST_MS = 20.0
"""Of time that both looked: ten slices of a GPU."""


def together(a: GapTrace, b: GapTrace, blip_ns: int) -> TurnsSeen:
    """What they saw while both looked. Gaps below ``blip_ns`` are nobody's turn."""
    begin, end = max(a.start_ns, b.start_ns), min(a.until_ns, b.until_ns)
    window = end - begin
    if window < LEAST_MS * NS_PER_MS:
        return TurnsSeen(kind="unclear", window_ms=max(window, 0) / NS_PER_MS)
    mine, theirs = (list(_on(trace, blip_ns, begin, end)) for trace in (a, b))
    times = [sum(last - first for first, last in spans) for spans in (mine, theirs)]
    both = _common(mine, theirs)
    either = sum(times) - both
    share, away = both / either if either else 0.0, (1 - times[0] / window, 1 - times[1] / window)
    kind: TurnsKind = "unclear"
    if share >= TOGETHER:
        kind = "at-once"
    elif share <= APART and min(len(mine), len(theirs)) >= FEWEST:
        kind = "turns"
    return TurnsSeen(kind=kind, both=share, away=away, handed=len(mine) - 1, window_ms=window / NS_PER_MS)


def _on(trace: GapTrace, blip_ns: int, begin: int, end: int) -> Iterator[Pair]:
    """From when until when it was on the device, within the window."""
    since = trace.start_ns
    for gap, length in (*(one for one in trace.gaps if one[1] >= blip_ns), (trace.until_ns, 0)):
        first, last = max(since, begin), min(gap, end)
        if first < last:
            yield first, last
        since = gap + length


def _common(mine: list[Pair], theirs: list[Pair]) -> int:
    """Nanoseconds in spans of both; either's are in order and apart."""
    total = i = j = 0
    while i < len(mine) and j < len(theirs):
        total += max(0, min(mine[i][1], theirs[j][1]) - max(mine[i][0], theirs[j][0]))
        if mine[i][1] < theirs[j][1]:
            i += 1
        else:
            j += 1
    return total
