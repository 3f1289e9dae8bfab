"""An exporter's endpoint, asked over HTTP: within a time, within a size, and never half an answer."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
import time
import zlib
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from kts.errors import UsageError

PORT = 9400
TIMEOUT_S = 1.5
"""Of a whole scrape. Less than a run waits for its telemetry to end."""
MOST_BYTES = 4 << 20
MOST_REDIRECTS = 3
LONGEST_WHY = 200

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PIECE = 1 << 16
_GZIP = b"\x1f\x8b"


class ScrapeError(Exception):
    """No answer that can be used; the text says why, in one line."""


class ExporterAddress:
    """What answers at an URL. ``url`` is without the user and password that it was given with. UsageError if it is none
    that can be scraped."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, SplitResult("", "", "", "", "")
        if not host or parts.scheme not in ("http", "https"):
            raise UsageError(
                f"--dcgm: {_without_user(url)!r} is no URL of an exporter", "for example http://NODE:9400/metrics"
            )
        self._credentials = _basic(parts)
        place = parts.netloc.rpartition("@")[2]
        if port is None and parts.scheme == "http":
            place = f"{place.rstrip(':')}:{PORT}"
        path = parts.path if parts.path not in ("", "/") else "/metrics"
        self.url = parts._replace(netloc=place, path=path, fragment="").geturl()
        self._target = self.url
        self._connection: http.client.HTTPConnection | None = None
        self._connected = ("", "")

    def get(self) -> str:
        """What it answers now. ScrapeError."""
        try:
            return self._get(time.monotonic() + TIMEOUT_S)
        except (OSError, http.client.HTTPException, ValueError, zlib.error) as error:
            self.close()
            self._target = self.url
            raise ScrapeError(_one_line(error)) from error

    def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def _get(self, deadline_s: float) -> str:
        for _ in range(MOST_REDIRECTS + 1):
            connection, answer = self._ask(deadline_s)
            with answer:
                if answer.status not in _REDIRECTS or not (place := answer.getheader("Location")):
                    return _text(connection, answer, deadline_s)
            self.close()
            self._target = urljoin(self._target, place)
            if urlsplit(self._target).scheme not in ("http", "https"):
                raise ValueError(f"redirected to {_without_user(self._target)}")
        raise ValueError(f"redirected more than {MOST_REDIRECTS} times")

    def _ask(self, deadline_s: float) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Its answer's head. A connection that was kept and is dead is made anew, once."""
        parts = urlsplit(self._target)
        if (parts.scheme, parts.netloc) != self._connected:
            self.close()
        kept = self._connection is not None
        try:
            return self._asked_once(parts, deadline_s)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not kept:
                raise
            self.close()
            return self._asked_once(parts, deadline_s)

    def _asked_once(
        self, parts: SplitResult, deadline_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        if self._connection is None:
            make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = make(parts.hostname or "", parts.port, timeout=_left(deadline_s))
            self._connected = parts.scheme, parts.netloc
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(_left(deadline_s))
        headers = {"Accept": "text/plain", "User-Agent": "kts"}
        if self._credentials and parts.netloc == urlsplit(self.url).netloc:  # no other host is told them
            headers["Authorization"] = self._credentials
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._connection.request("GET", path, headers=headers)
        return self._connection, self._connection.getresponse()


def _text(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, deadline_s: float) -> str:
    """Its lines, all of them whole."""
    if answer.status != http.client.OK:
        raise ValueError(f"HTTP {answer.status} {answer.reason}")
    text = _decoded(_body(connection, answer, deadline_s), answer.getheader("Content-Encoding") or "")
    if answer.length is None and not answer.chunked and not text.endswith("\n"):
        return text[: text.rfind("\n") + 1]  # nothing says that the last one is
    return text


def _body(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, deadline_s: float) -> bytes:
    """All of it. ValueError if it is too large or ends too soon, TimeoutError."""
    body = bytearray()
    while piece := answer.read1(_PIECE):
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        left_s = _left(deadline_s)
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
    if answer.length:
        raise ValueError(f"the answer ended {answer.length} bytes too soon")
    return bytes(body)


def _decoded(body: bytes, encoding: str) -> str:
    if encoding.strip().lower() in ("gzip", "x-gzip", "deflate") or body.startswith(_GZIP):
        unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, as its head says
        body = unpacked.decompress(body, MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        if not unpacked.eof:
            raise ValueError("the compressed answer ended too soon")
    elif encoding.strip().lower() not in ("", "identity"):
        raise ValueError(f"the answer is encoded as {encoding}, which kts did not ask for")
    return body.decode("utf-8-sig", errors="replace")


def _left(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


def _basic(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _without_user(url: str) -> str:
    before, at, after = url.rpartition("@")
    return f"{before.partition('//')[0]}//{after}" if at and "//" in before else after


def _one_line(error: Exception) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(error))
    hint = "; SSL_CERT_FILE names authorities to trust" if isinstance(error, ssl.SSLCertVerificationError) else ""
    why = " ".join(text.split())[:LONGEST_WHY] or type(error).__name__
    return f"timed out after {TIMEOUT_S} s" if isinstance(error, TimeoutError) else why + hint
