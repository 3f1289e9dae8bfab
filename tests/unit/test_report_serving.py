"""The door of `kts watch --serve`, asked over HTTP."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace
from tests.helpers_watch import three

from kts.errors import SetupError, UsageError
from kts.report.metrics import Board
from kts.report.serving import _MOST_CONNECTIONS, PORT, SILENT_S, address_of, serve


class Served:
    """A board behind a door of its own."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.ended = False
        self.board = Board("0.1", lambda: self.now_s)
        self.server = serve(self.board, "127.0.0.1", 0, "0.1", ended=lambda: self.ended)
        self.port = self.server.server_port

    def ask(self, path: str, method: str = "GET") -> tuple[int, str, http.client.HTTPMessage]:
        """Status, body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers
        finally:
            connection.close()


@contextmanager
def door() -> Iterator[Served]:
    served = Served()
    try:
        yield served
    finally:
        served.server.shutdown()
        served.server.server_close()


def test_it_tells_programs_people_and_kubelets() -> None:
    """Else one of them would see nothing of a node that is watched."""
    with door() as served:
        served.board.put(three())
        status, body, headers = served.ask("/metrics")
        assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
        assert 'kts_watch_degradation_p99_ratio{container="main"' in body
        status, body, headers = served.ask("/")
        assert (status, headers["Refresh"]) == (200, "5")
        assert "shop/api/main pays most" in body
        assert served.ask("/healthz")[:2] == (200, "ok\n")
        assert served.ask("/", "HEAD")[:2] == (200, "")
        assert served.ask("/nothing")[0] == 404
        assert served.ask("/metrics", "POST")[0] == 405


def test_the_page_shows_the_latest_state() -> None:
    """Else a page that is kept, so as not to be made anew for each who asks, would grow old."""
    with door() as served:
        assert "Nothing was seen yet" in served.ask("/")[1]
        served.board.put(three())
        first = served.ask("/")[1]
        assert served.ask("/")[1] == first
        served.board.put(replace(three(), node="node-2"))
        assert "node-2: who pays" in served.ask("/")[1]


def test_silence_is_no_health_unless_nothing_more_is_to_come() -> None:
    """Else a watch that hangs would be left running; or one of a recording would be started over and over."""
    with door() as served:
        assert served.ask("/healthz")[:2] == (503, "nothing was seen yet\n")
        served.board.put(three())
        served.now_s += SILENT_S + 1
        assert served.ask("/healthz")[:2] == (503, "no news for 31 s\n")
        served.ended = True
        assert served.ask("/healthz")[0] == 200


def test_who_holds_connections_cannot_make_it_hold_more() -> None:
    """Else anyone who reaches the port could have a watch take threads and memory without a bound."""
    with door() as served:
        held = [socket.create_connection(("127.0.0.1", served.port), timeout=180) for _ in range(_MOST_CONNECTIONS)]
        with socket.create_connection(("127.0.0.1", served.port), timeout=180) as late:
            assert late.recv(1) == b""
        for one in held:
            one.close()


def test_a_port_that_is_taken_is_said() -> None:
    """Else two watches of one node would end in a traceback."""
    with door() as served, pytest.raises(SetupError, match="cannot listen on 127"):
        serve(served.board, "127.0.0.1", served.port, "0", ended=lambda: False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":80", ("", 80)),
        ("localhost", ("localhost", PORT)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", PORT)),
    ],
)
def test_an_address_is_a_host_a_port_or_both(text: str, address: tuple[str, int]) -> None:
    """Else --address would listen somewhere else, which may be everywhere."""
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["a:b", "a:99999", "a:-1", "a:\u0663"])
def test_what_is_no_port_is_said(text: str) -> None:
    """Else it would be a traceback of sockets."""
    with pytest.raises(UsageError, match="no port"):
        address_of(text)
