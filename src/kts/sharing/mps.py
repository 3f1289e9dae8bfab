"""CUDA MPS: a daemon of our own, in directories of our own, ended afterwards, also after a crash.

A daemon that somebody else started is never asked, joined or ended: it has another directory of pipes.
https://docs.nvidia.com/deploy/mps
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kts.errors import SetupError
from kts.model.mode import Mode
from kts.shown import one_line
from kts.worker.sharing import CONTROL, MPS_SERVER, PIPE, ask_daemon

LOG = "CUDA_MPS_LOG_DIRECTORY"
PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
OWNER = "owner.json"
PIPES = "pipe"
STARTS_S = 10.0
ENDS_S = 10.0
POLL_S = 0.02


@contextmanager
def prepared() -> Iterator[Mapping[str, str]]:
    """See `kts.sharing.port.Sharing`. Daemons of runs that were killed are ended first."""
    if shutil.which(CONTROL) is None:
        raise SetupError(
            f"MPS: {CONTROL} is not on this machine", "it comes with NVIDIA's driver (package nvidia-compute-utils)"
        )
    end_orphans()
    folder = Path(tempfile.mkdtemp(prefix=_prefix(), dir=_base()))
    daemon: subprocess.Popen[bytes] | None = None
    try:
        env = _directories(folder)
        (folder / OWNER).write_text(json.dumps({"pid": os.getpid(), "began": _began(os.getpid())}))
        daemon = _start(folder, env)
        _await_answer(daemon, folder)
        yield env
    finally:
        end(folder)
        if daemon is not None:
            daemon.kill()
            daemon.wait()


def variables(mode: Mode) -> Mapping[str, str]:
    """The limit of threads, where there is one."""
    return {} if mode.threads_percent is None else {PERCENT: str(mode.threads_percent)}


def end(folder: Path) -> None:
    """Ends the daemon of a folder of ours and its servers, politely, then by force, and removes the folder."""
    pipe = folder / PIPES
    if _daemons(pipe):
        ask_daemon("quit", pipe, timeout_s=ENDS_S / 2)
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        for pid in _daemons(pipe):
            if number is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        deadline = time.monotonic() + ENDS_S / 3
        while (left := _daemons(pipe)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if not left:
            break
    shutil.rmtree(folder, ignore_errors=True)


def end_orphans() -> list[Path]:
    """Ends what runs of this user left that were killed; their folders."""
    found = [folder for folder in _base().glob(f"{_prefix()}*") if _is_orphan(folder)]
    for folder in found:
        end(folder)
    return found


def _is_orphan(folder: Path) -> bool:
    """True where the kts that made it is gone, also where another process has its number now."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return False
        owner = json.loads((folder / OWNER).read_text())
        return _began(int(owner["pid"])) != str(owner["began"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # not ours, or being made now


def _start(folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "daemon.out").open("wb") as out:
        return subprocess.Popen(
            [CONTROL, "-f"],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await_answer(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    """SetupError where the daemon gives none."""
    deadline = time.monotonic() + STARTS_S
    while daemon.poll() is None and time.monotonic() < deadline:
        if ask_daemon("get_server_list", folder / PIPES) is not None:
            return
        time.sleep(POLL_S)
    how = "does not answer" if daemon.poll() is None else f"ended with exit code {daemon.returncode}"
    raise SetupError(f"MPS: its daemon {how}: {_last_line(folder)}", "kts doctor; nvidia-smi -q -d COMPUTE")


def _directories(folder: Path) -> dict[str, str]:
    made = {PIPE: folder / PIPES, LOG: folder / "log"}
    for path in made.values():
        path.mkdir()
    return {name: str(path) for name, path in made.items()}


def _daemons(pipe: Path) -> list[int]:
    """The processes of MPS, daemon and servers, whose environment names that directory of pipes."""
    wanted = f"{PIPE}={pipe}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if (entry / "comm").read_text().startswith(MPS_SERVER) and wanted in (entry / "environ").read_bytes().split(
                b"\0"
            ):
                found.append(int(entry.name))
    return found


def _began(pid: int) -> str:
    """When the process began, in ticks since boot; empty where there is none."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _last_line(folder: Path) -> str:
    logs = [folder / "daemon.out", folder / "log" / "control.log"]
    for path in logs:
        with suppress(OSError):
            lines = path.read_text(errors="replace").split("\n")
            if text := next((line.strip() for line in reversed(lines) if line.strip()), ""):
                return one_line(text)[:300]
    return "it says nothing"


def _base() -> Path:
    """Short, for a socket's path has 108 characters at most."""
    return Path("/tmp")


def _prefix() -> str:
    return f"kts-mps-{os.getuid()}-"
