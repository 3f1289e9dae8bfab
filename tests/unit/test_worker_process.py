"""The user's program as a process group."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kts.worker.failures import CommandError
from kts.worker.tenants.process import PrintedLine, Process

# Forking with numpy's threads about is what newer Pythons warn of; the worker itself has one thread here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def test_the_whole_group_is_stopped_continued_and_ended() -> None:
    """Otherwise a program's children keep the device busy in blocks where it is not active, or outlive the run."""
    code = (
        "import os, subprocess, sys; child = subprocess.Popen(['sleep', '60']);"
        "print(os.getpid(), child.pid, flush=True); child.wait()"
    )
    process = Process([sys.executable, "-c", code], os.environ)
    lines: list[PrintedLine] = []
    _until(lambda: bool(lines.extend(process.lines(0.05)) or lines))
    pids = [int(text) for text in lines[0].text.split()]
    process.pause()
    _until(lambda: all(_state(pid) == "T" for pid in pids))
    process.resume()
    _until(lambda: all(_state(pid) in "SR" for pid in pids))
    process.pause()
    process.kill()
    _until(lambda: all(_state(pid) in ("gone", "Z") for pid in pids))
    process.kill()


def test_lines_are_whole_and_the_last_word_is_kept() -> None:
    """Otherwise records are torn, or a dying program's message is lost."""
    code = (
        "import sys; w = sys.stdout.write; w('ab'); sys.stdout.flush(); w('c\\nd'); sys.stdout.flush(); w('e\\nlast');"
        "sys.stdout.flush(); sys.stderr.write('why it died\\n'); sys.exit(3)"
    )
    process = Process([sys.executable, "-c", code], os.environ)
    lines: list[PrintedLine] = []
    _until(lambda: bool(lines.extend(process.lines(0.05)) or process.exit_code() is not None))
    lines += process.drain()
    assert [line.text for line in lines if not line.on_stderr] == ["abc\n", "de\n", "last"]
    assert process.exit_code() == 3
    assert [line.text for line in lines if line.on_stderr] == ["why it died\n"]
    process.kill()


def test_what_cannot_be_started_says_what_to_do(tmp_path: Path) -> None:
    """Otherwise a typing error in an experiment file gives a traceback."""
    with pytest.raises(CommandError, match="not found: no-such-program"):
        Process(["no-such-program"], os.environ)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(CommandError, match="cannot be started") as caught:
        Process([str(script)], os.environ)
    assert "chmod +x" in caught.value.remedy
