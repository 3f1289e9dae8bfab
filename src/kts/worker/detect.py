"""Which device and library can be used here. Cheap: asks the driver through ctypes, imports no GPU library."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import platform
import uuid
from pathlib import Path
from typing import Literal

import msgspec

from kts.errors import SetupError
from kts.model.plan import DeviceChoice, Kernel, Library, Plan, Work

DeviceKind = Literal["cuda", "cpu"]
LibraryName = Literal["torch", "cupy", "numpy"]
StreamWish = Literal["equal", "first", "behind"]
"""Which stream of its own a tenant asks for, in a process that others compute in, too: with the priority that all have,
with more than the others, or with less than the one that has more."""

_GPU_LIBRARIES: tuple[LibraryName, ...] = ("torch", "cupy")
_INSTALL = {
    "torch": "pip install 'kube-timeslice-profiler[torch]'",
    "cupy": "pip install 'kube-timeslice-profiler[cupy]'",
}
_NAME_BYTES = 128


class CudaDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that the driver offers to this process. ``uuid`` as in nvidia-smi: ``GPU-xxxxxxxx-...``."""

    index: int
    name: str
    uuid: str
    memory_bytes: int


class CudaDriver(msgspec.Struct, frozen=True, kw_only=True):
    """What the CUDA driver says. ``problem``: why there are no devices, one line; empty if there are."""

    devices: tuple[CudaDevice, ...] = ()
    cuda_version: str = ""
    problem: str = ""


def cuda_devices() -> list[CudaDevice]:
    """The GPUs that this process may use, in the driver's order; empty without a driver. Creates no context."""
    return list(cuda_driver().devices)


def cuda_driver() -> CudaDriver:
    """The driver's devices and version. Never raises: ``problem`` says what is missing."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return CudaDriver(problem="no NVIDIA driver (libcuda.so.1) on this machine")
    if code := driver.cuInit(0):
        return CudaDriver(problem=f"the NVIDIA driver does not start: cuInit gives error {code}")
    count = ctypes.c_int()
    if code := driver.cuDeviceGetCount(ctypes.byref(count)):
        return CudaDriver(problem=f"the NVIDIA driver lists no devices: error {code}")
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return CudaDriver(
        devices=tuple(_describe(driver, index) for index in range(count.value)),
        cuda_version=f"{version.value // 1000}.{version.value % 1000 // 10}",
        problem="" if count.value else "the NVIDIA driver offers no device to this process",
    )


def _describe(driver: ctypes.CDLL, index: int) -> CudaDevice:
    device = ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    raw = (ctypes.c_ubyte * 16)()
    get_uuid = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid
    get_uuid(ctypes.byref(raw), device)
    total = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    called = name.value.decode(errors="replace")
    return CudaDevice(
        index=index,
        name=called,
        uuid=f"{'MIG' if ' MIG ' in called else 'GPU'}-{uuid.UUID(bytes=bytes(raw))}",  # of a MIG device it is its own
        memory_bytes=total.value,
    )


def driver_version() -> str:
    """The NVIDIA driver's version, e.g. ``580.159.03``; empty if it cannot be asked."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ""
    text = ctypes.create_string_buffer(_NAME_BYTES)
    if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(text, _NAME_BYTES):
        return ""
    nvml.nvmlShutdown()
    return text.value.decode(errors="replace")


def cpu_model() -> str:
    """The CPU's name, or its architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.machine() or "unknown processor"


def installed(library: str) -> bool:
    """True if ``library`` could be imported; does not import it."""
    return importlib.util.find_spec(library) is not None


def choose_kind(device: DeviceChoice) -> DeviceKind:
    """``cuda`` where a GPU is present and not declined, else ``cpu``. SetupError if cuda is asked for and absent."""
    if device == "cpu":
        return "cpu"
    driver = cuda_driver()
    if driver.devices:
        return "cuda"
    if device == "cuda":
        raise SetupError(f"no CUDA device: {driver.problem}", "check nvidia-smi, or set device: cpu (or auto)")
    return "cpu"


def choose(device: DeviceChoice, library: Library) -> tuple[DeviceKind, LibraryName]:
    """The device and the library that a tenant that computes will use.

    A GPU is preferred to the CPU, and torch to cupy. SetupError, with what to install, where the wish cannot
    be met; a GPU without a library is such a case, because a silent fall to the CPU would mislead.
    """
    if library == "numpy":
        if device == "cuda":
            raise SetupError("library numpy cannot use a CUDA device", "set library: torch or cupy, or device: cpu")
        return "cpu", "numpy"
    kind = choose_kind(device)
    if kind == "cpu":
        if library != "auto":
            raise SetupError(f"library {library} needs a CUDA device", "set library: auto (numpy on the CPU)")
        return "cpu", "numpy"
    if library != "auto":
        if not installed(library):
            raise SetupError(f"library {library} is not installed", _INSTALL[library])
        return "cuda", library
    for candidate in _GPU_LIBRARIES:
        if installed(candidate):
            return "cuda", candidate
    raise SetupError(
        "a CUDA device is here, but neither torch nor cupy is installed",
        f"{_INSTALL['torch']}, or set device: cpu",
    )


def choose_for(device: DeviceChoice, work: Work) -> tuple[DeviceKind, LibraryName | None]:
    """`choose` for one tenant's work; the user's own program needs no array library of ours.

    SetupError also where it asks for a CUDA graph that cannot be had.
    """
    if work.image:
        raise SetupError(f"image {work.image}: a program in an image of its own needs a cluster", "run it --on k8s")
    if not isinstance(work, Kernel):
        return choose_kind(device), None
    kind, library = choose(device, work.library)
    if work.graph and library != "torch":
        raise no_graphs(kind, library)
    return kind, library


def resolved(plan: Plan) -> Plan:
    """The plan with each "auto" decided for this machine. SetupError where a tenant cannot run here."""
    chosen = {tenant.name: choose_for(plan.device, tenant.work) for tenant in plan.tenants}
    kinds = {name: kind for name, (kind, _) in chosen.items()}
    return plan.resolved(kinds, {name: library for name, (_, library) in chosen.items() if library})


def no_graphs(kind: DeviceKind, library: LibraryName) -> SetupError:
    """That a device has no CUDA graphs for us, and what to do."""
    where = "the CPU device has no CUDA graphs" if kind == "cpu" else f"CUDA graphs are not made through {library}"
    remedy = "set graph: false, or use a GPU with torch" if kind == "cpu" else "set library: torch, or graph: false"
    return SetupError(f"graph: {where}", remedy)


def visible_gpus() -> tuple[str, ...]:
    """UUIDs of the GPUs that NVML shows this process, whatever device it computes on; empty without NVML.

    In a container these are the GPUs that it was given: unlike NVIDIA_VISIBLE_DEVICES, which is ``void`` in CDI mode.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # absent, broken, or of another driver: there is then nothing to tell
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(sorted(_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles))
    except pynvml.NVMLError:
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
