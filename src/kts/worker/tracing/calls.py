"""How many launches and waits fall into a stretch of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kts.worker.tracing.layout import Flag, Kind
from kts.worker.tracing.trips import Array

_KEPT = 1 << 18
_Times = NDArray[np.int64]


class Calls:
    """The calls of one process or several, by when they began. What is older than the last quarter million is gone."""

    def __init__(self) -> None:
        self.any = False
        self._times: dict[str, list[_Times]] = {"launches": [], "waits": []}

    def add(self, events: Array) -> None:
        """More of these."""
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
        """``launches`` and ``waits`` that began in each of these stretches, shape as ``begin_ns``."""
        counts = {}
        for name, parts in self._times.items():
            times = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))[-_KEPT:]
            parts[:] = [times]
            counts[name] = np.searchsorted(times, end_ns, "right") - np.searchsorted(times, begin_ns, "left")
        return counts
