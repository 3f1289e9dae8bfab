"""What of a machine's GPUs outlives a program: their settings, as NVML tells them, and the processes of MPS.

Locked clocks are not among it: NVML sets them and does not tell them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kts.model.plan import DeviceChoice
from kts.model.sharing_facts import GpuSettings, MpsProcess, SharedMachine
from kts.sharing.folders import began
from kts.sharing.parts import instances
from kts.worker.sharing import MPS_SERVER, load_pynvml

_COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
DEFAULT = _COMPUTE_MODES[0]
COMPUTE_MODE, MIG_MODE = "compute mode", "MIG mode"
_PROC = Path("/proc")


def look(device: DeviceChoice, load: Callable[[], Any] = load_pynvml, proc: Path = _PROC) -> SharedMachine:
    """The machine as it is now, where tenants compute on ``device``. Never raises: what NVML does not tell is left
    out."""
    if device == "cpu":
        return SharedMachine(at_ns=time.time_ns(), missing="the tenants compute on CPU cores")
    at_ns, mps = time.time_ns(), _mps(proc)
    try:
        nvml = load()
        nvml.nvmlInit()
    except Exception as error:  # absent, broken, or of another driver
        return SharedMachine(at_ns=at_ns, mps=mps, missing=f"NVML does not start here ({error})")
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        gpus = tuple(_gpu(nvml, handle) for handle in handles)
        return SharedMachine(at_ns=at_ns, gpus=gpus, mps=mps, computing=_computing(nvml, handles))
    except nvml.NVMLError as error:
        return SharedMachine(at_ns=at_ns, mps=mps, missing=f"NVML does not tell ({error})")
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> GpuSettings:
    settings = {}
    for what, read in _SETTINGS.items():
        with contextlib.suppress(nvml.NVMLError, AttributeError):  # not of this GPU, or not in this NVML
            settings[what] = read(nvml, handle)
    return GpuSettings(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)), name=str(nvml.nvmlDeviceGetName(handle)), settings=settings
    )


def _computing(nvml: Any, handles: list[Any]) -> int | None:
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        return sum(len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)) for handle in handles)
    return None


def _on_off(value: int) -> str:
    return "on" if value else "off"


def _mig(nvml: Any, handle: Any) -> str:
    now, pending = nvml.nvmlDeviceGetMigMode(handle)
    return _on_off(now) if now == pending else f"{_on_off(now)}, {_on_off(pending)} after a reset"


def _instances(nvml: Any, handle: Any) -> str:
    return ", ".join(str(nvml.nvmlGpuInstanceGetInfo(one).id) for one in instances(nvml, handle)) or "none"


def _devices(nvml: Any, handle: Any) -> str:
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(nvml.NVMLError):  # a place without an instance
            found.append(str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))))
    return ", ".join(sorted(found)) or "none"


def _application_clocks(nvml: Any, handle: Any) -> str:
    sm, memory = (nvml.nvmlDeviceGetApplicationsClock(handle, c) for c in (nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM))
    return f"{sm} and {memory} MHz"


_SETTINGS: dict[str, Callable[[Any, Any], str]] = {
    COMPUTE_MODE: lambda nvml, of: _COMPUTE_MODES.get(nvml.nvmlDeviceGetComputeMode(of), "unknown"),
    MIG_MODE: _mig,
    "MIG devices": _devices,
    "GPU instances": _instances,
    "persistence mode": lambda nvml, of: _on_off(nvml.nvmlDeviceGetPersistenceMode(of)),
    "power limit": lambda nvml, of: f"{nvml.nvmlDeviceGetPowerManagementLimit(of) / 1000:g} W",
    "application clocks": _application_clocks,
    "ECC": lambda nvml, of: " and then ".join(dict.fromkeys(_on_off(value) for value in nvml.nvmlDeviceGetEccMode(of))),
}


def _mps(proc: Path) -> tuple[MpsProcess, ...]:
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                name = (entry / "comm").read_text(errors="replace").strip()
                if name.startswith(MPS_SERVER) and not _is_dead(entry):
                    pid = int(entry.name)
                    found.append(MpsProcess(pid=pid, began=began(pid, proc), uid=entry.stat().st_uid, name=name))
    return tuple(sorted(found, key=lambda one: one.pid))


def _is_dead(process: Path) -> bool:
    """Whether nothing of it is left but how it ended, for its parent to ask: it serves nobody. OSError once gone."""
    return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in ("Z", "X")
