"""The conductor's socket: connections in, events out. Strangers get little time and little room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from kts.conduct import events as ev
from kts.errors import DataError, SetupError
from kts.wire.framing import Deframer, frame
from kts.wire.messages import FromConductor, Hello, Refuse, decode_from_worker, encode

READ_BYTES = 64 * 1024
STRANGER_S = 5.0
STRANGER_BYTES = 8 * 1024
MAX_STRANGERS = 256


class MessageServer:
    """Accepts connections and hands every message to ``feed`` as an event.

    ``host``, ``port``: where to listen; port 0 takes a free one.
    """

    def __init__(self, host: str, port: int, feed: Callable[[ev.Event], None]) -> None:
        self.host, self.port = host, port
        self._feed = feed
        self._server: asyncio.Server | None = None
        self._strangers: dict[int, asyncio.StreamWriter] = {}
        self._tenants: dict[str, asyncio.StreamWriter] = {}
        self._names: dict[int, str] = {}
        self._leaving: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_peer = 0

    async def open(self) -> None:
        """Listens; ``port`` is then the real one. SetupError if the address cannot be had."""
        try:
            self._server = await asyncio.start_server(self._accepted, self.host, self.port, limit=READ_BYTES)
        except OSError as error:
            what = f"cannot listen on {self.host}:{self.port}: {error.strerror or error}"
            raise SetupError(what, "choose another host or port") from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def empty(self) -> bool:
        """True when no worker is connected."""
        return not (self._tenants or self._leaving)

    def accept(self, peer: int, tenant: str) -> None:
        """From now on the connection belongs to a tenant."""
        self._tenants[tenant] = self._strangers.pop(peer)
        self._names[peer] = tenant

    def reject(self, peer: int, what: str) -> None:
        """Tells a stranger why, and closes."""
        writer = self._strangers.pop(peer)
        _write(writer, Refuse(what=what))
        writer.close()

    def release(self, tenant: str) -> None:
        """The tenant's connection is nobody's any more: what still comes is dropped, until its worker closes it."""
        peer = next((peer for peer, name in self._names.items() if name == tenant), None)
        if peer is not None:
            del self._names[peer], self._tenants[tenant]
            self._leaving.add(peer)

    def send(self, tenant: str, message: FromConductor) -> None:
        """Sends to a tenant; nothing happens if it is gone."""
        writer = self._tenants.get(tenant)
        if writer is not None:
            _write(writer, message)

    async def close(self) -> None:
        """Closes all connections and stops listening."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begins to serve. By a task of our own: one that asyncio makes shows a traceback where it is cancelled, as
        happens to a connection that comes in the instant in which the run ends."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._last_peer += 1
        peer = self._last_peer
        try:
            if len(self._strangers) >= MAX_STRANGERS:  # a worker says who it is at once: the oldest is none
                self._strangers.pop(min(self._strangers)).transport.abort()
            self._strangers[peer] = writer
            _without_delay(writer)
            await self._attend(peer, reader)
        finally:
            self._forget(peer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _attend(self, peer: int, reader: asyncio.StreamReader) -> None:
        deframer = Deframer()
        with contextlib.suppress(OSError, TimeoutError, DataError):
            async with asyncio.timeout(STRANGER_S):
                await self._greet(peer, reader, deframer)
        if peer not in self._names:
            return
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if peer in self._names and not self._take(self._names[peer], deframer, data):
                    return

    async def _greet(self, peer: int, reader: asyncio.StreamReader, deframer: Deframer) -> None:
        """Reads no more than a Hello; a worker says nothing else before it is answered."""
        room = STRANGER_BYTES
        while room > 0 and peer in self._strangers:
            data = await reader.read(room)
            if not data or peer not in self._strangers:
                return
            room -= len(data)
            for body in deframer.feed(data):
                message = decode_from_worker(body)
                if not isinstance(message, Hello):
                    return
                self._feed(ev.Greeted(peer=peer, hello=message))
                break

    def _take(self, tenant: str, deframer: Deframer, data: bytes) -> bool:
        try:
            for body in deframer.feed(data):
                self._feed(ev.Received(tenant=tenant, message=decode_from_worker(body)))
        except DataError as error:
            self._feed(ev.Garbled(tenant=tenant, what=error.what))
            return False
        return True

    def _forget(self, peer: int) -> None:
        self._strangers.pop(peer, None)
        self._leaving.discard(peer)
        tenant = self._names.pop(peer, None)
        if tenant is not None:
            del self._tenants[tenant]
            self._feed(ev.Lost(tenant=tenant))


def _write(writer: asyncio.StreamWriter, message: FromConductor) -> None:
    if not writer.is_closing():
        writer.write(frame(encode(message)))


def _without_delay(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
