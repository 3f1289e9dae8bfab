"""What an iteration of a watched program is: the round trips of a thread that repeat, joined. Pure, bounded.

What repeats is told as for a traced program (`kts.worker.tracing.pattern`), from how often each round trip launches.
Nobody can be asked, and calls come for days, so more is asked of a pattern here: it must be beyond chance, and the
program must not pause longer within an iteration than it works, as where requests of two kinds come in turns. Only what
follows the pattern counts, round trip by round trip; the rest is left out, and counted. So figures are never of two
things: where another pattern takes over, what was told before does not count any more (`UnitIterations.anew`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kts.rows import joined
from kts.watch.calls import Array
from kts.worker.tracing.pattern import SURE, Pattern, alike, pattern

LOOKED_AT = 256
"""The latest round trips of a thread that are looked at: three times the longest pattern, and some."""
FIRST_LOOK = 32
"""Round trips of a thread. The next look is when there are four times as many, or `LAST_LOOKS` more."""
LAST_LOOKS = 1 << 14
RESTS = 1 << 12, 1 << 14
"""Round trips of a unit that nobody looks at where all were alike, at first and after they have been often."""
BEYOND = 5.0
"""Standard errors by which more round trips must repeat than would in any order."""
STAY = 0.05
"""So much less than `SURE` must be alike before single round trips, which were, are none any more."""
PAUSED, PAUSED_LONG = 1.0, 1.5
"""Pauses within an iteration over what its round trips take: up to the first, one is begun to be told; beyond the
second, it is not told any more."""
PATIENCE = 64, 1024
"""Round trips that do not follow, less a quarter of those that do, after which it is asked what repeats now: a quarter
of those that did follow before, within these bounds. An evaluation between epochs changes nothing."""
FEW = 500
"""What was told of a thread before it was known what repeats in it stays, if it is less than this part of all."""
UNLIKE = 0.1
"""Share of round trips that follow no pattern, from which it is said."""
MOST_THREADS = 64
"""Of a unit; the one that made no round trip for longest makes room."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Repeats:
    """What round trips of an iteration do, in order. ``rough``: only whether each launches anything counts."""

    of: Pattern
    rough: bool = False

    @property
    def each(self) -> int:
        return self.of.each

    def begins(self, launches: NDArray[np.integer], edges: Sequence[int] = ()) -> Ints:
        """Where iterations begin whose round trips all do as is usual, one after the other, the first that come; none
        goes beyond one of ``edges``."""
        launches, each = _rough(launches) if self.rough else launches, self.each
        count = max(len(launches) - each + 1, 0)
        fits = np.ones(count, bool)
        for place, number in enumerate(self.of.launches):
            fits &= alike(launches[place : place + count], np.int64(number))
        for edge in edges:
            fits[max(edge - each + 1, 0) : edge] = False
        places = np.flatnonzero(fits)
        if (places[1:] - places[:-1] >= each).all():
            return places
        found, free = [], 0
        for at in places.tolist():
            if at >= free:
                found.append(at)
                free = at + each
        return np.array(found, np.int64)

    def turned(self, other: _Repeats) -> bool:
        """Whether the other is the same, perhaps begun at another place."""
        mine, usual = np.array(self.of.launches), np.array(other.of.launches)
        return self.rough == other.rough and any(alike(mine, np.roll(usual, k)).all() for k in range(self.each))

    def words(self) -> str:
        if not self.rough:
            return self.of.plain_words()
        do = ", ".join("any" if number else "none" for number in self.of.launches[:_SAID])
        return f"an iteration is {self.each} round trips, of launches {do}{', ...' if self.each > _SAID else ''}"


_SINGLE = _Repeats(Pattern())
_ANY = 1000
_SAID = 6


class _ThreadPattern:
    """What is known of a thread. ``usual``: None before it is told what to take. ``why``: why round trips are not
    joined, though no two are alike."""

    __slots__ = (
        "candidate",
        "followed",
        "held",
        "history",
        "latest",
        "launches",
        "look_at",
        "looked",
        "out",
        "process",
        "seen",
        "told",
        "usual",
        "why",
    )

    def __init__(self, process: int, usual: _Repeats | None) -> None:
        self.process = process
        self.launches = False
        self.usual = usual
        self.why = ""
        self.seen = self.looked = self.followed = self.out = self.told = 0
        self.candidate = 1
        self.look_at = FIRST_LOOK
        self.history: list[Array] = []
        self.held: list[Array] = []  # what may be the begin of an iteration
        self.latest = [0, 0]  # round trips, and those of them that follow no pattern

    @property
    def each(self) -> int:
        """Round trips of an iteration; 0: nothing is told."""
        return self.usual.each if self.usual else 0

    @property
    def impatient(self) -> bool:
        """Too many round trips did not follow."""
        return self.out >= min(max(self.followed // 4, PATIENCE[0]), PATIENCE[1])

    @property
    def unlike(self) -> float:
        """Share of the latest round trips that follow no pattern."""
        return self.latest[1] / max(self.latest[0], 1)

    @property
    def settled(self) -> bool:
        """All that is ever looked at together was looked at."""
        return self.looked >= LOOKED_AT and self.candidate == 1

    def add(self, trips: Array) -> bool:
        """Looks, if it is time to. Whether an iteration is another from now on."""
        self.seen += len(trips)
        if self.seen > self.look_at - LOOKED_AT:
            self.history.append(joined((trips[-LOOKED_AT:],)))
            while sum(map(len, self.history[1:])) >= LOOKED_AT:
                del self.history[0]
        else:
            self.history = []
        if self.seen < self.look_at:
            return False
        self.look_at = self.seen + min(3 * self.seen, LAST_LOOKS)
        return self._look()

    def counted(self, over: int, whole: int) -> None:
        """So many more round trips are over, of which so many are in iterations."""
        self.told += whole
        self.followed = min(self.followed + whole, 4 * PATIENCE[1])
        self.out = max(0, self.out + over - whole - whole // 4)
        self.latest = [self.latest[0] + over, self.latest[1] + over - whole]
        if self.latest[0] > LOOKED_AT:
            self.latest = [count // 2 for count in self.latest]
        if self.impatient:
            self.look_at = min(self.look_at, self.seen + LOOKED_AT)

    def _look(self) -> bool:
        trips = joined(self.history)[-LOOKED_AT:]
        before, self.looked, self.history = self.usual, self.seen, [trips]
        launches = trips["launches"].astype(np.int64)
        as_before = float(alike(launches[1:], launches[:-1]).mean()) if len(launches) > 1 else 1.0
        if before is _SINGLE and as_before >= SURE:
            self.why, self.candidate = "", 1
            return False
        paused = before is not None and before.each > 1 and _paused(trips, before) > PAUSED_LONG
        if before is not None and before.each > 1 and not self.impatient and not paused:
            return False
        self.out = 0
        found, self.why = _found(trips, launches)
        if before is not None:
            if before.each == found.each:
                if found.each > 1 and not before.turned(found):
                    self.usual, self.followed, self.held = found, 0, []
                return False
            covered = before.each * len(before.begins(launches))
            goes_on = 2 * covered > len(trips) and found.each == 1 and not paused
            if self._single_stays(found, as_before) if before.each == 1 else goes_on:
                return False
        self.usual, self.candidate, self.followed, self.told, self.held = found, found.each, 0, 0, []
        self.latest = [0, 0]
        return True

    def _single_stays(self, found: _Repeats, as_before: float) -> bool:
        """Whether round trips are told as before though others repeat: most are alike, or it is seen for the first
        time after many were told."""
        stays = as_before >= SURE - STAY
        again = self.candidate == found.each or self.told <= LOOKED_AT
        self.candidate = 1 if stays else found.each
        if not stays and not again:
            self.look_at = self.seen + LOOKED_AT
        return stays or not again


class UnitIterations:
    """Of one unit: told its round trips, second by second. A thread of it that is new is taken to do as those that are
    known, if these do alike.

    ``anew``: what was told before the last `add` was of other iterations.
    """

    def __init__(self) -> None:
        self.anew = False
        self._threads: dict[int, _ThreadPattern] = {}
        self._latest = _SINGLE
        self._told = 0
        self._sleeps = self._slept = self._asleep = 0

    @property
    def each(self) -> int:
        """Round trips of an iteration, of the thread that made most."""
        busiest = self._busiest()
        return busiest.each or 1 if busiest else self._latest.each

    def words(self) -> str:
        """What an iteration is, where it is no round trip like all others; else empty."""
        busiest = self._busiest()
        if busiest is None:
            return self._latest.words() if self._latest.each > 1 else ""
        if busiest.each <= 1:
            return busiest.why and f"{busiest.why}: figures are of single round trips"
        assert busiest.usual is not None
        others = {one.each for one in self._threads.values() if one.each and one.launches} - {busiest.each}
        differ = f"; of other threads {', '.join(map(str, sorted(others)))}" if others else ""
        unlike = busiest.unlike
        left_out = f"; {unlike:.0%} of its latest round trips belong to none" if unlike > UNLIKE else ""
        return busiest.usual.words() + left_out + differ

    def add(self, trips: Array) -> Array:
        """Iterations that end with one of ``trips``, which are by process and end."""
        self.anew = False
        if not len(trips) or self._sleep(len(trips)):
            return trips
        keys = (trips["process"].astype(np.int64) << 32) | trips["thread"]
        if (keys != keys[0]).any():
            order = np.argsort(keys, kind="stable")
            trips, keys = trips.take(order), keys[order]
        edges = np.flatnonzero(np.diff(keys, prepend=-1, append=-1)).tolist()
        who = [(self._of(int(keys[low])), trips[low:high]) for low, high in pairwise(edges)]
        for thread, part in who:
            if not thread.launches and part["launches"].any():
                self._launches(thread)
            told = thread.told
            if thread.add(part):
                self._alike(thread)
                self.anew |= told * FEW > self._told
        if self.anew:
            self._told = 0
        working = {one.process for one in self._threads.values() if one.launches}
        who = [one for one in who if one[0].launches or one[0].process not in working]
        found = [_followed(usual, [one for one in who if one[0].usual is usual]) for usual in self._usual(who)]
        self._told += sum(map(len, found))
        self._latest = who[-1][0].usual or self._latest if who else self._latest
        self._rest()
        return found[0] if len(found) == 1 else joined((*found, trips[:0]))

    def forget(self) -> None:
        """What comes next does not follow what was there."""
        for thread in self._threads.values():
            thread.held = []

    def gone(self, process: int) -> None:
        """That process has ended."""
        for key in [key for key in self._threads if key >> 32 == process]:
            del self._threads[key]

    def _sleep(self, count: int) -> bool:
        """Whether nobody looks at so many round trips: each is an iteration."""
        if self._slept >= self._asleep:
            return False
        self._slept += count
        self._told += count
        if self._slept >= self._asleep:
            for thread in self._threads.values():
                thread.told += self._slept  # of whom they were was not looked at
                thread.looked, thread.look_at, thread.history = 0, thread.seen + LOOKED_AT, []
        return True

    def _rest(self) -> None:
        """Where all threads make round trips that are all alike, nobody looks at the next ones."""
        threads = self._threads.values()
        if all(one.usual is _SINGLE and one.settled for one in threads) and len({one.launches for one in threads}) == 1:
            self._sleeps = min(max(2 * self._sleeps, RESTS[0]), RESTS[1])
            self._slept, self._asleep = 0, self._sleeps
        elif any(one.each != 1 or one.why for one in threads):
            self._sleeps = 0

    def _of(self, key: int) -> _ThreadPattern:
        thread = self._threads.pop(key, None) or _ThreadPattern(key >> 32, self._expected())
        self._threads[key] = thread  # the latest is the last
        if len(self._threads) > MOST_THREADS:
            del self._threads[next(iter(self._threads))]
        return thread

    def _busiest(self) -> _ThreadPattern | None:
        """Of the threads that launch, if any does, that which made most round trips."""
        return max(self._threads.values(), key=lambda one: (one.launches, one.seen), default=None)

    def _launches(self, thread: _ThreadPattern) -> None:
        """What its process did before it first launched, and what threads do that never launch, loads data."""
        thread.launches = True
        loading = [one for one in self._threads.values() if one.process == thread.process and not one.launches]
        self.anew |= sum(one.told for one in (thread, *loading)) * FEW > self._told
        for one in (thread, *loading):
            one.told = 0

    def _alike(self, thread: _ThreadPattern) -> None:
        """Threads that do the same begin their iterations at the same place."""
        assert thread.usual is not None
        for other in self._threads.values():
            if other.usual is not None and other.each == thread.each and other.usual.turned(thread.usual):
                thread.usual = other.usual
                return

    @staticmethod
    def _usual(who: Sequence[tuple[_ThreadPattern, Array]]) -> list[_Repeats]:
        return list({id(one.usual): one.usual for one, _ in who if one.usual is not None}.values())

    def _expected(self) -> _Repeats | None:
        known = {one.usual: one.usual for one in self._threads.values() if one.usual and one.usual.each > 1}
        single = any(one.each == 1 for one in self._threads.values())
        if not self._threads:
            return self._latest
        if not known:
            return _SINGLE if single else None
        return None if single or len({one.each for one in known.values()}) > 1 else next(iter(known.values()))


def _followed(usual: _Repeats, who: Sequence[tuple[_ThreadPattern, Array]]) -> Array:
    """The iterations that end with one of the round trips of these threads, which all do as is ``usual``."""
    each = usual.each
    if each == 1:
        for thread, part in who:
            thread.told += len(part)
        return joined([part for _, part in who])
    trips = joined([part for thread, new in who for part in (*thread.held, new)])
    edges = np.cumsum([0, *(sum(map(len, thread.held)) + len(new) for thread, new in who)]).tolist()
    begins = usual.begins(trips["launches"], edges[1:-1])
    firsts = np.searchsorted(begins, edges).tolist()
    for (thread, _), (low, high), (first, last) in zip(who, pairwise(edges), pairwise(firsts), strict=True):
        beyond = max(int(begins[last - 1]) + each if last > first else low, high - each + 1)
        thread.held = [trips[beyond:high]]
        thread.counted(beyond - low, (last - first) * each)
    return _joined(trips, begins, each)


def _joined(trips: Array, begins: Ints, each: int) -> Array:
    """An iteration for each of ``begins``: from its first work until its last wait returns."""
    whole = trips.take(begins + each - 1)
    whole["begin_ns"] = trips["begin_ns"][begins]
    places = begins[:, None] + np.arange(each)
    for name in ("waited_ns", "launches", "copies"):
        whole[name] = trips[name][places].sum(axis=1)
    return whole


def _rough(launches: NDArray[np.integer]) -> Ints:
    return np.where(launches > 0, _ANY, 0).astype(np.int64)


def _found(trips: Array, launches: Ints) -> tuple[_Repeats, str]:
    """What repeats, and why it is single round trips where they are not alike."""
    found = _Repeats(pattern(trips))
    if found.of.sure < SURE and launches.any() and not launches.all():
        some = trips.copy()
        some["launches"] = launches = _rough(launches)
        rough = _Repeats(pattern(some), rough=True)
        found = rough if rough.each > 1 else found
    if found.each == 1:
        sure = found.of.sure
        return _SINGLE, "" if sure >= SURE else f"no pattern repeats: {sure:.0%} of its round trips launch as before"
    pairs = len(launches) - found.each
    by_chance = float(alike(launches[:, None], launches).mean())
    if found.of.sure < by_chance + BEYOND * math.sqrt(by_chance * (1 - by_chance) / pairs):
        return _SINGLE, "no pattern repeats beyond chance"
    if _paused(trips, found) > PAUSED:
        return _SINGLE, f"it pauses longer between its {found.each} kinds of round trips than they take"
    return found, ""


def _paused(trips: Array, usual: _Repeats) -> float:
    """Pauses within iterations over what their round trips take."""
    begins = usual.begins(trips["launches"])
    if not len(begins):
        return 0.0
    places = begins[:, None] + np.arange(usual.each)
    busy_ns = np.median((trips["end_ns"] - trips["begin_ns"])[places].sum(axis=1))
    span_ns = np.median(trips["end_ns"][places[:, -1]] - trips["begin_ns"][begins])
    return float((span_ns - busy_ns) / max(busy_ns, 1.0))
