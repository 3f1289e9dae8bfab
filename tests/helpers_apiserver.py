"""An API server that speaks TLS in the test's own process, with certificates made for it, and proxies before it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kts.k8s.cluster import kubeconfig
from kts.k8s.cluster.api import Api

NAME = "api.inside.example"
"""The one name, beside 127.0.0.1, in the server's certificate."""


class Authority:
    """Certificates, made by openssl in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = folder / "ca.crt"
        self._openssl("req", "-x509", *self._new("ca"), "-subj", "/CN=kts-test-ca", "-days", "2", "-out", self.ca)
        # As old clusters have it, without what RFC 5280 asks for: Go takes it, Python's default does not.
        lacking = "authorityKeyIdentifier=none\nsubjectKeyIdentifier=none"
        self.signed("server", f"subjectAltName=DNS:{NAME},IP:127.0.0.1\n{lacking}")

    def signed(self, name: str, extension: str = "keyUsage=digitalSignature") -> tuple[Path, Path]:
        """(certificate, key) of that name, the same each time."""
        request, extensions, made = (self._folder / f"{name}.{kind}" for kind in ("csr", "ext", "crt"))
        if made.exists():
            return made, self._folder / f"{name}.key"
        extensions.write_text(extension)
        self._openssl("req", *self._new(name), "-subj", f"/CN={name}", "-out", request)
        by = ("-CA", self.ca, "-CAkey", self._folder / "ca.key", "-CAcreateserial")
        self._openssl("x509", "-req", "-in", request, *by, "-days", "2", "-extfile", extensions, "-out", made)
        return made, self._folder / f"{name}.key"

    def _new(self, name: str) -> tuple[Any, ...]:
        key = self._folder / f"{name}.key"
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)

    def _openssl(self, *arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def data(path: Path) -> str:
    """A file as a kubeconfig holds it."""
    return b64encode(path.read_bytes()).decode()


@dataclass
class Asked:
    """One request: its path, headers (several of a name as a list), the client certificate's name, and SNI."""

    path: str
    headers: dict[str, list[str]]
    client: str
    sni: str | None

    @property
    def who(self) -> str:
        """What stands in the Authorization header."""
        return ", ".join(self.headers.get("authorization", []))


@dataclass
class ApiServer:
    """``url``: where it listens. ``refused``: credentials that it does not take. ``status``, ``body``: of its answers
    to all others."""

    url: str = ""
    status: int = 200
    body: bytes = b'{"gitVersion": "v1.34.0", "message": "Unauthorized"}'
    asked: list[Asked] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)


@contextmanager
def serving(authority: Authority | None) -> Iterator[ApiServer]:
    """An API server, over TLS unless there is no authority. It asks for client certificates and needs none."""
    server, names = ApiServer(), {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def setup(self) -> None:
            if isinstance(self.request, ssl.SSLSocket):
                self.request.do_handshake()  # here, in the request's own thread
            super().setup()

        def do_GET(self) -> None:
            shown = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
            client = dict(one[0] for one in shown["subject"])["commonName"] if shown else ""
            headers = {key.lower(): self.headers.get_all(key) for key in self.headers}
            asked = Asked(self.path, headers, client, names.get(self.connection.fileno()))
            server.asked.append(asked)
            self.send_response(401 if {asked.who, asked.client} & server.refused else server.status)
            self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that does not trust us

    with Server(("127.0.0.1", 0), Handler) as http:
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.ca.with_name("server.crt"), authority.ca.with_name("server.key"))
            context.load_verify_locations(authority.ca)
            context.verify_mode = ssl.CERT_OPTIONAL
            context.sni_callback = lambda connection, name, _: names.update({connection.fileno(): name})
            http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
        server.url = f"http{'s' if authority else ''}://127.0.0.1:{http.server_port}"
        with _running(lambda: http.serve_forever(0.01), http.shutdown):
            yield server


class Cluster:
    """Writes kubeconfigs for one server, and connects by them."""

    def __init__(self, folder: Path, server: ApiServer, authority: Authority) -> None:
        self.folder = folder
        self.open: list[Api] = []
        self._cluster = {"server": server.url, "certificate-authority-data": data(authority.ca)}

    def connected(self, user: dict[str, Any], env: dict[str, str] | None = None, **changes: Any) -> Api:
        """The API by a kubeconfig with this user; ``changes``: of the cluster's fields, with _ for -; None: absent."""
        cluster = {**self._cluster, **{key.replace("_", "-"): value for key, value in changes.items()}}
        content = {
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {key: one for key, one in cluster.items() if one is not None}}],
            "users": [{"name": "c", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        }
        path = self.folder / "config"
        path.write_text(json.dumps(content))
        self.open.append(Api.of(kubeconfig.access(None, {"KUBECONFIG": str(path), **(env or {})})))
        return self.open[-1]


@contextmanager
def proxying(kind: str, authority: Authority | None = None) -> Iterator[tuple[str, list[str]]]:
    """(URL of a proxy, where it was asked to connect to). ``kind``: http, https, socks5, or none, which speaks nothing.

    `NAME` leads to this machine.
    """
    asked: list[str] = []

    def _beyond(there: str) -> socket.socket:
        asked.append(there)
        host, _, port = there.rpartition(":")
        return socket.create_connection(("127.0.0.1" if host == NAME else host, int(port)))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind == "https":
            assert authority is not None
            context.load_cert_chain(authority.ca.with_name("server.crt"), authority.ca.with_name("server.key"))

        def serve(near: socket.socket) -> None:
            with (
                contextlib.suppress(OSError, ValueError),
                near,
                context.wrap_socket(near, server_side=True) if kind == "https" else near as served,
                _beyond({"socks5": _socks, "none": _nothing}.get(kind, _connect)(served)) as far,
            ):
                there = threading.Thread(target=_copy, args=(served, far), daemon=True)
                there.start()
                _copy(far, served)
                there.join()

        def accept() -> None:
            while True:
                try:
                    near, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(near,), daemon=True).start()

        scheme = "socks5" if kind == "none" else kind
        with _running(accept, lambda: listening.shutdown(socket.SHUT_RDWR)):
            yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}", asked


@contextmanager
def _running(target: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join()


def _connect(near: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        head += near.recv(1)
    near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    return head.split()[1].decode()


def _socks(near: socket.socket) -> str:
    near.recv(2 + near.recv(2)[1] - 2)
    near.sendall(b"\x05\x00")
    kind = near.recv(4)[3]
    host = socket.inet_ntoa(near.recv(4)) if kind == 1 else near.recv(near.recv(1)[0]).decode()
    port = int.from_bytes(near.recv(2), "big")
    near.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
    return f"{host}:{port}"


def _nothing(near: socket.socket) -> str:
    near.recv(1024)
    near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    raise ValueError


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
