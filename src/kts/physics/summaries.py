"""Samples as the figures that a forecast holds, and arithmetic on these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kts.physics.forecast import FIGURES, Plain
from kts.physics.values import Floats
from kts.stats.quantiles import QUANTILES, min_samples


def plain(values: Floats, least: int | None = None) -> Plain:
    """Mean and type-7 quantiles; None below ``least`` values, by default those that an interval would need."""
    n = len(values)
    found: dict[str, float | None] = {"mean": float(values.mean()) if n else None}
    wanted = [name for name, p in QUANTILES.items() if n >= (min_samples(p) if least is None else least)]
    for name, value in zip(
        wanted, np.quantile(values, [QUANTILES[name] for name in wanted]) if wanted else (), strict=True
    ):
        found[name] = float(value)
    return Plain(**{name: found.get(name) for name in FIGURES})


def only(names: Sequence[str], figures: Plain) -> Plain:
    """The figures of these names; None for the others."""
    return Plain(**{name: getattr(figures, name) if name in names else None for name in FIGURES})


def ratio(above: Plain, below: Plain) -> Plain:
    """Figure by figure; None where one is missing or the lower one is 0."""

    def one(name: str) -> float | None:
        a, b = getattr(above, name), getattr(below, name)
        return a / b if a is not None and b else None

    return Plain(**{name: one(name) for name in FIGURES})


def times(figures: Plain, factor: float) -> Plain:
    """All figures, scaled."""
    found = {name: getattr(figures, name) for name in FIGURES}
    return Plain(**{name: None if value is None else factor * value for name, value in found.items()})
