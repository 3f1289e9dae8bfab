"""The past of a unit: its round trips with a neighbour about and without, by windows. Pure, bounded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kts.stats.natural import KEPT, Rows

MOST = 1 << 14
"""Round trips that are kept of a side: 500 KB."""
WINDOWS = 600
"""So many windows back a side reaches, at least, however many round trips there are: of those that are too many for
that, each 2nd, 4th ... is kept."""
USUALLY = 20
"""A window is as long as so many usual round trips, so that few of them lie in two."""
ALONE, SHARED, NEITHER = 0, 1, 2
_KNOWN = 256
"""Windows of which it is known what they were; a round trip that began before them is in neither side."""


class Side:
    """The latest round trips, dtype `KEPT`, those of one kind of window."""

    def __init__(self) -> None:
        self._rows = np.empty(256, KEPT)
        self._used = self._next = 0  # ``_next``: where the oldest is overwritten, if it is full
        self._step = 1

    def add(self, rows: Rows) -> None:
        """Keeps them, and forgets as many of the oldest as there is no room for."""
        while True:
            rows = rows if self._step == 1 else rows[rows["number"] % self._step == 0]
            if self._used + len(rows) <= MOST or not self._used:
                break
            windows = int(rows["window"].max(initial=0)) - int(self._rows["window"][: self._used].min())
            if windows >= WINDOWS and len(rows) < MOST:
                break
            self._step *= 2
            kept = self.rows()
            self._put(kept[kept["number"] % self._step == 0])
        rows = rows[-MOST:]
        if self._used + len(rows) > len(self._rows) < MOST:
            self._put(self.rows(), 2 * (self._used + len(rows)))
        size = len(self._rows)
        room = min(size - self._next, len(rows))
        self._rows[self._next : self._next + room] = rows[:room]
        self._rows[: len(rows) - room] = rows[room:]
        self._next = (self._next + len(rows)) % size
        self._used = min(self._used + len(rows), size)
        if self._step > 1 and self._used == size and self._newest(WINDOWS) < MOST // 4:
            self._step //= 2  # it has become slower

    def rows(self) -> Rows:
        """What is kept, oldest first. A copy."""
        return np.roll(self._rows, -self._next) if self._used == len(self._rows) else self._rows[: self._used].copy()

    def _newest(self, windows: int) -> int:
        """How many of the last windows."""
        found = self._rows["window"]
        return int((found >= int(found.max()) - windows).sum())

    def _put(self, rows: Rows, room: int = 0) -> None:
        self._rows = np.empty(min(MOST, max(room, len(self._rows), 256)), KEPT)
        self._rows[: len(rows)] = rows
        self._used, self._next = len(rows), len(rows) % len(self._rows)


class Past:
    """Told second by second what a unit did. A window is one second, or 2, 4 ... of them for long round trips."""

    def __init__(self) -> None:
        self.usual_ms = math.nan
        self._number = 0
        self._begin(0)

    @property
    def window_s(self) -> int:
        """Length of a window."""
        return 1 << self._fold

    def _begin(self, fold: int) -> None:
        self._fold = fold
        self.alone, self.shared = Side(), Side()
        self._pending: list[tuple[Rows, NDArray[np.int64]]] = []
        self._first: int | None = None  # window that it began with
        self._was, self._kind = np.full(_KNOWN, NEITHER, np.int8), np.full(_KNOWN, NEITHER, np.int8)
        self._visits, self._begun = np.zeros(_KNOWN, np.int64), np.zeros(_KNOWN, np.int64)
        self._last = ALONE
        self._visit = 0

    def second(self, second: int, rows: Rows, begins: NDArray[np.int64], ends: NDArray[np.int64], kind: int) -> None:
        """``rows``: the round trips that ended in it, with ``ms``, ``size`` and ``beside``; the rest is filled in.
        ``begins``, ``ends``: seconds in which they did. ``kind``: of the second; `NEITHER` where calls are missing."""
        rows["number"] = np.arange(self._number, self._number + len(rows)) & 0xFFFFFFFF
        self._number += len(rows)
        self._learn_usual(rows["ms"])
        begins, ends = begins >> self._fold, ends >> self._fold
        rows["window"] = begins
        window = second >> self._fold
        at = window % _KNOWN
        if second % self.window_s == 0 or self._first is None:
            self._was[at] = self._kind[at] = ALONE
            self._begun[at] = 0
        if self._first is None:
            self._first = window
        self._was[at] = max(self._was[at], kind)
        if len(rows):
            self._pending.append((rows, ends))
            oldest = max(self._first, window - _KNOWN + 1)
            inside = begins - oldest
            counts = np.bincount(inside[inside >= 0])
            self._begun[np.arange(oldest, oldest + len(counts)) % _KNOWN] += counts
        if (second + 1) % self.window_s == 0 and window > self._first:
            self._decide(window - 1, self._first)

    def _learn_usual(self, ms: NDArray[np.float32]) -> None:
        if not len(ms):
            return
        middle = float(np.partition(ms, len(ms) // 2)[len(ms) // 2])
        self.usual_ms = middle if math.isnan(self.usual_ms) else 0.9 * self.usual_ms + 0.1 * middle
        fold = max(0, math.ceil(math.log2(max(USUALLY * self.usual_ms / 1e3, 1.0))))
        if fold > self._fold or fold < self._fold - 1:
            self._begin(fold)

    def _decide(self, window: int, first: int) -> None:
        """What ended by that window is on one side, or in neither. The window after it is known, too.

        The window in which company comes or goes is of neither kind; one in which it does both is."""
        at = window % _KNOWN
        before, kind, after = self._was[(window - 1) % _KNOWN], self._was[at], self._was[(window + 1) % _KNOWN]
        if kind == SHARED and (before == SHARED) != (after == SHARED):
            kind = NEITHER
        if kind == ALONE and self._last == SHARED:
            self._visit += 1
        self._last = self._last if kind == NEITHER else kind
        self._kind[at], self._visits[at] = kind, self._visit
        oldest = max(first, window - _KNOWN + 3)
        kinds = self._kind[np.arange(oldest, window + 1) % _KNOWN]
        unlike = [np.concatenate([[0], np.cumsum(kinds != side)]) for side in (ALONE, SHARED)]
        left = []
        for rows, ends in self._pending:
            if ends.min() > window:
                left.append((rows, ends))
                continue
            over = ends <= window
            if not over.all():
                left.append((rows[~over], ends[~over]))
            known = over & (rows["window"] >= oldest)
            # most often all are: then nothing is copied
            kept, end = (rows, ends) if known.all() else (rows[known], ends[known])
            begin = kept["window"].astype(np.int64)
            kept["visit"], kept["pace"] = self._visits[begin % _KNOWN], self._begun[begin % _KNOWN] / self.window_s
            for kind, side in enumerate((self.alone, self.shared)):
                of = unlike[kind][end + 1 - oldest] == unlike[kind][begin - oldest]
                if of.any():
                    side.add(kept if of.all() else kept[of])
        self._pending = left
