"""Open loop: due times as they were recorded somewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from kts.units import NS_PER_MS, ms_to_ns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Trace(msgspec.Struct, frozen=True, kw_only=True, tag="trace"):
    """``due_ms``: from the start, rising; after ``period_ms`` they begin again. Implements `kts.arrivals.OpenLoop`."""

    due_ms: tuple[float, ...]
    period_ms: float

    keys: ClassVar[tuple[str, ...]] = ("due_ms", "period_ms")

    @classmethod
    def given(cls, keys: Mapping[str, Any]) -> Trace:
        """What these keys of an experiment ask for; by default it begins again a mean interval after its last time.
        ValueError where the times do not rise within the period, from 0 on."""
        due, period_ms = keys["due_ms"], keys["period_ms"]
        if due is None:
            raise ValueError("arrivals: trace needs due_ms")
        if due[0] < 0:
            raise ValueError(f"due_ms must not begin below 0 (is {due[0]:g})")
        for earlier, later in pairwise(due):
            if later < earlier:
                raise ValueError(f"due_ms must rise ({later:g} comes after {earlier:g})")
        if period_ms is None:
            if due[-1] <= due[0]:
                raise ValueError("due_ms at a single time needs period_ms")
            period_ms = due[-1] + (due[-1] - due[0]) / (len(due) - 1)
        if period_ms <= due[-1]:
            raise ValueError(f"period_ms ({period_ms:g}) must be later than the last of due_ms ({due[-1]:g})")
        return cls(due_ms=tuple(due), period_ms=period_ms)

    def check(self) -> None:
        """ValueError where the times do not rise within the period, from 0 on."""
        steps = [later - earlier for earlier, later in pairwise((0.0, *self.due_ms, self.period_ms))]
        if not self.due_ms or min(steps) < 0 or not self.period_ms > 0:
            raise ValueError("impossible arrivals")

    def faster(self, factor: float) -> Trace:
        """The same ``factor`` times as often."""
        return Trace(due_ms=tuple(at / factor for at in self.due_ms), period_ms=self.period_ms / factor)

    @property
    def interval_ms(self) -> float:
        """Mean time from one due time to the next."""
        return self.period_ms / len(self.due_ms)

    def turned_by(self, offset_ms: float) -> Trace:
        """The same, begun ``offset_ms`` later in its period: what came before that comes at the end."""
        import numpy as np

        due = np.array(self.due_ms) - offset_ms
        due = np.sort(np.where(due < 0, due + self.period_ms, due))
        return Trace(due_ms=tuple(due.tolist()), period_ms=self.period_ms)

    def due_times_ns(self, seed: int, start_ns: int) -> Iterator[int]:
        """Endless due times from ``start_ns`` on, whole nanoseconds, never falling. Begins at a random point."""
        import numpy as np

        turned = self._turned(np.random.default_rng(seed))
        once = np.round(np.array(turned.due_ms) * NS_PER_MS).astype(np.int64)
        while True:
            yield from (start_ns + once).tolist()
            start_ns += ms_to_ns(turned.period_ms)

    def drawn_ms(self, rng: np.random.Generator, planned: int) -> NDArray[np.float64]:
        """Due times of a simulated tenant, milliseconds from 0, shape ``(planned,)``. Begins at a random point."""
        import numpy as np

        once = np.asarray(self._turned(rng).due_ms)
        rounds = np.arange(math.ceil(planned / len(once)))[:, None] * self.period_ms
        return np.asarray((rounds + once[None, :]).ravel()[:planned])

    def closing_ns(self, cycle_ns: float) -> int:
        """See `kts.arrivals.OpenLoop.closing_ns`."""
        import numpy as np

        if cycle_ns <= 0:
            return 0
        gaps = np.diff([*self.due_ms, self.due_ms[0] + self.period_ms])
        ahead = float(np.square(gaps).sum() / gaps.sum() / 2 / gaps.mean())
        return max(0, round(cycle_ns * (1 - ahead)))

    def _turned(self, rng: np.random.Generator) -> Trace:
        return self.turned_by(float(rng.uniform(0, self.period_ms)))
