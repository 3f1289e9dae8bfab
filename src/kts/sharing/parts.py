"""GPU instances that kts makes itself, where it was told that it may, and takes away again, whoever is killed.

On a GPU that is in MIG mode and has no instance: whoever made one uses it, and to put MIG mode on may reset the GPU
(A100, A30) or need another start of the machine, so both are the administrator's.
https://docs.nvidia.com/datacenter/tesla/mig-user-guide, https://docs.nvidia.com/deploy/nvml-api (Multi Instance GPU).

What was made is in a record before it is used. A process of its own, in a session of its own, takes it away when kts
is done or gone (`kts.sharing.parts_keeper`); where that was killed, too, the next kts does.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from kts import files
from kts.errors import SetupError
from kts.sharing import folders
from kts.sharing.mig import session, shown
from kts.worker.interpreter import module

KIND = "mig"
RECORD = "made.json"
KEEPER = "kts.sharing.parts_keeper"
ENDS_S = 60.0
"""Tenants of a killed run may compute for some seconds yet, and a part that is in use stays."""
POLL_S = 0.1
READY = "ready"
_PERMISSION = (
    "as root, or with access to the driver's capability mig/config; or make them yourself: nvidia-smi mig -cgi "
    "PROFILE,PROFILE -C"
)


class MadePart(msgspec.Struct, frozen=True):
    """A GPU instance by its number and place; ``uuid``: of the MIG device in it, empty before it is known."""

    number: int
    start: int
    size: int
    uuid: str = ""


class MadeParts(msgspec.Struct, frozen=True):
    """What was made on a GPU that had no instance, in this boot of the machine: ``count`` are wanted of a profile."""

    gpu: str
    boot: str
    profile: int
    name: str
    count: int
    parts: tuple[MadePart, ...] = ()


@contextmanager
def made(count: int) -> Iterator[str]:
    """So many equal MIG devices on a GPU, and gone afterwards; in words, empty where as many are there anyway.

    SetupError where they cannot be had; then what was made is gone, too.
    """
    with session() as nvml:
        if any(len(there) >= count for there in shown(nvml).values()):
            yield ""
            return
        gpu, profile = _room(nvml, count)
        uuid = str(nvml.nvmlDeviceGetUUID(gpu))
    folder = folders.new(KIND)
    keeper = subprocess.Popen(
        [sys.executable, *module(KEEPER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdout is not None
    try:
        if keeper.stdout.readline().strip() != READY:
            raise SetupError("--allow-reconfigure: what takes the parts away again does not start", "kts doctor")
        wanted = MadeParts(uuid, _boot(), profile.id, _text(profile.name), count)
        with session() as nvml:
            _make(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid), wanted, lambda now: _keep(folder, now))
        yield f"MIG: kts made {count} of {wanted.name} on {uuid}, which had none, for this run alone"
    finally:
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            keeper.communicate(timeout=ENDS_S + 10.0)
        if keeper.returncode:  # it was killed
            put_back(folder)


def put_back(folder: Path, patience_s: float = ENDS_S) -> str:
    """Takes away what a record names, and then the record; why something is left, else empty. Never raises.

    Of instances those are taken that are certainly the record's: by number, profile and place, and by the UUID of the
    device in it, which no other ever has; and the one whose making was cut short, in which there is no device yet.
    """
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=MadeParts)
    except (FileNotFoundError, msgspec.DecodeError):
        record = None
    left = ""
    if record is not None and record.boot == _boot():  # instances do not outlive the machine's start
        deadline = time.monotonic() + patience_s
        while (left := _taken(record)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    if not left:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def end_orphans(patience_s: float = 5.0) -> list[Path]:
    """Takes away what runs of this user made that were killed together with who keeps it; the records of what is left
    or was taken."""
    found = folders.orphans(KIND)
    for folder in found:
        put_back(folder, patience_s)
    return found


def instances(nvml: Any, gpu: Any) -> list[Any]:
    """Handles of the GPU's instances. NVMLError where this user may not know, or the GPU cannot be cut."""
    ask = partial(nvml.nvmlDeviceGetGpuInstances, gpu)
    return _made_of(_profiles(nvml, gpu), nvml.c_nvmlGpuInstance_t, ask, nvml.nvmlGpuInstanceGetInfo)


def _made_of(profiles: Iterable[Any], kind: Any, ask: Callable[..., Any], info: Callable[[Any], Any]) -> list[Any]:
    """Handles of what there is of these profiles, by number: ``ask`` fills room for as many of a ``kind`` as fit."""
    found: dict[int, Any] = {}
    for profile in profiles:
        room, count = (kind * profile.instanceCount)(), ctypes.c_uint(profile.instanceCount)
        ask(profile.id, room, ctypes.byref(count))
        for handle in room[: count.value]:
            found[info(handle).id] = handle
    return [found[number] for number in sorted(found)]


def _room(nvml: Any, count: int) -> tuple[Any, Any]:
    """A GPU in MIG mode without an instance, and the profile of which so many fit, each as large as can be: by
    multiprocessors, then by memory. SetupError with the reason of each GPU."""
    why = []
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        name = str(nvml.nvmlDeviceGetUUID(gpu))
        try:
            now, pending = nvml.nvmlDeviceGetMigMode(gpu)
        except nvml.NVMLError:
            why.append(f"{name} has no MIG")
            continue
        if not now:
            why.append(f"{name} is not in MIG mode{', and will be after a reset' if pending else ''}")
            continue
        try:
            there = len(instances(nvml, gpu))
        except nvml.NVMLError as error:
            raise _refused(nvml, error, f"of {name} NVML tells no instances") from error
        fit = [one for one in _profiles(nvml, gpu) if one.instanceCount >= count]
        if there:
            why.append(f"{name} has {there} GPU instances that are not kts's")
        elif not fit:
            why.append(f"{name} cannot be cut into {count}")
        else:
            return gpu, max(fit, key=lambda one: (one.multiprocessorCount, one.memorySizeMB))
    raise SetupError(
        f"--allow-reconfigure: kts makes MIG devices on a GPU in MIG mode that has none: {'; '.join(why) or 'no GPU'}",
        "MIG mode: as root nvidia-smi -i GPU -mig 1, which may reset the GPU and needs it idle, so kts does not; "
        "fewer tenants; or end the instances that are there (nvidia-smi mig -dci, then -dgi) if they are yours",
    )


def _make(nvml: Any, gpu: Any, wanted: MadeParts, keep: Callable[[MadeParts], None]) -> None:
    """Makes them; ``keep`` is told what there is before and after each step. SetupError with NVML's words."""
    keep(wanted)
    for number in range(1, wanted.count + 1):
        try:
            handle = nvml.nvmlDeviceCreateGpuInstance(gpu, wanted.profile)
            info = nvml.nvmlGpuInstanceGetInfo(handle)
            part = MadePart(info.id, info.placement.start, info.placement.size)
            keep(replace(wanted, parts=(*wanted.parts, part)))
            nvml.nvmlGpuInstanceCreateComputeInstance(handle, _whole(nvml, handle).id)
            uuids = _devices_in(nvml, gpu, info.id)
        except nvml.NVMLError as error:
            what = f"{wanted.gpu} gives no part {number} of {wanted.count} ({wanted.name})"
            raise _refused(nvml, error, what) from error
        if len(uuids) != 1:
            raise SetupError(f"--allow-reconfigure: {wanted.gpu} shows no MIG device in the part made", "kts doctor")
        wanted = replace(wanted, parts=(*wanted.parts, replace(part, uuid=uuids[0])))
        keep(wanted)


def _refused(nvml: Any, error: Any, what: str) -> SetupError:
    no = error.value == nvml.NVML_ERROR_NO_PERMISSION
    why = "this user may not" if no else str(error)
    remedy = _PERMISSION if no else "who else changes or uses this GPU? nvidia-smi; nvidia-smi mig -lgi"
    return SetupError(f"--allow-reconfigure: {what}: {why}", remedy)


def _taken(record: MadeParts) -> str:
    """Why something of the record is left; empty once nothing is."""
    left = []
    try:
        with session() as nvml:
            gpu = nvml.nvmlDeviceGetHandleByUUID(record.gpu)
            for handle in instances(nvml, gpu):
                info = nvml.nvmlGpuInstanceGetInfo(handle)
                if _is_of(record, info, _devices_in(nvml, gpu, info.id)):
                    try:
                        for inner in _compute_instances(nvml, handle):
                            nvml.nvmlComputeInstanceDestroy(inner)
                        nvml.nvmlGpuInstanceDestroy(handle)
                    except nvml.NVMLError as error:
                        left.append(f"GPU instance {info.id} of {record.gpu}: {error}")
    except SetupError as error:
        return error.what
    return "; ".join(left)


def _is_of(record: MadeParts, info: Any, uuids: list[str]) -> bool:
    if info.profileId != record.profile:
        return False
    for part in record.parts:
        if part.number == info.id:
            same = (part.start, part.size) == (info.placement.start, info.placement.size)
            return same and (not part.uuid or set(uuids) <= {part.uuid})
    return not uuids and len(record.parts) < record.count


def _profiles(nvml: Any, gpu: Any) -> list[Any]:
    """Those that the GPU offers, in NVML's order. ``instanceCount``: how many of it an empty GPU has."""
    ask = partial(nvml.nvmlDeviceGetGpuInstanceProfileInfo, gpu)
    return _offered(nvml, nvml.NVML_GPU_INSTANCE_PROFILE_COUNT, ask)


def _inner_profiles(nvml: Any, handle: Any) -> list[Any]:
    shared = nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    ask = partial(nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, handle)
    return _offered(nvml, nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT, lambda number: ask(number, shared))


def _offered(nvml: Any, most: int, ask: Callable[[int], Any]) -> list[Any]:
    found = []
    for number in range(most):
        with contextlib.suppress(nvml.NVMLError):  # not of this GPU, or instance
            found.append(ask(number))
    return found


def _whole(nvml: Any, handle: Any) -> Any:
    """The profile of the compute instance that takes all of the GPU instance."""
    return max(_inner_profiles(nvml, handle), key=lambda one: one.multiprocessorCount)


def _compute_instances(nvml: Any, handle: Any) -> list[Any]:
    ask = partial(nvml.nvmlGpuInstanceGetComputeInstances, handle)
    kind, info = nvml.c_nvmlComputeInstance_t, nvml.nvmlComputeInstanceGetInfo
    return _made_of(_inner_profiles(nvml, handle), kind, ask, info)


def _devices_in(nvml: Any, gpu: Any, number: int) -> list[str]:
    """UUIDs of the MIG devices in a GPU instance."""
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with contextlib.suppress(nvml.NVMLError):  # a place without one
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
            if nvml.nvmlDeviceGetGpuInstanceId(device) == number:
                found.append(str(nvml.nvmlDeviceGetUUID(device)))
    return found


def _keep(folder: Path, record: MadeParts) -> None:
    files.replace(folder / RECORD, msgspec.json.encode(record))


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
