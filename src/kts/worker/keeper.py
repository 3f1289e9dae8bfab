"""Keeps one program: starts it, and ends all that comes of it when it ends, is told to end, or its worker is gone.

Runs in a process of its own, as text, from the standard library alone, so that it outlives a worker that is killed.
The kernel hands it every orphan among the program's descendants, also one with a session of its own: without a child
it has ended them all. Its standard input is the worker's end of a pipe: one line of JSON (`argv`, `env`, `folder`,
`cores`), and then a byte that tells to end, or the end of the pipe: the worker is gone. Into the descriptor of its
argument it writes one line of JSON: `pid`, or why there is none. It ends as the program did.
"""

# Without pathlib, which takes as long to load as all the rest.
# ruff: noqa: PTH123, PTH208
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from ctypes import CDLL, byref, c_int

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 15, 36, 37
GONE_S = 10.0
"""So long the kernel may take to end what was killed: a process inside a driver ends only when that lets go."""
AGAIN_S = 0.01
SPARED: set[int] = set()
"""Children of this process that are no program's, and end by themselves."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def text() -> str:
    """This module."""
    with open(__file__, encoding="utf-8") as file:
        return file.read()


def main() -> None:
    """Keeps the program that standard input names. Never returns."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    prctl = CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NAME, b"keeper")
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with open(0, "rb", buffering=0, closefd=False) as asked:
        asked_for = json.loads(asked.readline() or "null")
    if asked_for is None:
        os._exit(1)
    program = _start(asked_for, int(sys.argv[1]), prctl)
    status: int | None = None
    while status is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
        status = _reap().get(program)
        if 0 in ready:
            break
    ended = _end_all()
    _leave(ended.get(program, signal.SIGKILL) if status is None else status)


def descendants(of: int) -> list[int]:
    """Processes that descend from this one, as /proc has them now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                children.setdefault(int(stat.read().rpartition(b")")[2].split()[1]), []).append(int(name))
    found = [of]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def adopt_orphans() -> None:
    """Lets this process get what its keepers leave when they are killed, for `end_orphans`."""
    CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_orphans() -> None:
    """Ends all descendants of this process but `SPARED` ones, if it asked for orphans."""
    adopts = c_int()
    CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, byref(adopts))
    if adopts.value:
        _end_all()


def _start(asked: dict, tell: int, prctl) -> int:  # type: ignore[no-untyped-def, type-arg]
    def begin() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if asked["cores"]:
            os.sched_setaffinity(0, asked["cores"])

    said: dict[str, object] = {}
    try:
        started = subprocess.Popen(
            asked["argv"],
            env=asked["env"],
            cwd=asked["folder"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=begin,  # noqa: PLW1509 - this process has one thread
        )
        said["pid"] = started.pid
        started.returncode = 0  # else it takes the status of a program that ended at once with it, when it is dropped
    except OSError as error:
        said.update(errno=error.errno, strerror=error.strerror, filename=error.filename)
    except (subprocess.SubprocessError, ValueError) as error:
        said["why"] = str(error)
    with contextlib.suppress(OSError):
        os.write(tell, json.dumps(said).encode() + b"\n")
    os.close(tell)
    if "pid" not in said:
        os._exit(1)
    with open(os.devnull, "wb") as nowhere:  # its output ends with the program's
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    return started.pid


def _reap() -> dict[int, int]:
    """Children that have ended, and how, as wait() tells it. ChildProcessError without any child."""
    found = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found[pid] = status
    return found


def _end_all() -> dict[int, int]:
    """Ends all descendants; those that were reaped."""
    found: dict[int, int] = {}
    until = time.monotonic() + GONE_S
    while time.monotonic() < until:
        left = set(descendants(os.getpid())) - SPARED
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        found |= _reap()
        if not left:
            break
        time.sleep(AGAIN_S)
    return found


def _leave(status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


if __name__ == "__main__":
    main()
