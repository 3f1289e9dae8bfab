"""What of a time was the tenant's own, and what belonged to others: estimated from how long it takes alone.

A time that was seen is own + others' + hidden. Own is distributed as alone. Others' is a part R of the time in which
they were in flight, R between 0 and 1, or nothing. Hidden, at or below 0, is own time that passed while others had
their turn. The distribution of R is learnt from all iterations by maximum likelihood (a mixture of uniform parts and
an atom at 0, by EM: Laird 1978, Efron 2016), and each iteration gets the means of its posterior. Where own time
hardly varies this is simply what is over it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kts.stats.causes.company import Floats

CELLS = 64
"""Equally likely values that stand for the distribution alone."""
BINS = 20
"""Of R."""
STEPS = 60
LEARNT_FROM = 4000
PORTION = 20_000
UNDISTURBED = 0.9
"""Times up to this quantile of those alone are taken for undisturbed, where it is asked how much is hidden."""
FEWEST, PART = 30, 0.1
"""How many must be so, and which part of those that waited."""


class Apart(NamedTuple):
    """Means (ms) given what was seen; they add up to it; shape ``(n,)`` each. ``hidden``: at or below 0."""

    own: Floats
    others: Floats
    hidden: Floats


def apart(seen: Floats, room: Floats, alone: Floats, hideable: Floats | None = None) -> Apart:
    """Of each time ``seen`` (``(n,)``) the tenant's own and the others'.

    ``room``: how much of it may be the others', 0 where none was there. ``alone``: `CELLS` values, rising (`cells`).
    ``hideable``: for how long own work could go on unseen before, so that less of it is left (`_gap`).
    """
    hidden = np.zeros(len(seen)) if hideable is None else np.minimum(hideable, _gap(seen, alone, hideable))
    own, others, missing = seen + hidden, np.zeros(len(seen)), -hidden
    met = np.flatnonzero(room > 0)
    weights = _learnt(own, room, alone, met[:: -(-len(met) // LEARNT_FROM)]) if len(met) else np.zeros(BINS + 1)
    for first in range(0, len(met), PORTION):
        at = met[first : first + PORTION]
        own[at], others[at], less = _Table.of(own[at], room[at], alone).means(weights)
        missing[at] += less
    return Apart(own, others, missing)


def _gap(seen: Floats, alone: Floats, hideable: Floats) -> float:
    """How much of the own time can be hidden: by how much those that could hide some, and met nobody else's turns, are
    shorter than alone (medians). 0 where too few show it."""
    waited = seen[hideable > 0]
    quiet = waited[waited <= alone[int(UNDISTURBED * CELLS)]]
    if len(quiet) < max(FEWEST, PART * len(waited)):
        return 0.0
    quarter, middle, upper = np.quantile(quiet, (0.25, 0.5, 0.75))
    gap = float(np.median(alone) - middle)
    doubt = max(upper - quarter, alone[3 * CELLS // 4] - alone[CELLS // 4]) / np.sqrt(len(quiet))
    return gap if gap > 3 * doubt else 0.0


def cells(values: Floats, weight: Floats) -> Floats:
    """`CELLS` equally likely values of a weighted sample, rising."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    wanted = (np.arange(CELLS) + 0.5) / CELLS * reached[-1]
    return np.asarray(values[order][np.minimum(reached.searchsorted(wanted), len(values) - 1)])


class _Table(NamedTuple):
    """Likelihood of each iteration under each part of R (the last: none), and what is own then; ``(n, BINS + 1)``."""

    seen: Floats
    room: Floats
    alone: Floats
    likelihood: Floats
    own: Floats

    @classmethod
    def of(cls, seen: Floats, room: Floats, alone: Floats) -> _Table:
        n = len(seen)
        others = seen[:, None] - alone
        part = np.floor(others / room[:, None] * BINS)
        inside = (others >= 0) & (part <= BINS)
        bins = np.where(inside, np.minimum(part, BINS - 1), BINS).astype(np.int64)
        place = (bins + (BINS + 1) * np.arange(n)[:, None]).ravel()
        count, own = (
            np.bincount(place, values, n * (BINS + 1)).reshape(n, BINS + 1).astype(np.float64)
            for values in (np.ones(len(place)), np.tile(alone, n))
        )
        likelihood = count / CELLS * BINS / room[:, None]
        own = own / np.maximum(count, 1)
        likelihood[:, BINS], own[:, BINS] = _density(alone, seen), seen
        return cls(seen, room, alone, likelihood, own)

    def means(self, weights: Floats) -> Apart:
        """Of each iteration, given how likely each part is."""
        belief = self.likelihood * weights
        total = belief.sum(axis=1)
        own = (belief * self.own).sum(axis=1) / np.where(total > 0, total, 1.0)
        others, hidden = self.seen - own, np.zeros(len(own))
        slower = (total <= 0) & (self.seen > self.alone[-1])
        others[slower] = np.minimum(self.room[slower], self.seen[slower] - self.alone[-1])
        own[slower] = self.seen[slower] - others[slower]
        faster = (total <= 0) & ~slower
        own[faster], others[faster] = float(self.alone.mean()), 0.0
        hidden[faster] = self.seen[faster] - own[faster]
        return Apart(own, others, hidden)


def _density(alone: Floats, seen: Floats) -> Floats:
    """Of the distribution alone, at what was seen: each cell spread evenly to its neighbours; 0 beyond its ends."""
    edges = np.concatenate([[2 * alone[0] - alone[1]], (alone[1:] + alone[:-1]) / 2, [2 * alone[-1] - alone[-2]]])
    widths = np.maximum(np.diff(edges), 1e-9 * max(float(alone[-1]), 1e-9))
    at = np.clip(edges.searchsorted(seen, "right") - 1, 0, CELLS - 1)
    return np.asarray(np.where((seen >= edges[0]) & (seen <= edges[-1]), 1 / CELLS / widths[at], 0.0))


def _learnt(seen: Floats, room: Floats, alone: Floats, at: np.ndarray) -> Floats:
    """How likely each part of R is, the last one: none; shape ``(BINS + 1,)``."""
    table = _Table.of(seen[at], room[at], alone).likelihood
    table = table[table.sum(axis=1) > 0]
    weights = np.append(np.full(BINS, 0.5 / BINS), 0.5)
    for _ in range(STEPS if len(table) else 0):
        belief = table * weights
        weights = (belief / belief.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights
