"""fft and gemm on the array API: preallocated operands, one call per iteration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kts.worker.devices import Device
from kts.worker.failures import OutOfMemoryError

KernelName = Literal["fft", "gemm"]
KERNELS: tuple[KernelName, ...] = get_args(KernelName)

Operation = Callable[[], object]
"""Hands one iteration's work to the device."""

_PATTERN_LENGTH = 2**20 + 7  # repeated over the operands: drawing 10^9 numbers would take minutes
_BYTES_PER_ELEMENT = {"fft": 3 * 8, "gemm": 3 * 4}  # input, output and workspace; two inputs and output
_GIB = 2**30


def bytes_needed(kernel: KernelName, size: int) -> int:
    """Device memory that one iteration holds at its peak."""
    return _BYTES_PER_ELEMENT[kernel] * size * size


def build(kernel: KernelName, size: int, device: Device) -> Operation:
    """The operation on freshly allocated operands of ``size`` x ``size``.

    fft: two-dimensional transform of complex64. gemm: product of two float32 matrices.
    The operands are random, because the power a GPU draws depends on the data.
    OutOfMemoryError if the device has no room (asked first: the CPU would kill the process instead).
    """
    needed, free = bytes_needed(kernel, size), device.free_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"{kernel} of size {size} needs {needed / _GIB:.1f} GiB ({needed} bytes), "
            f"but the device has {free / _GIB:.1f} GiB free",
            "choose a smaller size or target_ms, or fewer tenants",
        )
    xp = device.xp
    if kernel == "fft":
        square = _square(device, size, _complex_pattern())
        return lambda: xp.fft.fftn(square, axes=(-2, -1))
    left = _square(device, size, _real_pattern(seed=1))
    right = _square(device, size, _real_pattern(seed=2))
    product = xp.empty_like(left)
    return lambda: xp.matmul(left, right, out=product)


def _square(device: Device, size: int, pattern: NDArray[Any]) -> Any:
    placed = device.place(pattern[: size * size])
    flat = device.xp.tile(placed, (-(-size * size // len(pattern)),))
    return device.xp.reshape(flat[: size * size], (size, size))


@functools.cache  # calibration builds two dozen sizes
def _real_pattern(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(_PATTERN_LENGTH, dtype=np.float32)


@functools.cache
def _complex_pattern() -> NDArray[np.complex64]:
    pattern = np.empty(_PATTERN_LENGTH, np.complex64)
    pattern.real, pattern.imag = _real_pattern(seed=1), _real_pattern(seed=2)
    return pattern
