"""Product of two float32 matrices, ``size`` x ``size``."""

from __future__ import annotations

from kts.model.plan import Decoder
from kts.worker.devices import Device
from kts.worker.workloads import LARGEST_SIZE, Operation, pair

_STEP = 32
_BYTES_PER_ELEMENT = 3 * 4  # two inputs and output


def bytes_needed(size: int, _decoder: Decoder) -> int:
    """See `kts.worker.workloads.Workload`."""
    return _BYTES_PER_ELEMENT * size * size


def build(size: int, device: Device, _decoder: Decoder) -> Operation:
    """See `kts.worker.workloads.Workload`."""
    xp = device.xp
    left, right, result = pair(device, (size, size))
    return lambda: xp.matmul(left, right, out=result)


def candidates() -> list[int]:
    """Multiples of 32."""
    return list(range(_STEP, LARGEST_SIZE + 1, _STEP))


def cost(size: int) -> float:
    """n^3."""
    return float(size) ** 3
