"""Neighbours in flight: for how much of an iteration, how the time of others is shared among several of them, and how
much CPU time they used meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kts.stats.overlap import Ints, Span
from kts.stats.sample import FloatArray
from kts.units import NS_PER_MS

Floats = NDArray[np.float64]
Intervals = tuple[Ints, Ints]
"""From when until when, in order, none touching another."""

GROUP = 4096
"""Iterations that are looked at together: of long blocks only the neighbours' iterations around them are in memory."""


def shares(neighbours: Sequence[Span], begin_ns: Ints, end_ns: Ints) -> Floats:
    """Of each interval the time (ms) that belongs to each neighbour, shape ``(neighbours, n)``.

    While one is in flight the time is its own, while m are, each has an m-th: a round robin gives equal slices. So the
    sum over the neighbours is the time in which anybody was in flight.
    """
    merged = [span.busy_ns for span in neighbours]

    def of_group(low: int, high: int, begin: Ints, end: Ints) -> Floats:
        flying = [_cut(_around(one, low, high), low, high) for one in merged]
        edges, state = _states(flying, low, high)
        return np.array([_between(edges, one, begin, end) for one in state / np.maximum(state.sum(axis=0), 1)])

    return _by_group(len(merged), begin_ns, end_ns, of_group)


def computed(neighbours: Sequence[tuple[Span, FloatArray]], own: Span, begin_ns: Ints, end_ns: Ints) -> Floats:
    """Of each interval the CPU time (ms) that each neighbour used, shape ``(neighbours, n)``; of tenants on one core.

    A neighbour's iteration used its CPU time (``(span, ms)``) as its core was shared: an n-th of the time while n of
    them had something in flight, all times one factor, which gives it what it used in all. NaN: what such a share is.
    """
    merged = [span.busy_ns for span, _ in neighbours]
    mine = own.busy_ns

    def of_group(low: int, high: int, begin: Ints, end: Ints) -> Floats:
        around = [_around(one, low, high) for one in merged]
        low = min([low, *(int(one[0][0]) for one in around if len(one[0]))])
        high = max([high, *(int(one[1][-1]) for one in around if len(one[1]))])
        flying = [_cut(_around(one, low, high), low, high) for one in (*merged, mine)]
        edges, state = _states(flying, low, high)
        share = 1 / np.maximum(state.sum(axis=0), 1)
        rows = []
        for (span, device), one in zip(neighbours, state, strict=False):
            first = int(span.retire_ns.searchsorted(low, "right"))
            here = slice(first, max(first, int(span.submit_ns.searchsorted(high, "left"))))
            rows.append(_between(edges, one * share * _factor(edges, share, span, device, here), begin, end))
        return np.array(rows)

    return _by_group(len(merged), begin_ns, end_ns, of_group)


def _by_group(count: int, begin_ns: Ints, end_ns: Ints, of_group: Callable[[int, int, Ints, Ints], Floats]) -> Floats:
    found = np.zeros((count, len(begin_ns)))
    for first in range(0, len(begin_ns) if count else 0, GROUP):
        here = slice(first, first + GROUP)
        begin, end = begin_ns[here], np.maximum(end_ns[here], begin_ns[here])
        found[:, here] = of_group(int(begin.min()), int(end.max()), begin, end)
    return found / NS_PER_MS


def _factor(edges: Ints, share: Floats, span: Span, device: FloatArray, here: slice) -> Floats:
    """Between two edges each: CPU time of the iteration in flight over its share of the time; 1 where not told."""
    submit_ns, retire_ns = span.submit_ns[here], span.retire_ns[here]
    if not len(submit_ns):
        return np.ones(len(share))
    fair_ms = _between(edges, share, submit_ns, retire_ns) / NS_PER_MS
    factor = np.where(fair_ms > 0, device[here] / np.where(fair_ms > 0, fair_ms, 1), 1.0)
    factor = np.where(np.isnan(factor), 1.0, factor)
    at = np.maximum(submit_ns.searchsorted(edges[:-1], "right") - 1, 0)
    return np.asarray(factor[at])


def _states(flying: Sequence[Intervals], low: int, high: int) -> tuple[Ints, Floats]:
    """Edges from ``low`` to ``high``, and between two of them each 1 where one was in flight: ``(len(flying), m)``."""
    edges = np.unique(np.concatenate([np.array([low, high]), *(times for one in flying for times in one)]))
    at = edges[:-1]
    state = [begin.searchsorted(at, "right") - end.searchsorted(at, "right") for begin, end in flying]
    return edges, np.array(state, dtype=np.float64)


def _between(edges: Ints, rate: Floats, begin: Ints, end: Ints) -> Floats:
    """The integral of a rate, constant between edges, over each interval."""
    since = (edges - edges[0]).astype(np.float64)
    until = np.concatenate([[0.0], np.cumsum(rate * np.diff(since))])
    return np.asarray(np.interp(end - edges[0], since, until) - np.interp(begin - edges[0], since, until))


def _around(intervals: Intervals, low: int, high: int) -> Intervals:
    begin, end = intervals
    picked = slice(int(end.searchsorted(low, "right")), int(begin.searchsorted(high, "left")))
    return begin[picked], end[picked]


def _cut(intervals: Intervals, low: int, high: int) -> Intervals:
    return np.clip(intervals[0], low, high), np.clip(intervals[1], low, high)
