"""GPUs that fall off their bus while a node is watched."""

from __future__ import annotations

from typing import Any

import pynvml

from kts.telemetry.lost import LostGpus


class Bus:
    """Stands for the module ``pynvml``: GPUs by name, and what each answers with instead of its memory."""

    NVMLError = pynvml.NVMLError
    NVML_ERROR_GPU_IS_LOST = pynvml.NVML_ERROR_GPU_IS_LOST

    def __init__(self, *names: str) -> None:
        self.names, self.refuse, self.open = list(names), dict[str, int](), 0
        self.starts = True

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.starts:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return self.names[index]

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        if handle in self.refuse:
            raise pynvml.NVMLError(self.refuse[handle])

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle


def test_a_gpu_that_is_lost_is_told_once() -> None:
    """Else nobody would hear of it, or of nothing else."""
    bus = Bus("GPU-1", "GPU-2")
    lost = LostGpus(bus)
    assert lost() == ()
    bus.refuse["GPU-2"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert (lost(), lost()) == (("GPU-2",), ())
    del bus.refuse["GPU-2"]
    assert lost() == ()
    bus.names.remove("GPU-2")
    assert lost() == ("GPU-2",)
    assert bus.open == 0


def test_a_driver_that_is_replaced_has_lost_nothing() -> None:
    """Else every upgrade of a driver would call somebody at night."""
    bus = Bus("GPU-1")
    lost = LostGpus(bus)
    lost()
    bus.starts = False
    assert lost() == ()
    bus.starts, bus.refuse["GPU-1"] = True, pynvml.NVML_ERROR_NO_PERMISSION
    assert lost() == ()
    bus.refuse.clear()
    assert lost() == ()
    assert bus.open == 0
