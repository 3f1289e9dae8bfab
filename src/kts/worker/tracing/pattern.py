"""How many round trips an iteration is, and which belong together. Pure.

Round trips are alike if they launch about as often. They repeat after the smallest number for which nine of ten are
like the one so many before: of the last thousand, else of the later half of these, so that what a program does once,
before its first iteration, does not hide what comes again and again. Which of these comes first is where the program
pauses longest, if it does so clearly, else the one that launches least: nothing else tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kts.worker.tracing.trips import TRIP, Array

SURE = 0.9
"""Share of round trips that must be like the one a pattern's length before."""
LONGEST = 64
REPEATS = 3
"""A pattern must be there so often to be one."""
_ALIKE = 1.25
_FEW = 4
_PAUSE = 1.5
_LOOKED_AT = 1024
_SAID = 6


@dataclass(frozen=True)
class Pattern:
    """``launches``: of each round trip of an iteration, in order (medians). ``sure``: share of them that follow it.
    ``asked``: their number was given."""

    launches: tuple[int, ...] = (0,)
    sure: float = 1.0
    asked: bool = False

    @property
    def each(self) -> int:
        """Round trips of an iteration."""
        return len(self.launches)

    def words(self) -> str:
        """``an iteration is 2 round trips: 1 launch, then 22``."""
        doubt = "" if self.sure >= SURE else f"; no pattern repeats: {self.sure:.0%} of them launch as the one before"
        if self.asked:
            doubt = " (as asked)" if self.sure >= SURE else f" (as asked; {self.sure:.0%} of them follow it)"
        elif SURE <= self.sure < 0.995:
            doubt = f" ({self.sure:.0%} of them follow it)"
        return f"{self.plain_words()}{doubt}"

    def plain_words(self) -> str:
        """The same, without how sure it is."""
        first, *others = self.launches
        counts = ", ".join([f"{first} launch{'' if first == 1 else 'es'}", *(f"then {n}" for n in others[: _SAID - 1])])
        counts += ", ..." if self.each > _SAID else ""
        trips = "a round trip" if self.each == 1 else f"{self.each} round trips"
        return f"an iteration is {trips}: {counts}"


def pattern(trips: Array, each: int | None = None) -> Pattern:
    """What repeats in the round trips of one thread, in order. ``each``: given its length."""
    trips = trips[-_LOOKED_AT:]
    if not len(trips):
        return Pattern((0,) * (each or 1), asked=each is not None)
    asked = each is not None
    if each is None:
        later = trips[len(trips) // 2 :]
        each, trips = next(((n, some) for some in (trips, later) if (n := _length(some))), (1, trips))
    launches = trips["launches"].astype(np.int64)
    follows = alike(launches[each:], launches[:-each])
    trips = trips[_longest(follows, each)]
    launches = trips["launches"]
    first = _first(trips, each)
    usual = (launches[(first + place) % each :: each] for place in range(each))
    return Pattern(
        tuple(int(np.median(counts)) if len(counts) else 0 for counts in usual),
        float(follows.mean()) if len(follows) else 1.0,
        asked,
    )


def _longest(follows: NDArray[np.bool_], each: int) -> slice:
    """The longest stretch of round trips without a slip."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], follows, [False]]).astype(np.int8)))
    if not len(edges):
        return slice(None)
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return slice(int(begins[longest]), int(ends[longest]) + each)


def _length(trips: Array) -> int:
    """The smallest number after which they repeat surely; 0: none."""
    launches = trips["launches"].astype(np.int64)
    longest = min(LONGEST, len(launches) // REPEATS)
    count = len(launches)
    lengths = range(1, longest + 1)
    return next((n for n in lengths if np.count_nonzero(alike(launches[n:], launches[:-n])) >= SURE * (count - n)), 0)


def alike(some: NDArray[np.integer], others: NDArray[np.integer] | np.integer) -> NDArray[np.bool_]:
    """Whether these numbers of launches are about the same, each by itself."""
    low, high = np.minimum(some, others), np.maximum(some, others)
    return np.asarray((low == high) | ((low >= _FEW) & (high <= _ALIKE * low)))


def _first(trips: Array, each: int) -> int:
    """Which of the first ``each`` round trips begins an iteration."""
    if each == 1 or len(trips) <= each:
        return 0
    pauses = trips["begin_ns"][1:] - trips["end_ns"][:-1]
    before = np.array([np.median(pauses[(p - 1) % each :: each]) for p in range(each)])
    longest = int(before.argmax())
    if before[longest] > _PAUSE * np.partition(before, -2)[-2]:
        return longest
    usual = [float(np.median(trips["launches"][p::each])) for p in range(each)]
    return min(range(each), key=lambda p: usual[p:] + usual[:p])  # of several that launch least: by what follows


class Grouping:
    """Joins the round trips of one thread to iterations, as they come.

    ``left_out``: round trips that belong to none, since the pattern was out of step there.
    """

    def __init__(self, of: Pattern) -> None:
        self.of = of
        self.left_out = 0
        self._held: list[Array] = []
        usual = np.array(of.launches)
        self._tells = of.each > 1 and not alike(usual[1:], usual[:1]).any()  # the first place is unlike the others
        slips = range(of.each) if of.sure >= SURE and not self._tells and of.each <= LONGEST else ()
        self._slipped = [np.roll(usual, k) for k in slips]

    def add(self, trips: Array) -> Array:
        """The iterations that end with one of ``trips``: from the first call of the first to the end of the last."""
        each = self.of.each
        if each == 1 or not len(trips):
            return trips
        whole: list[Array] = []
        for trip in trips:
            self._take(trip)
            if len(self._held) == each:
                slip = self._slip()
                self.left_out += slip
                if not slip:
                    whole.append(_joined(self._held))
                self._held = self._held[slip:] if slip else []
        return np.array(whole, dtype=TRIP)

    def forget(self) -> None:
        """What comes next does not follow what was there."""
        self.left_out += len(self._held)
        self._held = []

    def _slip(self) -> int:
        """How many of those held come before a first one: 0 unless they follow the pattern better from there on."""
        if not self._slipped:
            return 0
        counts = np.array([int(trip["launches"]) for trip in self._held])
        return int(np.argmax([alike(counts, usual).sum() for usual in self._slipped]))

    def _take(self, trip: Array) -> None:
        if self._tells:
            fits = alike(np.array(self.of.launches), np.array(int(trip["launches"])))
            place = len(self._held)
            if place and fits[0] and not fits[place]:
                self.forget()
            elif not place and not fits[0] and fits.any():
                self.left_out += 1
                return
        self._held.append(trip)


def _joined(trips: list[Array]) -> Array:
    joined = trips[-1].copy()
    joined["begin_ns"] = trips[0]["begin_ns"]
    for name in ("launches", "copies", "waits", "waited_ns"):
        joined[name] = sum(int(trip[name]) for trip in trips)
    return joined
