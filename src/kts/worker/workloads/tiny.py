"""Sum of two float32 vectors of ``size`` elements: one very small kernel."""

from __future__ import annotations

from kts.model.plan import Decoder
from kts.worker.devices import Device
from kts.worker.workloads import Operation, pair

_BYTES_PER_ELEMENT = 3 * 4  # two inputs and output


def bytes_needed(size: int, _decoder: Decoder) -> int:
    """See `kts.worker.workloads.Workload`."""
    return _BYTES_PER_ELEMENT * size


def build(size: int, device: Device, _decoder: Decoder) -> Operation:
    """See `kts.worker.workloads.Workload`."""
    xp = device.xp
    left, right, result = pair(device, (size,))
    return lambda: xp.add(left, right, out=result)
