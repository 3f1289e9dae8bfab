"""The page in a real browser, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.helpers_report import FakeRun, analysis

from kts.report import write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
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


def test_a_browser_shows_the_page_with_all_pictures(tmp_path: Path) -> None:
    """Else the page would be right by its text and wrong on the screen (content policy, broken SVG)."""
    write(FakeRun(), analysis(), tmp_path)
    dump = subprocess.run(
        [
            str(BROWSER),
            *FLAGS,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            f"file://{tmp_path}/report.html",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert dump.stdout.count("<figure><svg") == 5
    assert "In pictures" in dump.stdout
    assert "Refused to" not in dump.stderr
