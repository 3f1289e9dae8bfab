"""Profiles as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from kts.physics.values import Profile

_COLUMNS = ("launches", "GPU ms", "p50 ms", "p99 ms", "host warm, cold ms", "tracer", "memory MiB", "SM MHz")


def print_profiles(profiles: Sequence[Profile], console: Console) -> None:
    """A row per tenant: launches and GPU time of an iteration, its service time alone without a tracer, the host."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("tenant", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for head in _COLUMNS:
        table.add_column(head, justify="right", no_wrap=True)
    for profile in profiles:
        table.add_row(profile.tenant, profile.method, *_cells(profile))
    console.print(table)
    for profile in profiles:
        console.print(Text(f"{profile.tenant}: {profile.how}", style="dim"))


def _cells(profile: Profile) -> list[str]:
    them, service = profile.iterations, profile.solo_service.ms
    counts = np.diff(them.first)
    p50, p99 = np.quantile(service, [0.5, 0.99]) if len(service) else (np.nan, np.nan)
    return [
        f"{np.median(counts):.0f}",
        f"{np.median(them.busy_ms):.3g}",
        f"{p50:.3g}",
        f"{p99:.3g}",
        f"{_or_dash(profile.host_warm_ms)}, {_or_dash(profile.host_cold_ms)}",
        f"{profile.tracer_inflation:.2f}x" if profile.method == "launches" else "-",
        "-" if profile.memory_bytes is None else f"{profile.memory_bytes / 2**20:.0f}",
        "-" if profile.sm_clock_mhz is None else f"{profile.sm_clock_mhz:.0f}",
    ]


def _or_dash(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.3g}"
