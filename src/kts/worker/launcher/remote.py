"""The worker's end of the launcher: programs in the container beside this one, as if they were its children.

One socket (Unix, SEQPACKET, so that a message is a message), made by the worker, on a volume of both containers.

=========== ==================================================================================================
``S``       start: bytes of the CPUs' mask (u32), the mask, NAME=VALUE with a zero behind each; and, as
            descriptors, the write ends of two pipes: output, errors
``P`` ``R`` stop its process group, let it go on
``T`` ``K`` end the group: politely (SIGTERM and SIGCONT), by force
``H``       from the launcher, first: version (a digit), a zero, and words with a zero behind each: of the container's
            variables NVIDIA_VISIBLE_DEVICES, CUDA_INJECTION64_PATH and NVTX_INJECTION64_PATH, as far as they are set;
            and the names in its /dev that begin with nvidia and a digit; as descriptors, if both could be opened, its
            /proc and its /sys/fs/cgroup
``B``       the program has begun: 0 (i32), how many processes of its container were killed for memory (u64), bytes of
            memory that it may use (u64; 0: no limit)
``F`` ``X`` it could not be started: errno; it ended: the status as wait() tells it; with the same two numbers
=========== ==================================================================================================
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kts.errors import SetupError
from kts.units import NS_PER_S
from kts.worker.failures import BesideError, CommandError
from kts.worker.host import Container
from kts.worker.tenants.process import Memory, Output, PrintedLine, not_started

VARIABLE = "KTS_LAUNCHER"
"""Where the socket is to be, told to a worker whose program runs beside it."""
VERSION = "1"
JOIN_S = 60.0
"""For the launcher to come: its image is there by then, since containers start in the pod's order."""
_MESSAGE_BYTES = 65536
_START_S = 60.0
_GRACE_S, _GONE_S = 1.0, 10.0
_EVERYBODY = 0o666
_NO_LIMIT = 1 << 60
_PAUSE_S = 0.25
_FOLDERS = 2
_CREDENTIALS = struct.Struct("3i")
_TOLD = struct.Struct("<ciQQ")
_ASK = "see what the cluster says of that container: kubectl describe pod, or cluster.json"


class Launcher:
    """Implements `kts.worker.tenants.process.Launch`, once `join` has returned.

    ``gpus``: what the program's container says of its GPUs: NVIDIA_VISIBLE_DEVICES (empty if that is not set) and the
    numbers of the devices in its /dev. ``environment``: its variables that name libraries to be injected.
    ``container``: where its processes show; None where they do not.
    """

    def __init__(self, path: Path) -> None:
        """Listens at ``path``. SetupError if it cannot."""
        self.gpus: tuple[str, tuple[int, ...]] = ("", ())
        self.environment: dict[str, str] = {}
        self.container: Container | None = None
        self._path = path
        self._folders: list[int] = []
        self._connection: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            path.unlink(missing_ok=True)
            self._listener.bind(str(path))
            path.chmod(_EVERYBODY)  # the image's user is whoever it is; nobody else has the volume
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise SetupError(f"no socket for the launcher at {path}: {error}", f"correct {VARIABLE}") from error

    def join(self, pulse: Callable[[], None] = lambda: None, within_s: float = JOIN_S) -> None:
        """Waits for the launcher, with ``pulse`` meanwhile. BesideError if it does not come in time."""
        deadline_ns = time.monotonic_ns() + round(within_s * NS_PER_S)
        self._listener.settimeout(_PAUSE_S)
        while self._connection is None:
            pulse()
            try:
                self._connection = self._listener.accept()[0]
            except TimeoutError:
                if time.monotonic_ns() > deadline_ns:
                    raise BesideError(
                        f"the container of its image did not start the program's launcher within {within_s:.0f} s",
                        _ASK,
                    ) from None
        said, self._folders = self._receive_with(JOIN_S)
        if len(self._folders) == _FOLDERS:
            proc, groups = (Path(f"/proc/self/fd/{folder}") for folder in self._folders)
            self.container = Container(proc, groups, _pid_of(self._connection))
        version, *words = said[1:].decode(errors="replace").split("\0")
        if said[:1] != b"H" or version != VERSION:
            raise SetupError(f"the launcher speaks version {version}, this worker {VERSION}", "use one kts image")
        self.environment = {name: value for name, is_one, value in (w.partition("=") for w in words) if is_one}
        visible = self.environment.pop("NVIDIA_VISIBLE_DEVICES", "")
        numbers = sorted(int(rest) for w in words if (rest := w.removeprefix("nvidia")).isdecimal() and rest != w)
        self.gpus = (visible, tuple(numbers))

    def __call__(self, argv: Sequence[str], env: Mapping[str, str]) -> LaunchedProgram:
        """Starts the program that the launcher was given, on this process's cores; ``env`` on top of what its container
        has. CommandError if it cannot be started, BesideError if its container is gone."""
        (out_read, out_write), (errors_read, errors_write) = os.pipe(), os.pipe()
        try:
            cores = _pinned()
            variables = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
            message = b"S" + struct.pack("<I", len(cores)) + cores + variables
            if len(message) >= _MESSAGE_BYTES:
                raise CommandError("its environment variables are too long", "give it less than 64 KiB of them")
            self._send(message, (out_write, errors_write))
        except BaseException:
            os.close(out_read)
            os.close(errors_read)
            raise
        finally:
            os.close(out_write)
            os.close(errors_write)
        program = LaunchedProgram(self, (out_read, errors_read))
        try:
            program.begin(argv[0])
        except BaseException:
            program.kill()
            raise
        return program

    def close(self) -> None:
        """The launcher ends then, and its container with it."""
        for one in (self._connection, self._listener):
            if one is not None:
                one.close()
        while self._folders:
            os.close(self._folders.pop())
        self._path.unlink(missing_ok=True)

    def send(self, kind: bytes) -> None:
        """A message without content. BesideError."""
        self._send(kind, ())

    def receive(self, timeout_s: float) -> bytes:
        """The next message; empty if none comes in time. BesideError."""
        try:
            return self._receive(timeout_s)
        except TimeoutError:
            return b""

    def _joined(self) -> socket.socket:
        if self._connection is None:
            raise _gone()
        return self._connection

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        try:
            socket.send_fds(self._joined(), [message], list(descriptors))
        except OSError as error:
            raise _gone() from error

    def _receive(self, timeout_s: float) -> bytes:
        """TimeoutError."""
        return self._receive_with(timeout_s)[0]

    def _receive_with(self, timeout_s: float) -> tuple[bytes, list[int]]:
        """A message, and the descriptors that came with it. TimeoutError."""
        connection = self._joined()
        try:
            if not select.select([connection], [], [], timeout_s)[0]:
                raise TimeoutError
            flags = socket.MSG_CMSG_CLOEXEC
            message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, _FOLDERS, flags)
        except TimeoutError:
            raise
        except OSError as error:
            raise _gone() from error
        if not message:
            raise _gone()
        return message, descriptors


def at_hand(env: Mapping[str, str]) -> Launcher:
    """The launcher that is to come to where KTS_LAUNCHER says. SetupError without one."""
    if not (path := env.get(VARIABLE, "")):
        raise SetupError("a program in an image of its own needs a cluster", "run it there: --on k8s; or without image")
    return Launcher(Path(path))


class LaunchedProgram:
    """Implements `kts.worker.tenants.process.Process`. BesideError once its container is gone."""

    def __init__(self, launcher: Launcher, pipes: tuple[int, int]) -> None:
        self._launcher, self._pipes = launcher, pipes
        self._output = Output(*pipes)
        self._code: int | None = None
        self._memory = Memory(None, 0)
        self._closed = False

    def begin(self, name: str) -> None:
        """Waits until it is started. CommandError if it cannot be."""
        while said := self._launcher.receive(_START_S):
            kind, number, self._memory = _read(said)
            if kind == b"B":
                return
            if kind == b"F":
                self._code = number  # there is no end to wait for
                why = OSError(number, os.strerror(number))
                raise not_started(name, why)
        raise BesideError(f"the launcher did not start {name} within {_START_S:.0f} s", _ASK)

    @property
    def last_line(self) -> str:
        """See Process."""
        return self._output.last_line

    def exit_code(self) -> int | None:
        """See Process."""
        self._await(0)
        return self._code

    def pause(self) -> None:
        """See Process."""
        self._launcher.send(b"P")

    def resume(self) -> None:
        """See Process."""
        self._launcher.send(b"R")

    def lines(self, timeout_s: float) -> list[PrintedLine]:
        """See Process."""
        return self._output.lines(timeout_s)

    def drain(self) -> list[PrintedLine]:
        """See Process."""
        return self._output.drain()

    def memory(self) -> Memory:
        """See Process; of its container, as of this program's start or end."""
        return self._memory

    def kill(self) -> None:
        """See Process."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(BesideError):  # then it is gone, too
            if self._code is None:
                self._launcher.send(b"T")
                self._await(_GRACE_S)
            self._launcher.send(b"K")
            self._await(_GONE_S)
        self._output.close()
        for pipe in self._pipes:
            os.close(pipe)

    def _await(self, within_s: float) -> None:
        if self._code is None and (said := self._launcher.receive(within_s)):
            kind, status, self._memory = _read(said)
            if kind == b"X":
                self._code = os.waitstatus_to_exitcode(status)


def _read(message: bytes) -> tuple[bytes, int, Memory]:
    """(kind, number, memory) of what the launcher tells of a program."""
    try:
        kind, number, kills, limit = _TOLD.unpack(message)
    except struct.error:
        raise SetupError("the launcher's words cannot be read", "use one kts image") from None
    return kind, number, Memory(limit if 0 < limit < _NO_LIMIT else None, kills)


def _pinned() -> bytes:
    """The mask of this process's cores, where kts chose them; else the program has those of its container."""
    if not os.environ.get("KTS_CORES"):
        return b""
    mask = sum(1 << core for core in os.sched_getaffinity(0))
    return mask.to_bytes((mask.bit_length() + 63) // 64 * 8, "little")


def _pid_of(connection: socket.socket) -> int:
    """Of the launcher, where its /proc is: containers of a pod may share their processes; else it is the first one."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(peer)[0]) or 1


def _gone() -> BesideError:
    return BesideError("the container of the program is gone", _ASK)
