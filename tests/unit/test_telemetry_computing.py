"""Which GPUs processes compute on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml

from kts.telemetry.computing import ComputingProcesses

# ruff: noqa: N802 - NVML's names


class _Gpus:
    """Stands for the module: by device its processes, by instance of device 1 those of it. ``lost``: an index."""

    def __init__(self, devices: list[list[int]], instances: list[list[int]] | None = None, lost: int = -1) -> None:
        self.devices, self.instances, self.lost, self.opened = devices, instances or [], lost, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[str, list[int]]:
        return f"GPU-{index}", self.devices[index]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: tuple[str, list[int]]) -> int:
        if handle[0] != "GPU-1":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _: object, number: int) -> tuple[str, list[int]]:
        if number >= len(self.instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return f"MIG-{number}", self.instances[number]

    def nvmlDeviceGetUUID(self, handle: tuple[str, list[int]]) -> str:
        return handle[0]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: tuple[str, list[int]]) -> list[SimpleNamespace]:
        if handle[0] == f"GPU-{self.lost}":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return [SimpleNamespace(pid=pid) for pid in handle[1]]


def test_each_process_has_its_gpus_and_instances() -> None:
    """Else tenants of different GPUs would be each other's neighbours."""
    nvml = _Gpus([[10, 11], [], [11]], [[12], [10]])
    computing = ComputingProcesses(nvml)
    assert computing() == {10: ("GPU-0", "MIG-1"), 11: ("GPU-0", "GPU-2"), 12: ("MIG-0",)}
    assert (computing.problem, nvml.opened) == ("", 0)


def test_a_gpu_that_is_lost_hides_no_other() -> None:
    """Else one broken GPU would take the names of all GPUs of the node."""
    computing = ComputingProcesses(_Gpus([[10], [11]], lost=0))
    assert computing() == {11: ("GPU-1",)}
    assert "lost" in computing.problem.lower()
