"""What of a time was the tenant's own, and what belonged to others: estimated from how long it takes alone.

A time that was seen is own + others' + hidden. Own is distributed as alone. Others' is a part R of the time in which
they were in flight, R between 0 and 1, or nothing. Hidden, at or below 0, is own time that passed while others had
their turn. The distribution of others' time is learnt from all iterations by maximum likelihood (a mixture of uniform
parts of R, uniform parts of the time itself, as turns of a fixed length make it, and nothing, by EM: Laird 1978, Efron
2016), and each iteration gets the means of its posterior. Where own time hardly varies this is simply what is over it.

An iteration meets a neighbour the likelier the longer it is: so the distribution of own time among those that did is
that alone without those that did not, by the share of each length (an isotonic regression of it: Ayer et al. 1955).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kts.stats.causes.company import Floats

CELLS = 64
"""Equally likely values that stand for the distribution alone."""
BINS = 20
"""Of R."""
STEPS, MOST = 60, 0.995
"""Of others' time, up to that quantile of what is over the median alone."""
KINDS = BINS + STEPS + 1
"""Of the mixture; the last is nothing."""
ITERATIONS = 60
LEARNT_FROM = 4000
PORTION = 500
"""At once: what a core's cache holds."""
UNDISTURBED = 0.9
"""Times up to this quantile of those alone are taken for undisturbed, where it is asked how much is hidden."""
SHORT = 0.1
"""Which part of the times alone are short."""
FEWEST, PART = 30, 0.1
"""How many must be so, and which part of those that waited."""
ALL = 0.7
"""Of a wait: where less is hidden, there was no more to hide."""


class Apart(NamedTuple):
    """Means (ms) given what was seen; they add up to it; shape ``(n,)`` each. ``hidden``: at or below 0.

    ``otherwise``: others' time where the company's is taken to follow from own work and R, instead of others' from the
    company's and R; own time is then as much less or more. Where own time hardly varies they are the same.
    """

    own: Floats
    others: Floats
    hidden: Floats
    otherwise: Floats


def apart(seen: Floats, room: Floats, alone: Floats, weight: Floats, hideable: Floats | None = None) -> Apart:
    """Of each time ``seen`` (``(n,)``) the tenant's own and the others'.

    ``room``: how much of it may be the others', 0 where none was there. ``alone``: `CELLS` values, rising (`cells`).
    ``weight``: of each. ``hideable``: for how long own work could go on unseen before, so that less of it is left
    (`gap`).
    """
    hidden = np.zeros(len(seen)) if hideable is None else np.minimum(hideable, gap(seen, alone, hideable).ms)
    own, others, missing = seen + hidden, np.zeros(len(seen)), -hidden
    otherwise = others.copy()
    met = np.flatnonzero(room > 0)
    if not len(met):
        return Apart(own, others, missing, otherwise)
    theirs = _of_those_that_met(own, room, alone, weight)
    some = met[:: -(-len(met) // LEARNT_FROM)]
    step = float(np.quantile(np.maximum(own[met] - np.median(theirs), 0.0), MOST)) / STEPS
    portions = [_tables(own[at], room[at], theirs, step) for at in _portions(some)]
    given, ends = (_learnt(np.vstack([table.likelihood for table in way])) for way in zip(*portions, strict=True))
    for at in _portions(met):
        one, other = _tables(own[at], room[at], theirs, step)
        otherwise[at] = other.means(ends).others
        own[at], others[at], less, _ = one.means(given)
        missing[at] += less
    return Apart(own, others, missing, otherwise)


def _portions(places: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    return (places[first : first + PORTION] for first in range(0, len(places), PORTION))


def _of_those_that_met(seen: Floats, room: Floats, alone: Floats, weight: Floats) -> Floats:
    """`CELLS` values of the own time of those that met a neighbour: that of the others is seen."""
    nobody = room <= 0
    cell = ((alone[1:] + alone[:-1]) / 2).searchsorted(seen[nobody], "right")
    share = np.bincount(cell, weight[nobody], CELLS) * CELLS / weight.sum()
    met = _rising(1 - np.minimum(share, 1)) + 1e-6
    reached = np.cumsum(met)
    return np.asarray(np.interp((np.arange(CELLS) + 0.5) / CELLS * reached[-1], reached - met / 2, alone))


def _rising(values: Floats) -> Floats:
    """The rising sequence that is nearest to them: of all means from before each to behind it, the largest least."""
    reached = np.concatenate([[0.0], np.cumsum(values)])
    begin, end = np.arange(len(values))[:, None], np.arange(1, len(values) + 1)
    means = np.where(begin < end, (reached[end] - reached[begin]) / np.maximum(end - begin, 1), np.inf)
    least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.maximum.accumulate(least, axis=0).diagonal())


class Hideable(NamedTuple):
    """How much own time can be hidden, ms. ``all_of_it``: those that waited longest hid much less than they waited, so
    there is no more to hide."""

    ms: float
    all_of_it: bool


NOTHING_HIDEABLE = Hideable(0.0, all_of_it=True)


def gap(seen: Floats, alone: Floats, hideable: Floats) -> Hideable:
    """By how much those that could hide own time, and met nobody else's turns, are shorter than alone (medians). None
    where too few show it: others' turns only add, so more of them than alone must be short."""
    could = hideable > 0
    waited = seen[could]
    few = SHORT * len(waited)
    if (waited < alone[int(SHORT * CELLS)]).sum() <= few + 3 * np.sqrt(few):
        return NOTHING_HIDEABLE
    undisturbed = waited <= alone[int(UNDISTURBED * CELLS)]
    quiet = waited[undisturbed]
    if len(quiet) < max(FEWEST, PART * len(waited)):
        return NOTHING_HIDEABLE
    quarter, middle, upper = np.quantile(quiet, (0.25, 0.5, 0.75))
    ms = float(np.median(alone) - middle)
    doubt = max(upper - quarter, alone[3 * CELLS // 4] - alone[CELLS // 4]) / np.sqrt(len(quiet))
    if ms <= 3 * doubt:
        return NOTHING_HIDEABLE
    waits = hideable[could][undisturbed]
    longest = np.argsort(waits)[-max(FEWEST, int(PART * len(waits))) :]
    hid = float(np.median(alone) - np.median(quiet[longest]))
    return Hideable(ms, all_of_it=hid < ALL * float(np.median(waits[longest])))


def cells(values: Floats, weight: Floats) -> Floats:
    """`CELLS` equally likely values of a weighted sample, rising."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    wanted = (np.arange(CELLS) + 0.5) / CELLS * reached[-1]
    return np.asarray(values[order][np.minimum(reached.searchsorted(wanted), len(values) - 1)])


class _Table(NamedTuple):
    """Likelihood of each iteration under each kind of others' time, and what is own then; ``(n, KINDS)``."""

    seen: Floats
    room: Floats
    alone: Floats
    likelihood: Floats
    own: Floats

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
        return Apart(own, others, hidden, others)


def _tables(seen: Floats, room: Floats, alone: Floats, step: float) -> tuple[_Table, _Table]:
    """Others' time follows from the company's and R; and the company's from own work and R. ``step``: of others' time,
    ms."""
    n, others, there = len(seen), seen[:, None] - alone, room[:, None]
    rate = others / there
    possible = (others >= 0) & (others <= there)
    ways = [np.where(possible, likely, 0.0) / CELLS for likely in (1.0, np.maximum(1 - rate, 0.0))]
    width = np.clip(there - step * np.arange(STEPS), 1e-9, max(step, 1e-9))
    sums: list[list[Floats]] = [[], [], [], []]
    kinds = ((np.minimum(rate * BINS, BINS - 1), BINS, there / BINS), (others / max(step, 1e-9), STEPS, width))
    for part, count, size in kinds:
        place = (np.clip(part, 0, count).astype(np.int64) + (count + 1) * np.arange(n)[:, None]).ravel()
        for k, likely in enumerate(ways):
            chance, own = (
                np.bincount(place, values.ravel(), n * (count + 1)).reshape(n, count + 1)[:, :count]
                for values in (likely, likely * alone)
            )
            sums[2 * k].append(chance / size)
            sums[2 * k + 1].append(own / np.where(chance > 0, chance, 1.0))
    for k, last in enumerate((_density(alone, seen), seen) * 2):
        sums[k].append(last[:, None])
    tables = [np.hstack(each) for each in sums]
    return _Table(seen, room, alone, *tables[:2]), _Table(seen, room, alone, *tables[2:])


def _density(alone: Floats, seen: Floats) -> Floats:
    """Of the distribution alone, at what was seen: each cell spread evenly to its neighbours; 0 beyond its ends."""
    edges = np.concatenate([[2 * alone[0] - alone[1]], (alone[1:] + alone[:-1]) / 2, [2 * alone[-1] - alone[-2]]])
    widths = np.maximum(np.diff(edges), 1e-9 * max(float(alone[-1]), 1e-9))
    at = np.clip(edges.searchsorted(seen, "right") - 1, 0, CELLS - 1)
    return np.asarray(np.where((seen >= edges[0]) & (seen <= edges[-1]), 1 / CELLS / widths[at], 0.0))


def _learnt(likelihood: Floats) -> Floats:
    """How likely each kind is, shape ``(KINDS,)``."""
    likelihood = likelihood[likelihood.sum(axis=1) > 0]
    weights = np.append(np.full(KINDS - 1, 0.5 / (KINDS - 1)), 0.5)
    for _ in range(ITERATIONS if len(likelihood) else 0):
        weights = weights * (likelihood.T @ (1 / (likelihood @ weights))) / len(likelihood)
    return weights
