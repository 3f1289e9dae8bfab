"""What is the same of a GPU whichever library computes on it: its description, its clock, the order of events."""

from __future__ import annotations

import ctypes
from typing import Any

from kts.errors import SetupError
from kts.model.run import DeviceInfo
from kts.worker.detect import StreamWish, cuda_driver, driver_version
from kts.worker.probe.driver_api import NON_BLOCKING, Driver


def cuda_info(library: str, library_version: str, stopwatch: str) -> DeviceInfo:
    """Creates no context. SetupError if there is no GPU."""
    found = cuda_driver()
    if not found.devices:
        raise SetupError(f"no CUDA device: {found.problem}", "check nvidia-smi, or set device: cpu")
    gpu = found.devices[0]
    return DeviceInfo(
        kind="cuda",
        uuid=gpu.uuid,
        name=gpu.name,
        label=gpu.name,
        library=library,
        library_version=library_version,
        driver=driver_version(),
        memory_bytes=gpu.memory_bytes,
        stopwatch=stopwatch,
    )


class CudaEvents:
    """The first visible GPU. The stopwatch is a pair of CUDA events on the current stream, which a library makes."""

    _start: Any
    _stop: Any

    def begin(self) -> None:
        """Records the first event."""
        self._start.record()

    def end(self) -> None:
        """Records the second event."""
        self._stop.record()

    def wait(self) -> None:
        """Blocks until the second event is complete."""
        self._stop.synchronize()


class OwnStream(Driver):
    """A stream of a tenant's own in the primary context of the first visible GPU, which is that of torch and cupy, too.

    Made by the driver, because torch hands out streams of a pool of 32, and the same one to a second tenant after that.
    SetupError if it cannot be had.
    """

    failed = "the GPU gives no stream of its own"

    def __init__(self, wish: StreamWish, library: Any = None) -> None:
        self._wish = wish
        super().__init__(library)

    def new_stream(self) -> ctypes.c_void_p:
        """Of the greatest priority where the tenant is to go first, else of the least, which is the default."""
        least, greatest, stream = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        self.call("cuCtxGetStreamPriorityRange", ctypes.byref(least), ctypes.byref(greatest))
        wanted = greatest if self._wish == "first" else least
        self.call("cuStreamCreateWithPriority", ctypes.byref(stream), NON_BLOCKING, wanted)
        return stream

    @property
    def handle(self) -> int:
        """What libraries know it by; no two streams of a process have the same."""
        return self.stream.value or 0

    def __cuda_stream__(self) -> tuple[int, int]:
        """CUDA's stream protocol, by which libraries take a stream that they did not make: its version, the handle."""
        return 0, self.handle

    @property
    def priority(self) -> int:
        """As the driver has it; lower goes first."""
        found = ctypes.c_int()
        self.call("cuStreamGetPriority", self.stream, ctypes.byref(found))
        return found.value

    @property
    def context(self) -> int:
        """The context that the driver says it is in."""
        found = ctypes.c_void_p()
        self.call("cuStreamGetCtx", self.stream, ctypes.byref(found))
        return found.value or 0


class SmClock:
    """Reads the clock of the GPU named ``uuid``. Costs some 10 us a reading once open: for between iterations."""

    def __init__(self, uuid: str) -> None:
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self._nvml = pynvml
        except Exception:  # absent, broken, or of another device: there is then nothing to read
            return

    def mhz(self) -> float | None:
        """The clock now; None where it cannot be read."""
        if self._nvml is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM))
        except self._nvml.NVMLError:
            return None
