"""One telemetry sample, the same in columns, and how a source describes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Scope = Literal["device", "tenant"]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One value at one moment.

    ``t_ns``: CLOCK_MONOTONIC at the end of what it covers; ``span_ns``: how long that was, 0 for a momentary
    value. ``scope`` says what it is of: ``device`` (whoever used it) or ``tenant``; ``subject`` is the
    device's UUID or the tenant's name. ``metric`` carries its unit: ``sm_active_ratio``, ``power_w``.
    """

    t_ns: int
    span_ns: int
    source: str
    metric: str
    scope: Scope
    subject: str
    value: float


@dataclass(frozen=True, eq=False)
class SampleSeries:
    """All samples of one source, metric and subject, in order of time; ``t_ns``, ``span_ns``, ``value``: shape
    ``(n,)``, as in `Sample`."""

    source: str
    metric: str
    scope: Scope
    subject: str
    t_ns: NDArray[np.int64]
    span_ns: NDArray[np.int64]
    value: NDArray[np.float64]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which a source was asked and told nothing, and why: CLOCK_MONOTONIC, from its last answer to the next
    one, or to the last try."""

    begin_ns: int
    end_ns: int
    why: str


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """A source that was asked for, and what became of it.

    ``metrics`` are those it gives. ``missing``: why it gives none, or why it stopped in the middle. ``note``: what
    a reader must know of what it gave. ``polls`` readings took ``poll_mean_us`` on average and ``poll_max_us``
    at most (microseconds of wall time, off the tenants' cores); 0 for a source that is not polled. ``gaps``: the first
    of its outages.
    """

    source: str
    metrics: tuple[str, ...] = ()
    missing: str = ""
    note: str = ""
    polls: int = 0
    poll_mean_us: float = 0.0
    poll_max_us: float = 0.0
    gaps: tuple[Gap, ...] = ()
