"""Several runs of one experiment: a pooled figure that knows how much runs differ, and the difference of two sides.

On the log scale each run's figure is y = mu + b + e: mu is its side's, b differs from run to run with standard
deviation tau, e is the run's own error s, taken from its interval. tau is estimated by restricted maximum likelihood
over all runs of both sides, which are taken to vary alike; intervals are Knapp & Hartung's (2003) with Student's t,
never narrower than the weights alone allow (Roever, Knapp & Friede 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from kts.model.summary import Estimate
from kts.stats.quantiles import refused

Floats = NDArray[np.float64]

_LEAST_ERROR = 1e-9
"""A run's own error, at least: an interval without width would weigh without end."""
_GRID = 48
_ZOOMS = 3


class Pooled(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over runs. ``between``: standard deviation from run to run, relative; None for one run, of which nobody
    can tell. ``runs``: how many have the figure."""

    estimate: Estimate
    between: float | None
    runs: int


@dataclass(frozen=True)
class Difference:
    """log(B / A): ``centre``; standard errors downwards and upwards; ``df`` of Student's t.

    ``df`` None: normal, from the runs' own intervals alone, because two runs do not tell how much runs differ.
    ``a``, ``b``: the sides' own figures.
    """

    a: Estimate
    b: Estimate
    centre: float
    down: float
    up: float
    df: int | None
    between: float | None
    confidence: float

    @property
    def ratio(self) -> Estimate:
        """B / A with its interval."""
        t = _critical(self.df, self.confidence)
        return Estimate(
            estimate=math.exp(self.centre),
            lo=math.exp(self.centre - t * self.down),
            hi=math.exp(self.centre + t * self.up),
        )

    def p_beyond(self, threshold: float) -> float:
        """How likely data like these are, at most, if the true ratio lies in [1 / (1 + threshold), 1 + threshold].

        Two one-sided tests, the smaller p doubled; for a threshold of 0 the usual two-sided test of no difference.
        """
        limit = math.log1p(threshold)
        higher, lower = (self.centre - limit) / self.down, (-self.centre - limit) / self.up
        return min(1.0, 2 * (1 - _cumulative(max(higher, lower), self.df)))

    def within(self, threshold: float) -> bool:
        """The whole interval lies in [1 / (1 + threshold), 1 + threshold]."""
        ratio = self.ratio
        return bool(ratio.lo and ratio.hi and 1 / (1 + threshold) <= ratio.lo and ratio.hi <= 1 + threshold)


def pooled(estimates: Sequence[Estimate], confidence: float = 0.95) -> Pooled:
    """The figure of runs like these, with an interval for their mean; refused where none has it.

    One run: its own figure and interval.
    """
    there = [one for one in estimates if not unusable(one)]
    if len(there) < 2:
        return Pooled(estimate=there[0] if there else _why(estimates), between=None, runs=len(there))
    values, errors = logs(there, confidence)
    side = np.zeros(len(there), np.int64)
    between = between_runs(values, errors, side)
    mean, error = _means(values, errors, side, between)
    figure = _figure(mean[0], error[0], len(there) - 1, confidence)
    return Pooled(estimate=figure, between=between, runs=len(there))


def difference(
    a: Sequence[Estimate], b: Sequence[Estimate], confidence: float = 0.95, names: tuple[str, str] = ("A", "B")
) -> Difference | str:
    """B / A on the log scale, or why there is none: a side, called by its name, has no usable figure."""
    sides = [[one for one in side if not unusable(one)] for side in (a, b)]
    for name, usable, given in zip(names, sides, (a, b), strict=True):
        if not usable:
            return f"{name}: {_why(given).refused}"
    if len(sides[0]) + len(sides[1]) < 3:
        return _of_single_runs(sides[0][0], sides[1][0], confidence)
    values, errors = logs([*sides[0], *sides[1]], confidence)
    side = np.repeat([0, 1], [len(sides[0]), len(sides[1])])
    between = between_runs(values, errors, side)
    mean, error = _means(values, errors, side, between)
    whole = float(np.hypot(*error))
    df = len(values) - 2
    ours, theirs = (_figure(mean[k], error[k], df, confidence) for k in (0, 1))
    return Difference(ours, theirs, float(mean[1] - mean[0]), whole, whole, df, between, confidence)


def between_runs(values: Floats, errors: Floats, side: NDArray[np.int64]) -> float:
    """tau by restricted maximum likelihood (Viechtbauer 2005), each side with a mean of its own.

    ``values``, ``errors``, ``side``: shape ``(runs,)``; ``side`` counts from 0. The likelihood may have more than one
    hill for few runs, so it is searched on a grid that narrows, not climbed.
    """
    chosen = side == np.arange(side.max() + 1)[:, np.newaxis]
    low, high = 0.0, float(max(np.ptp(values[one]) for one in chosen)) + float(errors.max())
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _GRID)
        at = int(np.argmin(_restricted(values, errors, chosen, grid)))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, _GRID - 1)]
    return float(grid[at])


def unusable(figure: Estimate) -> str:
    """Why a figure cannot be put on the log scale; empty if it can."""
    if figure.refused or figure.estimate is None:
        return figure.refused or "no figure"
    return "" if figure.lo and figure.lo > 0 and figure.hi else "the interval is not above zero"


def _restricted(values: Floats, errors: Floats, chosen: NDArray[np.bool_], grid: Floats) -> Floats:
    """-2 log restricted likelihood at each tau of ``grid``, up to a constant."""
    variance = errors**2 + grid[:, np.newaxis] ** 2
    weight = chosen / variance[:, np.newaxis, :]
    total = weight.sum(axis=2)
    mean = (weight * values).sum(axis=2) / total
    away = (weight * (values - mean[:, :, np.newaxis]) ** 2).sum(axis=(1, 2))
    return np.asarray(np.log(variance).sum(axis=1) + np.log(total).sum(axis=1) + away)


def _means(values: Floats, errors: Floats, side: NDArray[np.int64], between: float) -> tuple[Floats, Floats]:
    """Weighted mean of each side and its standard error (Knapp & Hartung 2003, at least that of the weights)."""
    weight = 1 / (errors**2 + between**2)
    total = np.bincount(side, weight)
    mean = np.bincount(side, weight * values) / total
    free = len(values) - len(total)
    scale = float((weight * (values - mean[side]) ** 2).sum()) / free
    return mean, np.sqrt(max(scale, 1.0) / total)


def _of_single_runs(a: Estimate, b: Estimate, confidence: float) -> Difference:
    """Zou & Donner (2008): neither interval needs to be symmetric."""
    (la, ea, ua), (lb, eb, ub) = (tuple(math.log(x or 1.0) for x in (one.lo, one.estimate, one.hi)) for one in (a, b))
    z = _critical(None, confidence)
    down = max(math.hypot(eb - lb, ua - ea) / z, _LEAST_ERROR)
    up = max(math.hypot(ub - eb, ea - la) / z, _LEAST_ERROR)
    return Difference(a, b, eb - ea, down, up, None, None, confidence)


def _figure(mean: float, error: float, df: int, confidence: float) -> Estimate:
    reach = _critical(df, confidence) * error
    return Estimate(estimate=math.exp(mean), lo=math.exp(mean - reach), hi=math.exp(mean + reach))


def logs(figures: Sequence[Estimate], confidence: float) -> tuple[Floats, Floats]:
    """Logarithm of each figure, and the standard error that its interval implies; shape ``(runs,)`` each."""
    lo, value, hi = np.log(np.array([[one.lo, one.estimate, one.hi] for one in figures], dtype=np.float64)).T
    return value, np.maximum((hi - lo) / (2 * _critical(None, confidence)), _LEAST_ERROR)


def _why(estimates: Sequence[Estimate]) -> Estimate:
    return refused(next((unusable(one) for one in estimates), "no runs"))


def _critical(df: int | None, confidence: float) -> float:
    p = (1 + confidence) / 2
    return float(ndtri(p) if df is None else stdtrit(df, p))


def _cumulative(z: float, df: int | None) -> float:
    return float(ndtr(z) if df is None else stdtr(df, z))
