"""The conductor's pod asks who is on its node: with its own token, of that node alone, and never fatally."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.helpers_wait import until

from kts.errors import SetupError
from kts.k8s.objects import Object, around
from kts.k8s.pod import neighbours
from kts.model.neighbours import Look

SCOPE = around.Scope(run="r1", namespace="kts", node="n", resource="nvidia.com/gpu")


class ApiServer:
    """Answers every request with ``code`` and ``body``, and keeps what was asked."""

    def __init__(self) -> None:
        self.code, self.body = 200, b'{"items": []}'
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                outer.asked.append((url.path, parse_qs(url.query), self.headers["Authorization"]))
                self.send_response(outer.code)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pods(self, node: str) -> list[Object]:
        """As the conductor asks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=400)
        return neighbours.pods_of(connection, node, "token-of-the-account")


@pytest.fixture(name="api")
def _api() -> Iterator[ApiServer]:
    api = ApiServer()
    yield api
    api.server.shutdown()
    api.server.server_close()


def test_only_the_pods_of_its_own_node_are_asked_for_with_the_accounts_token(api: ApiServer) -> None:
    """Else a large cluster would send all its pods every few seconds, or refuse."""
    api.body = json.dumps({"items": [{"metadata": {"name": "x"}}]}).encode()
    assert api.pods("n") == [{"metadata": {"name": "x"}}]
    ((path, query, authorization),) = api.asked
    assert (path, query["fieldSelector"]) == ("/api/v1/pods", ["spec.nodeName=n"])
    assert authorization == "Bearer token-of-the-account"


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [(403, b"{}", "403"), (500, b"", "500"), (200, b"not json", "Decode"), (200, b"{}", "items")],
)
def test_what_cannot_be_seen_is_said_and_nothing_is_raised(api: ApiServer, code: int, body: bytes, told: str) -> None:
    """Else an API server that is away would end a measurement, or pass for a quiet node."""
    api.code, api.body = code, body
    looks: list[Look] = []
    lookout = neighbours.Lookout(api.pods, looks.append, SCOPE, every_s=60)
    until(lambda: looks, "it looks")
    lookout.close()
    assert told in looks[0].problem
    assert not lookout.sees


def test_it_looks_again_and_again_until_it_is_closed(api: ApiServer) -> None:
    """Else who comes later would not be seen."""
    looks: list[Look] = []
    began_ns = time.time_ns()
    lookout = neighbours.Lookout(api.pods, looks.append, SCOPE, every_s=0.01)
    until(lambda: len(looks) >= 3, "it looks again")
    lookout.close()
    assert lookout.sees
    assert {look.node for look in looks} == {"n"}
    assert began_ns <= looks[0].at_ns < looks[1].at_ns <= time.time_ns()


def test_a_pod_without_an_account_does_not_look(tmp_path: Path) -> None:
    """Else every run without the optional rights would report failures."""
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert neighbours.lister(env, tmp_path) is None
    (tmp_path / "token").write_text("t", encoding="utf-8")
    assert neighbours.lister(env, tmp_path) is not None
    assert neighbours.lister({}, tmp_path) is None


def test_an_account_whose_certificate_is_missing_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    """Else the thread would die, and nobody would know that nobody looks."""
    (tmp_path / "token").write_text("t", encoding="utf-8")
    pods = neighbours.lister({"KUBERNETES_SERVICE_HOST": "127.0.0.1"}, tmp_path)
    assert pods is not None
    with pytest.raises((OSError, SetupError)):
        pods("n")
