"""Neighbours in flight: for how much of an iteration, and how the time of others is shared among several of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kts.stats.overlap import Ints, Span
from kts.units import NS_PER_MS

Floats = NDArray[np.float64]

GROUP = 4096
"""Iterations that are looked at together: of long blocks only the neighbours' iterations around them are in memory."""


def shares(neighbours: Sequence[Span], begin_ns: Ints, end_ns: Ints) -> Floats:
    """Of each interval the time (ms) that belongs to each neighbour, shape ``(neighbours, n)``.

    While one is in flight the time is its own, while m are, each has an m-th: a round robin gives equal slices. So the
    sum over the neighbours is the time in which anybody was in flight.
    """
    found = np.zeros((len(neighbours), len(begin_ns)))
    merged = [_merged(span) for span in neighbours]
    for first in range(0, len(begin_ns) if merged else 0, GROUP):
        here = slice(first, first + GROUP)
        begin, end = begin_ns[here], np.maximum(end_ns[here], begin_ns[here])
        low, high = int(begin.min()), int(end.max())
        around = [_around(one, low, high) for one in merged]
        edges = np.unique(np.concatenate([np.array([low, high]), *(times for one in around for times in one)]))
        flying = np.array([_flying(one, edges[:-1]) for one in around], dtype=np.float64)
        flying /= np.maximum(flying.sum(axis=0), 1)
        until = np.concatenate([np.zeros((len(around), 1)), np.cumsum(flying * np.diff(edges), axis=1)], axis=1)
        since = edges - low
        for k, row in enumerate(until):
            found[k, here] = np.interp(end - low, since, row) - np.interp(begin - low, since, row)
    return found / NS_PER_MS


def _merged(span: Span) -> tuple[Ints, Ints]:
    """From when until when the neighbour had anything in flight: intervals in order, none touching another."""
    begin_ns, end_ns = span.submit_ns, span.retire_ns
    if not len(begin_ns):
        return begin_ns, end_ns
    reached = np.maximum.accumulate(end_ns)
    opens = np.concatenate([[True], begin_ns[1:] > reached[:-1]])
    last = np.append(np.flatnonzero(opens)[1:] - 1, len(begin_ns) - 1)
    return begin_ns[opens], reached[last]


def _around(intervals: tuple[Ints, Ints], low: int, high: int) -> tuple[Ints, Ints]:
    begin, end = intervals
    picked = slice(int(end.searchsorted(low, "right")), int(begin.searchsorted(high, "left")))
    return np.clip(begin[picked], low, high), np.clip(end[picked], low, high)


def _flying(intervals: tuple[Ints, Ints], at: Ints) -> Ints:
    begin, end = intervals
    return begin.searchsorted(at, "right") - end.searchsorted(at, "right")
