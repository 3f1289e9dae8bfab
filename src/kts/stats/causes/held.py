"""How long the host's thread of an iteration was held up, and by what."""

from __future__ import annotations

import numpy as np

from kts.stats.causes.company import Floats
from kts.stats.causes.kept import KeptRows


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


def _more(rows: KeptRows, alone: KeptRows, name: str) -> Floats:
    """Milliseconds of each iteration: that part of a rate by which its mean is higher than alone."""
    mine, usual = (float(np.average(_part(side, name), weights=side.weight)) for side in (rows, alone))
    return _part(rows, name) * rows.service * (1 - usual / mine if mine > usual else 0.0)


def _part(rows: KeptRows, name: str) -> Floats:
    """A rate as part of the time: at most all of it; 0 where nobody told."""
    return np.clip(np.nan_to_num(rows.rate(name)), 0.0, 1.0)
