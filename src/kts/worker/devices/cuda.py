"""What is the same of a GPU whichever library computes on it: its description, its clock, the order of events."""

from __future__ import annotations

from typing import Any

from kts.errors import SetupError
from kts.model.run import DeviceInfo
from kts.worker.detect import cuda_driver, driver_version


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
