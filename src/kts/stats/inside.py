"""How long tenants that are threads of one process stand still for each other, and what that makes of their tails.

A thread that neither computes nor waits for a core while its iteration runs sleeps: for what its process has once,
which are Python's lock, the library's and the driver's. The wait for the GPU is none of that where libraries spin in
it. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kts.model.reading import RunData
from kts.model.records import CPU_TIMES
from kts.stats.block import MeasuredBlock, gather
from kts.stats.sample import FloatArray
from kts.stats.series import Side

SHOWS = 0.02
"""So much more of its time than alone a tenant must stand still."""
SLEEPS = 0.2
"""A thread that stands still so much of its time alone sleeps while it waits for the device: then nothing is told."""


class Still(NamedTuple):
    """Of a tenant: the ``share`` of its iterations' time in company in which its thread stood still, less that alone.
    ``doubt``: a sentence where that shows; else empty."""

    share: float
    doubt: str


class _Waits:
    """A pass: response, service, and how long the thread stood still, ms each, by tenant and side."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Side], list[FloatArray]] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See `kts.stats.block.Pass`."""
        if block.side is None:
            return
        for name, rows in block.kept.items():
            if all(column in rows.told for column in CPU_TIMES):
                cpu, wait = (rows.told[column] for column in CPU_TIMES)
                three = np.array([rows.response, rows.service, np.maximum(rows.service - cpu - wait, 0.0)])
                self._kept.setdefault((name, block.side), []).append(three[:, ~np.isnan(three[2])])

    def of(self, tenant: str, side: Side) -> FloatArray:
        """Shape ``(3, n)``; n is 0 where the kernel told nothing."""
        return np.concatenate([np.zeros((3, 0)), *self._kept.get((tenant, side), ())], axis=1)


def stood_still(run: RunData) -> dict[str, Still]:
    """By tenant of the full house, of those of which it can be told."""
    waits = _Waits()
    gather(run, [waits])
    found = {}
    for name in run.info.plan.full_house.tenants:
        alone, (response, service, still) = waits.of(name, "solo"), waits.of(name, "shared")
        if not alone.size or not len(service):
            continue
        usual, now = float(alone[2].sum() / alone[1].sum()), float(still.sum() / service.sum())
        if usual > SLEEPS:
            continue
        with_them, without = (float(np.quantile(one, 0.99)) for one in (response, response - still))
        doubt = (
            f"{name}: its thread stood still for {now:.0%} of the time of its iterations, alone for {usual:.0%}: "
            "it waits for what its process has once (Python's lock, the library's, the driver's). Without these waits "
            f"its p99 would be {without:.3g} ms, not {with_them:.3g} ms."
        )
        found[name] = Still(now - usual, doubt if now - usual >= SHOWS else "")
    return found
