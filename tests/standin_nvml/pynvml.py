"""A stand-in for NVML of one GPU, as much as MIG needs: its state is a JSON file, so that processes share it.

STANDIN_NVML names the file. ``refuse``: by function, the error that it gives; ``kill``: the function that ends its
caller, once it has done its work. A GPU has 7 places; profiles and numbers as on an H200.
"""

# ruff: noqa: N802, N816 - names are NVML's
from __future__ import annotations

import ctypes
import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_NOT_FOUND, NVML_ERROR_IN_USE = 3, 4, 6, 19
NVML_ERROR_INSUFFICIENT_RESOURCES = 23
NVML_GPU_INSTANCE_PROFILE_COUNT, NVML_COMPUTE_INSTANCE_PROFILE_COUNT = 10, 8
NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED = 0
c_nvmlGpuInstance_t = c_nvmlComputeInstance_t = ctypes.c_uint

# by NVML's index: id, slices, how many, multiprocessors, MiB, name
_PROFILES = {
    0: (19, 1, 7, 16, 16384, b"MIG 1g.18gb"),
    1: (14, 2, 3, 32, 32768, b"MIG 2g.35gb"),
    2: (9, 4, 2, 60, 65536, b"MIG 3g.71gb"),
    4: (0, 8, 1, 132, 131072, b"MIG 7g.141gb"),
    9: (15, 2, 4, 26, 32768, b"MIG 1g.35gb"),
}


class NVMLError(Exception):
    """With the number of the error."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


@contextmanager
def _gpu(name: str = "") -> Iterator[dict[str, Any]]:
    file = Path(os.environ["STANDIN_NVML"])
    state = json.loads(file.read_text())
    if name in state.get("refuse", {}):
        raise NVMLError(state["refuse"][name])
    yield state
    file.with_suffix(".new").write_text(json.dumps(state))
    file.with_suffix(".new").replace(file)
    if name and state.get("kill") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def nvmlInit() -> None:
    """Starts."""


def nvmlShutdown() -> None:
    """Ends."""


def nvmlDeviceGetCount() -> int:
    """GPUs."""
    return 1


def nvmlDeviceGetHandleByIndex(_: int) -> str:
    """The GPU."""
    return "GPU-1"


def nvmlDeviceGetHandleByUUID(name: str) -> str:
    """The GPU."""
    return name


def nvmlDeviceGetUUID(handle: str) -> str:
    """Handles are names here."""
    return handle


def nvmlDeviceGetName(handle: str) -> str:
    """Of the GPU or a part."""
    return f"Test GPU{' MIG 3g.71gb' if handle.startswith('MIG-') else ''}"


def nvmlDeviceGetMigMode(_: str) -> list[int]:
    """Now, and after a reset."""
    with _gpu("nvmlDeviceGetMigMode") as gpu:
        return list(gpu.get("mig", [1, 1]))


def nvmlDeviceGetGpuInstanceProfileInfo(_: str, index: int) -> Any:
    """Of a profile."""
    if index not in _PROFILES:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    number, slices, count, processors, memory, name = _PROFILES[index]
    return SimpleNamespace(
        id=number,
        sliceCount=slices,
        instanceCount=count,
        multiprocessorCount=processors,
        memorySizeMB=memory,
        name=name,
    )


def nvmlDeviceGetGpuInstances(_: str, profile: int, room: Any, count: Any) -> None:
    """Into ``room``, and how many."""
    with _gpu("nvmlDeviceGetGpuInstances") as gpu:
        found = [one["id"] for one in gpu["instances"] if one["profile"] == profile]
    room[: len(found)] = found
    count._obj.value = len(found)


def nvmlGpuInstanceGetInfo(number: int) -> Any:
    """By its number."""
    with _gpu() as gpu:
        for one in gpu["instances"]:
            if one["id"] == number:
                place = SimpleNamespace(start=one["start"], size=one["size"])
                return SimpleNamespace(id=number, profileId=one["profile"], placement=place)
    raise NVMLError(NVML_ERROR_NOT_FOUND)


def nvmlDeviceCreateGpuInstance(_: str, profile: int) -> int:
    """At the first place."""
    with _gpu("nvmlDeviceCreateGpuInstance") as gpu:
        if len(gpu["instances"]) >= gpu.get("room", 7):
            raise NVMLError(NVML_ERROR_INSUFFICIENT_RESOURCES)
        size = next(slices for number, slices, *_ in _PROFILES.values() if number == profile)
        start = sum(one["size"] for one in gpu["instances"])
        number = 1 + max([0, *(one["id"] for one in gpu["instances"])])
        gpu["instances"].append({"id": number, "profile": profile, "start": start, "size": size, "uuid": ""})
    return number


def nvmlGpuInstanceGetComputeInstanceProfileInfo(number: int, index: int, _: int) -> Any:
    """One that takes all, and a smaller one."""
    nvmlGpuInstanceGetInfo(number)
    if index > 1:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return SimpleNamespace(id=index, sliceCount=index + 1, instanceCount=7, multiprocessorCount=16 * (index + 1))


def nvmlGpuInstanceCreateComputeInstance(number: int, profile: int) -> int:
    """With a MIG device in it, whose name no other has."""
    assert profile == 1, "the one that takes all"
    with _gpu("nvmlGpuInstanceCreateComputeInstance") as gpu:
        for one in gpu["instances"]:
            if one["id"] == number:
                one["uuid"] = f"MIG-{uuid.uuid4()}"
    return number


def nvmlGpuInstanceGetComputeInstances(number: int, profile: int, room: Any, count: Any) -> None:
    """Into ``room``, and how many."""
    with _gpu() as gpu:
        found = [one["id"] for one in gpu["instances"] if one["id"] == number and one["uuid"] and profile == 1]
    room[: len(found)] = found
    count._obj.value = len(found)


def nvmlComputeInstanceGetInfo(number: int) -> Any:
    """By its number."""
    return SimpleNamespace(id=number)


def nvmlComputeInstanceDestroy(number: int) -> None:
    """Of the device in it."""
    with _gpu("nvmlComputeInstanceDestroy") as gpu:
        for one in gpu["instances"]:
            if one["id"] == number:
                one["uuid"] = ""


def nvmlGpuInstanceDestroy(number: int) -> None:
    """Only without a device in it."""
    with _gpu("nvmlGpuInstanceDestroy") as gpu:
        if any(one["uuid"] for one in gpu["instances"] if one["id"] == number):
            raise NVMLError(NVML_ERROR_IN_USE)
        gpu["instances"] = [one for one in gpu["instances"] if one["id"] != number]


def nvmlDeviceGetMaxMigDeviceCount(_: str) -> int:
    """Places."""
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(_: str, index: int) -> str:
    """The device's name."""
    with _gpu() as gpu:
        found = [str(one["uuid"]) for one in gpu["instances"] if one["uuid"]]
    if index >= len(found):
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return found[index]


def nvmlDeviceGetGpuInstanceId(device: str) -> int:
    """Of the part that the device is in."""
    with _gpu() as gpu:
        return int(next(one["id"] for one in gpu["instances"] if one["uuid"] == device))
