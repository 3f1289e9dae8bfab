"""Port-forward over a WebSocket, against a kubelet that is played here; the real one: tests/e2e/cluster."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)

from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden
from kts.k8s.cluster.forward import PROTOCOL, Tunnel, forwarded
from kts.k8s.cluster.identity import Access, Server, User

PORT = 7078
BEGIN = [b"\0" + PORT.to_bytes(2, "little"), b"\1" + PORT.to_bytes(2, "little")]
Serve = Callable[[socket.socket, WSConnection], None]


def events(near: socket.socket, spoken: WSConnection) -> Iterator[Event]:
    """What the client says, until it is gone."""
    while data := near.recv(65536):
        spoken.receive_data(data)
        yield from spoken.events()


def say(near: socket.socket, spoken: WSConnection, *messages: bytes) -> None:
    """Sends each as a message."""
    for message in messages:
        near.sendall(spoken.send(BytesMessage(message)))


def accept(near: socket.socket, spoken: WSConnection, protocol: str | None = PROTOCOL) -> None:
    """Answers the upgrade, and begins both channels as a kubelet does."""
    request = next(event for event in events(near, spoken) if isinstance(event, Request))
    assert request.target == f"/api/v1/namespaces/ns/pods/p/portforward?ports={PORT}"
    assert request.subprotocols == [PROTOCOL]
    assert {(b"authorization", b"Bearer secret"), (b"impersonate-user", b"jane")} <= set(request.extra_headers)
    near.sendall(spoken.send(AcceptConnection(subprotocol=protocol)))
    say(near, spoken, *BEGIN)


@contextmanager
def kubelet(serve: Serve) -> Iterator[Api]:
    """An API server that serves every connection so."""
    failures: list[BaseException] = []

    def one(near: socket.socket) -> None:
        with near:
            try:
                serve(near, WSConnection(ConnectionType.SERVER))
            except OSError:
                pass
            except BaseException as error:  # shown below, where a test sees it
                failures.append(error)

    def accept_all() -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(near,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept_all, daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        acts = User(token="secret", acting=(("Impersonate-User", "jane"),))
        api = Api.of(Access("test", Server(address), acts))
        yield api
        api.close()
        listening.shutdown(socket.SHUT_RDWR)
    assert failures == []


def test_bytes_go_both_ways_and_pings_are_answered() -> None:
    """Else a tunnel would lose, reorder or invent bytes, or be cut off as dead."""
    pongs = threading.Event()

    def serve(near: socket.socket, spoken: WSConnection) -> None:
        accept(near, spoken)
        near.sendall(spoken.send(Ping(b"there?")))
        for event in events(near, spoken):
            if isinstance(event, Pong):
                pongs.set()
            if isinstance(event, BytesMessage):
                say(near, spoken, *(b"\0" + bytes([byte]) for byte in event.data[1:]))

    with kubelet(serve) as api:
        tunnel = Tunnel(api, "ns", "p", PORT)
        text = bytes(range(256)) * 4
        tunnel.near.sendall(text)
        got = b""
        while len(got) < len(text):
            got += tunnel.near.recv(1000)
        assert got == text
        assert pongs.wait(120)
        tunnel.close()
        assert tunnel.fault == ""


def test_a_message_in_fragments_is_one() -> None:
    """Else a part of an answer would be taken for a channel's number."""

    def serve(near: socket.socket, spoken: WSConnection) -> None:
        accept(near, spoken)
        near.sendall(spoken.send(BytesMessage(b"\0abc", message_finished=False)))
        near.sendall(spoken.send(BytesMessage(b"\1def", message_finished=True)))
        near.sendall(spoken.send(CloseConnection(code=1000)))

    with kubelet(serve) as api:
        tunnel = Tunnel(api, "ns", "p", PORT)
        assert tunnel.near.makefile("rb").read() == b"abc\1def"
        assert tunnel.fault == ""
        tunnel.close()


def test_a_port_on_which_nobody_listens_says_so() -> None:
    """Else the reason, which only the kubelet knows, would be lost."""

    def serve(near: socket.socket, spoken: WSConnection) -> None:
        accept(near, spoken)
        say(near, spoken, b"\1connect: connection\n refused")

    with kubelet(serve) as api:
        tunnel = Tunnel(api, "ns", "p", PORT)
        assert tunnel.near.recv(10) == b""
        tunnel.close()
        assert tunnel.fault == "connect: connection refused"


def test_who_may_not_forward_is_told_before_anything_is_sent() -> None:
    """Else a missing right would look like a pod that does not answer."""

    def serve(near: socket.socket, spoken: WSConnection) -> None:
        next(event for event in events(near, spoken) if isinstance(event, Request))
        near.sendall(spoken.send(RejectConnection(status_code=403, headers=[(b"connection", b"close")], has_body=True)))
        near.sendall(spoken.send(RejectData(b'{"message": "no portforward for you"}')))

    with kubelet(serve) as api:
        with pytest.raises(Forbidden, match="no portforward for you"):
            Tunnel(api, "ns", "p", PORT)
        with pytest.raises(Forbidden), forwarded(api, "ns", "p", PORT):
            pass


def test_a_server_that_speaks_something_else_is_refused() -> None:
    """Else its messages would be read as channels."""
    with kubelet(lambda near, spoken: accept(near, spoken, None)) as api, pytest.raises(SetupError, match=PROTOCOL):
        Tunnel(api, "ns", "p", PORT)


def test_each_connection_to_the_local_port_gets_a_way_of_its_own() -> None:
    """Else two requests at once would be mixed, or the second one wait for ever."""

    def serve(near: socket.socket, spoken: WSConnection) -> None:
        accept(near, spoken)
        for event in events(near, spoken):
            if isinstance(event, BytesMessage):
                path = event.data.split()[1]
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path)
                say(near, spoken, b"\0" + head, b"\0" + path)

    with kubelet(serve) as api, forwarded(api, "ns", "p", PORT) as port:
        open_ones = [http.client.HTTPConnection("127.0.0.1", port, timeout=400) for _ in range(3)]
        for turn in ("a", "b"):
            for number, connection in enumerate(open_ones):
                connection.request("GET", f"/{turn}{number}")
                assert connection.getresponse().read().decode() == f"/{turn}{number}"
        for connection in open_ones:
            connection.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))
