"""Where the time of each iteration went: parts of its response that its own data give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kts.stats.causes.company import Floats
from kts.stats.causes.kept import KeptRows
from kts.stats.causes.own import apart, cells

Place = Literal["backlog", "late", "first", "turns", "contended", "hidden", "queued", "host", "work", "whole"]
"""backlog: own earlier iterations. late: nothing of its own was in flight, and it was not submitted. Others': first
(before the device let it in), turns (since), contended (no stopwatch tells which). Own: host (not on the device's
stopwatch), work (on it), whole (no stopwatch). Own time that is missing since others had their turn: hidden (not on the
stopwatch), queued (on it)."""

OTHERS: tuple[Place, ...] = ("first", "turns", "contended")
OF_OTHERS: tuple[Place, ...] = (*OTHERS, "hidden", "queued")
"""There are none without others."""
OWN: tuple[Place, ...] = ("host", "work", "whole")

SWITCH_MS = 0.3
"""How long a GPU may need to come back to a tenant after a neighbour used it, though that has retired."""


AT_ONCE, OFTEN = 0.02, 0.95
"""A wait of at most that part of the time in which others were in flight is none; so in nearly all iterations."""


@dataclass(frozen=True, eq=False)
class Components:
    """``places`` add up to the response; ``values``: ms, ``(n, places)``. ``shared``: of each of the others' places the
    part of each neighbour, ``(neighbours, n)``; they add up to it where neighbours were in flight."""

    rows: KeptRows
    places: tuple[Place, ...]
    values: Floats
    shared: dict[Place, Floats] = field(default_factory=dict)

    def of(self, place: Place) -> Floats:
        """One column."""
        return np.asarray(self.values[:, self.places.index(place)])


def components(rows: KeptRows, alone: KeptRows, *, is_cpu: bool) -> Components:
    """Of ``rows``; ``alone``: the same tenant's without company, which tell what is its own."""
    told = not (np.isnan(rows.device).any() or np.isnan(alone.device).any())
    found = _without_stopwatch(rows, alone) if not told else _on_core(rows) if is_cpu else _on_gpu(rows, alone)
    columns: dict[Place, Floats] = {"backlog": rows.backlog, "late": rows.late, **found}
    room = {"first": rows.before, "turns": rows.during, "contended": rows.during if told else rows.before + rows.during}
    shared = {place: _shared(columns[place], room[place]) for place in OTHERS if place in columns}
    return Components(rows, tuple(columns), np.column_stack(list(columns.values())), shared)


def _on_gpu(rows: KeptRows, alone: KeptRows) -> dict[Place, Floats]:
    """A GPU's stopwatch begins when it lets the tenant in and runs on through the turns of others.

    Some stopwatches begin at once: where an iteration ends with a copy to the host, a copy engine starts the next
    one's. Then turns of others are all on it, the first and the later ones.
    """
    switch = SWITCH_MS * rows.switched
    host, first, hidden = apart(rows.rest, rows.before.sum(axis=0) + switch, cells(alone.rest, alone.weight))
    during, usual = rows.during.sum(axis=0), cells(alone.device, alone.weight)
    if at_once := _at_once(first, rows):
        work, others, queued = apart(rows.device, during + switch, usual)
    else:
        work, others, queued = apart(rows.device, during, usual, first)
    turns: Place = "contended" if at_once else "turns"
    return {"first": first, turns: others, "hidden": hidden, "queued": queued, "host": host, "work": work}


def _at_once(first: Floats, rows: KeptRows) -> bool:
    """Those that were submitted while a neighbour had something in flight seem to wait for nothing."""
    beside = rows.beside > 0
    during = rows.during.sum(axis=0)[beside]
    return bool(beside.any()) and float((first[beside] > AT_ONCE * during).mean()) < 1 - OFTEN


def _on_core(rows: KeptRows) -> dict[Place, Floats]:
    """A thread's CPU time stands still while others have the core; theirs is what they computed meanwhile."""
    turns = np.minimum(rows.rest, rows.during.sum(axis=0))
    return {"turns": turns, "host": rows.rest - turns, "work": rows.device}


def _without_stopwatch(rows: KeptRows, alone: KeptRows) -> dict[Place, Floats]:
    """Only the whole is known, and when neighbours had something in flight."""
    room = (rows.before + rows.during).sum(axis=0)
    own, others, hidden = apart(rows.service, room, cells(alone.service, alone.weight))
    return {"contended": others, "hidden": hidden, "whole": own}


def _shared(others: Floats, room: Floats) -> Floats:
    """By neighbour, as they shared the time in flight."""
    total = room.sum(axis=0)
    return np.asarray(room / np.where(total > 0, total, 1.0) * others)
