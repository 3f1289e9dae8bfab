"""The GPU's SM clock, through NVML where there is one."""

from __future__ import annotations

from typing import Any


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
