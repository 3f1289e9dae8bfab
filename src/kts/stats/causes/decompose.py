"""What was added to a tenant's response time, split into causes: of any two sides of a comparison."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from kts.model.causes import STATISTICS, CauseName, Decomposition, Part, Statistic
from kts.model.summary import Estimate, Latency
from kts.stats.causes.allocation import ComponentMeans, arm, at_mean, at_quantile
from kts.stats.causes.company import Floats
from kts.stats.causes.components import OF_OTHERS, OTHERS, OWN, READINGS, Components, Place
from kts.stats.causes.facts import Change, Facts, Told
from kts.stats.causes.table import named
from kts.stats.quantiles import QUANTILES
from kts.stats.sample import SEGMENTS

DOUBT = 0.05
"""How often a tenant in which nothing changed may be told a cause, over all its places and statistics together."""
RELEVANT = 0.005
"""Of the statistic before: less is nobody's cause."""
DRIFT = 0.1
"""The same where there are too few rounds to tell drift from company."""
ON_STOPWATCH: frozenset[Place] = frozenset({"turns", "contended", "queued", "work"})
WAITED: frozenset[Place] = frozenset({"contended", "hidden", "whole"})
"""Without a stopwatch. Each adds up to a time that is measured on both sides."""
RECORDED: frozenset[Place] = frozenset({"whole", "host"})
"""Places of a program whose waits for the device are told from its host's time."""


MEASURED: frozenset[Place] = frozenset({"speed"})
"""How it differs between rounds is measured, and so no part of chance: that of these rounds is told, whoever's doing it
is, and the rest is told from it."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Two sides, and their figures on the response clock. ``split``: too few rounds, so blocks are cut into segments
    (`kts.stats.sample.split_blocks`)."""

    facts: Facts
    before: Latency
    after: Latency
    split: bool
    confidence: float


@dataclass(frozen=True, eq=False)
class _Shift:
    """Levels of both sides at one statistic, and what they tell of some places together. ``unsure``: how much more of
    each place it might be, in each reading of `Components.unsure`, ``(READINGS, places)``."""

    places: tuple[Place, ...]
    before: ComponentMeans
    after: ComponentMeans
    unsure: Floats
    paired: bool

    def ms(self, places: list[int]) -> float:
        return float(self.after.at[places].sum() - self.before.at[places].sum())

    def interval(self, places: list[int], confidence: float) -> tuple[float, float]:
        """By chance, and by the readings; of `MEASURED` by the readings alone."""
        by_chance = [place for place in places if self.places[place] not in MEASURED]
        half = arm(self.before, self.after, by_chance, confidence, paired=self.paired) if by_chance else 0.0
        ms, (less, more) = self.ms(places), self._any(places)
        return ms + less - half, ms + more + half

    def _any(self, places: list[int]) -> tuple[float, float]:
        readings = [0.0, *self.unsure[:, places].sum(axis=1)]
        return float(min(readings)), float(max(readings))

    def shown(self, places: list[int], looks: int) -> bool:
        """Together they changed, by more than chance or drift shows in a `DOUBT`-th of so many looks."""
        return self.beyond(places, RELEVANT if self.paired else DRIFT, 1 - DOUBT / looks)

    def beyond(self, places: list[int], least: float, confidence: float) -> bool:
        """Together they changed by at least that part of the statistic before, and by more than their interval."""
        lo, hi = self.interval(places, confidence)
        return self.reaches(places, least) and (lo > 0 or hi < 0)

    def reaches(self, places: list[int], least: float = RELEVANT) -> bool:
        """Together they changed by at least that part of the statistic before."""
        return abs(self.ms(places)) >= least * float(self.before.at[: len(self.places)].sum())

    def grew(self, names: Collection[Place], looks: int) -> bool:
        """They did, all together."""
        places = self._of(names)
        return self.ms(places) > 0 and self.shown(places, looks)

    def exceeds_alone(self, names: Collection[Place], looks: int) -> bool:
        """Together they grew by more than rounds before differ: had nothing changed, those after would differ as
        much. How much others add may differ between rounds; that does not hide whether they add."""
        places = self._of(names)
        half = arm(self.before, self.before, places, 1 - DOUBT / looks, paired=False)
        return self.paired and self.reaches(places) and self.ms(places) > half

    def _of(self, names: Collection[Place]) -> list[int]:
        return [at for at, name in enumerate(self.places) if name in names]


def decompositions(compared: Compared) -> tuple[Decomposition, ...]:
    """Of the mean and of each quantile that has a figure on both sides."""
    shifts = {
        statistic: _shift(compared, statistic)
        for statistic in STATISTICS
        if statistic == "mean" or all(_figure(side, statistic).estimate for side in (compared.before, compared.after))
    }
    grew = _grew(shifts, estimated=compared.facts.after.estimated)
    return tuple(_decomposed(compared, statistic, shifts, grew) for statistic in shifts)


def _grew(shifts: Mapping[Statistic, _Shift], *, estimated: bool) -> frozenset[Place]:
    """Places of which others may have a part, and whose own intervals count: all where the time since submission grew,
    at some statistic. Else, where the mean of the stopwatch did, or without one that of the waits for the device, those
    that add up to it, if they stand out among all that are looked at; recorded waits also against what they differ by
    before. A host that is fast in one round and slow in the next hides nothing there. What is ``estimated`` to be
    others' is above 0 by itself; what is measured to be stands for itself."""
    mean = shifts["mean"]
    places = frozenset(mean.places)
    if any(shift.grew(places - {"backlog", "late"} - MEASURED, len(STATISTICS)) for shift in shifts.values()):
        return places
    measured, looks = places & (WAITED if "whole" in mean.places else ON_STOPWATCH), len(places) * len(STATISTICS)
    stands_out = mean.grew(measured, looks) or (places >= RECORDED and mean.exceeds_alone(measured, looks))
    return measured if estimated and stands_out else frozenset()


def _figure(latency: Latency, statistic: Statistic) -> Estimate:
    if statistic == "mean":
        return Estimate(estimate=latency.mean, lo=None, hi=None)
    return getattr(latency, statistic)  # type: ignore[no-any-return]


def _shift(compared: Compared, statistic: Statistic) -> _Shift:
    levels, count = [], len(compared.facts.after.places)
    for side, latency in ((compared.facts.before, compared.before), (compared.facts.after, compared.after)):
        by = [row[:, np.newaxis] for place in OTHERS if place in side.shared for row in side.shared[place]]
        columns = np.hstack([side.values, _unsure(side), *by])
        unit = _units(side, split=compared.split)
        if statistic == "mean":
            levels.append(at_mean(columns, side.rows.weight, unit))
        else:
            total, figure = side.rows.response, _figure(latency, statistic)
            levels.append(at_quantile(columns, total, side.rows.weight, unit, p=QUANTILES[statistic], statistic=figure))
    unsure = levels[1].at[count : (1 + READINGS) * count].reshape(READINGS, count).copy()
    if statistic == "mean":
        unsure[-1] = 0.0
    return _Shift(compared.facts.after.places, levels[0], levels[1], unsure, paired=not compared.split)


def _unsure(side: Components) -> Floats:
    """Columns of the readings, a place for each."""
    none = np.zeros((READINGS, side.rows.n))
    return np.vstack([[side.unsure.get(place, none)[k] for place in side.places] for k in range(READINGS)]).T


def _units(side: Components, *, split: bool) -> np.ndarray:
    """Round of each iteration, or its segment."""
    rows = side.rows
    if not split:
        return rows.round
    blocks, place = np.unique(rows.block, return_inverse=True)
    parts = -(-SEGMENTS // len(blocks))
    return np.asarray(place * parts + np.minimum(rows.place * parts, parts - 1).astype(np.int64))


def _decomposed(
    compared: Compared, statistic: Statistic, shifts: Mapping[Statistic, _Shift], grew: Collection[Place]
) -> Decomposition:
    shift = shifts[statistic]
    before, after = (_figure(side, statistic) for side in (compared.before, compared.after))
    added = (after.estimate or 0.0) - (before.estimate or 0.0)
    everything = list(range(len(shift.places)))
    if statistic == "mean":
        half = arm(shift.before, shift.after, everything, compared.confidence, paired=shift.paired)
        lo, hi = shift.ms(everything) - half, shift.ms(everything) + half
    else:
        lo = added - _hypot(after.estimate, after.lo, before.hi, before.estimate)
        hi = added + _hypot(after.hi, after.estimate, before.estimate, before.lo)
    found = _named(compared, shift, shifts["mean"], grew)
    parts = sorted((_part(compared, shift, told, places) for told, places in found), key=lambda part: -abs(part.ms))
    rest = added - sum(part.ms for part in parts)
    left = [place for place in everything if not any(place in places for _, places in found)]
    # Where own time is only told from others' by how it is distributed, what is wrong in one part is in the other.
    told_apart = OWN if compared.facts.after.estimated else ()
    unsure = [place for place in everything if place in left or shift.places[place] in told_apart]
    low, high = shift.interval(unsure, compared.confidence)
    off = rest - shift.ms(unsure)
    unexplained = Part(cause="unexplained", ms=rest, lo=low + off, hi=high + off, data="")
    return Decomposition(
        statistic=statistic,
        alone_ms=before.estimate or 0.0,
        added_ms=added,
        lo=lo,
        hi=hi,
        parts=(*parts, unexplained),
    )


def _hypot(a: float | None, b: float | None, c: float | None, d: float | None) -> float:
    return math.hypot((a or 0.0) - (b or 0.0), (c or 0.0) - (d or 0.0))


def _named(compared: Compared, shift: _Shift, mean: _Shift, grew: Collection[Place]) -> list[tuple[Told, list[int]]]:
    """Places whose change is shown, and its cause by their data; those of one cause together. ``grew``: see
    `_grew`."""
    found: dict[CauseName, tuple[Told, list[int]]] = {}
    for place, name in enumerate(shift.places):
        at_mean = mean.ms([place]) if mean.beyond([place], RELEVANT, compared.confidence) else 0.0
        if not _is_shown(compared, shift, place, at_mean, is_mean=shift is mean, grew=grew):
            continue
        change = Change(place=name, ms=shift.ms([place]), is_mean=shift is mean, at_mean=at_mean)
        if (told := named(compared.facts, change)) is not None:
            found.setdefault(told[0], (told, []))[1].append(place)
    return list(found.values())


def _is_shown(
    compared: Compared, shift: _Shift, place: int, at_mean: float, *, is_mean: bool, grew: Collection[Place]
) -> bool:
    """Whether a place has part in what was added: then its size is told with its interval.

    Of those that ``grew`` (`_grew`) its own interval may show it, or the mean's (``at_mean``); or it is one of others'
    places, which are shown together; or own time of a quantile, which changes with them. Of the rest nothing is
    others', and a place must stand for itself among all that are looked at.
    """
    name, ms = shift.places[place], shift.ms([place])
    if name in MEASURED:
        return shift.beyond([place], RELEVANT, compared.confidence)
    if name not in grew:
        own = (name not in OF_OTHERS or not compared.facts.after.estimated) and (is_mean or name not in OWN)
        return own and shift.shown([place], len(shift.places) * len(STATISTICS))
    if shift.beyond([place], RELEVANT, compared.confidence) or (at_mean * ms > 0 and shift.reaches([place])):
        return True
    others = [at for at, one in enumerate(shift.places) if one in OTHERS and one in grew]
    together = ms > 0 if place in others else not is_mean and name in OWN
    return together and shift.reaches([place]) and shift.beyond(others, RELEVANT, compared.confidence)


def _part(compared: Compared, shift: _Shift, told: Told, places: list[int]) -> Part:
    lo, hi = shift.interval(places, compared.confidence)
    by = {} if told[0] == "limited" else _by(compared, shift, places)
    return Part(cause=told[0], ms=shift.ms(places), lo=lo, hi=hi, data=told[1], by=by)


def _by(compared: Compared, shift: _Shift, places: list[int]) -> dict[str, float]:
    """What each neighbour's turns added."""
    added: dict[str, float] = {}
    names = {shift.places[place] for place in places}
    for sign, side, level in ((1, compared.facts.after, shift.after), (-1, compared.facts.before, shift.before)):
        for (place, neighbour), ms in zip(_columns(side), level.at[(1 + READINGS) * len(side.places) :], strict=True):
            if place in names:
                added[neighbour] = added.get(neighbour, 0.0) + sign * float(ms)
    return added


def _columns(side: Components) -> list[tuple[Place, str]]:
    """Of what the columns behind those of the places are: others' places, and in each of them the neighbours."""
    return [(place, name) for place in OTHERS if place in side.shared for name in side.rows.neighbours]
