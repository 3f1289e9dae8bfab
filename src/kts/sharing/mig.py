"""MIG: a GPU that is cut, each tenant on a device of its own. kts uses those that are there; `kts.sharing.parts` makes
some where it may.

A tenant is alone on the device that it has in the mix, too, so that its figures are held against the same hardware.
https://docs.nvidia.com/datacenter/tesla/mig-user-guide
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kts.errors import SetupError
from kts.model.plan import InMode
from kts.sharing.port import Held
from kts.worker.sharing import load_pynvml

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def prepared(arms: Sequence[InMode]) -> Iterator[Held]:
    """See `kts.sharing.port.Sharing`. SetupError where no GPU has as many MIG devices as there are tenants."""
    tenants = list(arms[0].tenants)
    with session() as nvml:
        devices = shown(nvml)
    gpu = next((gpu for gpu, there in devices.items() if len(there) >= len(tenants)), None)
    if gpu is None:
        found = ", ".join(f"{gpu} has {len(there)}" for gpu, there in devices.items()) or "NVML shows no GPU"
        raise SetupError(
            f"--modes mig: {len(tenants)} MIG devices are needed on one GPU, and {found}",
            "make them (as root: nvidia-smi -mig 1, nvidia-smi mig -cgi PROFILES -C), or on a GPU that is in MIG mode "
            "and has none let kts: --allow-reconfigure; unasked it changes no setting of a GPU",
        )
    chosen = dict(zip(tenants, devices[gpu], strict=False))
    env = {}
    for arm in arms:
        for common, name in arm.tenants.items():
            env[name] = env[common] = {VISIBLE: chosen[common][0]}
    where = ", ".join(f"{tenant} on {name} ({uuid})" for tenant, (uuid, name) in chosen.items())
    yield Held(env, lambda: (f"MIG: parts of {gpu}, also alone: {where}",))


@contextmanager
def session() -> Iterator[Any]:
    """NVML, while it is asked. SetupError where it does not start, or does not tell."""
    try:
        nvml = load_pynvml()
        nvml.nvmlInit()
    except Exception as error:  # absent, broken, or of another driver
        raise SetupError(f"--modes mig: NVML does not start here ({error})", "kts doctor") from error
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise SetupError(f"--modes mig: NVML does not tell ({error})", "kts doctor") from error
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def shown(nvml: Any) -> dict[str, list[tuple[str, str]]]:
    """By the GPU's UUID, its MIG devices: UUID and name, in NVML's order."""
    gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return {str(nvml.nvmlDeviceGetUUID(gpu)): _of_gpu(nvml, gpu) for gpu in gpus}


def _of_gpu(nvml: Any, gpu: Any) -> list[tuple[str, str]]:
    found = []
    with contextlib.suppress(nvml.NVMLError):  # a GPU that cannot be cut
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with contextlib.suppress(nvml.NVMLError):  # a place without one
                device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
                found.append((str(nvml.nvmlDeviceGetUUID(device)), str(nvml.nvmlDeviceGetName(device))))
    return found
