"""Where the tail's added time is: on the device's stopwatch, or not."""

from __future__ import annotations

import numpy as np

from kts.model.summary import Waiting
from kts.stats.gathering import SideData

SLOWEST = 0.01
LEAST = 30
"""A mean over fewer would hang on which iterations happened to be slowest."""


def waiting(solo: SideData, shared: SideData, solo_p99_ms: float | None) -> Waiting | None:
    """Means over the slowest 1 % (by service time; 30 at least) of each side, shared minus solo.

    None without a device stopwatch on all of these, or where a side has no iterations or solo p99 is refused.
    ``factor`` is 0 where service less device time did not grow.
    """
    alone, together = _tail_means(solo), _tail_means(shared)
    if alone is None or together is None or not solo_p99_ms:
        return None
    added, device = together[0] - alone[0], together[1] - alone[1]
    wait = added - device
    return Waiting(added_ms=added, wait_ms=wait, device_ms=device, factor=max(0.0, wait) / solo_p99_ms)


def _tail_means(side: SideData) -> tuple[float, float] | None:
    """Mean service and device time (ms) of the slowest 1 %, at least `LEAST` iterations if there are so many."""
    n = side.n
    if not n:
        return None
    service = np.concatenate([pair[0] for pair in side.slowest])
    device = np.concatenate([pair[1] for pair in side.slowest])
    count = min(max(LEAST, round(SLOWEST * n)), len(service))
    top = np.argpartition(service, len(service) - count)[-count:]
    means = float(service[top].mean(dtype=np.float64)), float(device[top].mean(dtype=np.float64))
    return means if np.isfinite(means[1]) else None
