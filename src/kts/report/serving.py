"""The door of `kts watch --serve`: metrics for Prometheus, a page for people, and whether it is well."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.registry import CollectorRegistry

from kts.errors import SetupError, UsageError
from kts.report import page
from kts.report.metrics import Board
from kts.report.watching import watch_document

PORT = 9478
REFRESH_S = 5
"""How often a browser asks for the page again. It has no script: its content policy allows none."""
SILENT_S = 30.0
"""Without news for so long, it is not well."""
_CONNECTION_S = 10
_MOST_CONNECTIONS = 32
_TEXT = "text/plain; charset=utf-8"


def address_of(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``HOST``, ``:PORT`` (all addresses of this machine) or ``[::1]:PORT``. UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise UsageError(f"--serve: no port in {text!r}", f"for example 127.0.0.1:{PORT}")
    return host, int(port)


def serve(board: Board, host: str, port: int, kts_version: str, *, ended: Callable[[], bool]) -> WSGIServer:
    """Answers in a thread of its own until ``shutdown``. ``ended``: whether nothing new is to come, which is well then.
    SetupError where the address cannot be had."""
    kind = _Entrance6 if _is_v6(host) else _Entrance
    try:
        server = kind((host, port), _Quiet)
    except OSError as error:
        where = f"{host or 'any address'}, port {port}"
        raise SetupError(f"cannot listen on {where}: {error.strerror or error}", "choose another one") from error
    server.set_app(application(board, kts_version, ended=ended))
    threading.Thread(target=server.serve_forever, name="serve", daemon=True).start()
    return server


def application(board: Board, kts_version: str, *, ended: Callable[[], bool]) -> WSGIApplication:
    """``/metrics``, ``/`` and ``/healthz``."""
    registry = CollectorRegistry()
    registry.register(board)
    metrics: WSGIApplication = make_wsgi_app(registry)
    shown: tuple[object, bytes] = (None, b"")

    def the_page() -> bytes:
        """Made once per state, however many ask."""
        nonlocal shown
        latest = board.latest
        if latest is None:
            return b""
        if shown[0] is not latest:
            shown = latest, page.render(watch_document(latest, kts_version)).encode()
        return shown[1]

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _answered(start, "405 Method Not Allowed", _TEXT, b"only GET\n", Allow="GET, HEAD")
        if path == "/metrics":
            return metrics(environ | {"REQUEST_METHOD": "GET"}, start)
        if path == "/healthz":
            return _answered(start, *_health(board, ended=ended()))
        if path != "/":
            return _answered(start, "404 Not Found", _TEXT, b"there are /, /metrics and /healthz\n")
        if body := the_page():
            return _answered(start, "200 OK", "text/html; charset=utf-8", body, Refresh=str(REFRESH_S))
        return _answered(start, "200 OK", _TEXT, b"Nothing was seen yet.\n", Refresh=str(REFRESH_S))

    return answer


def _health(board: Board, *, ended: bool) -> tuple[str, str, bytes]:
    age_s = board.age_s
    if ended or (age_s is not None and age_s < SILENT_S):
        return "200 OK", _TEXT, b"ok\n"
    told = "nothing was seen yet" if age_s is None else f"no news for {age_s:.0f} s"
    return "503 Service Unavailable", _TEXT, f"{told}\n".encode()


def _answered(start: StartResponse, status: str, kind: str, body: bytes, **headers: str) -> list[bytes]:
    told = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store", **headers}
    start(status, list(told.items()))
    return [body]


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


class _Quiet(WSGIRequestHandler):
    """Says nothing of requests: one every few seconds would bury what matters."""

    timeout = _CONNECTION_S

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def address_string(self) -> str:
        """Without asking who has that address."""
        return str(self.client_address[0])


class _Entrance(ThreadingMixIn, WSGIServer):
    """A thread per connection, so many at once; who comes beyond that is turned away, not kept waiting."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Quiet]) -> None:
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without asking for this machine's name, which may take long where nobody knows it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection came."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a connection that broke is its client's business."""


class _Entrance6(_Entrance):
    address_family = socket.AF_INET6
