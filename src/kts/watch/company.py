"""Who has work in flight beside whom, second by second of the node's time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.watch.calls import Array

SECOND_NS = 1_000_000_000
BINS = 1000
"""Parts of a second in which it is told who has work in flight."""

Floats = NDArray[np.float64]


class Company(NamedTuple):
    """Of one second. ``own``: share of each part of it in which each unit has work in flight, shape (units, `BINS`).
    ``others``: the same of any neighbour. ``beside[u, v]``: seconds in which u waits while v has the GPU, if all in
    flight have it in turns, each as much as its density says."""

    own: Floats
    others: Floats
    beside: Floats


def shares(
    begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64], unit: NDArray[np.int64], units: int, from_ns: int
) -> Floats:
    """Share of each part of the second from ``from_ns`` that the stretches of each unit, which may overlap, cover:
    shape (units, `BINS`). All units are one behind the other on one line."""
    if not len(unit):
        return np.zeros((units, BINS))
    zero = unit * SECOND_NS
    begin = np.clip(begin_ns - from_ns, 0, SECOND_NS) + zero
    order = np.argsort(begin)
    begin, end = begin[order], (np.clip(end_ns - from_ns, 0, SECOND_NS) + zero)[order]
    end = np.maximum.accumulate(end)
    begin[1:] = np.maximum(begin[1:], end[:-1])
    length = np.maximum(end - begin, 0)
    points = np.empty(2 * len(begin))
    points[::2], points[1::2] = begin, begin + length
    covered = np.empty(len(points))
    total = np.cumsum(length)
    covered[::2], covered[1::2] = total - length, total
    edges = np.arange(units * BINS + 1) * (SECOND_NS / BINS)
    return np.asarray(np.diff(np.interp(edges, points, covered)) / (SECOND_NS / BINS)).reshape(units, BINS)


def of_second(
    flights: Array, unit: NDArray[np.int64], gpus: Sequence[tuple[str, ...]], density: Floats, from_ns: int
) -> Company:
    """``flights``: (begin_ns, end_ns) of what was in flight, ``unit`` of whom. ``gpus`` of each: two are neighbours
    if they share one. ``density``: of the time in which a unit has something in flight, how much of a GPU it needs."""
    units = len(gpus)
    own = shares(flights["begin_ns"], flights["end_ns"], unit, units, from_ns)
    free, beside = np.ones((units, BINS)), np.zeros((units, units))
    for gpu in sorted({gpu for those in gpus for gpu in those}):
        members = np.flatnonzero([gpu in those for those in gpus])
        if len(members) < 2:
            continue
        idle = 1 - own[members]
        before, after = np.ones_like(idle), np.ones_like(idle)
        before[1:] = np.cumprod(idle[:-1], axis=0)
        after[:-1] = np.cumprod(idle[:0:-1], axis=0)[::-1]
        free[members] *= before * after
        needs = own[members] * density[members][:, None]
        beyond = np.maximum(needs.sum(axis=0) - needs, 1.0)
        pairs = (own[members] / beyond) @ needs.T / BINS
        np.fill_diagonal(pairs, 0.0)
        beside[np.ix_(members, members)] += pairs
    return Company(own, 1 - free, beside)
