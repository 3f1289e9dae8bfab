"""Where the tail's added time is: on the device's stopwatch, or not."""

from __future__ import annotations

import numpy as np

from kts.model.plan import Plan
from kts.model.summary import Waiting
from kts.stats.block import MeasuredBlock
from kts.stats.sample import FloatArray
from kts.stats.series import SIDES, Side

SLOWEST = 0.01
LEAST = 30
"""A mean over fewer would hang on which iterations happened to be slowest."""
KEPT_ONE_IN = 20
LEAST_KEPT = 20_000
"""Of each block, the slowest: the slowest 1 % of all may come from few blocks."""


class Tails:
    """Service and device times of each block's slowest iterations, of every tenant alone and in the full house."""

    def __init__(self, plan: Plan) -> None:
        self._slowest: dict[tuple[str, Side], list[tuple[FloatArray, FloatArray]]] = {
            (tenant.name, side): [] for tenant in plan.tenants for side in SIDES
        }
        self._n = dict.fromkeys(self._slowest, 0)

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.kept.items() if block.side else ():
            assert block.side is not None
            service, device = row.service, row.device
            most = max(LEAST_KEPT, len(service) // KEPT_ONE_IN)
            top = slice(None) if most >= len(service) else np.argpartition(service, len(service) - most)[-most:]
            self._slowest[name, block.side].append((service[top].copy(), device[top].copy()))
            self._n[name, block.side] += len(service)

    def waiting(self, tenant: str, solo_p99_ms: float | None) -> Waiting | None:
        """Means over the slowest 1 % (by service time; 30 at least) of each side, shared minus solo.

        None without a device stopwatch on all of these, or where a side has no iterations or solo p99 is refused.
        ``factor`` is 0 where service less device time did not grow.
        """
        alone, together = (_means(self._slowest[tenant, side], self._n[tenant, side]) for side in SIDES)
        if alone is None or together is None or not solo_p99_ms:
            return None
        added, device = together[0] - alone[0], together[1] - alone[1]
        wait = added - device
        return Waiting(added_ms=added, wait_ms=wait, device_ms=device, factor=max(0.0, wait) / solo_p99_ms)


def _means(slowest: list[tuple[FloatArray, FloatArray]], n: int) -> tuple[float, float] | None:
    """Mean service and device time (ms) of the slowest 1 % of ``n``, at least `LEAST` if there are so many."""
    if not n:
        return None
    service, device = (np.concatenate(parts) for parts in zip(*slowest, strict=True))
    count = min(max(LEAST, round(SLOWEST * n)), len(service))
    top = np.argpartition(service, len(service) - count)[-count:]
    means = float(service[top].mean(dtype=np.float64)), float(device[top].mean(dtype=np.float64))
    return means if np.isfinite(means[1]) else None
