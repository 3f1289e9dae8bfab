"""A program in its own process group, started, stopped, continued and ended, with its output as lines."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol

from kts.worker import keeper
from kts.worker.cgroup import memory_kills, memory_limit
from kts.worker.failures import CommandError

_PIPE_BYTES = 1024 * 1024  # room for a program that prints faster than we read for a moment
_READ_BYTES = 65536
_LONGEST_LINE_BYTES = 65536
_GRACE_S = 1.0
_GONE_S = keeper.GONE_S + 5.0
_KEEPER = ("-I", "-S", "-c", keeper.text())
"""Given to Python as text, so that whoever ends all that is named kts does not end what cleans up after it."""


class PrintedLine(NamedTuple):
    """A line with its end: a line feed, or the carriage return of a progress bar; none where output ended without."""

    text: str
    on_stderr: bool


class Memory(NamedTuple):
    """What a program may use. ``limit_bytes``: None without a limit. ``kills``: how many processes beside it, or of it,
    the kernel has killed for memory since the limit was set."""

    limit_bytes: int | None
    kills: int


class Process(Protocol):
    """One life of a program, wherever it runs."""

    @property
    def last_line(self) -> str:
        """What it printed last; empty if nothing."""

    def exit_code(self) -> int | None:
        """None while it lives; negative for a signal."""

    def pause(self) -> None:
        """Stops its whole group where it stands."""

    def resume(self) -> None:
        """Lets the group go on."""

    def lines(self, timeout_s: float) -> list[PrintedLine]:
        """What it printed, line by line, after at most ``timeout_s``."""

    def drain(self) -> list[PrintedLine]:
        """All that is there now."""

    def memory(self) -> Memory:
        """What it may use, and what became of it."""

    def kill(self) -> None:
        """Ends the whole group: politely, then by force. Idempotent."""


class Launch(Protocol):
    """Starts a program. CommandError if it cannot be started."""

    def __call__(self, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        """A new life of it."""


class Output:
    """The lines that a program writes into two pipes, whose read ends these are. ``last_line``: see Process."""

    def __init__(self, stdout: int, stderr: int) -> None:
        self.last_line = ""
        self._selector = selectors.DefaultSelector()
        self._partial: dict[int, bytes] = {}
        self._taken_bytes = 0
        for descriptor in (stdout, stderr):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._selector.register(descriptor, selectors.EVENT_READ, data=descriptor == stderr)
            self._partial[descriptor] = b""

    def lines(self, timeout_s: float) -> list[PrintedLine]:
        """See Process."""
        if not self._selector.get_map():  # it has closed both, and may go on for long
            time.sleep(timeout_s)
            return []
        found: list[PrintedLine] = []
        for key, _ in self._selector.select(timeout_s):
            try:
                data = os.read(key.fd, _READ_BYTES)
            except BlockingIOError:
                continue
            self._taken_bytes += len(data)
            if not data:
                self._selector.unregister(key.fd)
            whole = (self._partial[key.fd] + data).splitlines(keepends=True)
            goes_on = data and not whole[-1].endswith((b"\n", b"\r")) and len(whole[-1]) < _LONGEST_LINE_BYTES
            self._partial[key.fd] = whole.pop() if goes_on else b""
            decoded = [line.decode(errors="replace") for line in whole]
            self.last_line = next((line.strip() for line in reversed(decoded) if line.strip()), self.last_line)
            found += [PrintedLine(line, key.data) for line in decoded]
        return found

    def drain(self) -> list[PrintedLine]:
        """See Process."""
        until = self._taken_bytes + sum(_waiting(key.fd) for key in self._selector.get_map().values())
        found: list[PrintedLine] = []
        while (more := self.lines(0)) and self._taken_bytes < until:  # who prints all the time is not read for ever
            found += more
        return found + more

    def close(self) -> None:
        """Reads no more; the pipes are their owner's to close."""
        self._selector.close()


def _waiting(descriptor: int) -> int:
    """How many bytes are there to read."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0])


class ChildProcess:
    """Implements Process: a child of a keeper (`kts.worker.keeper`), which ends it, and all that it has started, also
    when this process is killed."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], folder: str | None = None, cores: Set[int] | None = None
    ) -> None:
        """Starts it in ``folder`` and on ``cores``, by default this process's. CommandError if it cannot be started."""
        told, tell = os.pipe()
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, *_KEEPER, str(tell)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
                pass_fds=(tell,),
            )
        except OSError as error:
            os.close(told)
            raise not_started(sys.executable, error) from error
        finally:
            os.close(tell)
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        assert self._keeper.stderr is not None
        asked = {"argv": [*argv], "env": dict(env), "folder": folder, "cores": sorted(cores or ())}
        with contextlib.suppress(BrokenPipeError):
            self._keeper.stdin.write(json.dumps(asked).encode() + b"\n")
            self._keeper.stdin.flush()
        with os.fdopen(told, "rb") as answer:
            said = json.loads(answer.readline() or "{}")
        self._output = Output(self._keeper.stdout.fileno(), self._keeper.stderr.fileno())
        self._group = said.get("pid")
        if self._group is None:
            why = "\n".join(line.text for line in self._output.drain()) or "its keeper was killed"
            self.kill()
            raise not_started(argv[0], _why(said, why), folder)

    @property
    def last_line(self) -> str:
        """See Process."""
        return self._output.last_line

    def exit_code(self) -> int | None:
        """See Process."""
        return self._keeper.poll()

    def pause(self) -> None:
        """See Process."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """See Process."""
        self._signal(signal.SIGCONT)

    def lines(self, timeout_s: float) -> list[PrintedLine]:
        """See Process."""
        return self._output.lines(timeout_s)

    def drain(self) -> list[PrintedLine]:
        """See Process."""
        return self._output.drain()

    def memory(self) -> Memory:
        """See Process; it is in this process's cgroup."""
        return Memory(memory_limit(), memory_kills())

    def kill(self) -> None:
        """See Process. What left the group is ended, too."""
        if self._keeper.poll() is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            self._ended(_GRACE_S)
        if self._keeper.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._keeper.stdin.write(b"\n")
            self._keeper.stdin.close()
        if not self._ended(_GONE_S):
            self._keeper.kill()
        self._keeper.wait()
        self._signal(signal.SIGKILL)  # nobody has done it where the keeper was killed
        keeper.end_orphans()
        self._output.close()
        for stream in (self._keeper.stdout, self._keeper.stderr):
            if stream is not None:
                stream.close()

    def _ended(self, within_s: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(within_s)
            return True
        return False

    def _signal(self, number: signal.Signals) -> None:
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, number)


def _why(said: Mapping[str, Any], otherwise: str) -> Exception:
    """What the keeper says of a program that it could not start."""
    if "errno" in said:
        return OSError(said["errno"], said["strerror"], said["filename"])
    return subprocess.SubprocessError(said.get("why", otherwise))


def not_started(program: str, error: Exception, folder: str | None = None) -> CommandError:
    """Why a program could not be started, and what to do."""
    if folder is not None and isinstance(error, OSError) and error.filename == folder:
        return CommandError(f"workdir {folder}: {error.strerror}", "name a folder that is there")
    if isinstance(error, FileNotFoundError):
        what = f"command not found: {error.filename or program}"
        return CommandError(what, f"give its full path, or one relative to where it runs{in_a_pod()}")
    what = f"command {program} cannot be started: {error}"
    return CommandError(what, f"make it executable: chmod +x {shlex.quote(program)}")


def in_a_pod() -> str:
    """What a remedy must add where a program is not on the machine of who started the run; else empty."""
    if not os.environ.get("KTS_NODE"):
        return ""
    return "; its pod has the files of its image alone: name one that has the program's (--program-image, image:)"
