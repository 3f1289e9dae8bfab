"""Open loop: due times of a Poisson process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from kts.units import NS_PER_MS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DRAWS = 4096


class Poisson(msgspec.Struct, frozen=True, kw_only=True, tag="poisson"):
    """Implements `kts.arrivals.OpenLoop`."""

    rate_hz: float

    keys: ClassVar[tuple[str, ...]] = ("rate_hz",)

    @classmethod
    def given(cls, keys: Mapping[str, Any]) -> Poisson:
        """What these keys of an experiment ask for. ValueError without a rate."""
        if keys["rate_hz"] is None:
            raise ValueError("arrivals: poisson needs rate_hz")
        return cls(rate_hz=keys["rate_hz"])

    def check(self) -> None:
        """ValueError where it is no rate."""
        if not 1e-9 < self.rate_hz < 1e9:
            raise ValueError("impossible arrivals")

    def faster(self, factor: float) -> Poisson:
        """The same ``factor`` times as often."""
        return Poisson(rate_hz=self.rate_hz * factor)

    @property
    def interval_ms(self) -> float:
        """Mean time from one due time to the next."""
        return 1000.0 / self.rate_hz

    def due_times_ns(self, seed: int, start_ns: int) -> Iterator[int]:
        """Endless due times from ``start_ns`` on, whole nanoseconds, never falling."""
        import numpy as np

        rng = np.random.default_rng(seed)
        while True:
            due = start_ns + np.cumsum(rng.exponential(self.interval_ms * NS_PER_MS, _DRAWS)).astype(np.int64)
            yield from due.tolist()
            start_ns = int(due[-1])

    def drawn_ms(self, rng: np.random.Generator, planned: int) -> NDArray[np.float64]:
        """Due times of a simulated tenant, milliseconds from 0, shape ``(planned,)``."""
        import numpy as np

        return np.cumsum(rng.exponential(self.interval_ms, planned))

    def closing_ns(self, cycle_ns: float) -> int:
        """0: they forget."""
        del cycle_ns
        return 0
