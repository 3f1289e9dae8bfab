"""Where the tail's added time is: on the device's stopwatch, or not."""

from __future__ import annotations

import numpy as np

from kts.model.summary import Waiting
from kts.stats.causes.kept import KeptRows

SLOWEST = 0.01
LEAST = 30
"""A mean over fewer would hang on which iterations happened to be slowest."""


def waiting(alone: KeptRows | None, together: KeptRows | None, solo_p99_ms: float | None) -> Waiting | None:
    """Means over the slowest 1 % (by service time; 30 at least) of each side, shared minus solo.

    None without a device stopwatch on all of these, or where a side has no iterations or solo p99 is refused.
    ``factor`` is 0 where service less device time did not grow.
    """
    before, after = _means(alone), _means(together)
    if before is None or after is None or not solo_p99_ms:
        return None
    added, device = after[0] - before[0], after[1] - before[1]
    wait = added - device
    return Waiting(added_ms=added, wait_ms=wait, device_ms=device, factor=max(0.0, wait) / solo_p99_ms)


def _means(rows: KeptRows | None) -> tuple[float, float] | None:
    """Mean service and device time (ms) of the slowest 1 %, at least `LEAST` if there are so many."""
    if rows is None:
        return None
    order = np.argsort(rows.service, kind="stable")[::-1]
    stand_for = np.cumsum(rows.weight[order])
    most = min(max(LEAST, round(SLOWEST * stand_for[-1])), stand_for[-1])
    top = order[: int(stand_for.searchsorted(most - 0.5)) + 1]
    service, device = (
        float(np.average(values[top], weights=rows.weight[top])) for values in (rows.service, rows.device)
    )
    return (service, device) if np.isfinite(device) else None
