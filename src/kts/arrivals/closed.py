"""Closed loop: the next iteration starts a think time after the last one ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from kts.units import NS_PER_MS

_DRAWS = 4096


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """Each think time is uniform in ``think_ms * [1 - jitter, 1 + jitter]``."""

    think_ms: float = 0.0
    jitter: float = 0.5

    keys: ClassVar[tuple[str, ...]] = ("think_ms", "jitter")

    @classmethod
    def given(cls, keys: Mapping[str, Any]) -> Closed:
        """What these keys of an experiment ask for."""
        return cls(think_ms=keys["think_ms"], jitter=keys["jitter"])

    def check(self) -> None:
        """ValueError where nobody can think so."""
        if not (self.think_ms >= 0 and 0 <= self.jitter <= 1):
            raise ValueError("impossible arrivals")

    def think_times_ns(self, seed: int) -> Iterator[int]:
        """Endless think times, whole nanoseconds."""
        import numpy as np

        rng = np.random.default_rng(seed)
        low, high = self._bounds_ns
        while True:
            yield from rng.uniform(low, high, _DRAWS).astype(np.int64).tolist()

    def first_submission_ns(self, service_ns: int, seed: int) -> int:
        """When the first iteration is submitted, relative to the opening of the window.

        Of a process of cycles (an iteration of ``service_ns``, then a think time) that has gone on for ever, the window
        opens at a random point: within a cycle drawn in proportion to its length, anywhere (Cox 1962, section 5.1). In
        the iteration: it was submitted up to ``service_ns`` before (negative). In the think time: what is left of it.
        """
        import numpy as np

        rng = np.random.default_rng([seed, 1])  # apart from the think times of the same seed
        low, high = self._bounds_ns
        while True:
            cycle = service_ns + rng.uniform(low, high)
            if rng.uniform(0, service_ns + high) <= cycle:
                break
        since_submission = rng.uniform(0, cycle)
        return round(-since_submission if since_submission < service_ns else cycle - since_submission)

    def closing_ns(self, cycle_ns: float) -> int:
        """See `kts.arrivals.OpenLoop.closing_ns`."""
        if cycle_ns <= 0:
            return 0
        variance = (self.think_ms * self.jitter * NS_PER_MS) ** 2 / 3
        return max(0, round(cycle_ns / 2 - variance / (2 * cycle_ns)))

    @property
    def _bounds_ns(self) -> tuple[float, float]:
        think_ns = self.think_ms * NS_PER_MS
        return think_ns * (1 - self.jitter), think_ns * (1 + self.jitter)
