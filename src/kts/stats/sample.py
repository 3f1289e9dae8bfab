"""Latencies of one tenant, clock and side, kept as sorted units: blocks, or segments of a block.

Pooled quantiles are read from the sorted units without sorting the pool: a pooled order statistic
lies between the units' own order statistics of the same fraction, so only that window is sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kts.shelf import ALIGNED, Shelf
from kts.stats.dependence import Dependence, FloatArray

__all__ = ["IN_TIME", "MIN_ROUNDS", "SEGMENTS", "Blocks", "FloatArray", "LatencySample", "make_sample", "split_blocks"]

Blocks = list[tuple[int, FloatArray]]
"""``(round, latencies in order of time)``, one per block."""

SEGMENTS = 10
"""Contiguous parts that stand for rounds where there are too few of them."""

IN_TIME = 1 << 18
"""Iterations kept in order of time, over all units: enough to learn how they depend on each other."""

FEW, TOGETHER = 8, 1 << 20
"""So many order statistics are selected, more are read from a sorted window; so many values are in memory for it."""

CUTS = 20_000
"""Iterations in which the tick is looked for."""

TIED = 0.5
"""Readings share their values this often, at least, where the stopwatch's tick shows."""

MIN_ROUNDS = 3
"""Fewer blocks than this are split: an interval from two rounds is wider than anyone can use."""


@dataclass(frozen=True, eq=False)
class LatencySample:
    """``units``: latencies in ms, each unit sorted; ``labels``: one per unit, rising in time.

    ``rounds`` is True where labels are round numbers, so that units of another sample with the same
    label belong to the same stretch of time; False where units are segments of a block. ``in_time``: the
    first iterations of each unit in order of time, at most `IN_TIME` in all. ``lost``: iterations that are not among
    them because what told of them could not be read.
    """

    units: tuple[FloatArray, ...]
    labels: tuple[int, ...]
    rounds: bool
    mean: float
    in_time: tuple[FloatArray, ...] = ()
    lost: int = 0

    @property
    def n(self) -> int:
        """Number of iterations."""
        return sum(len(unit) for unit in self.units)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Iterations per unit, shape ``(k,)``."""
        return np.array([len(unit) for unit in self.units], dtype=np.int64)

    @cached_property
    def dependence(self) -> Dependence:
        """How the iterations depend on each other."""
        return Dependence(self.units, self.in_time, self.tick)

    @cached_property
    def tick(self) -> float:
        """Step of the stopwatch in ms: the smallest gap between values that come several times.

        0 where fewer than half of the readings share their value (the step is then too fine to matter) or all do
        (it does not show).
        """
        share = max(1, CUTS // max(len(self.units), 1))
        values, counts = np.unique(np.concatenate([series[:share] for series in self.in_time]), return_counts=True)
        tied = values[counts > 1].astype(np.float64)
        if len(tied) < 2 or counts[counts > 1].sum() < TIED * counts.sum():
            return 0.0
        gaps = np.diff(tied)
        real = gaps[gaps > 4 * np.finfo(values.dtype).eps * tied[1:]]  # not the rounding of one value
        return float(real.min()) if len(real) else 0.0

    def at_ranks(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Pooled order statistics, rank 0 the smallest; same shape as ``ranks``. Ranks outside are clipped."""
        clipped = np.clip(ranks, 0, self.n - 1)
        wanted = np.unique(clipped)
        low, high = self._around(int(wanted[0]))[0], self._around(int(wanted[-1]))[1]
        if len(wanted) <= FEW and self.n > TOGETHER and self._between(low, high) > TOGETHER:
            return np.array([self._selected(int(rank)) for rank in clipped])
        below, window = self._window(low, high)
        if len(wanted) <= FEW:
            window.partition(wanted - below)
        else:
            window.sort()
        return window[clipped - below].astype(np.float64)

    def _selected(self, rank: int) -> float:
        """One order statistic: halves the values among which it is until few are left, or one that many share."""
        low, high = self._around(rank)
        while low < high and self._between(low, high) > TOGETHER:
            middle = low + (high - low) / 2
            if not low <= middle < high:
                middle = low
            if self.n - int(self.above(middle).sum()) > rank:
                high = middle
            else:
                low = np.nextafter(middle, high)
        if not low < high:
            return float(low)
        below, window = self._window(low, high)
        window.partition(rank - below)
        return float(window[rank - below])

    def _around(self, rank: int) -> tuple[Any, Any]:
        """Two of the values, between which that of this rank is: those of about the same fraction in the units."""
        at = (rank + 0.5) / self.n
        low = min(_at(unit, int(np.floor(at * len(unit))) - 1) for unit in self.units)
        high = max(_at(unit, int(np.ceil(at * len(unit))) + 1) for unit in self.units)
        return low, high

    def quantile(self, p: float) -> float:
        """Pooled quantile, type 7 of Hyndman & Fan (1996): numpy's default."""
        position = (self.n - 1) * p
        rank = int(position)
        lower, upper = self.at_ranks(np.array([rank, rank + 1]))
        return float(lower + (upper - lower) * (position - rank))

    def above(self, value: float) -> NDArray[np.int64]:
        """Iterations slower than ``value`` in each unit, shape ``(k,)``."""
        return np.array([len(unit) - unit.searchsorted(value, side="right") for unit in self.units], dtype=np.int64)

    def _between(self, low: Any, high: Any) -> int:
        """How many values are from ``low`` to ``high``."""
        return int(sum(u.searchsorted(high, "right") - u.searchsorted(low, "left") for u in self.units))

    def _window(self, low: Any, high: Any) -> tuple[int, FloatArray]:
        """How many values are below ``low``, and those from ``low`` to ``high``, unsorted."""
        edges = [(unit.searchsorted(low, side="left"), unit.searchsorted(high, side="right")) for unit in self.units]
        inside = [unit[begin:end] for unit, (begin, end) in zip(self.units, edges, strict=True)]
        return int(sum(begin for begin, _ in edges)), np.concatenate(inside)


def split_blocks(solo_rounds: set[int], shared_rounds: set[int]) -> bool:
    """True where there are too few rounds to tell how they differ, so that blocks are cut into segments."""
    present = [len(rounds) for rounds in (solo_rounds, shared_rounds) if rounds]
    return bool(present) and min(present) < MIN_ROUNDS


def make_sample(
    blocks: Sequence[tuple[int, FloatArray]], *, split: bool, lost: int = 0, aside: bool = False
) -> LatencySample | None:
    """A sample of ``(round, latencies in order of time)``. None if it would be empty.

    NaN (no stopwatch) are dropped. Blocks of one round join. With ``split`` every block becomes contiguous segments,
    `SEGMENTS` in all if it can. ``aside``: of many iterations the units are in a file (`kts.shelf`).
    """
    kept = [(number, values) for number, raw in blocks if len(values := _without_nan(raw))]
    if not kept:
        return None
    total = sum(float(values.sum(dtype=np.float64)) for _, values in kept)
    if split:
        parts = -(-SEGMENTS // len(kept))
        units = [part for _, values in kept for part in np.array_split(values, min(parts, len(values)))]
        labels = list(range(len(units)))
    else:
        labels = sorted({number for number, _ in kept})
        units = [_joined(values for number, values in kept if number == label) for label in labels]
    kept_of_each = max(1, IN_TIME // len(units))
    in_time = tuple(unit[:kept_of_each].copy() for unit in units)
    shelf = Shelf(sum(unit.nbytes + ALIGNED for unit in units) if aside else 0)
    n = sum(len(unit) for unit in units)
    return LatencySample(
        units=tuple(shelf.put(np.sort(unit)) for unit in units),
        labels=tuple(labels),
        rounds=not split,
        mean=total / n,
        in_time=in_time,
        lost=lost,
    )


def ranked(values: FloatArray, rank: int) -> Any:
    """The value of this rank, 0 the smallest; none is NaN. Of many values those about it alone are copied."""
    if len(values) > TOGETHER:
        some = np.sort(values[:: max(1, len(values) // CUTS)])
        at = rank / len(values) * len(some)
        low, high = _at(some, int(at - CUTS / 50)), _at(some, int(at + CUTS / 50))
        portions = [values[first : first + TOGETHER] for first in range(0, len(values), TOGETHER)]
        below = sum(int(np.count_nonzero(portion < low)) for portion in portions)
        window = np.concatenate([portion[(portion >= low) & (portion <= high)] for portion in portions])
        if below <= rank < below + len(window):
            return np.partition(window, rank - below)[rank - below]
    return np.partition(values, rank)[rank]


def _joined(arrays: Iterable[FloatArray]) -> FloatArray:
    found = list(arrays)
    return found[0] if len(found) == 1 else np.concatenate(found)


def _without_nan(values: FloatArray) -> FloatArray:
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def _at(unit: FloatArray, index: int) -> Any:
    return unit[min(max(index, 0), len(unit) - 1)]
