"""How the device here is shared, as far as this process can see: the CPU device, MIG, MPS, else turns.

NVML lists the processes that compute on a GPU, and apart from them the clients of an MPS server. Where there are only
the former, on a GPU that is not cut, each has a context of its own, and contexts take turns.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kts.model.mode import CPU_SCHEDULER, MIG, MPS, TIME_SLICING, Evidence, SharingMode
from kts.model.plan import DeviceChoice
from kts.worker.keeper import descendants

if TYPE_CHECKING:
    from kts.model.run import DeviceInfo

PIPE = "CUDA_MPS_PIPE_DIRECTORY"
_PIPE_DEFAULT = "/tmp/nvidia-mps"
CONTROL = "nvidia-cuda-mps-control"
MPS_SERVER = "nvidia-cuda-mps"
"""How the names of MPS's processes begin, the daemon's and those of the servers through which its clients compute."""
_BY_KTS = "kts"


def before(device: DeviceChoice, env: Mapping[str, str] = os.environ) -> SharingMode:
    """How tenants on this machine will share the device, before there are any: asked for is what the machine is set
    to, which is time-slicing unless something says otherwise."""
    from kts.worker.detect import choose_kind, cuda_devices

    if choose_kind(device) == "cpu":
        return SharingMode(asked=CPU_SCHEDULER)
    cut = [(gpu.name, gpu.uuid) for gpu in cuda_devices() if _is_cut(gpu.name, gpu.uuid)]
    evidence = (_cut(*cut[0], _BY_KTS),) if cut else _pipe(env, _BY_KTS)
    return SharingMode(asked=evidence[0].mode if evidence else TIME_SLICING, evidence=evidence)


def seen_from(
    tenant: str, device: DeviceInfo, env: Mapping[str, str] = os.environ, load: Callable[[], Any] | None = None
) -> tuple[Evidence, ...]:
    """What a tenant's process sees of its own GPU once it has computed on it; empty if nothing. Never raises."""
    by = f"tenant {tenant}"
    if device.kind != "cuda":
        return ()
    if _is_cut(device.name, device.uuid):
        return (_cut(device.name, device.uuid, by),)
    if client := _as_client(env, by):
        return (client,)
    own, clients = _processes(device.uuid, load or load_pynvml)
    if clients and not _has_no_daemon(env):
        return (_evidence(MPS, f"NVML lists {clients} clients of an MPS server on {device.uuid}", by),)
    pipe = _pipe(env, by)
    if pipe or not own:
        return pipe
    others = "this one has no MPS daemon to be a client of" if clients else "none of MPS"
    what = f"NVML lists {own} computing process{'es' if own > 1 else ''} on {device.uuid}, {others}, and no MIG device"
    return (_evidence(TIME_SLICING, what, by),)


def ask_daemon(command: str, pipe: Path, *, timeout_s: float = 20.0) -> list[str] | None:
    """The lines that the MPS daemon of that directory answers; None where none answers."""
    try:
        done = subprocess.run(
            [CONTROL],
            input=f"{command}\n",
            env={**os.environ, PIPE: str(pipe)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.split("\n") if done.returncode == 0 else None


def _as_client(env: Mapping[str, str], by: str) -> Evidence | None:
    """What the daemon says of this very process, or of the program that it runs; None where it lists neither."""
    control = _control(env)
    if not control.exists():
        return None
    pipe = control.parent
    for server in _numbers(ask_daemon("get_server_list", pipe)):
        clients = _numbers(ask_daemon(f"get_client_list {server}", pipe))
        if ours := sorted({os.getpid(), *descendants(os.getpid())} & set(clients)):
            what = f"MPS server {server} lists process {ours[0]} of the tenant among its {len(clients)} clients"
            return _evidence(MPS, what, by)
    return None


def _numbers(lines: list[str] | None) -> list[int]:
    return [int(line) for line in lines or () if line.strip().isdecimal()]


def _has_no_daemon(env: Mapping[str, str]) -> bool:
    """True where the process was sent to a directory without a daemon, and so is nobody's client."""
    return bool(env.get(PIPE)) and not _control(env).exists()


def _control(env: Mapping[str, str]) -> Path:
    """The pipe at which the process would look for a daemon."""
    return Path(env.get(PIPE) or _PIPE_DEFAULT) / "control"


def _processes(uuid: str, load: Callable[[], Any]) -> tuple[int, int]:
    """(processes that compute on the GPU, clients of MPS on it); zeros where NVML cannot tell, or the GPU is cut."""
    try:
        nvml = load()
        nvml.nvmlInit()
    except Exception:  # absent, broken, or of another driver: there is then nothing to tell
        return 0, 0
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        with contextlib.suppress(nvml.NVMLError):  # GPUs that cannot be cut
            if nvml.nvmlDeviceGetMigMode(handle)[0]:
                return 0, 0
        clients = nvml.nvmlDeviceGetMPSComputeRunningProcesses(handle)
        return len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)), len(clients)
    except (nvml.NVMLError, AttributeError):
        return 0, 0
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def load_pynvml() -> Any:
    """NVML's module. ImportError where it is not installed."""
    import pynvml

    return pynvml


def _is_cut(name: str, uuid: str) -> bool:
    return " MIG " in name or uuid.startswith("MIG-")


def _cut(name: str, uuid: str, by: str) -> Evidence:
    return _evidence(MIG, f"the driver calls the device {name} ({uuid})", by)


def _pipe(env: Mapping[str, str], by: str) -> tuple[Evidence, ...]:
    """A daemon's pipe may be left over from one that is gone, so it is only its word."""
    control = _control(env)
    return (_evidence(MPS, f"there is {control}", by, told=True),) if control.exists() else ()


def _evidence(mode: str, seen: str, by: str, *, told: bool = False) -> Evidence:
    return Evidence(mode=mode, seen=seen, by=by, at_ns=time.time_ns(), told=told)
