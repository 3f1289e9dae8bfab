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
    """The calls of one process or several, by when they began. What is older than the last quarter million is gone."""

    def __init__(self) -> None:
        self.any = False
        self._last_ns = 0
        self._gaps: list[tuple[int, int]] = []
        self._times: dict[str, list[_Times]] = {"launches": [], "waits": []}

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
                self._times[name].append(events["begin_ns"][mask])

    def within(self, begin_ns: _Times, end_ns: _Times) -> dict[str, NDArray[np.int64]]:
        """``launches`` and ``waits`` that began in each of these stretches, shape as ``begin_ns``; 0 where some are
        missing."""
        counts = {}
        for name, parts in self._times.items():
            times = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))[-_KEPT:]
            parts[:] = [times]
            found = np.searchsorted(times, end_ns, "right") - np.searchsorted(times, begin_ns, "left")
            for since_ns, until_ns in self._gaps:
                found = np.where((begin_ns <= until_ns) & (end_ns >= since_ns), 0, found)
            counts[name] = found
        return counts
