"""The conductor's pod: `kts.conduct.driver.conduct` with an HTTP door. Paths: `kts.k8s.status`.

Environment: KTS_RUN (the run's ID), KTS_MODE, KTS_JOIN_S (for all tenants to be there), KTS_KEEP_S (how long to
wait, once the run is over, for its results to be fetched), and for tests other places: KTS_PLAN, KTS_TOKEN_FILE,
KTS_DATA, KTS_PORT, KTS_STATUS_PORT.
"""

from __future__ import annotations

import hmac
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from kts import __version__
from kts.backends.pods import PodsBackend
from kts.conduct.driver import conduct
from kts.conduct.ports import Progress, WorkerExit
from kts.conduct.roster import Limits
from kts.errors import KtsError, SetupError
from kts.k8s.names import STATUS_PORT, TOKEN_HEADER, WORKER_PORT
from kts.k8s.status import BODY_BYTES, PART_BYTES, PodExit, Status
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.store import create, layout

FILES = (layout.RUN, layout.EVENTS, layout.JOURNAL)
SETTLE_S = 6.0
"""For the API server to tell why a pod ended, which takes longer than to see its connection close."""

_CONNECTION_S = 30
_RUN_ID = re.compile(r"[a-z0-9][-a-z0-9]{0,40}")


class Desk:
    """What the HTTP door may see and do, from any thread."""

    def __init__(self, run: str, directory: Path, token: str, backend: PodsBackend) -> None:
        self.run, self.directory, self.token, self.backend = run, directory, token, backend
        self.outcome: Outcome | None = None
        self.done = threading.Event()
        self._progress: Progress | None = None

    def progress(self, progress: Progress) -> None:
        """See `kts.conduct.ports.Watcher`."""
        self._progress = progress

    def status(self) -> Status:
        """As it is now."""
        present = {name: self.directory / name for name in FILES}
        files = {name: path.stat().st_size for name, path in present.items() if path.exists()}
        return Status(run=self.run, kts=__version__, progress=self._progress, outcome=self.outcome, files=files)

    def part(self, name: str, offset: int) -> bytes | None:
        """Up to PART_BYTES of a file; None if there is no such file."""
        if name not in FILES:
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
        elif path == "/v1/note":
            self.desk.backend.note(body.decode(errors="replace")[:500])
            self._answer(204)
        elif path == "/v1/stop":
            self._answer(204)
            if self.desk.outcome is None:
                os.kill(os.getpid(), signal.SIGTERM)
        elif path == "/v1/done":
            self._answer(204)
            self.desk.done.set()
        else:
            self._answer(404)

    def _known(self) -> bool:
        given = self.headers.get(TOKEN_HEADER, "")
        if hmac.compare_digest(given.encode(errors="replace"), self.desk.token.encode()):
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
            told = msgspec.json.decode(body, type=list[PodExit])
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._answer(400)
            return
        for ended in told:
            self.desk.backend.exited(WorkerExit(tenant=ended.tenant, code=ended.code, reason=ended.reason[:300]))
        self._answer(204)

    def _answer(self, code: int, body: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: a request every second would bury what matters, and rotate it away."""


def serve(desk: Desk, host: str, port: int) -> ThreadingHTTPServer:
    """Answers in a thread of its own until ``shutdown``. SetupError if the port is taken."""
    handler = type("Handler", (_Handler,), {"desk": desk})
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}", "choose another port") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server


def main(env: Mapping[str, str]) -> int:
    """Conducts the run, keeps its results to be fetched, and returns the outcome's exit code."""
    from kts.stats import PrecisionRule
    from kts.worker.environment import environment

    run = env.get("KTS_RUN", "")
    if not _RUN_ID.fullmatch(run):
        raise SetupError(
            f"KTS_RUN={run!r} is not a run's ID", "this pod is made by `kts run --on k8s` or `kts k8s render`"
        )
    plan_file = Path(env.get("KTS_PLAN", "/etc/kts/run/plan.json"))
    plan = _read_plan(plan_file)
    token = _read_token(Path(env.get("KTS_TOKEN_FILE", "/etc/kts/token/token")))
    directory = Path(env.get("KTS_DATA", "/var/lib/kts")) / run
    text = plan_file.with_name("experiment.yaml")
    writer = create(
        directory,
        plan=plan,
        backend=PodsBackend.name,
        mode=env.get("KTS_MODE", "unknown"),
        experiment_text=text.read_text(encoding="utf-8") if text.exists() else "",
        environment=environment(),
        overwrite=True,
        keep_journal=True,
    )
    backend = PodsBackend()
    desk = Desk(run, directory, token, backend)
    server = serve(desk, "0.0.0.0", _number(env, "KTS_STATUS_PORT", STATUS_PORT))
    rule = PrecisionRule(plan, plan.precision) if plan.precision is not None else None
    limits = Limits(join_s=_number(env, "KTS_JOIN_S", 300), settle_s=SETTLE_S)
    port = _number(env, "KTS_PORT", WORKER_PORT)
    _say(f"run {run}: waiting for {len(plan.tenants)} tenants")
    try:
        outcome = conduct(plan, backend, writer, desk, rule, host="0.0.0.0", port=port, limits=limits, token=token)
        desk.outcome = outcome
        _say(f"run {run}: {outcome.kind}{': ' + outcome.reason if outcome.reason else ''}")
        _linger(desk, _number(env, "KTS_KEEP_S", 3600))
    finally:
        server.shutdown()
    return outcome.exit_code


def _read_plan(path: Path) -> Plan:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}", "the run's ConfigMap is mounted there") from error
    except msgspec.DecodeError as error:
        raise SetupError(f"{path}: {error}", "the image and the kts that made the plan must be one version") from error


def _read_token(path: Path) -> str:
    """SetupError also for an empty one, which would let everybody in."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}", "the run's Secret is mounted there") from error
    if not token:
        raise SetupError(f"{path}: is empty", "the run's Secret must hold a token")
    return token


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise SetupError(f"{name}={text!r} is not a whole number", f"for example {name}={default}")
    return int(text)


def _linger(desk: Desk, seconds: float) -> None:
    """Until the results were fetched, time is over, or the pod is deleted."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: desk.done.set())
    desk.done.wait(seconds)


def _say(line: str) -> None:
    print(f"kts.conductor: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ))
    except KtsError as failure:
        _say(f"error: {failure.what}; try: {failure.remedy}")
        sys.exit(failure.exit_code)
