"""Which GPUs each process computes on, as NVML lists them: UUIDs by pid of the pid namespace that NVML tells, which is
the node's where the asking process is in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kts.telemetry.nvml import load_nvml
from kts.telemetry.source import SourceMissingError


class ComputingProcesses:
    """Asks NVML anew at each call, and again for NVML itself where it was not there. A MIG instance counts as a GPU of
    its own. ``problem``: why it told nothing the last time; empty where it did."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self.problem = ""

    def __call__(self) -> Mapping[int, tuple[str, ...]]:
        """UUIDs by pid; empty where NVML tells nothing."""
        try:
            nvml = self._nvml = self._nvml or load_nvml()
        except SourceMissingError as error:
            self.problem = str(error)
            return {}
        try:
            nvml.nvmlInit()  # at each call: a driver that is replaced answers no old handle
        except nvml.NVMLError as error:
            self.problem = f"NVML does not start here: {error}"
            return {}
        found: dict[int, list[str]] = {}
        self.problem = ""
        try:
            for handle in _handles(nvml):
                try:
                    uuid = nvml.nvmlDeviceGetUUID(handle)
                    for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                        found.setdefault(process.pid, []).append(uuid)
                except nvml.NVMLError as error:  # one GPU that is lost hides no other
                    self.problem = f"NVML tells no processes of a GPU: {error}"
        except nvml.NVMLError as error:
            self.problem = f"NVML lists no GPUs: {error}"
        finally:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()
        return {pid: tuple(dict.fromkeys(uuids)) for pid, uuids in found.items()}


def _handles(nvml: Any) -> Iterator[Any]:
    """Of every GPU, or of its MIG instances where it has some."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            continue  # lost, or no rights
        instances = []
        try:
            for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                try:
                    instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
                except nvml.NVMLError:
                    continue  # a place without an instance
        except nvml.NVMLError:
            instances = []  # cannot have any
        yield from instances or [handle]
