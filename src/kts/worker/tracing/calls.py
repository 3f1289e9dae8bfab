"""How many launches and waits fall into a stretch of time, and how long the waits took."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from kts.model.records import NOT_TOLD, WAITED
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
        self._waiting: dict[int, None] = {}

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
                begins, ends = events["begin_ns"][mask], events["end_ns"][mask]
                self._times[name].add(begins, ends - begins)
        self._waiting.update(dict.fromkeys(np.unique(events["thread"][chosen["waits"] & good]).tolist()))

    def within(self, begin_ns: _Times, end_ns: _Times) -> dict[str, NDArray[np.int64]]:
        """``launches`` and ``waits`` that began in each of these stretches, shape as ``begin_ns``; 0 where some are
        missing. ``waited_ns``: how long these waits took; `NOT_TOLD` there, and where several threads wait."""
        whole = np.ones(len(begin_ns), dtype=bool)
        for since_ns, until_ns in self._gaps:
            whole &= (begin_ns > until_ns) | (end_ns < since_ns)
        counts = {}
        for name, series in self._times.items():
            found, took_ns, kept = series.within(begin_ns, end_ns)
            counts[name] = np.where(whole & kept, found, 0)
            if name == "waits":
                told = whole & kept & (len(self._waiting) <= 1)
                counts[WAITED] = np.where(told, np.minimum(took_ns, end_ns - begin_ns), NOT_TOLD)
        return counts


class _Series:
    def __init__(self) -> None:
        self._begins: _Times = np.empty(0, np.int64)
        self._took: _Times = np.empty(0, np.int64)
        self._new: list[tuple[_Times, _Times]] = []
        self._count = 0
        self._gone_ns = -1  # those up to then are not kept

    def add(self, begins_ns: _Times, took_ns: _Times) -> None:
        self._new.append((begins_ns, took_ns))
        self._count += len(begins_ns)
        if self._count > _KEPT:
            self._settle()

    def within(self, begin_ns: _Times, end_ns: _Times) -> tuple[_Times, _Times, NDArray[np.bool_]]:
        """How many, how long they took in all, and whether that is known."""
        self._settle()
        sums = np.concatenate([[0], np.cumsum(self._took)])
        first = np.searchsorted(self._begins, begin_ns, "left")
        beyond = np.searchsorted(self._begins, end_ns, "right")
        return beyond - first, sums[beyond] - sums[first], begin_ns > self._gone_ns

    def _settle(self) -> None:
        if not self._new:
            return
        begins = np.concatenate([self._begins, *(new for new, _ in self._new)])
        took = np.concatenate([self._took, *(new for _, new in self._new)])
        order = np.argsort(begins, kind="stable")  # quick where most is sorted
        if len(order) > _KEPT:
            self._gone_ns = int(begins[order[-_KEPT - 1]])
        order = order[-_KEPT:]
        self._begins, self._took, self._new, self._count = begins[order], took[order], [], 0
