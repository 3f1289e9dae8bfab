"""The past of a unit: its round trips with a neighbour about and without, by windows. Pure, bounded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.rows import joined, opaque
from kts.stats.natural import KEPT, Rows

MOST, LEAST = 1 << 14, 1 << 11
"""Iterations that are kept of a side: 590 KB, where there is room; 74 KB, where there are very many."""
ROOM = 48 * MOST
"""Of all sides together, 28 MB: where more are full than this is for, each keeps a half, a quarter ..."""
WINDOWS = 600
"""So many windows back a side reaches, at least, however many round trips there are: of those that are too many for
that, each 2nd, 4th ... is kept."""
USUALLY = 20
"""A window is as long as so many usual round trips, so that few of them lie in two."""
ALONE, SHARED, NEITHER = 0, 1, 2
_KNOWN = 256
"""Windows of which it is known what they were; a round trip that began before them is in neither side."""
Ints = NDArray[np.int64]


class Side:
    """The latest round trips, dtype `KEPT`, those of one kind of window."""

    def __init__(self) -> None:
        self._rows = np.empty(256, KEPT)
        self._used = self._next = 0  # ``_next``: where the oldest is overwritten, if it is full
        self._step = 1

    def __len__(self) -> int:
        return self._used

    def add(self, rows: Rows, most: int = MOST) -> None:
        """Keeps them, and forgets as many of the oldest as there is no room for: ``most`` are kept."""
        while self._used > most:
            self._thin()
        if len(self._rows) > most:
            self._put(self.rows(), most)
        while True:
            rows = rows if self._step == 1 else rows.compress(rows["number"] % self._step == 0)
            if self._used + len(rows) <= most or not self._used:
                break
            windows = int(rows["window"].max(initial=0)) - int(self._rows["window"][: self._used].min())
            if windows >= WINDOWS and len(rows) < most:
                break
            self._thin()
        rows = rows[-most:]
        if self._used + len(rows) > len(self._rows) < most:
            self._put(self.rows(), min(2 * (self._used + len(rows)), most))
        size = len(self._rows)
        room = min(size - self._next, len(rows))
        into, rows = opaque(self._rows), opaque(rows)
        into[self._next : self._next + room] = rows[:room]
        into[: len(rows) - room] = rows[room:]
        self._next = (self._next + len(rows)) % size
        self._used = min(self._used + len(rows), size)
        if self._step > 1 and self._used == size and self._newest(WINDOWS) < most // 4:
            self._step //= 2  # it has become slower

    def rows(self) -> Rows:
        """What is kept, oldest first. A copy."""
        oldest = self._next if self._used == len(self._rows) else 0
        return joined((self._rows[oldest : self._used], self._rows[:oldest]))

    def _newest(self, windows: int) -> int:
        """How many of the last windows."""
        found = self._rows["window"]
        return int((found >= int(found.max()) - windows).sum())

    def _thin(self) -> None:
        self._step *= 2
        kept = self.rows()
        self._put(kept.compress(kept["number"] % self._step == 0), len(self._rows))

    def _put(self, rows: Rows, room: int) -> None:
        self._rows = np.empty(room, KEPT)
        opaque(self._rows)[: len(rows)] = opaque(rows)
        self._used, self._next = len(rows), len(rows) % len(self._rows)


@dataclass(eq=False)
class Past:
    """Of one unit. ``row``: its row in `Pasts`; ``usual_ms``: of a round trip, NaN before there was one."""

    row: int
    usual_ms: float = math.nan
    fold: int = 0
    alone: Side = field(default_factory=Side)
    shared: Side = field(default_factory=Side)
    numbered: int = 0  # round trips so far

    @property
    def window_s(self) -> int:
        """Length of a window."""
        return 1 << self.fold

    def learn(self, ms: NDArray[np.float32]) -> bool:
        """What is usual. Whether the past begins anew, with windows of another length."""
        middle = float(np.partition(ms, len(ms) // 2)[len(ms) // 2])
        self.usual_ms = middle if math.isnan(self.usual_ms) else 0.9 * self.usual_ms + 0.1 * middle
        fold = max(0, math.ceil(math.log2(max(USUALLY * self.usual_ms / 1e3, 1.0))))
        if self.fold - 1 <= fold <= self.fold:
            return False
        self.fold, self.alone, self.shared = fold, Side(), Side()
        return True


def _room(sides: int) -> int:
    """Iterations that each of so many sides keeps."""
    most = MOST
    while most > LEAST and sides * most > ROOM:
        most //= 2
    return most


_WINDOWS = np.dtype(
    [
        ("first", "<i8"),  # window that it began with; -1: it has not
        ("last", "i1"),  # kind of the last window that was of one
        ("visit", "<i8"),
        # of each window, by its number modulo `_KNOWN`
        ("was", "i1", (_KNOWN,)),  # the most that any second of it was
        ("kind", "i1", (_KNOWN,)),
        ("since", "<i8", (_KNOWN,)),  # window from which all were of that kind
        ("visits", "<i8", (_KNOWN,)),
        ("begun", "<i8", (_KNOWN,)),  # round trips
    ]
)
"""What is known of a unit's windows."""
_NOTHING = np.zeros((), _WINDOWS)
_NOTHING["first"], _NOTHING["last"], _NOTHING["was"], _NOTHING["kind"] = -1, ALONE, NEITHER, NEITHER


class Ended(NamedTuple):
    """Round trips that ended in a second, by unit, which begin at ``edges``. ``rows``: with ``ms``, ``issue``,
    ``size``, ``beside`` and ``met``; ``begins``, ``ends``: seconds in which they did."""

    rows: Rows
    edges: Sequence[int]
    begins: Ints
    ends: Ints


class _Pending(NamedTuple):
    """Round trips whose last window is not decided yet. ``row``: whose, in `Pasts`; ``ends``: windows in which they
    did."""

    rows: Rows
    row: Ints
    ends: Ints

    def of(self, some: NDArray[np.bool_]) -> _Pending:
        return _Pending(self.rows.compress(some), self.row[some], self.ends[some])

    def and_(self, more: _Pending) -> _Pending:
        row, ends = (np.concatenate(both) for both in zip(self[1:], more[1:], strict=True))
        return _Pending(joined((self.rows, more.rows)), row, ends)


class Pasts:
    """Of all units, told second by second what they did: few passes over the round trips of all."""

    def __init__(self) -> None:
        self._windows = np.empty(0, _WINDOWS)
        self._free: list[int] = []
        self._pending = _Pending(np.empty(0, KEPT), np.empty(0, np.int64), np.empty(0, np.int64))

    def new(self) -> Past:
        """Of a unit that begins."""
        if not self._free:
            self._free = [len(self._windows)]
            self._windows = np.append(self._windows, _NOTHING)
        past = Past(self._free.pop())
        self._windows[past.row] = _NOTHING
        return past

    def begin_anew(self, past: Past) -> None:
        """What that unit did before is nothing to compare with."""
        self._drop([past.row])
        self._windows[past.row] = _NOTHING
        past.usual_ms, past.alone, past.shared = math.nan, Side(), Side()

    def forget(self, past: Past) -> None:
        """That unit is gone."""
        self._drop([past.row])
        self._free.append(past.row)

    def second(self, second: int, pasts: Sequence[Past], kinds: Ints, ended: Ended) -> None:
        """``pasts``: of all units; ``kinds``: of the second for each, `NEITHER` where calls are missing. What is not
        said of `Ended`'s rows is filled in."""
        rows, edges, begins, ends = ended
        anew = []
        for past, (low, high) in zip(pasts, pairwise(edges), strict=True):
            rows["number"][low:high] = np.arange(past.numbered, past.numbered + high - low) & 0xFFFFFFFF
            past.numbered += high - low
            if high > low and past.learn(rows["ms"][low:high]):
                anew.append(past.row)
        self._drop(anew)
        self._windows[anew] = _NOTHING
        unit = np.array([past.row for past in pasts], np.int64)
        fold = np.array([past.fold for past in pasts], np.int64)
        place = np.repeat(np.arange(len(pasts)), np.diff(edges))
        row = unit[place]
        begins, ends = begins >> fold[place], ends >> fold[place]
        rows["window"] = begins
        known, window = self._windows, second >> fold
        at = window % _KNOWN
        first = known["first"][unit]
        opens = (second == (window << fold)) | (first < 0)
        known["was"][unit[opens], at[opens]] = known["kind"][unit[opens], at[opens]] = ALONE
        known["begun"][unit[opens], at[opens]] = 0
        known["first"][unit] = first = np.where(first < 0, window, first)
        known["was"][unit, at] = np.maximum(known["was"][unit, at], kinds)
        inside = begins >= np.maximum(first, window - _KNOWN + 1)[place]
        begun = np.bincount((row * _KNOWN + begins % _KNOWN)[inside], minlength=known["begun"].size)
        known["begun"] += begun.reshape(-1, _KNOWN)
        self._pending = self._pending.and_(_Pending(rows, row, ends))
        closes = (second + 1 == (window + 1) << fold) & (window > first)
        if closes.any():
            self._decide(pasts, unit[closes], fold[closes], window[closes] - 1)

    def _decide(self, pasts: Sequence[Past], unit: Ints, fold: Ints, window: Ints) -> None:
        """What ended by that window of these units is on one side, or in neither. The window after it is known, too.

        The window in which company comes or goes is of neither kind; one in which it does both is."""
        known = self._windows
        before, at, after = ((window + by) % _KNOWN for by in (-1, 0, 1))
        was = known["was"]
        kind = was[unit, at]
        comes_or_goes = (was[unit, before] == SHARED) != (was[unit, after] == SHARED)
        kind = np.where((kind == SHARED) & comes_or_goes, NEITHER, kind)
        last = known["last"][unit]
        known["visit"][unit] += (kind == ALONE) & (last == SHARED)
        known["last"][unit] = np.where(kind == NEITHER, last, kind)
        goes_on = kind == known["kind"][unit, before]
        known["since"][unit, at] = np.where(goes_on, known["since"][unit, before], window)
        known["kind"][unit, at], known["visits"][unit, at] = kind, known["visit"][unit]

        decided, length_s = np.full(len(known), -1), np.ones(len(known))
        decided[unit], length_s[unit] = window, 1 << fold
        over = self._pending.ends <= decided[self._pending.row]
        (rows, row, ends), self._pending = self._pending.of(over), self._pending.of(~over)
        begins, ends = rows["window"].astype(np.int64), ends % _KNOWN
        kinds = known["kind"][row, ends]
        oldest = np.maximum(known["first"], decided - _KNOWN + 3)
        of_one = (kinds != NEITHER) & (known["since"][row, ends] <= begins) & (begins >= oldest[row])
        side = 2 * row + kinds
        order = np.flatnonzero(of_one)
        order = order[np.argsort(side[order], kind="stable")]
        rows, row, begins, side = rows.take(order), row[order], begins[order] % _KNOWN, side[order]
        rows["visit"] = known["visits"][row, begins]
        around = np.array([known["begun"][row, (begins + by) % _KNOWN] for by in (-1, 0, 1)])
        # in the window in which it comes or goes it is there for a part only: then the one before or after tells
        part = (around[0] == 0) | (around[2] == 0)
        rows["pace"] = np.where(part, around.max(axis=0, initial=0), around[1]) / length_s[row]
        cuts = np.flatnonzero(np.diff(side, prepend=-1, append=-1)).tolist()
        sides = {2 * past.row + kind: one for past in pasts for kind, one in enumerate((past.alone, past.shared))}
        most = _room(sum(len(one) >= LEAST for one in sides.values()))
        for low, high in pairwise(cuts):
            sides[int(side[low])].add(rows[low:high], most)

    def _drop(self, gone: Sequence[int]) -> None:
        """Nothing of these is pending."""
        if gone:
            self._pending = self._pending.of(~np.isin(self._pending.row, gone))
