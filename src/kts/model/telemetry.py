"""One telemetry sample, and how a source describes itself."""

from __future__ import annotations

from typing import Literal

import msgspec

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


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """A source that was asked for: ``metrics`` it gives, or ``missing``: why it gives none."""

    source: str
    metrics: tuple[str, ...] = ()
    missing: str = ""
