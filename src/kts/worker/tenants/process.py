"""A program in its own process group, started, stopped, continued and ended, with its output as lines."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kts.worker.failures import CommandError

_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 1024 * 1024  # room for a program that prints faster than we read for a moment
_READ_BYTES = 65536
_LONGEST_LINE_BYTES = 65536
_GRACE_S = 1.0
_libc = ctypes.CDLL(None)


class PrintedLine(NamedTuple):
    """A line with its end: a line feed, or the carriage return of a progress bar; none where output ended without."""

    text: str
    on_stderr: bool


class Process:
    """One life of the program. Its group dies with `kill`, and the program itself also if this process is killed."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Starts it. CommandError if it cannot be started."""
        self.last_line = ""
        try:
            self._process = subprocess.Popen(
                argv,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except FileNotFoundError as error:
            raise CommandError(
                f"command not found: {error.filename or argv[0]}",
                "give its full path, or one relative to where kts runs",
            ) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise CommandError(
                f"command {argv[0]} cannot be started: {error}", f"make it executable: chmod +x {shlex.quote(argv[0])}"
            ) from error
        self._selector = selectors.DefaultSelector()
        self._partial: dict[int, bytes] = {}
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            descriptor = stream.fileno()
            os.set_blocking(descriptor, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._selector.register(descriptor, selectors.EVENT_READ, data=stream is self._process.stderr)
            self._partial[descriptor] = b""

    def exit_code(self) -> int | None:
        """None while it lives; negative for a signal."""
        return self._process.poll()

    def pause(self) -> None:
        """Stops the whole group where it stands."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the group go on."""
        self._signal(signal.SIGCONT)

    def lines(self, timeout_s: float) -> list[PrintedLine]:
        """What it printed, line by line, after at most ``timeout_s``."""
        found: list[PrintedLine] = []
        for key, _ in self._selector.select(timeout_s) if self._selector.get_map() else ():
            try:
                data = os.read(key.fd, _READ_BYTES)
            except BlockingIOError:
                continue
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
        """All that is there now."""
        found: list[PrintedLine] = []
        while more := self.lines(0):
            found += more
        return found

    def kill(self) -> None:
        """Ends the whole group: politely, then by force. Idempotent."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
