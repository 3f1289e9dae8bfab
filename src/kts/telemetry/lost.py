"""Which GPUs are lost: those that NVML listed before and no longer reaches."""

from __future__ import annotations

import contextlib
from typing import Any

from kts.telemetry.nvml import load_nvml
from kts.telemetry.source import SourceMissingError


class LostGpus:
    """Asks NVML anew at each call. Where NVML itself does not answer (a driver that is replaced), nothing is lost."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._there: set[str] = set()

    def __call__(self) -> tuple[str, ...]:
        """UUIDs of GPUs that were there at the last call. One that comes back may be lost again."""
        try:
            nvml = self._nvml = self._nvml or load_nvml()
        except SourceMissingError:
            return ()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError:
            return ()
        try:
            there = _reached(nvml)
        except nvml.NVMLError:
            return ()
        finally:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()
        lost, self._there = self._there - there, there
        return tuple(sorted(lost))


def _reached(nvml: Any) -> set[str]:
    """UUIDs of GPUs that answer. NVMLError where one does not for another reason than that it is lost."""
    there = set()
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            nvml.nvmlDeviceGetMemoryInfo(handle)  # a name alone is told from memory, also of one that is lost
            there.add(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_GPU_IS_LOST:
                raise
    return there
