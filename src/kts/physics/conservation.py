"""Where the GPU's time went: its tenants' work, switches between them, and idleness must add up to the wall clock.

A check of a mix of which it was seen when each kernel began and ended. A kernel that lost its turn is still running to
whoever sees it, so that its work is taken from the tenant alone. Where nobody runs and the next is another tenant, as
much of the gap as a switch costs is one. Where several run, turns are counted: a tenant that is done costs a switch,
so does each slice of work that a tenant does while others run, and so does who comes in while one other runs, unless
it was given the turn of one that was done. Between two kernels of one launch, a graph's say, the GPU stands still for
a few microseconds in the tenant's own turn: those are idle, too, and no less of its turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kts.physics.simulate import SharingModel
from kts.physics.values import Floats, Ints

HELD = 0.02
"""The parts add up to the wall clock if no more than this share of it is missing or too much."""
_TOGETHER_MS = 0.02
"""Kernels of a tenant that are no further apart belong to one stay on the GPU: no switch is as short."""


@dataclass(frozen=True, eq=False)
class OnGpu:
    """What one tenant did on the GPU, in order of time, milliseconds, shape ``(n,)``: when each kernel began and
    ended, and ``work_ms``, how long it takes alone."""

    begin_ms: Floats
    end_ms: Floats
    work_ms: Floats


@dataclass(frozen=True)
class Account:
    """The wall clock's time and its parts. ``gpu_ms``: by tenant."""

    wall_ms: float
    gpu_ms: Mapping[str, float]
    switch_ms: float
    idle_ms: float

    @property
    def excess(self) -> float:
        """By what share of the wall clock the parts add up to more than it; below 0: to less."""
        return (sum(self.gpu_ms.values()) + self.switch_ms + self.idle_ms) / self.wall_ms - 1

    @property
    def holds(self) -> bool:
        """Whether they add up."""
        return abs(self.excess) <= HELD


@dataclass(frozen=True, eq=False)
class _Stays:
    tenant: Ints
    begin: Floats
    end: Floats
    work: Floats
    between: Floats


def account(tenants: Mapping[str, OnGpu], sharing: SharingModel) -> Account:
    """From the first kernel's begin to the last one's end. ValueError without a kernel."""
    if not sum(len(seen.begin_ms) for seen in tenants.values()):
        raise ValueError("no tenant ran a kernel")
    stays = _stays(list(tenants.values()))
    until = np.maximum.accumulate(stays.end)
    gap = np.maximum(stays.begin[1:] - until[:-1], 0.0)
    last = np.maximum.accumulate(np.where(stays.end == until, np.arange(len(until)), 0))[:-1]  # who ended last before
    waking = np.where(stays.tenant[1:] != stays.tenant[last], np.minimum(gap, sharing.wake_ms[0]), 0.0)
    inside = _inside_ms(stays, np.concatenate([[0], np.cumsum(gap > 0)]), sharing)
    return Account(
        wall_ms=float(until[-1] - stays.begin[0]),
        gpu_ms={name: float(seen.work_ms.sum()) for name, seen in tenants.items()},
        switch_ms=float(waking.sum()) + inside,
        idle_ms=float((gap - waking).sum() + stays.between.sum()),
    )


def _stays(tenants: list[OnGpu]) -> _Stays:
    """Kernels of a tenant one right behind the other as one, of all tenants, by begin. ``between``: its kernels."""
    parts = []
    for number, seen in enumerate(tenants):
        if not len(seen.begin_ms):
            continue
        until = np.maximum.accumulate(seen.end_ms)
        gap = np.append(np.inf, seen.begin_ms[1:] - until[:-1])
        first = np.flatnonzero(gap > _TOGETHER_MS)
        ends = until[np.append(first[1:], len(until)) - 1]
        work = np.add.reduceat(seen.work_ms, first)
        between = np.add.reduceat(np.where(gap > _TOGETHER_MS, 0.0, np.maximum(gap, 0.0)), first)
        parts.append((np.full(len(first), number), seen.begin_ms[first], ends, work, between))
    tenant, begin, end, work, between = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(begin, kind="stable")
    return _Stays(tenant[order], begin[order], end[order], work[order], between[order])


def _inside_ms(stays: _Stays, crowd: Ints, sharing: SharingModel) -> float:
    """Time for switches while somebody runs. ``crowd``: which stays overlap, be it by others in between."""
    slices = np.floor(np.maximum(stays.work + stays.between - _alone_ms(stays, sharing), 0.0) / sharing.slice_ms + 1e-6)
    comes_in = np.append(False, crowd[1:] == crowd[:-1])
    ends = np.sort(stays.end)
    latest = np.append(-np.inf, ends)[np.searchsorted(ends, stays.begin, side="right")]
    given = stays.begin - latest <= sharing.yield_ms[0] + _TOGETHER_MS  # by one that was done
    there = np.arange(len(ends)) - np.searchsorted(ends, stays.begin, side="right")  # when each comes in
    preempting = slices[np.bincount(crowd)[crowd] > 1].sum() + (comes_in & ~given & (there == 1)).sum()
    return float(preempting * sharing.preempt_ms[0] + comes_in.sum() * sharing.yield_ms[0])


def _alone_ms(stays: _Stays, sharing: SharingModel) -> Floats:
    """How long each ran with no other there, shape ``(n,)``: without the switches to who came in, and back."""
    times = np.unique(np.concatenate([stays.begin, stays.end]))
    begin, end = np.searchsorted(times, stays.begin), np.searchsorted(times, stays.end)
    steps = np.zeros(len(times), dtype=np.int64)
    np.add.at(steps, begin, 1)
    np.add.at(steps, end, -1)
    there = np.cumsum(steps)
    before = there - steps
    single = np.where(there[:-1] == 1, np.diff(times), 0.0)
    costs = np.where((before == 1) & (there == 2), sharing.preempt_ms[0], 0.0)
    costs += np.where((before == 2) & (there == 1), sharing.yield_ms[0], 0.0)
    total, spent = np.concatenate([[0.0], np.cumsum(single)]), np.cumsum(costs)
    return np.asarray(np.maximum(total[end] - total[begin] - np.maximum(spent[end - 1] - spent[begin], 0.0), 0.0))
