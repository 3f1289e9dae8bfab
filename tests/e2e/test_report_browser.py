"""The page in a real browser, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.helpers_causes import with_causes
from tests.helpers_report import FakeRun, analysis
from tests.helpers_watch import three

import kts
from kts.report import write
from kts.report.metrics import Board
from kts.report.serving import serve

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXAMPLES = Path(__file__).parents[2] / "examples"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]


def shown(page: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """The page as the browser has it."""
    return shown_at(f"file://{page}", profile)


def shown_at(url: str, profile: Path) -> subprocess.CompletedProcess[str]:
    """The same of an address."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)


def test_a_browser_shows_the_page_with_all_pictures(tmp_path: Path) -> None:
    """Else the page would be right by its text and wrong on the screen (content policy, broken SVG)."""
    write(FakeRun(), analysis(with_causes()), tmp_path)
    dump = shown(tmp_path / "report.html", tmp_path / "profile")
    assert dump.stdout.count("<figure><svg") == 6
    assert "In pictures" in dump.stdout
    assert "wait before its first turn" in dump.stdout
    assert "Refused to" not in dump.stderr


def test_a_browser_shows_an_explanation(tmp_path: Path) -> None:
    """The same of the page of `kts explain`."""
    kts.explain(EXAMPLES / "results" / "h200-fast-7", tmp_path, worst=2)
    dump = shown(tmp_path / "explain.html", tmp_path / "profile")
    assert dump.stdout.count("<figure><svg") == 3
    assert "its 2 slowest iterations" in dump.stdout
    assert "Refused to" not in dump.stderr


def test_a_browser_shows_the_live_page_of_a_watch(tmp_path: Path) -> None:
    """Else whoever opens the port of `kts watch --serve` would see nothing, or figures that no longer move."""
    board = Board("0.1")
    board.put(three())
    server = serve(board, "127.0.0.1", 0, "0.1", ended=lambda: False)
    try:
        dump = shown_at(f"http://127.0.0.1:{server.server_port}/", tmp_path / "profile")
    finally:
        server.shutdown()
        server.server_close()
    assert "shop/api/main pays most" in dump.stdout
    assert "Who waits for whom" in dump.stdout
    assert "Refused to" not in dump.stderr
