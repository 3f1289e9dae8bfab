"""What the figures need of a run, condensed: small arrays, whatever the number of iterations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kts.model.records import Clock
from kts.model.summary import ActivityRole, Summary
from kts.model.telemetry import Scope
from kts.steady import Segment

Side = Literal["solo", "shared"]
SIDES: tuple[Side, ...] = ("solo", "shared")
PLACES = (*SIDES, "not counted")
"""What an iteration was: alone, in company, or one that no figure counts: outside of its block's window, the first
after a pause, or in a shared block while a neighbour was not there."""

TAIL_POINTS = 400
OVER_TIME_POINTS = 3000
STRIP_INTERVALS = 400


@dataclass(frozen=True)
class TailCurve:
    """Points of the empirical tail on one clock: ``fraction_slower[j]`` of the iterations took at least ``ms[j]``.

    Both shape ``(m,)``, m <= `TAIL_POINTS`, ``ms`` rising; the last point is the maximum, with fraction 1/n.
    """

    ms: NDArray[np.float64]
    fraction_slower: NDArray[np.float64]


@dataclass(frozen=True)
class OverTime:
    """Latency over the run, thinned so that the slowest iteration of every bin survives. All of shape ``(m,)``.

    ``t_s``: submission, seconds since the run's first block; ``device_ms`` NaN without a device stopwatch;
    ``block``: block index; ``place``: index into `PLACES`.
    """

    t_s: NDArray[np.float64]
    service_ms: NDArray[np.float64]
    device_ms: NDArray[np.float64]
    block: NDArray[np.int64]
    place: NDArray[np.int8]


@dataclass(frozen=True)
class Strip:
    """Iterations of one tenant in a short window of a shared block, shape ``(m,)``; seconds since the window began."""

    submit_s: NDArray[np.float64]
    retire_s: NDArray[np.float64]
    device_ms: NDArray[np.float64]


@dataclass(frozen=True)
class SlowIteration:
    """One of a tenant's slowest: its times, and by neighbour how many iterations of it were in flight meanwhile."""

    block: int
    submit_ns: int
    retire_ns: int
    response_ms: float
    service_ms: float
    device_ms: float
    neighbours: dict[str, int]


@dataclass(frozen=True)
class ActivityTrace:
    """One telemetry metric over the run, thinned: ``value`` at ``t_s`` (seconds since the run's first block), ``(m,)``.

    ``subject``: the device's UUID, or the tenant that it is of.
    """

    role: ActivityRole
    source: str
    metric: str
    scope: Scope
    subject: str
    t_s: NDArray[np.float64]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class BlockSpan:
    """One block on the time axis, seconds since the run's first block."""

    block: int
    condition: str
    round: int
    start_s: float
    end_s: float
    valid: bool


@dataclass(frozen=True)
class Stages:
    """Iterations of a tenant that was not in one steady state, shape ``(m,)``, in order of time; thinned.

    ``t_s``: submission, seconds since the run's first block; ``level``: duration over the median of those that count
    under the same conditions. Those before ``first`` are left out of every figure; ``segments`` are the states.
    """

    t_s: NDArray[np.float64]
    level: NDArray[np.float64]
    first: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class TenantSeries:
    """Series of one tenant. ``tails[side][clock]`` is missing where there are no samples; ``strip`` is None
    where no shared block holds records of the tenant. ``slowest``: by condition, the slowest first. ``stages``: None
    where it was in one steady state."""

    tails: dict[Side, dict[Clock, TailCurve]]
    over_time: OverTime
    strip: Strip | None = None
    slowest: dict[str, tuple[SlowIteration, ...]] = field(default_factory=dict)
    stages: Stages | None = None


@dataclass(frozen=True)
class Analysis:
    """Result of `kts.stats.analyse`: the figures, and per tenant and for the run what the pictures need."""

    summary: Summary
    series: dict[str, TenantSeries]
    spans: tuple[BlockSpan, ...] = field(default=())
    activity: tuple[ActivityTrace, ...] = field(default=())
