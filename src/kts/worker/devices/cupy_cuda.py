"""A CUDA device through cupy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.cupy as xp
import cupy
import cupyx

from kts.errors import SetupError
from kts.model.run import DeviceInfo
from kts.worker.detect import StreamWish, no_graphs
from kts.worker.devices.cuda import CudaEvents, OwnStream, cuda_info


class CupyCuda(CudaEvents):
    """Implements `kts.worker.devices.Device`."""

    xp: Any = xp

    def __init__(self, wish: StreamWish | None = None) -> None:
        try:
            cupy.cuda.Device(0).use()
            self.stream = None if wish is None else OwnStream(wish)
            if self.stream is not None:
                _taken(self.stream).use()  # in this thread alone
            self._start = cupy.cuda.Event()
            self._stop = cupy.cuda.Event()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise SetupError(
                f"cupy {cupy.__version__} cannot use the GPU: {error}",
                "install the cupy package for this driver's CUDA version, or set device: cpu",
            ) from error

    def info(self) -> DeviceInfo:
        """The GPU as the driver names it."""
        return cuda_info("cupy", str(cupy.__version__), "CUDA events")

    def device_ms(self) -> float:
        """Time between the events, on the GPU's clock."""
        return float(cupy.cuda.get_elapsed_time(self._start, self._stop))

    def place(self, host_array: Any) -> Any:
        """An array on the GPU."""
        return cupy.asarray(host_array)

    def landing(self, array: Any) -> tuple[Any, Callable[[], object]]:
        """Into pinned memory: a copy to any other waits for the GPU."""
        host = cupyx.empty_pinned(array.shape, array.dtype)
        return host, lambda: array.get(out=host, blocking=False)

    def capture(self, _operation: Callable[[], object]) -> Callable[[], object]:
        """SetupError: graphs are captured through torch alone."""
        raise no_graphs("cuda", "cupy")

    def free_bytes(self) -> int:
        """Free on the GPU, with what cupy itself holds in reserve."""
        return int(cupy.cuda.runtime.memGetInfo()[0]) + int(cupy.get_default_memory_pool().free_bytes())

    def held_bytes(self) -> int | None:
        """cupy's pool."""
        return int(cupy.get_default_memory_pool().total_bytes())

    def tracer(self) -> None:
        """None: cupy brings none."""

    def release(self) -> None:
        """Empties the memory pool and the FFT plan cache (plans own workspaces), unless others use them, too."""
        if self.stream is not None:
            return
        cupy.cuda.runtime.deviceSynchronize()
        cupy.fft.config.get_plan_cache().clear()
        cupy.get_default_memory_pool().free_all_blocks()


def _taken(stream: OwnStream) -> Any:
    """It as CuPy's. Before CuPy 14 streams of others are taken by their handles, since then by CUDA's protocol."""
    take = getattr(cupy.cuda.Stream, "from_external", None)
    return cupy.cuda.ExternalStream(stream.handle) if take is None else take(stream)
