"""A CUDA device through torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import array_api_compat.torch as xp
import torch

from kts.errors import SetupError
from kts.model.run import DeviceInfo
from kts.worker.detect import StreamWish
from kts.worker.devices.cuda import CudaEvents, OwnStream, cuda_info

if TYPE_CHECKING:
    from kts.worker.devices.torch_trace import TorchTracer

_CALLS_BEFORE_CAPTURE = 3  # libraries choose kernels and take workspace at first, which a capture does not allow


class TorchCuda(CudaEvents):
    """Implements `kts.worker.devices.Device`."""

    xp: Any = xp

    def __init__(self, wish: StreamWish | None = None) -> None:
        if not torch.cuda.is_available():
            built_for = torch.version.cuda or "no CUDA"
            raise SetupError(
                f"torch {torch.__version__} (built for {built_for}) cannot use the GPU",
                "install a torch build for this driver's CUDA version, or set device: cpu",
            )
        torch.cuda.set_device(0)
        torch.set_float32_matmul_precision("highest")  # no TF32: fp32 as in the published system
        self.stream = None if wish is None else OwnStream(wish)
        if self.stream is not None:
            torch.cuda.set_stream(torch.cuda.ExternalStream(self.stream.handle))  # of this thread alone
        self._start = torch.cuda.Event(enable_timing=True)
        self._stop = torch.cuda.Event(enable_timing=True)

    def info(self) -> DeviceInfo:
        """The GPU as the driver names it."""
        return cuda_info("torch", str(torch.__version__), "CUDA events")

    def device_ms(self) -> float:
        """Time between the events, on the GPU's clock."""
        return float(self._start.elapsed_time(self._stop))

    def place(self, host_array: Any) -> Any:
        """A tensor on the GPU."""
        return torch.asarray(host_array).to("cuda")

    def landing(self, array: Any) -> tuple[Any, Callable[[], object]]:
        """Into pinned memory: a copy to any other waits for the GPU."""
        host = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
        return host, lambda: host.copy_(array, non_blocking=True)

    def capture(self, operation: Callable[[], object]) -> Callable[[], object]:
        """A CUDA graph, captured on a stream of its own as torch asks for; replayed on the current one."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_CALLS_BEFORE_CAPTURE):
                operation()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            operation()
        replay: Callable[[], object] = graph.replay
        return replay

    def free_bytes(self) -> int:
        """Free on the GPU, with what torch itself holds in reserve."""
        free: int = torch.cuda.mem_get_info()[0]
        return free + int(torch.cuda.memory_reserved() - torch.cuda.memory_allocated())

    def held_bytes(self) -> int | None:
        """The caching allocator's."""
        return int(torch.cuda.memory_reserved())

    def tracer(self) -> TorchTracer | None:
        """torch's profiler, where it was built with CUPTI."""
        if torch.profiler.ProfilerActivity.CUDA not in torch.profiler.supported_activities():
            return None
        from kts.worker.devices.torch_trace import TorchTracer

        return TorchTracer()

    def release(self) -> None:
        """Empties the caching allocator and the FFT plan cache (plans own workspaces), unless others use them, too."""
        if self.stream is not None:
            return
        torch.cuda.synchronize()
        torch.backends.cuda.cufft_plan_cache.clear()
        torch.cuda.empty_cache()
