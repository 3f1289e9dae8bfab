"""How many launches and waits fall into a stretch of time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kts.worker.tracing.layout import Flag, Kind
from kts.worker.tracing.trips import Array

_KEPT, _KEPT_GAPS = 1 << 18, 100
_Times = NDArray[np.int64]


class Calls:
    """The calls of one process or several, by when they began; the last quarter million of each kind."""

    def __init__(self) -> None:
        self.any = False
        self._last_ns = 0
        self._gaps: list[tuple[int, int]] = []
        self._times = {"launches": _Series(), "waits": _Series()}

    def add(self, events: Array, breaks: Iterable[int] = ()) -> None:
        """More of these, in order. ``breaks``: indexes of those before which some are missing."""
        for at in breaks:
            self._gaps.append((int(events["begin_ns"][at - 1]) if at else self._last_ns, int(events["end_ns"][at])))
        del self._gaps[:-_KEPT_GAPS]
        self._last_ns = int(events["begin_ns"][-1]) if len(events) else self._last_ns
        kind, waited = events["kind"], events["flags"] & int(Flag.WAITED) != 0
        chosen = {
            "launches": (kind == int(Kind.LAUNCH)) | (kind == int(Kind.GRAPH)),
            "waits": (kind == int(Kind.WAIT)) | ((kind == int(Kind.COPY)) & waited),
        }
        good = events["flags"] & int(Flag.FAILED) == 0
        for name, mask in chosen.items():
            if (mask := mask & good).any():
                self.any = True
                self._times[name].add(events["begin_ns"][mask])

    def within(self, begin_ns: _Times, end_ns: _Times) -> dict[str, NDArray[np.int64]]:
        """``launches`` and ``waits`` that began in each of these stretches, shape as ``begin_ns``; 0 where some are
        missing."""
        counts = {}
        for name, series in self._times.items():
            found = series.within(begin_ns, end_ns)
            for since_ns, until_ns in self._gaps:
                found = np.where((begin_ns <= until_ns) & (end_ns >= since_ns), 0, found)
            counts[name] = found
        return counts


class _Series:
    def __init__(self) -> None:
        self._sorted: _Times = np.empty(0, np.int64)
        self._new: list[_Times] = []
        self._count = 0
        self._gone_ns = -1  # those up to then are not kept

    def add(self, times: _Times) -> None:
        self._new.append(times)
        self._count += len(times)
        if self._count > _KEPT:
            self._settle()

    def within(self, begin_ns: _Times, end_ns: _Times) -> NDArray[np.int64]:
        self._settle()
        found = np.searchsorted(self._sorted, end_ns, "right") - np.searchsorted(self._sorted, begin_ns, "left")
        return np.where(begin_ns > self._gone_ns, found, 0)

    def _settle(self) -> None:
        if not self._new:
            return
        times = np.sort(np.concatenate([self._sorted, *self._new]), kind="stable")  # quick where most is sorted
        if len(times) > _KEPT:
            self._gone_ns = int(times[-_KEPT - 1])
        self._sorted, self._new, self._count = times[-_KEPT:], [], 0
