"""How the conductor is reached: the pod proxy, or port-forward where that does not lead to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden, Missing, Unavailable
from kts.k8s.follow import conductor
from kts.k8s.follow.conductor import FORWARD, PROXY, Conductor
from kts.k8s.objects import Object

AWAY = Unavailable("dial tcp 10.0.0.1:7078: i/o timeout", "")


class Answers(BaseHTTPRequestHandler):
    """What a conductor's pod is, as far as its ways are concerned."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers['X-Kts-Token']}".encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class World:
    """A cluster with one pod; a clock. ``proxied`` and ``forwards``: what comes of either way, an error or None."""

    def __init__(self, port: int) -> None:
        self.now_s = 0.0
        self.proxied: Exception | None = AWAY
        self.forwards: Exception | None = None
        self.tunnels: list[Tunnel] = []
        self.notes: list[str] = []
        self.port = port
        self.takes_s = 0.0
        self.conductor = Conductor(cast(Api, self), "ns", "p", "secret", note=self.notes.append, now=lambda: self.now_s)

    def proxy(self, *_: Any, **__: Any) -> bytes:
        self.now_s += self.takes_s
        if self.proxied is not None:
            raise self.proxied
        return b"by proxy"

    def ask(self, path: str = "/v1/x") -> str:
        """What it answers, or how it fails."""
        try:
            return self.conductor.ask("GET", path, params={"offset": "1"}).decode()
        except SetupError as error:
            return type(error).__name__

    def see(self, ready: bool) -> None:
        """A look at the pod."""
        pod: Object = {"status": {"phase": "Running", "containerStatuses": [{"ready": ready}]}}
        self.conductor.see(pod)


class Tunnel:
    """One that leads straight to the pod."""

    def __init__(self, api: World, namespace: str, pod: str, port: int, *, timeout_s: float) -> None:
        del namespace, pod, port, timeout_s
        if api.forwards is not None:
            raise api.forwards
        self.fault = ""
        self.near = socket.create_connection(("127.0.0.1", api.port))
        api.tunnels.append(self)

    def close(self) -> None:
        self.near.close()


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(conductor, "Tunnel", Tunnel)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        world = World(server.server_address[1])
        yield world
        world.conductor.close()
        server.shutdown()


def test_the_proxy_is_enough_where_it_leads_there(world: World) -> None:
    """Else every run would need one more right."""
    world.proxied = None
    world.see(ready=True)
    assert (world.ask(), world.conductor.way, world.tunnels, world.notes) == ("by proxy", PROXY, [], [])


def test_a_pod_that_starts_is_waited_for(world: World) -> None:
    """Else a slow start would be taken for a broken network."""
    world.see(ready=False)
    for _ in range(7):
        assert world.ask() == "Unavailable"
        world.now_s += 1
        world.see(ready=False)
    assert world.tunnels == []
    assert world.conductor.unreachable is None


@pytest.mark.parametrize("takes_s", [0.0, 4.0])
def test_a_pod_that_listens_is_reached_through_the_kubelet_within_20_s(world: World, takes_s: float) -> None:
    """Else runs on private control planes would wait for ever; a proxy that hangs is no better than one that fails."""
    world.takes_s = takes_s
    world.see(ready=True)
    while world.ask() == "Unavailable":
        world.now_s += 1
        world.see(ready=True)
    assert world.now_s < 20
    assert world.conductor.way == FORWARD
    assert world.ask("/v1/y") == "/v1/y?offset=1 secret"
    assert world.ask("/missing") == "Missing"
    assert len(world.tunnels) == 1
    (note,) = world.notes
    assert FORWARD in note
    assert "i/o timeout" in note


def test_a_kubelet_whose_probe_is_blocked_keeps_nobody_from_trying(world: World) -> None:
    """Else one more firewall would keep a run from its second way."""
    while world.conductor.way != FORWARD:
        world.see(ready=False)
        world.ask()
        world.now_s += 1
        assert world.now_s < 20


def test_who_may_not_use_the_proxy_may_forward(world: World) -> None:
    """Else a right that is not needed would be asked for."""
    world.proxied = Forbidden("pods/proxy", "")
    world.see(ready=True)
    assert world.ask() == "/v1/x?offset=1 secret"


@pytest.mark.parametrize("takes_s", [0.0, 4.0])
def test_where_nothing_leads_there_both_ways_are_named_within_20_s(world: World, takes_s: float) -> None:
    """Else a user would wait, and look for the fault in the pod."""
    world.takes_s = takes_s
    world.forwards = Forbidden("cannot get pods/portforward", "")
    world.see(ready=True)
    while (error := world.conductor.unreachable) is None:
        assert world.ask() == "Unavailable"
        world.now_s += 1
        assert world.now_s < 20
    assert f"{PROXY}: {AWAY.what}" in error.what
    assert f"{FORWARD}: cannot get pods/portforward" in error.what
    assert "7078" in error.remedy
    assert "pods/portforward" in error.remedy


@pytest.mark.parametrize("proxied", [None, Forbidden("no", "")])
def test_a_conductor_that_answered_once_is_not_given_up(world: World, proxied: Exception | None) -> None:
    """Else an outage in the midst of a run would end it, though it goes on without us."""
    world.proxied = proxied
    world.see(ready=True)
    assert world.ask() in ("by proxy", "/v1/x?offset=1 secret")
    world.proxied = world.forwards = AWAY
    for tunnel in world.tunnels:
        tunnel.close()
    for _ in range(100):
        assert world.ask() == "Unavailable"
        world.now_s += 1
    assert world.conductor.unreachable is None
    world.proxied = None
    assert world.ask() == "by proxy"


def test_a_tunnel_that_ends_is_opened_anew_or_given_up_for_the_proxy(world: World) -> None:
    """Else a kubelet that restarts, or a network that is mended, would cost the run its follower."""
    world.proxied = Forbidden("no", "")
    world.see(ready=True)
    world.ask()
    world.tunnels[0].near.shutdown(socket.SHUT_RDWR)
    assert world.ask() == "/v1/x?offset=1 secret"
    assert len(world.tunnels) == 2
    world.tunnels[1].near.shutdown(socket.SHUT_RDWR)
    world.forwards, world.proxied = AWAY, None
    assert world.ask() == "by proxy"
    assert world.conductor.way == PROXY


def test_a_pod_that_is_not_there_is_missing(world: World) -> None:
    """Else what was deleted would look like a network that is broken."""
    world.proxied = Missing("pods p not found", "")
    world.see(ready=True)
    assert world.ask() == "Missing"
