"""What is read of files that others write."""

from __future__ import annotations

from pathlib import Path

from kts.opening import LONGEST, last_line


def test_the_last_line_is_the_last_that_says_something(tmp_path: Path) -> None:
    """Why a worker or a daemon ended would be an iteration, a blank, an escape that a terminal obeys, or a page."""
    log = tmp_path / "log"
    assert not last_line(log)
    log.write_bytes(b"x" * 100_000 + b"\n\x1b[31mno \xffroom\x07\nKTS_APP,v1,FFT,1\n  \n")
    assert last_line(log, but="KTS_APP,") == "[31mno \ufffdroom"
    assert last_line(log) == "KTS_APP,v1,FFT,1"
    log.write_text("y" * 5000)
    assert last_line(log) == "y" * LONGEST
