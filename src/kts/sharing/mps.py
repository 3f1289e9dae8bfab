"""CUDA MPS: a daemon of our own, in directories of our own, ended afterwards, also after a crash.

A daemon that somebody else started is never asked, joined or ended: it has another directory of pipes.
https://docs.nvidia.com/deploy/mps
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kts.errors import SetupError
from kts.model.mode import Mode
from kts.model.plan import InMode
from kts.sharing import folders
from kts.sharing.port import Held
from kts.shown import one_line
from kts.worker.sharing import CONTROL, MPS_SERVER, PIPE, ask_daemon
from kts.worker.tenants.process import ChildProcess

LOG = "CUDA_MPS_LOG_DIRECTORY"
PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
KIND = "mps"
PIPES = "pipe"
STARTS_S = 10.0
ENDS_S = 10.0
POLL_S = 0.02


@contextmanager
def prepared(arms: Sequence[InMode]) -> Iterator[Held]:
    """See `kts.sharing.port.Sharing`."""
    with _daemon() as (daemon, directories):
        env = {tenant: {**directories, **variables(arm.mode)} for arm in arms for tenant in arm.tenants.values()}
        yield Held(env, lambda: _trouble(daemon))


@contextmanager
def _daemon() -> Iterator[tuple[ChildProcess, Mapping[str, str]]]:
    """A daemon that answers, and the directories that lead to it. It ends with this process, whoever is killed."""
    control = shutil.which(CONTROL)
    if control is None:
        raise SetupError(
            f"MPS: {CONTROL} is not on this machine", "it comes with NVIDIA's driver (package nvidia-compute-utils)"
        )
    with folders.own(KIND) as folder:
        directories = _directories(folder)
        daemon = ChildProcess([control, "-f"], {**os.environ, **directories})
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


def variables(mode: Mode) -> Mapping[str, str]:
    """The limit of threads, where there is one."""
    return {} if mode.threads_percent is None else {PERCENT: str(mode.threads_percent)}


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
    said = one_line(daemon.last_line) or _last_logged(folder) or "it says nothing"
    raise SetupError(f"MPS: its daemon {how}: {said[:300]}", "kts doctor; nvidia-smi -q -d COMPUTE")


def _directories(folder: Path) -> dict[str, str]:
    made = {PIPE: folder / PIPES, LOG: folder / "log"}
    for path in made.values():
        path.mkdir()
    return {name: str(path) for name, path in made.items()}


def _last_logged(folder: Path) -> str:
    with suppress(OSError):
        lines = (folder / "log" / "control.log").read_text(errors="replace").split("\n")
        return one_line(next((line.strip() for line in reversed(lines) if line.strip()), ""))
    return ""
