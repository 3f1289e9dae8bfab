"""What is worth an event: a new neighbour, a tail that doubled. Pure, bounded; seldom wrong (docs/watch.md)."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

SETTLED_S = 3
"""Seconds with work in flight, of the last ten, from which somebody counts as a neighbour."""
FORGOTTEN_S = 24 * 3600
"""A neighbour that had no work for so long is a new one when it has."""
LEARNT_S = 600
"""So long a tail is learnt before it can double."""
CHUNK_S = 10
CHUNKS = 3
"""A tail has doubled where each of the last `CHUNKS` stretches of `CHUNK_S` shows it."""
QUIET_S = 1800
"""After one alarm the unit gives no other for so long; by then what it alarmed of has been learnt."""
_BINS, _STEP = 512, 0.05
_SLOWEST = np.exp(_STEP * (np.arange(_BINS) - 200))  # ms: 45 ns to an hour


class Newcomers:
    """Who has not been on a GPU before. Told second by second who has work in flight there."""

    def __init__(self) -> None:
        self._busy: dict[tuple[str, str], deque[int]] = {}
        self._known: dict[tuple[str, str], int] = {}

    def second(self, second: int, busy: dict[str, list[str]]) -> list[tuple[str, str, tuple[str, ...]]]:
        """``busy``: units with work in flight, by GPU. Who is new, where, and beside whom that was there before."""
        found = []
        for gpu, units in busy.items():
            for unit in units:
                key = gpu, unit
                last = self._known.get(key)
                if last is None:
                    seen = self._busy.setdefault(key, deque(maxlen=SETTLED_S))
                    seen.append(second)
                    if len(seen) < SETTLED_S or second - seen[0] >= CHUNK_S:
                        continue
                    del self._busy[key]
                    others = sorted(
                        other
                        for where, other in self._known
                        if where == gpu and second - self._known[where, other] < 60
                    )
                    if others:
                        found.append((unit, gpu, tuple(others)))
                self._known[key] = second
        if second % 60 == 0:
            self._known = {key: last for key, last in self._known.items() if second - last < FORGOTTEN_S}
            self._busy = {key: seen for key, seen in self._busy.items() if second - seen[-1] < CHUNK_S}
        return found


class TailAlarm:
    """Whether a unit's p99 has doubled against what it was in the time before. A histogram of steps of 5 %."""

    def __init__(self) -> None:
        self._learnt = np.zeros(_BINS)
        self._learning: deque[NDArray[np.float64]] = deque()
        self._chunk: list[NDArray[np.floating]] = []
        self._since = self._learnt_s = 0
        self._slow: deque[bool] = deque(maxlen=CHUNKS)
        self._quiet_until = 0

    def second(self, second: int, ms: NDArray[np.floating]) -> tuple[float, float] | None:
        """Responses of round trips that ended in it. (p99 before, p99 of the last `CHUNK_S`), ms, where it doubled."""
        self._chunk.append(ms)
        self._since += 1
        if self._since < CHUNK_S:
            return None
        chunk, self._chunk, self._since = _counts(np.concatenate(self._chunk)), [], 0
        usual = _p99(self._learnt)
        enough = chunk.sum() >= 100 and self._learnt_s >= LEARNT_S
        self._slow.append(bool(enough and _p99(chunk) > 2 * usual))
        # what is learnt lags behind by what is asked, so that a tail that doubles is not learnt before it is told
        self._learning.append(chunk)
        if len(self._learning) > CHUNKS:
            late = self._learning.popleft()
            if late.any():
                self._learnt = self._learnt * (1 - CHUNK_S / (2 * LEARNT_S)) + late
                self._learnt_s += CHUNK_S
        if sum(self._slow) < CHUNKS or second < self._quiet_until:
            return None
        self._quiet_until = second + QUIET_S
        self._slow.clear()
        return usual, _p99(chunk)


def _counts(ms: NDArray[np.floating]) -> NDArray[np.float64]:
    if not len(ms):
        return np.zeros(_BINS)
    bins = np.clip(np.log(np.maximum(ms.astype(np.float64), 1e-9)) / _STEP + 200.5, 0, _BINS - 1).astype(np.int64)
    return np.bincount(bins, minlength=_BINS).astype(np.float64)


def _p99(counts: NDArray[np.float64]) -> float:
    total = np.cumsum(counts)
    return float(_SLOWEST[int(np.searchsorted(total, 0.99 * total[-1]))]) if total[-1] else 0.0
