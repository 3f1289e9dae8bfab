"""An endpoint over HTTP, whatever stands behind it; every socket is real."""

from __future__ import annotations

import base64
import gzip
import ssl
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.helpers_telemetry import Exporter, exporter, exporter_text

from kts.errors import UsageError
from kts.telemetry import scrape
from kts.telemetry.scrape import ExporterAddress, ScrapeError

TEXT = exporter_text()


@pytest.fixture
def served() -> Iterator[Exporter]:
    with exporter() as found:
        yield found


def got(url: str) -> str:
    """One answer. ScrapeError."""
    endpoint = ExporterAddress(url)
    try:
        return endpoint.get()
    finally:
        endpoint.close()


def sends(raw: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers with exactly these bytes, and ends the connection."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(raw)
        handler.close_connection = True

    return respond


def chunked(*pieces: bytes) -> bytes:
    """A chunked answer of these pieces, without its end."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize(
    ("encode", "named"),
    [
        (gzip.compress, "gzip"),
        (gzip.compress, "X-GZIP"),
        (gzip.compress, ""),
        (zlib.compress, "deflate"),
        (bytes, "identity"),
        (bytes, ""),
    ],
)
def test_compressed_answers_are_read_though_none_was_asked_for(
    served: Exporter, encode: Callable[[bytes], bytes], named: str
) -> None:
    """Else a proxy that compresses whatever it is asked would hide the exporter."""
    served.encode = encode
    if named:
        served.headers["Content-Encoding"] = named
    assert got(served.url) == TEXT


def test_chunked_answers_are_read(served: Exporter) -> None:
    """Else every exporter with a long answer would be missing."""
    raw = TEXT.encode()
    served.respond = sends(chunked(raw[:100], raw[100:]) + b"0\r\n\r\n")
    assert got(served.url) == TEXT


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + TEXT.encode(),
        chunked(TEXT.encode()),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(TEXT.encode())[:-20],
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + TEXT.encode(),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\nx\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (scrape.MOST_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * (scrape.MOST_BYTES + 1)),
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"",
    ],
    ids=["short", "chunks", "gzip-cut", "no-gzip", "zstd", "503", "huge", "bomb", "tls", "nothing"],
)
def test_half_answers_and_others_that_cannot_be_used_say_why_on_one_line(served: Exporter, raw: bytes) -> None:
    """Else half a number would be a value, an answer fill the memory, or a binary page be printed."""
    served.respond = sends(raw)
    with pytest.raises(ScrapeError) as caught:
        got(served.url)
    why = str(caught.value)
    assert why.isprintable()
    assert 0 < len(why) < 300


def test_a_last_line_that_may_be_cut_is_left_out(served: Exporter) -> None:
    """Else 0.9 of 0.012345 cut short would be a value: nothing says how long this answer is."""
    served.respond = sends(b"HTTP/1.0 200 OK\r\n\r\nA 1\nB 0.0")
    assert got(served.url) == "A 1\n"


def test_an_answer_that_drips_is_given_up_in_time(served: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an exporter that sends a byte now and then would hold its thread for the whole run."""
    monkeypatch.setattr(scrape, "TIMEOUT_S", 0.3)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        with suppress(OSError):  # whoever asked is gone
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.02)

    served.respond = drip
    with pytest.raises(ScrapeError, match="timed out after"):
        got(served.url)


def test_a_kept_connection_that_died_is_made_anew(served: Exporter) -> None:
    """Else each restart of a proxy between would be a gap."""
    endpoint = ExporterAddress(served.url)
    assert endpoint.get() == TEXT
    served.stop()
    served.start()
    assert endpoint.get() == TEXT
    endpoint.close()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_followed_a_few_times(served: Exporter, status: int) -> None:
    """Else an exporter behind an ingress would be missing, and one that leads in circles be asked for ever."""

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        served.respond = None
        handler.send_response(status)
        handler.send_header("Location", "/metrics")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    served.respond = redirect
    assert got(served.url.replace("/metrics", "/dcgm")) == TEXT
    served.respond = sends(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ScrapeError, match="redirected more than"):
        got(served.url)
    served.respond = sends(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(ScrapeError, match="redirected to"):
        got(served.url)


def test_a_password_goes_to_its_host_and_nowhere_else(served: Exporter) -> None:
    """Else it would stand in run.json, in the report, or at another host."""
    endpoint = ExporterAddress(served.url.replace("//", "//me:s%40cret@"))
    assert "cret" not in endpoint.url
    endpoint.get()
    endpoint.close()
    assert served.asked_headers[-1]["Authorization"] == "Basic " + base64.b64encode(b"me:s@cret").decode()
    with exporter() as other:
        served.respond = sends(f"HTTP/1.1 302 Found\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n".encode())
        assert got(served.url.replace("//", "//me:s%40cret@")) == TEXT
        assert "Authorization" not in other.asked_headers[-1]
    with pytest.raises(UsageError) as caught:
        ExporterAddress("http://me:s3cret@host:port/metrics")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("node", "http://node:9400/metrics"),
        ("node:9401", "http://node:9401/metrics"),
        ("http://node/", "http://node:9400/metrics"),
        ("http://[fd00::7]/metrics", "http://[fd00::7]:9400/metrics"),
        ("https://node/gpu/metrics?x=1", "https://node/gpu/metrics?x=1"),
    ],
)
def test_what_is_left_out_of_an_address_is_the_exporters_usual(url: str, asked: str) -> None:
    """Else `--dcgm NODE` would ask port 80."""
    assert ExporterAddress(url).url == asked


def test_an_authority_that_nobody_knows_is_said_on_one_line(tmp_path: Path) -> None:
    """Else TLS would end in a traceback, or be taken without proof."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
        f" -keyout {key} -out {certificate}".split(),
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with exporter(context) as served, pytest.raises(ScrapeError, match=r"certificate verify failed.*SSL_CERT_FILE"):
        got(served.url)
