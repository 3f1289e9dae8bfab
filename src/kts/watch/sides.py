"""The past of a unit: its round trips with a neighbour about and without, by windows. Pure, bounded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from kts.stats.natural import KEPT, Rows
from kts.watch.calls import Array
from kts.watch.company import BINS, SECOND_NS, Floats

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
            rows = rows[rows["number"] % self._step == 0]
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
        self._rows[(self._next + np.arange(len(rows))) % size] = rows
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
        self._before = np.zeros(BINS)  # the second before: when a neighbour had work in flight
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

    def second(self, second: int, trips: Array, others: Floats, *, blind: bool) -> None:
        """``trips``: that ended in it (begin_ns, end_ns, launches, copies). ``others``: where in it a neighbour had
        work in flight. ``blind``: calls are missing, so that nothing can be said of it."""
        rows = np.zeros(len(trips), KEPT)
        rows["ms"] = (trips["end_ns"] - trips["begin_ns"]) / 1e6
        rows["size"] = trips["launches"] + trips["copies"]
        rows["number"] = (self._number + np.arange(len(rows))) % 2**32
        self._number += len(rows)
        self._learn_usual(rows["ms"])
        rows["beside"] = self._beside(second, trips["begin_ns"], others)
        self._before = others
        begins, ends = (trips[name] // SECOND_NS >> self._fold for name in ("begin_ns", "end_ns"))
        rows["window"] = begins
        self._pending.append((rows, ends))
        window = second >> self._fold
        if second % self.window_s == 0 or self._first is None:
            at = window % _KNOWN
            self._was[at] = self._kind[at] = ALONE
            self._begun[at] = 0
        if self._first is None:
            self._first = window
        kind = NEITHER if blind else SHARED if (others > 0).any() else ALONE
        self._was[window % _KNOWN] = max(self._was[window % _KNOWN], kind)
        inside = begins[(begins >= self._first) & (begins > window - _KNOWN)]
        np.add.at(self._begun, inside % _KNOWN, 1)
        if (second + 1) % self.window_s == 0 and window > self._first:
            self._decide(window - 1, self._first)

    def _learn_usual(self, ms: NDArray[np.float32]) -> None:
        if not len(ms):
            return
        middle = float(np.median(ms))
        self.usual_ms = middle if math.isnan(self.usual_ms) else 0.9 * self.usual_ms + 0.1 * middle
        fold = max(0, math.ceil(math.log2(max(USUALLY * self.usual_ms / 1e3, 1.0))))
        if fold > self._fold or fold < self._fold - 1:
            self._begin(fold)

    def _beside(self, second: int, begin_ns: NDArray[np.int64], others: Floats) -> Floats:
        """See `KEPT`."""
        covered = np.concatenate([[0.0], np.cumsum(np.concatenate([self._before, others]))])
        since = (begin_ns - (second - 1) * SECOND_NS) / SECOND_NS * BINS
        until = np.minimum(since + max(self.usual_ms / 1e3 * BINS, 1e-3), 2 * BINS)
        parts = np.arange(2 * BINS + 1)
        known = (since >= 0) & (until > since)
        share = (np.interp(until, parts, covered) - np.interp(since, parts, covered)) / np.where(
            known, until - since, 1
        )
        return np.where(known, share, np.nan)

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
            over = ends <= window
            if not over.all():
                left.append((rows[~over], ends[~over]))
            known = over & (rows["window"] >= oldest)
            kept, begin, end = rows[known], rows["window"][known].astype(np.int64), ends[known]
            kept["visit"], kept["pace"] = self._visits[begin % _KNOWN], self._begun[begin % _KNOWN] / self.window_s
            for kind, side in enumerate((self.alone, self.shared)):
                of = unlike[kind][end + 1 - oldest] == unlike[kind][begin - oldest]
                if of.any():
                    side.add(kept[of])
        self._pending = left
