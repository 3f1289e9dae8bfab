"""`kts watch` from a recording, as a user and as Prometheus see it."""

from __future__ import annotations

import http.client
import json
import signal
from pathlib import Path

import pytest
from tests.helpers_cli import errors, kts, start
from tests.helpers_watch import recording

pytestmark = pytest.mark.e2e


def test_a_recording_is_watched_kept_reported_and_explained(tmp_path: Path) -> None:
    """Else what was seen on a node could not be shown to anybody else."""
    file, out = recording(tmp_path / "recording"), tmp_path / "out"
    done = kts("watch", "--from", file, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    (api,) = (one for one in state["units"] if one["unit"] == "shop/api/main")
    assert api["cost"]["df99"]["estimate"] == pytest.approx(2.0, rel=0.1)  # as the recording was made
    assert api["waits_for"]["shop/train/main"] == pytest.approx(api["added_ms"], rel=0.1)
    assert "shop/api/main" in done.stderr
    assert json.loads((out / "watch.json").read_text(encoding="utf-8")) == state
    told = kts("report", out, "--json")
    assert (told.returncode, json.loads(told.stdout)) == (0, state)
    explained = kts("explain", out, "--tenant", "shop/api/main")
    assert (explained.returncode, explained.stderr) == (0, "")
    assert "for shop/train/main, which computes on the same GPU" in explained.stdout


def test_a_recording_is_served_until_somebody_ends_it(tmp_path: Path) -> None:
    """Else Prometheus could not scrape a watch, or a pod could not be ended."""
    command = start("watch", "--from", recording(tmp_path / "recording", 5), "--pace", "0", "--serve", "127.0.0.1:0")
    try:
        assert command.stderr is not None
        said = command.stderr.readline()
        port = int(said.partition("127.0.0.1:")[2].partition("/")[0])
        while "is over" not in said:
            said = command.stderr.readline()
            assert said, "it ended"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
        connection.request("GET", "/metrics")
        body = connection.getresponse().read().decode()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
        assert 'unit="shop/api/main"' in body
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=180) == 130
        assert "Traceback" not in command.stderr.read()
    finally:
        command.kill()
        command.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("--pace", "2"), 2, "--pace: of a recording"),
        (("--events",), 2, "--events: of a watch that is served"),
        (("--serve", "--json"), 2, "--serve and --json"),
        (("--serve", "here:x", "--from", __file__), 2, "no port"),
        (("--json",), 2, "--json: one document at the end"),
        (("--from", __file__), 6, "not a recording"),
        (("--from", "/nowhere"), 6, "/nowhere"),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], code: int, what: str) -> None:
    """Else a mistake would be a traceback, or a watch of something else."""
    done = kts("watch", *arguments)
    assert done.returncode == code
    assert what in errors(done)[0]
    assert "Traceback" not in done.stderr
