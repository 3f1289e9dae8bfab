"""What tenants compute, on the array API: a file per kernel, named as `kts.model.plan.KernelName` has it."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from kts.model.plan import Decoder, KernelName, SizedKernel
from kts.worker.devices import Device
from kts.worker.failures import OutOfMemoryError

LARGEST_SIZE = 131_072

Operation = Callable[[], object]
"""Hands one iteration's work to the device."""

_PATTERN_LENGTH = 2**20 + 7  # repeated over the operands: drawing 10^9 numbers would take minutes
_GIB = 2**30


class Workload(Protocol):
    """What the file of a kernel holds."""

    def bytes_needed(self, size: int, decoder: Decoder) -> int:
        """Device memory that one iteration holds at its peak."""

    def build(self, size: int, device: Device, decoder: Decoder) -> Operation:
        """The operation on freshly allocated operands: random, because the power a GPU draws depends on the data."""


class SizedWorkload(Workload, Protocol):
    """What it also holds where calibration finds a size."""

    def candidates(self) -> list[int]:
        """Sizes that calibration may choose, ascending."""

    def cost(self, size: int) -> float:
        """Work to do, in arbitrary units."""


def workload(kernel: KernelName) -> Workload:
    """The kernel's file."""
    return cast(Workload, importlib.import_module(f"{__name__}.{kernel}"))


def sized_workload(kernel: SizedKernel) -> SizedWorkload:
    """The same where calibration finds a size."""
    return cast(SizedWorkload, workload(kernel))


def bytes_needed(kernel: KernelName, size: int, decoder: Decoder | None = None) -> int:
    """Device memory that one iteration holds at its peak."""
    return workload(kernel).bytes_needed(size, decoder or Decoder())


def build(kernel: KernelName, size: int, device: Device, decoder: Decoder | None = None) -> Operation:
    """The operation on freshly allocated operands.

    OutOfMemoryError if the device has no room (asked first: the CPU would kill the process instead).
    """
    needed, free = bytes_needed(kernel, size, decoder), device.free_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"{kernel} of size {size} needs {needed / _GIB:.1f} GiB ({needed} bytes), "
            f"but the device has {free / _GIB:.1f} GiB free",
            "choose a smaller size or target_ms, or fewer tenants",
        )
    return workload(kernel).build(size, device, decoder or Decoder())


def pair(device: Device, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Two operands of random float32, and room for a result."""
    left = filled(device, shape, real_pattern(seed=1))
    right = filled(device, shape, real_pattern(seed=2))
    return left, right, device.xp.empty_like(left)


def filled(device: Device, shape: Sequence[int], pattern: NDArray[Any]) -> Any:
    """An array on the device that repeats ``pattern``."""
    count = math.prod(shape)
    placed = device.place(pattern[:count])
    flat = device.xp.tile(placed, (-(-count // len(pattern)),))
    return device.xp.reshape(flat[:count], shape)


@functools.cache  # calibration builds two dozen sizes
def real_pattern(seed: int) -> NDArray[np.float32]:
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(_PATTERN_LENGTH, dtype=np.float32)
