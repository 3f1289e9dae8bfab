"""Sum of two float32 vectors of ``size`` elements: one very small kernel."""

from __future__ import annotations

from kts.model.plan import Decoder
from kts.worker.devices import Device
from kts.worker.workloads import Operation, pair

_BYTES_PER_ELEMENT = 3 * 4  # two inputs and output


def bytes_needed(size: int, decoder: Decoder) -> int:
    """See `kts.worker.workloads.Workload`."""
    del decoder
    return _BYTES_PER_ELEMENT * size


def build(size: int, device: Device, decoder: Decoder) -> Operation:
    """See `kts.worker.workloads.Workload`."""
    del decoder
    xp = device.xp
    left, right, result = pair(device, (size,))
    return lambda: xp.add(left, right, out=result)
