"""Where the time of each iteration went: parts of its response that its own data give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from kts.stats.causes.company import Floats
from kts.stats.causes.held import waits, within, without_error
from kts.stats.causes.kept import KeptRows
from kts.stats.causes.own import Apart, apart, cells, gap
from kts.stats.causes.speed import Slowed, Speed, at_usual

Place = Literal[
    "backlog",
    "late",
    "first",
    "turns",
    "contended",
    "core",
    "quota",
    "disk",
    "speed",
    "ill",
    "hidden",
    "queued",
    "host",
    "work",
    "whole",
]
"""backlog: own earlier iterations. late: nothing of its own was in flight, and it was not submitted. Others': first
(before the device let it in), turns (since), contended (no stopwatch tells which). The host's thread: core (ready,
without one), quota, disk, speed (its core was slower than alone). ill: an error of the GPU. Own: host (not on the
stopwatch), work (on it), whole (no stopwatch). Own time that is missing since others had their turn: hidden (not on
the stopwatch), queued (on it)."""

OTHERS: tuple[Place, ...] = ("first", "turns", "contended")
OF_OTHERS: tuple[Place, ...] = (*OTHERS, "hidden", "queued")
"""There are none without others."""
OWN: tuple[Place, ...] = ("host", "work", "whole")

SWITCH_MS = 0.3
"""How long a GPU may need to come back to a tenant after a neighbour used it, though that has retired."""


CLOCKS = 0.005
"""Clocks that differ by less explain nothing."""
HOST_BOUND, LOW, FEWEST = 0.7, 0.02, 30
"""A GPU that is busy for less of the time alone mostly waits for launches; as a low quantile in company shows, of so
many iterations."""
READINGS = 4
COVERED = 0.5
"""Of the iterations in company, as many must have a clock that some alone had."""
AT_ONCE, OFTEN = 0.02, 0.95
"""A wait of at most that part of the time in which others were in flight is none; so in nearly all iterations."""


@dataclass(frozen=True, eq=False)
class Components:
    """``places`` add up to the response; ``values``: ms, ``(n, places)``. ``shared``: of each of the others' places the
    part of each neighbour, ``(neighbours, n)``; they add up to it where neighbours were in flight. ``estimated``: what
    is others' time is not measured, but told from own time by its distribution. ``unsure``: how much more of some
    places it might be, ``(READINGS, n)``, in other readings of the same data; in each they add up to 0, but for what
    looks at the core leave open. The last one is how own time may be spread over iterations, and says nothing of
    means."""

    rows: KeptRows
    places: tuple[Place, ...]
    values: Floats
    shared: dict[Place, Floats] = field(default_factory=dict)
    estimated: bool = True
    unsure: dict[Place, Floats] = field(default_factory=dict)

    def of(self, place: Place) -> Floats:
        """One column."""
        return np.asarray(self.values[:, self.places.index(place)])


def components(
    whole: KeptRows, alone: KeptRows, *, is_cpu: bool, errors: bool = False, speed: Speed | None = None
) -> Components:
    """Of ``whole``; ``alone``: the same tenant's without company, which tell what is its own. ``errors``: the GPU told
    some in either, and the place "ill" is there. ``speed``: how its host follows its core, and "speed" is there."""
    (rows, ill), (alone, _) = (without_error(side) for side in (whole, alone))
    slowed: Slowed | None = None
    if speed is not None:
        slowed, usually = (speed.of(side, alone, is_cpu=is_cpu) for side in (rows, alone))
        rows, alone = (at_usual(side, by.ms, is_cpu=is_cpu) for side, by in ((rows, slowed), (alone, usually)))
    told = not (np.isnan(rows.device).any() or np.isnan(alone.device).any())
    found, unsure = (
        _without_stopwatch(rows, alone) if not told else (_on_core(rows, alone), {}) if is_cpu else _on_gpu(rows, alone)
    )
    columns: dict[Place, Floats] = {"backlog": rows.backlog, "late": rows.late, **found}
    if slowed is not None:
        columns["speed"] = slowed.ms
        for place, more in _either_way(slowed, columns, "work" if is_cpu else "host").items():
            unsure[place] = unsure.get(place, 0.0) + more
    if errors:
        columns["ill"] = ill
    both = rows.before + rows.during
    room = {"first": rows.before, "turns": both if is_cpu else rows.during, "contended": rows.during if told else both}
    shared = {place: _shared(columns[place], room[place]) for place in OTHERS if place in columns}
    estimated = not (told and is_cpu)
    return Components(whole, tuple(columns), np.column_stack(list(columns.values())), shared, estimated, unsure)


def _either_way(slowed: Slowed, columns: dict[Place, Floats], own: Place) -> dict[Place, Floats]:
    """How much more or less a slower core may be. What its slope has it be is others' first turn where there is one off
    the stopwatch, else own time; what few looks have it be is in how rounds of these differ."""
    signs, none = np.array([[1.0], [-1.0]]), np.zeros((2, len(slowed.ms)))
    by_slope, waits = signs * slowed.by_slope, columns.get("first", none[0]) > 0
    rows: dict[Place, Floats] = {
        "speed": signs * np.hypot(slowed.by_slope, slowed.by_looks),
        own: np.where(waits, none, -by_slope),
        "first": np.where(waits, -by_slope, none),
    }
    unsure = {place: np.zeros((READINGS, len(slowed.ms))) for place in rows if place in columns}
    for place, of in unsure.items():
        of[1:3] = rows[place]
    return unsure


def _on_gpu(rows: KeptRows, alone: KeptRows) -> tuple[dict[Place, Floats], dict[Place, Floats]]:
    """A GPU's stopwatch begins when it lets the tenant in and runs on through the turns of others.

    Some stopwatches begin at once: where an iteration ends with a copy to the host, a copy engine starts the next
    one's. Then turns of others are all on it, the first and the later ones.
    """
    rest, device, held = _unheld(rows, alone)
    switch = SWITCH_MS * rows.switched
    off = apart(rest, rows.before.sum(axis=0) + switch, cells(alone.rest, alone.weight), rows.weight)
    during, at_clock = rows.during.sum(axis=0), _at_clock(rows, alone)
    usual = cells(at_clock.work, at_clock.weight)
    at_once = _at_once(off.others, rows)
    room, waited = (during + switch, switch) if at_once else (during, off.others)
    plain = apart(device, room, usual, rows.weight, None if at_once else waited)
    least = _least(device[rows.met], usual)
    on = plain if least is None else _of_launches(device, during, usual, least, waited)
    longest = np.minimum(rest + device, cells(alone.rest + at_clock.work, at_clock.weight)[-1]) - off.own
    more, longer, longest = _if_queued(
        device, on, usual, longest, room=during + switch, waited=None if at_once else waited, known=least is None
    )
    first, own, less = off.otherwise - off.others, plain.otherwise - plain.others, plain.others - on.others
    turns: Place = "contended" if at_once else "turns"
    none = np.zeros(rows.n)
    clocked, queued = _otherwise_clocked(on, at_clock.other - float(usual.mean()))
    unsure: dict[Place, Floats] = {
        "first": np.array([first, none, none, none]),
        turns: np.array([less + own, more, -clocked - queued, none]),
        "queued": np.array([-less, -more - longer, queued, -longest]),
        "host": np.array([-first, none, none, none]),
        "work": np.array([-own, longer, clocked, longest]),
    }
    found: dict[Place, Floats] = {
        "first": off.others,
        turns: on.others,
        **held,
        "hidden": off.hidden,
        "queued": on.hidden,
        "host": off.own,
        "work": on.own,
    }
    return found, unsure


def _unheld(rows: KeptRows, alone: KeptRows) -> tuple[Floats, Floats, dict[Place, Floats]]:
    """Rest and device without what held up the host's thread, as far as they are longer than usual alone."""
    over_rest, over_device = (
        np.maximum(mine - np.median(usual), 0.0)
        for mine, usual in ((rows.rest, alone.rest), (rows.device, alone.device))
    )
    core, quota, disk = within(waits(rows, alone), over_rest + over_device)
    all_held = core + quota + disk
    off_rest = np.minimum(all_held, over_rest)
    held: dict[Place, Floats] = {"core": core, "quota": quota, "disk": disk}
    return rows.rest - off_rest, rows.device - (all_held - off_rest), held


def _on_core(rows: KeptRows, alone: KeptRows) -> dict[Place, Floats]:
    """A thread's CPU time stands still while others have the core; theirs is what they used meanwhile."""
    free, quota, disk = waits(rows, alone)
    free = np.where(np.isnan(rows.core_wait), rows.rest - quota, free)
    core, quota, _ = within((free, quota, np.zeros(rows.n)), rows.rest)
    neighbours, strangers = (np.nan_to_num(rows.rate(name)) for name in ("neighbours", "strangers"))
    between = np.maximum(
        rows.during.sum(axis=0), neighbours * rows.service
    )  # a worker computes between iterations, too
    turns = _theirs(core, between, strangers * rows.service)
    late = _theirs(rows.late, rows.before.sum(axis=0), strangers * rows.late)
    asleep = rows.rest - core - quota
    disk = np.minimum(disk, asleep)
    return {
        "late": rows.late - late,
        "turns": turns + late,
        "core": core - turns,
        "quota": quota,
        "disk": disk,
        "host": asleep - disk,
        "work": rows.device,
    }


def _theirs(wait: Floats, neighbours: Floats, strangers: Floats) -> Floats:
    """The neighbours' part of a wait for the core: what they used meanwhile; less where strangers used it, too."""
    used = neighbours + strangers
    return np.asarray(neighbours * np.minimum(1.0, wait / np.where(used > 0, used, 1.0)))


def _without_stopwatch(rows: KeptRows, alone: KeptRows) -> tuple[dict[Place, Floats], dict[Place, Floats]]:
    """What is known is when neighbours had something in flight; of a traced program also how long its host waited for
    the device. The rest of its time is the host's own, and nobody else's turn. A host that is held up notices late that
    the device is done, too."""
    told = not (np.isnan(rows.waited).any() or np.isnan(alone.waited).any())
    waited, usual = (rows.waited, alone.waited) if told else (rows.service, alone.service)
    busy, usually = rows.service - waited, alone.service - usual
    over_busy, over_waited = busy - np.median(usually), waited - np.median(usual)
    core, quota, disk = within(waits(rows, alone), np.maximum(over_busy, 0.0) + np.maximum(over_waited, 0.0))
    held = core + quota + disk
    off_busy = np.clip(over_busy, 0.0, held)
    room = (rows.before + rows.during).sum(axis=0) + SWITCH_MS * rows.switched
    left = waited - (held - off_busy)
    own, others, hidden, otherwise = apart(left, room, cells(usual, alone.weight), rows.weight)
    found: dict[Place, Floats] = {"contended": others, "core": core, "quota": quota, "disk": disk, "hidden": hidden}
    if told:
        found["host"] = busy - off_busy
    either = np.vstack([otherwise - others, np.zeros((READINGS - 1, rows.n))])
    return {**found, "whole": own}, {"contended": either, "whole": -either}


class _AtClock(NamedTuple):
    """Work of the iterations alone (ms) as it takes at the SM clock in company, and how many each stands for then.
    ``other``: its mean in the reading that is farthest from that, ms; where nothing else can be meant its own."""

    work: Floats
    weight: Floats
    other: float


def _at_clock(rows: KeptRows, alone: KeptRows) -> _AtClock:
    """Not all of an iteration's work follows the clock of the SMs: memory does not. So what it took at that clock is
    asked of those that met nobody, else of those alone that had it, when it may still be as the clock has it: samples
    are rare, and clocks wander between them. Where neither tells, it is as the clock has it, as far as the shortest
    show it; of a higher clock perhaps not at all."""
    before, now = _clock(alone), _clock(rows)
    mean = float(np.average(alone.device, weights=alone.weight))
    if not min(before, now) > 0 or abs(before / now - 1) < CLOCKS:
        return _AtClock(alone.device, alone.weight, mean)
    slower = before / now
    met_nobody = rows.device[~rows.met]
    if len(met_nobody) >= FEWEST:
        shown = float(np.median(met_nobody) / np.median(alone.device))
        factor = slower if abs(shown - 1) >= abs(slower - 1) / 2 else 1.0
        return _AtClock(alone.device * factor, alone.weight, mean * factor)
    weight = _weighed_by_clock(rows, alone)
    if weight is not None:
        return _AtClock(alone.device, weight, mean * slower)
    shown = float(np.quantile(rows.device, LOW) / np.quantile(alone.device, LOW))
    factor = float(np.clip(shown, min(1.0, slower), max(1.0, slower)))
    other = slower if factor - 1 >= (slower - 1) / 2 else 1.0  # shorter they may be since they ran back to back
    return _AtClock(alone.device * factor, alone.weight, mean * other)


def _weighed_by_clock(rows: KeptRows, alone: KeptRows) -> Floats | None:
    """Weights with which the iterations alone have the clocks of those in company; None where too few had them."""
    theirs, usual = (np.nan_to_num(np.log(side.rate("sm_clock")) / CLOCKS, nan=-1.0).round() for side in (rows, alone))
    clocks = np.intersect1d(theirs[theirs > 0], usual)
    there, here = (
        np.array([side.weight[of == clock].sum() for clock in clocks]) for side, of in ((rows, theirs), (alone, usual))
    )
    if not len(clocks) or there.sum() < COVERED * rows.weight[theirs > 0].sum():
        return None
    at = np.minimum(clocks.searchsorted(usual), len(clocks) - 1)
    weight = np.where(clocks[at] == usual, alone.weight * (there / here)[at], 0.0)
    return np.asarray(weight) if weight.sum() ** 2 / (weight**2).sum() >= FEWEST else None


def _otherwise_clocked(on: Apart, more: float) -> tuple[Floats, Floats]:
    """(own, queued) by how much they change, of each iteration, if its own work takes ``more`` ms; the rest of it is
    others'. Less work hides less of itself first; more of it leaves less to others first."""
    own = np.full(len(on.own), more)
    queued = np.minimum(-more, -on.hidden) if more < 0 else -np.maximum(more - on.others, 0.0)
    return own, np.asarray(queued)


def _clock(rows: KeptRows) -> float:
    """Mean SM clock, MHz; 0 where nobody told."""
    told = rows.rate("sm_clock")
    told = told[~np.isnan(told)]
    return float(told.mean()) if len(told) else 0.0


def _least(seen: Floats, usual: Floats) -> float | None:
    """How long the work takes once all of it is queued, if that is much less than alone: most of the time the GPU waits
    for the next launch. None where it is not, or where too few show it."""
    least = float(np.quantile(seen, LOW)) if len(seen) >= FEWEST else np.inf
    return least if least < HOST_BOUND * float(np.quantile(usual, LOW)) else None


def _of_launches(device: Floats, during: Floats, usual: Floats, least: float, waited: Floats) -> Apart:
    """Of a tenant whose GPU mostly waits for the next launch. Whoever comes in between gets its turn at once, and the
    launches queue meanwhile: neighbours' time is all in which they were in flight, but for those launches' own time."""
    mean = float(usual.mean())
    others = np.clip(during - least * np.minimum((during + waited) / mean, 1.0), 0.0, device)
    left = device - others
    hidden = np.where((during > 0) | (waited > 0), np.minimum(left - mean, 0.0), 0.0)
    return Apart(left - hidden, others, hidden, others)


def _if_queued(
    device: Floats, on: Apart, usual: Floats, longest: Floats, *, room: Floats, waited: Floats | None, known: bool
) -> tuple[Floats, Floats, Floats]:
    """How much more of the stopwatch than ``on`` has it could be others' time, and how much more its own: as usual, or
    ``longest``, all ms; as much more of its work is queued then.

    Where the GPU waits for launches alone, nothing tells how much of it that is, unless some waited for longer than
    that (``waited``); ``known``: nor is it most of the time. Then nothing tells whose own time was long, either: all
    that an iteration took may be its own, as far as own times go."""
    most = np.maximum(np.minimum(room, device) - on.others, 0.0)
    could = gap(device, usual, room if waited is None else waited)
    if not known or (could.ms > 0 and not (could.all_of_it and waited is not None)):
        own, longest = (np.where(room > 0, one - on.own, 0.0) for one in (float(usual.mean()), longest))
        return most, own, np.maximum(longest, 0.0)
    none = np.zeros(len(device))
    return np.minimum(most, np.maximum(could.ms + on.hidden, 0.0)), none, none


def _at_once(first: Floats, rows: KeptRows) -> bool:
    """Those that were submitted while a neighbour had something in flight seem to wait for nothing."""
    beside = rows.beside > 0
    during = rows.during.sum(axis=0)[beside]
    return bool(beside.any()) and float((first[beside] > AT_ONCE * during).mean()) < 1 - OFTEN


def _shared(others: Floats, room: Floats) -> Floats:
    """By neighbour, as they shared the time in flight."""
    total = room.sum(axis=0)
    return np.asarray(room / np.where(total > 0, total, 1.0) * others)
