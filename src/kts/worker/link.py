"""The worker's end of the connection to the conductor. Blocking writes, reads that never block unless asked to."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque

from kts.errors import DataError, MeasurementError
from kts.model.records import Records
from kts.units import s_to_ns
from kts.wire.framing import Deframer, frame, make_chunk
from kts.wire.messages import (
    Finish,
    FromConductor,
    FromWorker,
    Heartbeat,
    QuotaReached,
    Stop,
    decode_from_conductor,
    encode,
)
from kts.worker.host import HostReader
from kts.worker.loop import HEARTBEAT_NS, Every

_CONNECT_S = 10.0
_RETRY_S = 0.2
_SEND_BUFFER_BYTES = 4 * 1024 * 1024  # several chunks: a conductor that is busy for a moment does not hold us up
_DEAD_PEER_MS = 30_000
_READ_BYTES = 65536


class LinkLostError(MeasurementError):
    """The conductor is gone."""


class Link:
    """Messages over a TCP socket. Every method raises LinkLostError when the other end is gone."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        with contextlib.suppress(OSError):  # some sandboxes lack it; then a lost host is noticed later
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MS)
        self._socket = connection
        self._deframer = Deframer()
        self._inbox: deque[FromConductor] = deque()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._heartbeat = Every(HEARTBEAT_NS, time.monotonic_ns())
        self._torn = False

    @classmethod
    def connect(cls, host: str, port: int, patience_s: float = 0.0) -> Link:
        """A link to the conductor at ``host``:``port``; tried again for ``patience_s`` where it is not there yet."""
        deadline_ns = time.monotonic_ns() + s_to_ns(patience_s)
        while True:
            try:
                return cls(socket.create_connection((host, port), timeout=_CONNECT_S))
            except OSError as error:
                if time.monotonic_ns() >= deadline_ns:
                    raise LinkLostError(f"no conductor at {host}:{port}: {error}") from error
            time.sleep(_RETRY_S)

    def send(self, message: FromWorker) -> None:
        """Sends one message; returns when the kernel has it."""
        if self._torn:
            raise LinkLostError("a message was cut off half sent; nothing can follow it")
        self._torn = True  # stays so if a signal's exception interrupts the sending
        try:
            self._socket.sendall(frame(encode(message)))
        except OSError as error:
            raise LinkLostError(f"the conductor is gone: {error}") from error
        self._torn = False

    def receive(self, timeout_s: float) -> FromConductor | None:
        """The next message, or None after ``timeout_s``."""
        if not self._inbox:
            self._pull(timeout_s)
        return self._inbox.popleft() if self._inbox else None

    def stop_wanted(self, block: int, wait_s: float = 0.0) -> bool:
        """True once Stop for ``block``, or Finish, has come; waits at most ``wait_s``. All is kept for `receive`."""
        self._pull(wait_s)
        if not self._inbox:
            return False
        return any(isinstance(m, Finish) or (isinstance(m, Stop) and m.block == block) for m in self._inbox)

    def pulse(self) -> None:
        """A heartbeat outside a block, if one is due."""
        now_ns = time.monotonic_ns()
        if self._heartbeat.due(now_ns):
            self.send(Heartbeat(monotonic_ns=now_ns, iterations=0))

    def hang_up(self) -> None:
        """Ends the connection, from any thread: whoever uses it is told that it is lost."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection, so that what was sent still arrives: unread input would turn the end into a reset."""
        with contextlib.suppress(OSError):
            while self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT):
                pass
        self._socket.close()

    def _pull(self, timeout_s: float) -> None:
        if not self._poll.poll(timeout_s * 1000):
            return
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise LinkLostError(f"the conductor is gone: {error}") from error
        if not data:
            raise LinkLostError("the conductor closed the connection")
        try:
            self._inbox.extend(decode_from_conductor(body) for body in self._deframer.feed(data))
        except DataError as error:
            raise LinkLostError(f"the conductor cannot be understood: {error.what}") from error


class BlockOutlet:
    """A block's `kts.worker.loop.Outlet` on a link: numbers the chunks and counts the records.

    ``closed_ns``: when this tenant's window may close; 0 before its quota is reached. ``host``:
    heartbeats tell what it reads.
    """

    def __init__(self, link: Link, block: int, *, host: HostReader | None = None) -> None:
        self.chunks = 0
        self.count = 0
        self.closed_ns = 0
        self._link = link
        self._block = block
        self._host = host

    def records(self, records: Records) -> None:
        """Sends one chunk."""
        self._link.send(make_chunk(self._block, self.chunks, records))
        self.chunks += 1
        self.count += len(records)

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        """Sends a heartbeat."""
        host = self._host.read() if self._host is not None and self._host.due() else None
        self._link.send(Heartbeat(monotonic_ns=now_ns, iterations=iterations, host=host))

    def quota_reached(self, at_ns: int) -> None:
        """Sends QuotaReached."""
        self.closed_ns = at_ns
        self._link.send(QuotaReached(block=self._block))

    def stopped(self) -> bool:
        """True once Stop or Finish has come."""
        return self._link.stop_wanted(self._block)
