"""How long an iteration was held up, and by what: its host's thread, or an error of the GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import bdtrc

from kts.stats.causes.company import Floats
from kts.stats.causes.kept import KeptRows

UNUSUAL, FEWEST = 0.99, 30
"""A quantile, and how many iterations tell it roughly."""
BY_CHANCE = 0.01
"""How often as many looks with an error may have unusual iterations if the errors slow down nothing."""


def waits(rows: KeptRows, alone: KeptRows) -> tuple[Floats, Floats, Floats]:
    """(without a core, held back by a quota, on a disk) of each iteration, ms; 0 where nobody told.

    By its record where that tells; else by the samples of all threads, which say for how long one of them waited at
    that time: what is more of it than usual alone.
    """
    sampled = _more(rows, alone, "waiting")
    core = np.where(np.isnan(rows.core_wait), sampled, rows.core_wait)
    throttled, waiting = _part(rows, "throttled"), _part(rows, "waiting")
    quota = core * np.where(throttled > 0, throttled / np.maximum(np.maximum(waiting, throttled), 1e-9), 0.0)
    return core - quota, quota, _more(rows, alone, "blocked")


def within(columns: tuple[Floats, Floats, Floats], most: Floats) -> tuple[Floats, Floats, Floats]:
    """The same, all together at most so much."""
    total = sum(columns)
    factor = np.minimum(1.0, np.maximum(most, 0.0) / np.where(total > 0, total, 1.0))
    core, quota, disk = (column * factor for column in columns)
    return core, quota, disk


def met_error(rows: KeptRows) -> np.ndarray:
    """Which may have run while the GPU told an error, shape ``(n,)``."""
    return ~np.isnan(rows.rate("xid"))


def without_error(rows: KeptRows) -> tuple[KeptRows, Floats]:
    """Iterations as they would be without errors of the GPU, and how much longer these made them, ms.

    Between two looks run many; the error's are those that took longer than `UNUSUAL` of all that met none, by what they
    took beyond the median of these; and only where more looks have such than by chance. Neighbours were in flight for
    as much less.
    """
    met, none = met_error(rows), np.zeros(rows.n)
    usual = rows.service[~met]
    if not met.any() or len(usual) < FEWEST:
        return rows, none
    slow = met & (rows.service > np.quantile(usual, UNUSUAL))
    if not _beyond_chance(met, slow):
        return rows, none
    ill = np.where(slow, rows.service - np.median(usual), none)

    def less(values: Floats) -> Floats:
        return np.asarray(values - np.minimum(ill, np.maximum(values - np.median(values[~met]), 0.0)))

    left = (rows.service - ill) / np.where(rows.service > 0, rows.service, 1.0)
    kept = replace(
        rows,
        service=rows.service - ill,
        device=less(rows.device),
        waited=less(rows.waited),
        before=rows.before * left,
        during=rows.during * left,
    )
    return kept, ill


def _beyond_chance(met: np.ndarray, slow: np.ndarray) -> bool:
    """Looks in a row are one: of so many iterations each, more have a slow one than they would. A binomial tail bounds
    that of unequal chances (Hoeffding 1956)."""
    look = np.cumsum(np.diff(met, prepend=False) & met)[met] - 1
    sizes, hits = np.bincount(look), np.bincount(look, weights=slow[met]) > 0
    chance = float((1 - UNUSUAL**sizes).mean())
    return bool(hits.mean() > chance and bdtrc(hits.sum() - 1, len(sizes), chance) < BY_CHANCE)


def _more(rows: KeptRows, alone: KeptRows, name: str) -> Floats:
    """Milliseconds of each iteration: that part of a rate by which its mean is higher than alone."""
    mine, usual = (float(np.average(_part(side, name), weights=side.weight)) for side in (rows, alone))
    return _part(rows, name) * rows.service * (1 - usual / mine if mine > usual else 0.0)


def _part(rows: KeptRows, name: str) -> Floats:
    """A rate as part of the time: at most all of it; 0 where nobody told."""
    return np.clip(np.nan_to_num(rows.rate(name)), 0.0, 1.0)
