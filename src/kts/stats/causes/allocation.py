"""How much of what was added to a statistic each component makes: the Euler principle, with intervals.

A statistic of a sum changes by the sum of its components' changes: the mean plainly, a quantile q by the means of the
components where the sum is near it, E[X_i | sum = q] (Tasche 1999; Hong 2009). These are estimated from the iterations
around its rank, weighted by their distance (a triangle), by a line over the sum at q (Fan & Gijbels 1996): so they add
up to q exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kts.model.summary import Estimate
from kts.stats.causes.company import Floats
from kts.stats.dependence import student

HALF = {0.5: 0.05, 0.95: 0.025, 0.99: 0.005}
"""Half a window, as a fraction of the iterations: narrow against the tail beyond."""
FEWEST = 15
"""Iterations in half a window at least; there may be fewer beyond a quantile than before it."""
MANY = 1e6
"""Degrees of freedom of a normal quantile."""


@dataclass(frozen=True, eq=False)
class ComponentMeans:
    """Component means at one statistic, on one side. ``at``: ms, shape ``(c,)``; ``slope``: what of a ms of the
    statistic's own error is the component's; ``errors``: by iteration, its share of the error of each, ``(m, c)``;
    ``unit``: the round or segment of each, ``(m,)``; ``worth``: how many iterations carry it."""

    at: Floats
    slope: Floats
    errors: Floats
    unit: np.ndarray
    worth: float
    statistic: Estimate | None


def at_mean(columns: Floats, weight: Floats, unit: np.ndarray) -> ComponentMeans:
    """Plain means. ``columns``: ``(n, c)``."""
    share = weight / weight.sum()
    mean = share @ columns
    return ComponentMeans(
        mean, np.zeros(len(mean)), share[:, None] * (columns - mean), unit, 1 / float(share @ share), None
    )


def at_quantile(
    columns: Floats, total: Floats, weight: Floats, unit: np.ndarray, *, p: float, statistic: Estimate
) -> ComponentMeans:
    """Means where ``total``, ``(n,)``, is near its quantile ``p``, whose figure is ``statistic``."""
    order = np.argsort(total, kind="stable")
    rank = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    half = max(HALF[p], FEWEST / weight.sum())
    near = np.maximum(1 - np.abs(rank - p) / half, 0.0)
    picked = order[near > 0]
    share = near[near > 0] * weight[picked]
    share /= share.sum()
    x, t = columns[picked], total[picked]
    mean, centre = share @ x, float(share @ t)
    spread = float(share @ (t - centre) ** 2)
    slope = ((share * (t - centre)) @ (x - mean)) / spread if spread > (1e-9 * centre) ** 2 else np.zeros(x.shape[1])
    away = (statistic.estimate or centre) - centre
    residual = x - mean - (t - centre)[:, None] * slope
    return ComponentMeans(
        mean + slope * away, slope, share[:, None] * residual, unit[picked], 1 / float(share @ share), statistic
    )


def arm(
    before: ComponentMeans, after: ComponentMeans, combined: Sequence[int], confidence: float, *, paired: bool
) -> float:
    """Half the interval (ms) of what was added to some components together.

    As DF has it: what iterations explain, as if they were independent; what rounds differ by more than that (with
    ``paired`` their differences: what a round does to both cancels); and a quantile's own error.
    """
    picked = list(combined)
    sides = [(level, level.errors[:, picked].sum(axis=1)) for level in (before, after)]
    plain = [float(values @ values) for _, values in sides]
    totals = [_totals(level.unit, values) for level, values in sides]
    worth = min(before.worth, after.worth)
    arms = [student(worth - 1, confidence) * math.sqrt(sum(plain))]
    if paired:
        pairs = {u: totals[1].get(u, 0.0) - totals[0].get(u, 0.0) for u in totals[0].keys() | totals[1].keys()}
        arms.append(_beyond(pairs, sum(plain), confidence))
    else:
        arms += [_beyond(of_units, one, confidence) for of_units, one in zip(totals, plain, strict=True)]
    arms += [_location(level, picked) * student(MANY, confidence) for level, _ in sides]
    return math.hypot(*arms)


def _beyond(totals: dict[int, float], plain: float, confidence: float) -> float:
    """What totals of units vary by more than their iterations explain."""
    k = len(totals)
    spread = k / (k - 1) * sum(value * value for value in totals.values()) if k > 1 else 0.0
    return student(k - 1, confidence) * math.sqrt(spread - plain) if spread > plain else 0.0


def _totals(unit: np.ndarray, values: Floats) -> dict[int, float]:
    names, place = np.unique(unit, return_inverse=True)
    return dict(zip(names.tolist(), np.bincount(place, values).tolist(), strict=True))


def _location(level: ComponentMeans, picked: Sequence[int]) -> float:
    """Standard error that the quantile's own adds."""
    if level.statistic is None or level.statistic.lo is None or level.statistic.hi is None:
        return 0.0
    slope = float(level.slope[list(picked)].sum())
    return slope * (level.statistic.hi - level.statistic.lo) / (2 * student(MANY, 0.95))
