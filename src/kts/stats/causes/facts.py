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
    """Both sides. ``is_cpu``: the device is a core. ``concurrent``: tenants compute side by side (MPS, MIG, streams),
    not in turns; ``limit``: with what part of the device each, in words, empty: all of it. ``strangers``: processes of
    no tenant that were seen on the GPU with company and not before; empty: none, or nobody looked."""

    before: Components
    after: Components
    is_cpu: bool = False
    concurrent: bool = False
    limit: str = ""
    strangers: str = ""

    def means(self, column: Callable[[Components], Floats]) -> tuple[float, float]:
        """Of either side, ms."""
        before, after = (
            float(np.average(column(side), weights=side.rows.weight)) for side in (self.before, self.after)
        )
        return before, after

    def rates(self, name: str) -> tuple[float, float] | None:
        """Mean of one of `kts.stats.causes.rates.RATES` on either side; None where a side has no samples of it."""
        found = []
        for side in (self.before, self.after):
            values = side.rows.rate(name)
            told = ~np.isnan(values)
            if not told.any():
                return None
            found.append(float(np.average(values[told], weights=side.rows.weight[told])))
        return found[0], found[1]

    def held(self, name: str) -> float | None:
        """What a rate that is a part of the time adds to an iteration by being higher, ms; None where nobody told."""
        if (rates := self.rates(name)) is None:
            return None
        return (rates[1] - rates[0]) * self.means(lambda side: side.rows.service)[1]

    @cached_property
    def met(self) -> float:
        """The share of iterations that ran while a neighbour was in flight."""
        return float(np.average(self.after.rows.met, weights=self.after.rows.weight))


Rule = Callable[[Facts, Change], Told | None]
"""A cause of a place's change, or None where the data do not show it."""
