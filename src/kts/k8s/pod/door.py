"""The HTTP door of the conductor's pod: what `kts.k8s.pod.status` lists, in a thread of its own."""

from __future__ import annotations

import contextlib
import hmac
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from kts import __version__, files
from kts.backends.pods import PodsBackend
from kts.conduct.ports import Progress, WorkerExit
from kts.conduct.stop import StopRequest
from kts.errors import DataError, SetupError
from kts.k8s.objects.names import TOKEN_HEADER
from kts.k8s.objects.podend import PodExit
from kts.k8s.pod.status import BODY_BYTES, PART_BYTES, TEXT_CHARACTERS, Status, look_told, stop_reason
from kts.model.neighbours import Look
from kts.model.run import Outcome
from kts.store import layout

FILES = (layout.RUN, layout.EVENTS, layout.JOURNAL, layout.TELEMETRY_JOURNAL)
_CONNECTION_S = 30
MOST_STRANGERS = 64
"""Connections that showed no token yet."""
MOST_LOOKS = 1000
"""That wait to be taken."""


class Desk:
    """What the HTTP door may see and do, from any thread."""

    def __init__(
        self,
        run: str,
        directory: Path,
        token: str,
        backend: PodsBackend,
        stop: StopRequest,
        *,
        looks: deque[Look] | None = None,
    ) -> None:
        """``looks``: gets what the door is told of neighbours."""
        self.run, self.directory, self.token, self.backend, self.stop = run, directory, token, backend, stop
        self.outcome: Outcome | None = None
        self.done = threading.Event()
        self.looks: deque[Look] = deque(maxlen=MOST_LOOKS) if looks is None else looks
        self.sees: Callable[[], bool] = lambda: False
        """Whether this pod looks at its neighbours itself."""
        self._progress: Progress | None = None

    def progress(self, progress: Progress) -> None:
        """See `kts.conduct.ports.Watcher`."""
        self._progress = progress

    def status(self) -> Status:
        """As it is now."""
        present = {name: self.directory / name for name in FILES}
        files = {name: path.stat().st_size for name, path in present.items() if path.exists()}
        return Status(
            run=self.run,
            kts=__version__,
            progress=self._progress,
            outcome=self.outcome,
            files=files,
            looks=self.sees(),
        )

    def offers(self, name: str) -> bool:
        """Whether it hands out a file of that name."""
        return name in FILES

    def part(self, name: str, offset: int) -> bytes | None:
        """Up to PART_BYTES of a file; None if there is no such file."""
        if not self.offers(name):
            return None
        try:
            with (self.directory / name).open("rb") as file:
                file.seek(offset)
                return file.read(PART_BYTES)
        except OSError:
            return None


class _Handler(BaseHTTPRequestHandler):
    """One request. Says nothing to who has no token."""

    protocol_version = "HTTP/1.1"
    server_version = "kts"
    sys_version = ""
    timeout = _CONNECTION_S
    desk: Desk
    door: _Door

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not self._known():
            return
        if url.path == "/v1/status":
            self._answer(200, msgspec.json.encode(self.desk.status()))
        elif url.path.startswith("/v1/files/"):
            self._file(url.path.removeprefix("/v1/files/"), url.query)
        else:
            self._answer(404)

    def do_POST(self) -> None:
        if not self._known():
            return
        body = self._body()
        path = urlsplit(self.path).path
        if body is None:
            return
        if path == "/v1/exits":
            self._exits(body)
        elif path == "/v1/look":
            self._look(body)
        elif path == "/v1/note":
            self.desk.backend.note(body.decode(errors="replace")[:TEXT_CHARACTERS])
            self._answer(204)
        elif path == "/v1/stop":
            self._stop(body)
        elif path == "/v1/done":
            self._answer(204)
            self.desk.done.set()
        else:
            self._answer(404)

    def _known(self) -> bool:
        given = self.headers.get(TOKEN_HEADER, "")
        if hmac.compare_digest(given.encode(errors="replace"), self.desk.token.encode()):
            self.door.admit(self.connection)
            return True
        self.close_connection = True  # a body that was not read must not be taken for a request
        self._answer(401)
        return False

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdecimal()) or int(length) > BODY_BYTES:
            self.close_connection = True
            self._answer(413)
            return None
        return self.rfile.read(int(length))

    def _file(self, name: str, query: str) -> None:
        offset = parse_qs(query).get("offset", ["0"])[0]
        if not (offset.isascii() and offset.isdecimal()) or len(offset) > 18:
            self._answer(400)
            return
        data = self.desk.part(name, int(offset))
        self._answer(404 if data is None else 200, data or b"", "application/octet-stream")

    def _exits(self, body: bytes) -> None:
        try:
            told = files.decode(body, list[PodExit], "exits", "not pods' ends", "use one kts version")
        except DataError:
            self._answer(400)
            return
        for ended in told:
            short = {"reason": ended.reason[:TEXT_CHARACTERS], "remedy": ended.remedy[:TEXT_CHARACTERS]}
            self.desk.backend.exited(WorkerExit(**{**msgspec.structs.asdict(ended), **short}))
        self._answer(204)

    def _look(self, body: bytes) -> None:
        try:
            self.desk.looks.append(look_told(body, time.time_ns()))
        except DataError:
            self._answer(400)
            return
        self._answer(204)

    def _stop(self, body: bytes) -> None:
        try:
            self.desk.stop.ask(stop_reason(body))
        except DataError:
            self._answer(400)
            return
        self._answer(204)

    def _answer(self, code: int, body: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: a request every second would bury what matters, and rotate it away."""


class _Door(ThreadingHTTPServer):
    """A thread per connection: of strangers, `MOST_STRANGERS`, the oldest of which goes when another comes."""

    daemon_threads = True
    request_queue_size = MOST_STRANGERS

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        """OSError if the address cannot be had."""
        self._lock = threading.Lock()
        self._strangers: dict[Any, None] = {}
        handler.door = self
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection came."""
        with self._lock:
            if len(self._strangers) >= MOST_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread reads its end, and closes it
            self._strangers[request] = None
        super().process_request(request, client_address)

    def admit(self, request: Any) -> None:
        """The connection is no stranger's."""
        with self._lock:
            self._strangers.pop(request, None)

    def close_request(self, request: Any) -> None:
        """The connection is over."""
        self.admit(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a connection that broke is its client's business."""


def serve(desk: Desk, host: str, port: int) -> ThreadingHTTPServer:
    """Answers in a thread of its own until ``shutdown``. SetupError if the port is taken."""
    handler = type("Handler", (_Handler,), {"desk": desk})
    try:
        server = _Door((host, port), handler)
    except OSError as error:
        raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}", "choose another port") from error
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server
