"""Progress on terminals and elsewhere."""

from __future__ import annotations

import errno
import io
import os

import pytest
from msgspec import structs
from rich.console import Console

from kts.conduct.ports import Progress, TenantProgress, Watcher
from kts.model.foretold import Foretold
from kts.report import RichWatcher
from kts.report.watch import progress_line


def progress(phase: str = "measuring", done_s: float = 10.0, left_s: float | None = 65.0) -> Progress:
    """Round 3 of 10 with two tenants, one of them named to upset a markup parser."""
    return Progress(
        phase=phase,
        text="shared-fft+gemm",
        done_s=done_s,
        left_s=left_s,
        round=3,
        rounds=10,
        tenants=(
            TenantProgress(tenant="fft", active=True, iterations=120),
            TenantProgress(tenant="[/red]", active=False, iterations=7),
        ),
    )


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_log_gets_a_line_at_each_phase_and_every_ten_seconds() -> None:
    """Else CI logs would be flooded, or silent for minutes."""
    out, clock = io.StringIO(), Clock()
    with RichWatcher(Console(file=out, force_terminal=False, width=80), now=clock) as watcher:
        for now_s, phase in (
            (0.0, "starting"),
            (0.2, "starting"),
            (0.4, "measuring"),
            (9.0, "measuring"),
            (10.5, "measuring"),
        ):
            clock.now_s = now_s
            watcher.progress(progress(phase))
    lines = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["starting", "measuring", "measuring"]
    assert lines[1] == "measuring: round 3/10, shared-fft+gemm, fft* 120, [/red] 7, 1 min 05 s left"


def test_a_log_line_is_never_wrapped() -> None:
    """Else programs that read the log line by line would see halves."""
    out = io.StringIO()
    with RichWatcher(Console(file=out, force_terminal=False, width=30)) as watcher:
        watcher.progress(progress())
    assert len(out.getvalue().splitlines()) == 1


def test_a_terminal_shows_a_bar_and_gets_its_line_back() -> None:
    """Else the bar would stay behind and the summary would be printed into it."""
    out = io.StringIO()
    with RichWatcher(Console(file=out, force_terminal=True, width=120)) as watcher:
        watcher.progress(progress(left_s=None))
        watcher.progress(progress())
        watcher.progress(progress("finishing", done_s=75.0, left_s=0.0))
    text = out.getvalue()
    assert "1 min 05 s left" in text or "0 s left" in text
    assert text.rstrip("\r").endswith("\x1b[2K")


def test_closing_twice_and_without_a_bar_is_fine() -> None:
    """Else a run that fails before its first progress would end in a traceback."""
    watcher: Watcher = RichWatcher(Console(file=io.StringIO(), force_terminal=True))
    assert isinstance(watcher, RichWatcher)
    watcher.close()
    watcher.progress(progress())
    watcher.close()
    watcher.close()


class Unwritable(io.StringIO):
    """Takes some characters, and then no more: its reader has gone, its disk is full, its terminal was closed."""

    def __init__(self, number: int, takes: int) -> None:
        super().__init__()
        self.number, self.takes, self.tried = number, takes, 0

    def write(self, text: str) -> int:
        self.tried += 1
        if self.tell() + len(text) > self.takes:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("takes", [0, 60, 200])
def test_progress_that_cannot_be_written_falls_silent(number: int, terminal: bool, takes: int) -> None:
    """Else whoever looks away ends the measuring: kts run 2>&1 | head -1."""
    out = Unwritable(number, takes)
    with RichWatcher(Console(file=out, force_terminal=terminal, width=120)) as watcher:
        for phase in ("starting", "calibrating", "measuring"):
            watcher.progress(progress(phase))
        tried = out.tried
        watcher.progress(progress("finishing"))
        assert out.tried == tried
    watcher.close()


def test_rounds_beyond_the_planned_ones_are_not_shown_as_a_fraction() -> None:
    """Else a run that goes on for precision would show round 12/10."""
    of = structs.replace(progress(), round=12, tenants=())
    assert progress_line(of).startswith("measuring: round 12 (until decided), ")
    assert "round" not in progress_line(structs.replace(of, round=0))


def test_what_a_run_foretells_is_printed_once() -> None:
    """Else a log would repeat it with every status, or a terminal never show it."""
    told = Foretold(after_rounds=0, rounds=4, seconds=84.0, bound="max_seconds", expected=())
    out = io.StringIO()
    with RichWatcher(Console(file=out, force_terminal=False, width=80)) as watcher:
        for one in (progress(), structs.replace(progress(), foretold=told), structs.replace(progress(), foretold=told)):
            watcher.progress(one)
    assert [line.startswith("foretold: ") for line in out.getvalue().splitlines()].count(True) == 1
