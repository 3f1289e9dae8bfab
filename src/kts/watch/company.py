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
    ``others``: the same of any neighbour; ``met``: how many of them have, on that GPU of the unit where most do.
    ``beside[u, v]``: seconds in which u has work in flight while v has the GPU, if each round trip has it evenly while
    it is in flight, for as long as its unit takes it."""

    own: Floats
    others: Floats
    met: Floats
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


def held(
    begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64], unit: NDArray[np.int64], density: Floats, own: Floats
) -> Floats:
    """Share of each part of a second that each unit has the GPU, shape (units, `BINS`), at most 1: each stretch, ns
    from that second's begin, for ``density`` of its length, evenly. ``own``: as of `shares`, for its shape."""
    units = len(own)
    slope, first = np.zeros(units * (BINS + 2)), np.zeros(units * (BINS + 2))
    for edge_ns, sign in ((begin_ns, 1), (end_ns, -1)):
        at = np.clip(edge_ns, 0, SECOND_NS) * (BINS / SECOND_NS)
        part = at.astype(np.int64)
        place = unit * (BINS + 2) + part
        first += np.bincount(place, sign * density * (part + 1 - at), len(first))
        slope += np.bincount(place + 1, sign * density, len(slope))
    rates = np.cumsum(slope.reshape(units, BINS + 2), axis=1) + first.reshape(units, BINS + 2)
    return np.asarray(np.clip(rates[:, :BINS], 0, 1))


def of_second(
    flights: Array, unit: NDArray[np.int64], gpus: Sequence[tuple[str, ...]], density: Floats, from_ns: int
) -> Company:
    """``flights``: (begin_ns, end_ns) of what was in flight, ``unit`` of whom, ``density``: of that time, how much of a
    GPU it needs. ``gpus`` of each unit: two are neighbours if they share one."""
    units = len(gpus)
    own = shares(flights["begin_ns"], flights["end_ns"], unit, units, from_ns)
    has = held(flights["begin_ns"] - from_ns, flights["end_ns"] - from_ns, unit, density, own)
    free, met, beside = np.ones((units, BINS)), np.zeros((units, BINS)), np.zeros((units, units))
    for gpu in sorted({gpu for those in gpus for gpu in those}):
        members = np.flatnonzero([gpu in those for those in gpus])
        if len(members) < 2:
            continue
        mine, theirs = own[members], has[members]
        idle = 1 - mine
        before, after = np.ones_like(idle), np.ones_like(idle)
        before[1:] = np.cumprod(idle[:-1], axis=0)
        after[:-1] = np.cumprod(idle[:0:-1], axis=0)[::-1]
        free[members] *= before * after
        met[members] = np.maximum(met[members], mine.sum(axis=0) - mine)
        beyond = np.maximum(theirs.sum(axis=0) - theirs, 1.0)
        pairs = (mine / beyond) @ theirs.T / BINS
        np.fill_diagonal(pairs, 0.0)
        beside[np.ix_(members, members)] += pairs
    return Company(own, 1 - free, met, beside)
