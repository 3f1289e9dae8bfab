"""From the calls of all watched processes to their round trips, in pieces. Pure, and a few passes over whole arrays.

What a round trip is: as in `kts.worker.tracing.trips`, where every wait is for all that its process has handed over.
Which stream or event a wait is for is not read, so a program that waits for one of several pieces of work ends its
round trip at the first of them.

A thread's round trip goes from its first work until its next wait returns. Threads that never wait only help: their
work belongs to the next wait of their process that begins after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kts.rows import joined
from kts.watch.calls import FUNCTIONS, Array
from kts.worker.tracing.layout import Kind
from kts.worker.tracing.trips import HANDS_OVER, HELPED

WATCHED_TRIP = np.dtype(
    [
        ("begin_ns", "<i8"),  # the first work was handed over
        ("end_ns", "<i8"),  # the wait returned
        ("waited_ns", "<i8"),  # in that wait
        ("process", "<u4"),
        ("thread", "<u4"),  # that waited
        ("launches", "<u4"),  # kernels and graphs
        ("copies", "<u4"),
    ]
)

_HANDS, _LAUNCHES, _COPIES, _WAITS, _RETURNS = (np.uint8(1 << bit) for bit in range(5))
_KINDS = np.array([function.kind for function in FUNCTIONS])
_CALLED = (
    HANDS_OVER[_KINDS] * _HANDS
    | ((_KINDS == Kind.LAUNCH) | (_KINDS == Kind.GRAPH)) * _LAUNCHES
    | (_KINDS == Kind.COPY) * _COPIES
)
_WHAT = np.tile(np.array([function.waits for function in FUNCTIONS]) * _WAITS, 2) | np.concatenate(
    [_CALLED, np.full_like(_CALLED, _RETURNS)]
)
"""What a call is, in bits, by its function; behind all functions the same of those that returned."""

STALE_NS = 1_000_000_000
"""So long after its last work something is taken to be in flight where nobody waits for it. What a library once handed
over and nobody waits for would else be in flight for ever."""

_COUNTS = ("hands", "launches", "copies")
_OPEN = np.dtype(
    [
        ("process", "<u4"),
        ("thread", "<u4"),
        ("begin_ns", "<i8"),  # of the open round trip
        ("last_ns", "<i8"),  # its last work
        *((name, "<i8") for name in _COUNTS),  # ``hands``: works handed over in it; 0: none is open
        ("waits_ns", "<i8"),  # it has been waiting since; 0: it is not
        ("helped", "<i8"),  # waits of others since its own last one; -1: it only helps
    ]
)
"""What is known of a thread between two pieces. A row of what helpers have handed over has no thread."""

FLIGHT = np.dtype([("process", "<u4"), ("begin_ns", "<i8"), ("end_ns", "<i8")])
Ints = NDArray[np.int64]
Columns = Mapping[str, NDArray[Any]]
"""Of calls, each by itself: several times as fast to read. ``what``: `_WHAT`; ``of``: threads, counted from 0."""


class WatchedTrips:
    """Feed it all calls, in order. Memory: a row per thread of each process that is not gone.

    ``launched``: processes, and how often each launched in the calls that were added last; a process may come more than
    once.
    """

    def __init__(self) -> None:
        self.launched: tuple[NDArray[np.uint32], Ints] = np.empty(0, np.uint32), np.empty(0, np.int64)
        self._threads = np.empty(0, _OPEN)
        self._pool = np.empty(0, _OPEN)  # what helpers handed over and no wait has covered yet

    def add(self, calls: Array) -> Array:
        """Round trips that end with one of ``calls`` (by time), dtype `WATCHED_TRIP`, by process and end.

        Functions that are not in `FUNCTIONS` are passed over.
        """
        if len(calls) and calls["function"].max() >= len(FUNCTIONS):
            calls = calls[calls["function"] < len(FUNCTIONS)]
        self.launched = np.empty(0, np.uint32), np.empty(0, np.int64)
        if not len(calls):
            return np.empty(0, WATCHED_TRIP)
        order = _by_thread(calls)
        columns = {name: calls[name].take(order) for name in ("ns", "process", "thread")}
        columns["what"] = _WHAT.take(calls["function"] + len(FUNCTIONS) * (calls["returned"] != 0)).take(order)
        process, thread, what = columns["process"], columns["thread"], columns["what"]
        first = np.flatnonzero(np.r_[True, (process[1:] != process[:-1]) | (thread[1:] != thread[:-1])])
        edges = np.r_[first, len(what)]
        state = self._states({name: column[first] for name, column in columns.items()})
        of = columns["of"] = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(edges))
        self.launched = process[first], np.add.reduceat(what & _LAUNCHES != 0, first, dtype=np.int64)
        at, since_ns = _returned(columns, state)
        state["helped"][of[at]] = 0
        handed = np.flatnonzero(what & _HANDS != 0)
        if (helping := state["helped"] < 0).any():
            helps = helping[of[handed]]
            self._move_helpers(columns, handed.compress(helps))
            handed = handed.compress(~helps)
        trips = _closed(columns, handed, at, edges, state)
        trips["waited_ns"] = trips["end_ns"] - since_ns
        self._keep(state)
        order = np.lexsort((trips["end_ns"], trips["process"]))
        return self._with_help(trips.take(order), since_ns[order])

    def forget(self) -> None:
        """To be called where calls are missing: gives up what is in flight."""
        for rows in (self._threads, self._pool):
            for name in (*_COUNTS, "waits_ns"):
                rows[name] = 0
        self._pool = self._pool[:0]

    def gone(self, processes: tuple[int, ...]) -> None:
        """These have ended: nothing of theirs is in flight."""
        if processes:
            self._threads = self._threads[~np.isin(self._threads["process"], processes)]
            self._pool = self._pool[~np.isin(self._pool["process"], processes)]

    def in_flight(self, until_ns: int) -> Array:
        """What has begun and is not over, dtype `FLIGHT`. ``end_ns``: how far it is known to last, ``until_ns`` or
        `STALE_NS` after the last work where nobody waits."""
        waiting = np.unique(self._threads["process"][self._threads["waits_ns"] > 0])
        parts = []
        for rows, held in (
            (self._threads, self._threads["waits_ns"] > 0),
            (self._pool, np.isin(self._pool["process"], waiting)),
        ):
            part = np.empty(len(rows), FLIGHT)
            part["process"], part["begin_ns"] = rows["process"], rows["begin_ns"]
            part["end_ns"] = np.where(held, until_ns, np.minimum(rows["last_ns"] + STALE_NS, until_ns))
            parts.append(part.compress(rows["hands"] > 0))
        return joined(parts)

    def _states(self, heads: Columns) -> Array:
        """What is known of each of these threads."""
        state = np.zeros(len(heads["ns"]), _OPEN)
        state["process"], state["thread"], state["helped"] = heads["process"], heads["thread"], -1
        if len(self._threads):
            known, wanted = _keys(self._threads), _keys(state)
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            there = known[at] == wanted
            state[there] = self._threads[at[there]]
        return state

    def _keep(self, state: Array) -> None:
        both = joined((self._threads.compress(~np.isin(_keys(self._threads), _keys(state))), state))
        self._threads = both.take(np.argsort(_keys(both)))

    def _move_helpers(self, calls: Columns, rows: Ints) -> None:
        """What threads hand over that only help is their process's."""
        fresh = np.zeros(len(rows), _OPEN)
        what = calls["what"][rows]
        fresh["process"], fresh["begin_ns"] = calls["process"][rows], calls["ns"][rows]
        fresh["last_ns"], fresh["hands"] = fresh["begin_ns"], 1
        fresh["launches"], fresh["copies"] = what & _LAUNCHES != 0, what & _COPIES != 0
        self._pool = joined((self._pool, fresh))

    def _with_help(self, trips: Array, since_ns: Ints) -> Array:
        """``trips`` (by process and end), one per wait, with what helpers handed over: it belongs to the first wait of
        their process, by its end, that began after it. Waits that nothing belongs to are left out."""
        pool = self._pool
        if len(pool) and len(trips):
            zero = min(int(since_ns.min()), int(pool["begin_ns"].min()))
            span = max(int(trips["end_ns"].max()), int(pool["last_ns"].max())) - zero + 1
            processes = np.unique(trips["process"])
            # the process and the time in one number: what began before a wait of another process is before all of it
            begun = np.maximum.accumulate(np.searchsorted(processes, trips["process"]) * span + since_ns - zero)
            place = np.minimum(np.searchsorted(processes, pool["process"]), len(processes) - 1)
            wait = np.searchsorted(begun, place * span + pool["last_ns"] - zero)
            covered = wait < len(trips)
            covered[covered] = trips["process"][wait[covered]] == pool["process"][covered]
            taken, wait = pool.compress(covered), wait[covered]
            none = np.iinfo(np.int64).max
            begins = np.where(trips["begin_ns"] > 0, trips["begin_ns"], none)
            np.minimum.at(begins, wait, taken["begin_ns"])
            trips["begin_ns"] = np.where(begins < none, begins, 0)
            for name in ("launches", "copies"):
                trips[name] += np.bincount(wait, taken[name], len(trips)).astype("<u4")
            self._pool = pool.compress(~covered)
        self._pool = _collapsed(self._pool)
        self._count_helped(trips["process"])
        return trips.compress(trips["begin_ns"] > 0)

    def _count_helped(self, waits: NDArray[np.uint32]) -> None:
        """A thread that once waited, and whose work others have waited for since `HELPED` times, only helps."""
        if not len(waits):
            return
        processes, counts = np.unique(waits, return_counts=True)
        threads = self._threads
        at = np.minimum(np.searchsorted(processes, threads["process"]), len(processes) - 1)
        mine = (processes[at] == threads["process"]) & (threads["hands"] > 0) & (threads["waits_ns"] == 0)
        open_ = np.flatnonzero(mine & (threads["helped"] >= 0))
        threads["helped"][open_] += counts[at[open_]]
        turned = open_[threads["helped"][open_] >= HELPED]
        if len(turned):
            self._pool = joined((self._pool, threads.take(turned)))
            threads["helped"][turned] = -1
            for name in _COUNTS:
                threads[name][turned] = 0


def _by_thread(calls: Array) -> Ints:
    """Order by process and thread, else as they come. By 16 bits at a time: numpy then counts them."""
    order: Ints | None = None
    for name in ("thread", "process"):
        column = np.ascontiguousarray(calls[name])
        for part in (column.astype(np.uint16), (column >> 16).astype(np.uint16)):
            if (part == part[0]).all():
                continue
            place = np.argsort(part if order is None else part[order], kind="stable")
            order = place if order is None else order[place]
    return np.arange(len(calls)) if order is None else order


def _keys(rows: Array | Columns) -> Ints:
    keys: Ints = (rows["process"].astype(np.int64) << 32) | rows["thread"]
    return keys


def _returned(calls: Columns, state: Array) -> tuple[Ints, Ints]:
    """Waits that return: their places and when they began. One whose begin was not seen is passed over. Writes which
    threads are waiting at the end."""
    marks = np.flatnonzero(calls["what"] & _WAITS != 0)
    ns, of, returns = calls["ns"][marks], calls["of"][marks], calls["what"][marks] & _RETURNS != 0
    began_ns = np.where(returns, 0, ns)
    turns = of[1:] != of[:-1]  # to the next thread
    since = np.r_[0, began_ns[:-1]][: len(marks)]
    opens = np.r_[True, turns][: len(marks)]
    since[opens] = state["waits_ns"][of[opens]]
    ends = np.r_[turns, True][: len(marks)]
    state["waits_ns"][of[ends]] = began_ns[ends]
    seen = returns & (since > 0)
    return marks[seen], since[seen]


def _closed(calls: Columns, handed: Ints, at: Ints, edges: Ints, state: Array) -> Array:
    """A row for each wait that returned ``at``: its thread's own work since the wait before, ``begin_ns`` 0 where there
    was none. Writes what is open of each thread at the end. ``handed``: where work was handed over. ``edges``: where
    threads begin, and the end."""
    of = calls["of"][at]
    what, ns = calls["what"].take(handed), np.append(calls["ns"].take(handed), 0)
    sums = {"launches": _summed(what & _LAUNCHES != 0), "copies": _summed(what & _COPIES != 0)}
    until, bounds = np.searchsorted(handed, at), np.searchsorted(handed, edges)
    opens = np.ones(len(at), bool)
    opens[1:] = of[1:] != of[:-1]
    since = np.where(opens, bounds[of], np.r_[0, until[:-1]][: len(at)])
    carried = opens & (state["hands"][of] > 0)
    trips = np.zeros(len(at), WATCHED_TRIP)
    trips["begin_ns"] = np.where(carried, state["begin_ns"][of], np.where(until > since, ns[since], 0))
    for name, column in (("end_ns", "ns"), ("process", "process"), ("thread", "thread")):
        trips[name] = calls[column][at]
    for name, total in sums.items():
        trips[name] = total[until] - total[since] + np.where(opens, state[name][of], 0)

    begin, end = bounds[:-1].copy(), bounds[1:]
    begin[of] = until  # of the last wait of each thread
    for name in _COUNTS:
        state[name][of] = 0
    before = state["hands"].copy()
    state["hands"] += end - begin
    for name, total in sums.items():
        state[name] += total[end] - total[begin]
    fresh = end > begin
    begun = fresh & (before == 0)
    state["begin_ns"][begun], state["last_ns"][fresh] = ns[begin[begun]], ns[end[fresh] - 1]
    return trips


def _summed(some: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many are before each, and in all."""
    total: NDArray[np.int32] = np.r_[np.int32(0), np.cumsum(some, dtype=np.int32)]
    return total


def _collapsed(pool: Array) -> Array:
    """One row for each process."""
    if len(pool) < 2:
        return pool
    processes, place = np.unique(pool["process"], return_inverse=True)
    rows = np.zeros(len(processes), _OPEN)
    rows["process"], rows["begin_ns"] = processes, np.iinfo(np.int64).max
    np.minimum.at(rows["begin_ns"], place, pool["begin_ns"])
    np.maximum.at(rows["last_ns"], place, pool["last_ns"])
    for name in _COUNTS:
        rows[name] = np.bincount(place, pool[name])
    return rows
