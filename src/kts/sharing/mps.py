"""CUDA MPS: a daemon of our own, in directories of our own, ended afterwards, also after a crash.

A daemon that somebody else started is never asked, joined or ended: it has another directory of pipes.
https://docs.nvidia.com/deploy/mps
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from kts.errors import SetupError, UsageError
from kts.model.mode import Mode
from kts.model.plan import InMode
from kts.opening import last_line
from kts.sharing import folders
from kts.sharing.port import Held
from kts.shown import one_line
from kts.worker.detect import cuda_devices
from kts.worker.sharing import CONTROL, MPS_SERVER, PIPE, ask_daemon

if TYPE_CHECKING:
    from kts.worker.tenants.process import ChildProcess

LOG = "CUDA_MPS_LOG_DIRECTORY"
PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
PRIORITY = "CUDA_MPS_CLIENT_PRIORITY"
PARTITION = "CUDA_MPS_SM_PARTITION"
_NORMAL, _BELOW_NORMAL = "0", "1"
_ASKED = {
    "memory_mib": ("get_default_device_pinned_mem_limit", "limits of pinned memory (CUDA 11.5)"),
    "above": ("get_default_client_priority", "priorities of clients (CUDA 12.0)"),
}
"""By the setting: the command of a daemon that has it, and what it is."""
_MIB = {"M": 1, "G": 1024}
_SETTINGS = "mps:50 (% of threads), mps:memory=8G, mps:chunks=4, mps:above=TENANT; several: mps:50:memory=8G"
KIND = "mps"
PIPES = "pipe"
STARTS_S = 60.0
ENDS_S = 10.0
POLL_S = 0.02


@contextmanager
def prepared(arms: Sequence[InMode]) -> Iterator[Held]:
    """See `kts.sharing.port.Sharing`. Modes with static partitions have a daemon each, for under it nobody computes
    outside of one; all others have one together."""
    plain = [arm for arm in arms if arm.mode.chunks is None]
    with ExitStack() as stack:
        daemons, env = [], {}
        for some in filter(None, (plain, *([arm] for arm in arms if arm.mode.chunks is not None))):
            daemon, directories = stack.enter_context(_daemon("-S" if some is not plain else ""))
            daemons.append(daemon)
            for arm in some:
                _check_offered(arm.mode, Path(directories[PIPE]))
                for common, tenant in arm.tenants.items():
                    part = _partition(arm.mode, Path(directories[PIPE]))
                    env[tenant] = {**directories, **variables(arm.mode, common), **part}
        yield Held(env, lambda: tuple(text for daemon in daemons for text in _trouble(daemon)))


@contextmanager
def _daemon(option: str) -> Iterator[tuple[ChildProcess, Mapping[str, str]]]:
    """A daemon that answers, and the directories that lead to it. It ends with this process, whoever is killed."""
    from kts.worker.tenants.process import ChildProcess

    control = shutil.which(CONTROL)
    if control is None:
        raise SetupError(
            f"MPS: {CONTROL} is not on this machine", "it comes with NVIDIA's driver (package nvidia-compute-utils)"
        )
    with folders.own(KIND) as folder:
        directories = _directories(folder)
        daemon = ChildProcess([control, "-f", *filter(None, [option])], {**os.environ, **directories})
        try:
            _await_answer(daemon, folder)
            yield daemon, directories
        finally:
            try:
                if daemon.exit_code() is None:
                    ask_daemon("quit", folder / PIPES, timeout_s=ENDS_S / 2)
            finally:  # also where somebody presses Ctrl-C again
                daemon.kill()
                end(folder)


def with_settings(mode: Mode, text: str) -> Mode:
    """The mode with the settings of ``50:memory=8G``, by colons: a percentage of threads; ``memory=``, in M or G;
    ``chunks=``, a static partition of so many; ``above=``, the tenant that is not below normal priority. UsageError."""
    for word in text.split(":"):
        what, _, value = word.rpartition("=")
        number = int(value) if value.isascii() and value.isdecimal() else 0
        size = int(value[:-1]) if value[:-1].isascii() and value[:-1].isdecimal() else 0
        match what:
            case "" if 1 <= number <= 100:
                mode = replace(mode, threads_percent=number)
            case "memory" if size and value[-1] in _MIB:
                mode = replace(mode, memory_mib=size * _MIB[value[-1]])
            case "chunks" if number:
                mode = replace(mode, chunks=number)
            case "above" if value:
                mode = replace(mode, above=value)
            case _:
                raise UsageError(f"--modes: MPS has no setting {word!r}", f"{_SETTINGS}; a percentage is from 1 to 100")
    if mode.chunks is not None and mode.threads_percent is not None:
        raise UsageError(
            "--modes: a static partition has all threads of its SMs", "leave chunks= or the percentage out"
        )
    return mode


def variables(mode: Mode, tenant: str) -> Mapping[str, str]:
    """What the settings are to a client, as https://docs.nvidia.com/deploy/mps has it; ``tenant``: by its name that all
    modes have in common. Of each GPU that the client sees the first is limited: a tenant has one."""
    found = {}
    if mode.threads_percent is not None:
        found[PERCENT] = str(mode.threads_percent)
    if mode.memory_mib is not None:
        found[MEMORY] = f"0={mode.memory_mib}M"
    if mode.above:
        found[PRIORITY] = _NORMAL if tenant == mode.above else _BELOW_NORMAL
    return found


def _check_offered(mode: Mode, pipe: Path) -> None:
    """SetupError where the daemon lists its commands, and one that goes with a setting is not among them: a variable
    that a driver does not know would be ignored without a word. What lists nothing is believed."""
    listed = ask_daemon("help", pipe) or []
    known = any("get_server_list" in line for line in listed)
    for setting, (command, what) in _ASKED.items():
        if known and getattr(mode, setting) and not any(command in line for line in listed):
            raise SetupError(f"--modes: {mode.name}: the MPS of this driver has no {what}", "leave that setting out")


def _partition(mode: Mode, pipe: Path) -> Mapping[str, str]:
    """A new static partition, by the variable that makes a client of it. SetupError with the daemon's words."""
    if mode.chunks is None:
        return {}
    uuid = cuda_devices()[0].uuid
    answer = ask_daemon(f"sm_partition add {uuid} {mode.chunks}", pipe) or []
    for line in answer:
        if made := re.search(rf"{re.escape(uuid)}/\S+", line):
            return {PARTITION: made[0]}
    said = next((one_line(line) for line in answer if line.strip()), "it says nothing")
    raise SetupError(
        f"--modes: {mode.name}: MPS makes no static partition of {mode.chunks} chunks: {said[:300]}",
        "fewer chunks for each tenant; lspart of nvidia-cuda-mps-control says how many there are (CUDA 13.1 or later)",
    )


def end(folder: Path) -> None:
    """Ends the daemon of a folder of ours and its servers, and removes the folder."""
    pipe = folder / PIPES
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in processes(pipe):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            deadline = time.monotonic() + ENDS_S / 3
            while (left := processes(pipe)) and time.monotonic() < deadline:
                time.sleep(POLL_S)
            if not left:
                break
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_orphans() -> list[Path]:
    """Ends what runs of this user left that were killed together with their keepers; their folders."""
    found = folders.orphans(KIND)
    for folder in found:
        end(folder)
    return found


def processes(pipe: Path) -> list[int]:
    """Those of MPS, daemon and servers, whose environment names that directory of pipes."""
    wanted = f"{PIPE}={pipe}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                is_mps = (entry / "comm").read_text().startswith(MPS_SERVER)
                if is_mps and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _trouble(daemon: ChildProcess) -> tuple[str, ...]:
    code = daemon.exit_code()
    if code is None:
        return ()
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return (f"MPS: the daemon that kts started ended while the run went on ({how}): its clients fall with it",)


def _await_answer(daemon: ChildProcess, folder: Path) -> None:
    """SetupError where the daemon gives none."""
    deadline = time.monotonic() + STARTS_S
    while (code := daemon.exit_code()) is None and time.monotonic() < deadline:
        if ask_daemon("get_server_list", folder / PIPES) is not None:
            return
        time.sleep(POLL_S)
    how = "does not answer" if code is None else f"ended with exit code {code}"
    daemon.drain()
    said = one_line(daemon.last_line) or last_line(folder / "log" / "control.log") or "it says nothing"
    raise SetupError(f"MPS: its daemon {how}: {said[:300]}", "kts doctor; nvidia-smi -q -d COMPUTE")


def _directories(folder: Path) -> dict[str, str]:
    made = {PIPE: folder / PIPES, LOG: folder / "log"}
    for path in made.values():
        path.mkdir()
    return {name: str(path) for name, path in made.items()}
