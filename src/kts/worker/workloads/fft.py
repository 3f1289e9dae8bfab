"""Two-dimensional transform of complex64, ``size`` x ``size``."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from kts.model.plan import Decoder
from kts.worker.devices import Device
from kts.worker.workloads import LARGEST_SIZE, Operation, filled, real_pattern

_STEP = 16
_BYTES_PER_ELEMENT = 3 * 8  # input, output and workspace


def bytes_needed(size: int, _decoder: Decoder) -> int:
    """See `kts.worker.workloads.Workload`."""
    return _BYTES_PER_ELEMENT * size * size


def build(size: int, device: Device, _decoder: Decoder) -> Operation:
    """See `kts.worker.workloads.Workload`."""
    xp = device.xp
    square = filled(device, (size, size), _pattern())
    return lambda: xp.fft.fftn(square, axes=(-2, -1))


def candidates() -> list[int]:
    """7-smooth multiples of 16: a large prime factor makes a transform several times slower than its neighbours."""
    return [_STEP * factor for factor in range(1, LARGEST_SIZE // _STEP + 1) if _is_smooth(factor)]


def cost(size: int) -> float:
    """n^2 log n."""
    return size**2 * math.log2(size)


@functools.cache
def _pattern() -> NDArray[np.complex64]:
    real = real_pattern(seed=1)
    pattern = np.empty(len(real), np.complex64)
    pattern.real, pattern.imag = real, real_pattern(seed=2)
    return pattern


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1
