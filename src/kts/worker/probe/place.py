"""Which core the probes share where the device is a CPU core."""

from __future__ import annotations

import os

from kts.worker.detect import DeviceKind
from kts.worker.environment import usable_cores
from kts.worker.prepare import LAST_CORE, parse_cores


def cores_for(kind: DeviceKind) -> tuple[int, ...] | None:
    """One core for all on the CPU: the last of KTS_CORES or of those that may be used, as tenants have it. None: any.

    UsageError if KTS_CORES is no list.
    """
    if kind != "cpu":
        return None
    wanted = os.environ.get("KTS_CORES", "")
    return (max(parse_cores(wanted) if wanted and wanted != LAST_CORE else usable_cores()),)
