"""The first visible GPU as the driver describes it, whichever library computes on it."""

from __future__ import annotations

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
