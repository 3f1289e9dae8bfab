"""Profiles as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kts.report import document as doc

if TYPE_CHECKING:
    from kts.physics.values import Profile

_COLUMNS = ("launches", "GPU ms", "p50 ms", "p99 ms", "host warm, cold ms", "tracer", "memory MiB", "SM MHz")


def profiles_elements(profiles: Sequence[Profile]) -> Iterator[doc.Element]:
    """A row per tenant: launches and GPU time of an iteration, its service time alone without a tracer, the host."""
    yield doc.Table(
        columns=(doc.Column("tenant", "word"), doc.Column("method", "word"), *map(doc.Column, _COLUMNS)),
        groups=(tuple(map(_row, profiles)),),
        gap=2,
    )
    for profile in profiles:
        yield doc.paragraph(f"{profile.tenant}: {profile.how}", "quiet", close=True)


def _row(profile: Profile) -> list[str]:
    iterations, service = profile.iterations, profile.solo_service.ms
    p50, p99 = np.quantile(service, [0.5, 0.99]) if len(service) else (np.nan, np.nan)
    return [
        profile.tenant,
        profile.method,
        f"{np.median(np.diff(iterations.first)):.0f}",
        f"{np.median(iterations.busy_ms):.3g}",
        f"{p50:.3g}",
        f"{p99:.3g}",
        f"{_or_dash(profile.host_warm_ms)}, {_or_dash(profile.host_cold_ms)}",
        f"{profile.tracer_inflation:.2f}x" if profile.method == "launches" else doc.NOTHING,
        doc.NOTHING if profile.memory_bytes is None else f"{profile.memory_bytes / 2**20:.0f}",
        doc.NOTHING if profile.sm_clock_mhz is None else f"{profile.sm_clock_mhz:.0f}",
    ]


def _or_dash(ms: float | None) -> str:
    return doc.NOTHING if ms is None else f"{ms:.3g}"
