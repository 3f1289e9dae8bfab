"""When iterations come: a file for each arrival process, and where in its cycle a tenant stands when a block begins.

Pure; the same seed gives the same times. A block's window is a cut out of a process that has no beginning: every
tenant enters it in its stationary phase, and the window's end depends on no tenant's phase. Otherwise tenants meet at
the start of each block more often than they would by themselves, and the tail holds those meetings
(docs/measuring.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from kts.arrivals.closed import Closed
from kts.arrivals.poisson import Poisson
from kts.arrivals.trace import Trace

if TYPE_CHECKING:  # a worker reads its plan before numpy may be loaded: threads and cores are settled in between
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "PROCESSES",
    "ArrivalName",
    "Arrivals",
    "Closed",
    "OpenLoop",
    "Poisson",
    "Trace",
    "cycle_ms",
    "first_submission_ns",
    "pause_ms",
]

Arrivals = Closed | Poisson | Trace
"""The arrival processes, told apart by the tag ``type``. Open loop: due times come whether or not the last iteration
is done; one is in flight, the others wait their turn."""
ArrivalName = Literal["closed", "poisson", "trace"]
"""Their names in experiment files: the tags."""
PROCESSES: dict[str, type[Arrivals]] = {one.__struct_config__.tag: one for one in get_args(Arrivals)}


class OpenLoop(Protocol):
    """What every arrival process but the closed loop is."""

    @property
    def interval_ms(self) -> float:
        """Mean time from one due time to the next."""

    def due_times_ns(self, seed: int, start_ns: int) -> Iterator[int]:
        """Endless due times from ``start_ns`` on, whole nanoseconds, never falling."""

    def drawn_ms(self, rng: np.random.Generator, planned: int) -> NDArray[np.float64]:
        """Due times of a simulated tenant, milliseconds from 0, shape ``(planned,)``."""

    def closing_ns(self, cycle_ns: float) -> int:
        """How long after its last wanted submission a tenant's window closes, so that m iterations span m mean cycles.

        A window that closed with that submission would hold m iterations in about m - 1/2 cycles, and show a tenant
        with few iterations as busier than it is. From a random point to the next submission it is E[C^2] / 2 E[C] on
        average (Cox 1962); what is missing to a whole cycle follows the last one. ``cycle_ns``: mean time from one
        submission to the next. 0 for arrivals that forget.
        """


def first_submission_ns(arrivals: Arrivals, service_ns: int, seed: int) -> int:
    """When a tenant submits its first iteration, relative to the opening of the window; see `Closed`.

    0 for an open loop, whose due times come from the opening on.
    """
    return arrivals.first_submission_ns(service_ns, seed) if isinstance(arrivals, Closed) else 0


def cycle_ms(arrivals: Arrivals, service_ms: float) -> float:
    """Mean time from one iteration to the next of a tenant whose iterations take ``service_ms``."""
    if isinstance(arrivals, Closed):
        return service_ms + arrivals.think_ms
    return max(service_ms, arrivals.interval_ms)


def pause_ms(arrivals: Arrivals, service_ms: float = 0.0) -> float:
    """Mean time that it leaves the device alone between two iterations."""
    return cycle_ms(arrivals, service_ms) - service_ms
