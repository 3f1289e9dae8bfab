"""A port of a pod, reached as `kubectl port-forward` reaches it: from the API server to the kubelet, and from there
within the pod's own network. No NetworkPolicy and no firewall in front of the pod stands in the way.

Spoken is ``v4.channel.k8s.io``, over a WebSocket: every kubelet that serves pods/portforward knows it. Each message
begins with a channel's number: 0 for data, 1 for the kubelet's own words; the first one of a channel repeats the port.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpcore2
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping
from wsproto.utilities import ProtocolError

from kts.errors import KtsError
from kts.k8s.cluster.api import Api

PROTOCOL = "v4.channel.k8s.io"
_DATA, _FAULT = 0, 1
_PORT_BYTES = 2
_PIECE_BYTES = 1 << 15
_WRITE_S = 30.0
_READ_S = 30.0
"""For the rest of what has begun to arrive."""


class Tunnel:
    """One connection to a port of a pod. SetupError, as the API server says it, if that does not open the way.

    ``near``: this end; a pod in which nobody listens closes it, and ``fault`` then says what the kubelet says.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        pod: str,
        port: int,
        *,
        near: socket.socket | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """``near``: a socket whose other end somebody else holds, to be served; else there is a new pair.
        ``timeout_s``: for the API server to open the way."""
        self.fault = ""
        self._open = ExitStack()
        self._stream = self._open.enter_context(api.upgraded(namespace, pod, port, PROTOCOL, timeout_s))
        if near is None:
            self.near, self._served = socket.socketpair()
        else:
            self.near = self._served = near
        self._websocket = Connection(ConnectionType.CLIENT)
        self._begun: set[int] = set()
        self._over = threading.Event()
        self._message = bytearray()
        threading.Thread(target=self._carry, name=f"port-forward {pod}:{port}", daemon=True).start()

    def close(self) -> None:
        """Ends both ends."""
        with contextlib.suppress(OSError):
            self.near.shutdown(socket.SHUT_RDWR)
        self._over.wait(1.0)
        self.near.close()

    def _carry(self) -> None:
        far = self._stream.get_extra_info("socket")
        try:
            with self._open, selectors.DefaultSelector() as ready:
                ready.register(self._served, selectors.EVENT_READ)
                ready.register(far, selectors.EVENT_READ)
                while True:
                    for key, _ in ready.select():
                        if not (self._from_near() if key.fileobj is self._served else self._from_far()):
                            return
        except (OSError, httpcore2.NetworkError, httpcore2.TimeoutException, ProtocolError) as error:
            self.fault = self.fault or " ".join(str(error).split()) or type(error).__name__
        finally:
            with contextlib.suppress(OSError):
                self._served.shutdown(socket.SHUT_RDWR)
            self._served.close()
            self._over.set()

    def _send(self, event: Any) -> None:
        self._stream.write(self._websocket.send(event), _WRITE_S)

    def _from_near(self) -> bool:
        """False at the end."""
        data = self._served.recv(_PIECE_BYTES)
        self._send(BytesMessage(data=bytes([_DATA]) + data) if data else CloseConnection(code=1000))
        return bool(data)

    def _from_far(self) -> bool:
        """False at the end."""
        data = self._stream.read(_PIECE_BYTES, _READ_S)
        self._websocket.receive_data(data or None)
        for event in self._websocket.events():
            if isinstance(event, Ping):
                self._send(event.response())
            elif isinstance(event, CloseConnection):
                return False
            elif isinstance(event, BytesMessage):
                self._message += event.data
                if event.message_finished:
                    self._take(bytes(self._message))
                    self._message.clear()
        return bool(data)

    def _take(self, message: bytes) -> None:
        channel, content = message[0] if message else -1, message[1:]
        if channel not in self._begun:
            self._begun.add(channel)
            content = content[_PORT_BYTES:]
        if channel == _DATA and content:
            self._served.sendall(content)
        elif channel == _FAULT and content:
            self.fault = " ".join((self.fault + content.decode(errors="replace")).split())


@contextmanager
def forwarded(api: Api, namespace: str, pod: str, port: int) -> Iterator[int]:
    """A port of this machine's loopback that leads to the pod's; each connection to it gets a `Tunnel` of its own.

    SetupError, as the API server says it, if it does not open the way: asked once, before anybody connects.
    """
    Tunnel(api, namespace, pod, port).close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, api, namespace, pod, port), daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept


def _accept(listening: socket.socket, *where: Any) -> None:
    while True:
        try:
            near, _ = listening.accept()
        except OSError:  # closed: nobody is to be served any more
            return
        threading.Thread(target=_serve, args=(near, *where), daemon=True).start()


def _serve(near: socket.socket, api: Api, namespace: str, pod: str, port: int) -> None:
    try:
        Tunnel(api, namespace, pod, port, near=near)
    except KtsError:
        near.close()
