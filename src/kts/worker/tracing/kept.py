"""All events of a traced program while it is profiled, and the times in which some were lost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kts.worker.tracing.layout import EVENT, Kind
from kts.worker.tracing.reader import Batch
from kts.worker.tracing.ring import Events


class Kept:
    """Takes the batches that a reader hands out. ``gaps``: ns, from and to."""

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int]] = []
        self._parts: dict[tuple[int, int], list[Events]] = {}
        self._latest_ns: dict[tuple[int, int], int] = {}

    def add(self, batches: Iterable[Batch], now_ns: int) -> None:
        """More of these, read at ``now_ns``."""
        for batch in batches:
            key, events = batch.process.key, batch.events
            self._parts.setdefault(key, []).append(events)
            calls = np.flatnonzero(events["kind"] < Kind.KERNEL)
            times = events["end_ns"][calls]
            for number in batch.breaks:
                at = int(np.searchsorted(calls, number))
                since = int(times[at - 1]) if at else self._latest_ns.get(key, 0)
                self.gaps.append((since, int(times[at]) if at < len(times) else now_ns))
            if len(times):
                self._latest_ns[key] = int(times[-1])

    @property
    def processes(self) -> list[Events]:
        """The events of each process."""
        return [np.concatenate([np.empty(0, EVENT), *parts]) for parts in self._parts.values()]

    @property
    def keys(self) -> list[tuple[int, int]]:
        """Which these are, in that order."""
        return list(self._parts)

    @property
    def any(self) -> bool:
        """Whether there is an event of a call at all."""
        return bool(self._latest_ns)
