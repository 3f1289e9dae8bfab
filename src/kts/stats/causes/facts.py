"""What a cause may be named by: figures of both sides of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kts.model.causes import CauseName
from kts.stats.causes.company import Floats
from kts.stats.causes.components import Components, Place

Told = tuple[CauseName, str]
"""A cause, and the figures that show it."""


@dataclass(frozen=True)
class Change:
    """A place's change at a statistic: ``ms``; ``at_mean``: of the mean, and how much that is there (ms) if the mean
    shows it, else 0."""

    place: Place
    ms: float
    is_mean: bool
    at_mean: float


@dataclass(frozen=True, eq=False)
class Facts:
    """Both sides. ``is_cpu``: the device is a core. ``concurrent``: tenants compute side by side (MPS, streams), not in
    turns. ``clocks_mhz``: of the SMs, mean of the blocks of either side; None where nobody told."""

    before: Components
    after: Components
    is_cpu: bool = False
    concurrent: bool = False
    clocks_mhz: tuple[float, float] | None = None

    def means(self, column: Callable[[Components], Floats]) -> tuple[float, float]:
        """Of either side, ms."""
        before, after = (
            float(np.average(column(side), weights=side.rows.weight)) for side in (self.before, self.after)
        )
        return before, after

    @cached_property
    def met(self) -> float:
        """The share of iterations that ran while a neighbour was in flight."""
        return float(np.average(self.after.rows.met, weights=self.after.rows.weight))


Rule = Callable[[Facts, Change], Told | None]
"""A cause of a place's change, or None where the data do not show it."""
