"""What tenants compute, on the array API: preallocated operands, one call per iteration."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kts.model.plan import Decoder
from kts.worker.devices import Device
from kts.worker.failures import OutOfMemoryError

KernelName = Literal["fft", "gemm", "tiny", "decode"]
KERNELS: tuple[KernelName, ...] = get_args(KernelName)
SizedKernel = Literal["fft", "gemm"]
SIZED: tuple[SizedKernel, ...] = get_args(SizedKernel)
"""Those whose size can be found for a wanted duration."""

Operation = Callable[[], object]
"""Hands one iteration's work to the device."""

_PATTERN_LENGTH = 2**20 + 7  # repeated over the operands: drawing 10^9 numbers would take minutes
_BYTES_PER_ELEMENT = {"fft": 3 * 8, "gemm": 3 * 4}  # input, output and workspace; two inputs and output
_GIB = 2**30


def bytes_needed(kernel: KernelName, size: int, decoder: Decoder | None = None) -> int:
    """Device memory that one iteration holds at its peak."""
    if kernel == "decode":
        from kts.worker.decode import decoder_bytes

        return decoder_bytes(size, decoder or Decoder())
    if kernel == "tiny":
        return 3 * 4 * size
    return _BYTES_PER_ELEMENT[kernel] * size * size


def build(kernel: KernelName, size: int, device: Device, decoder: Decoder | None = None) -> Operation:
    """The operation on freshly allocated operands.

    fft: two-dimensional transform of complex64, ``size`` x ``size``. gemm: product of two float32 matrices,
    likewise. tiny: sum of two float32 vectors of ``size`` elements. decode: see `kts.worker.decode`; ``size`` is
    the model's width. The operands are random, because the power a GPU draws depends on the data.
    OutOfMemoryError if the device has no room (asked first: the CPU would kill the process instead).
    """
    needed, free = bytes_needed(kernel, size, decoder), device.free_bytes()
    if needed > free:
        raise OutOfMemoryError(
            f"{kernel} of size {size} needs {needed / _GIB:.1f} GiB ({needed} bytes), "
            f"but the device has {free / _GIB:.1f} GiB free",
            "choose a smaller size or target_ms, or fewer tenants",
        )
    xp = device.xp
    if kernel == "decode":
        from kts.worker.decode import DecodeStep

        return DecodeStep(size, decoder or Decoder(), device)
    if kernel == "fft":
        square = filled(device, (size, size), _complex_pattern())
        return lambda: xp.fft.fftn(square, axes=(-2, -1))
    shape = (size,) if kernel == "tiny" else (size, size)
    left = filled(device, shape, real_pattern(seed=1))
    right = filled(device, shape, real_pattern(seed=2))
    result = xp.empty_like(left)
    if kernel == "tiny":
        return lambda: xp.add(left, right, out=result)
    return lambda: xp.matmul(left, right, out=result)


def filled(device: Device, shape: tuple[int, ...], pattern: NDArray[Any]) -> Any:
    """An array on the device that repeats ``pattern``."""
    count = math.prod(shape)
    placed = device.place(pattern[:count])
    flat = device.xp.tile(placed, (-(-count // len(pattern)),))
    return device.xp.reshape(flat[:count], shape)


@functools.cache  # calibration builds two dozen sizes
def real_pattern(seed: int) -> NDArray[np.float32]:
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(_PATTERN_LENGTH, dtype=np.float32)


@functools.cache
def _complex_pattern() -> NDArray[np.complex64]:
    pattern = np.empty(_PATTERN_LENGTH, np.complex64)
    pattern.real, pattern.imag = real_pattern(seed=1), real_pattern(seed=2)
    return pattern
