"""Standard error whose reader has gone, sleeps, or has no room; signals while `kts` is being loaded and reports."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kts.cli import quiet
from kts.cli.quiet import Quiet

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux")
MORE_THAN_ANY_BUFFER = "x" * (1 << 20) + "\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.01)


def _pipe_without_reader() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write


def _pipe_that_nobody_reads() -> Iterator[int]:
    read, write = os.pipe()
    yield write
    os.close(read)


def _full_disk() -> Iterator[int]:
    yield os.open("/dev/full", os.O_WRONLY)


def _closed_terminal() -> Iterator[int]:
    master, slave = pty.openpty()
    os.close(master)
    yield slave


def _held_terminal() -> Iterator[int]:
    """By Ctrl-S."""
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    yield slave
    os.close(master)


@pytest.mark.parametrize(
    "place", [_pipe_without_reader, _pipe_that_nobody_reads, _full_disk, _closed_terminal, _held_terminal]
)
def test_writing_ends_and_fails_nowhere(place: object) -> None:
    """Otherwise a reader that goes away or sleeps, a full disk, a closed or held terminal ends or stops a run."""
    opened = place()  # type: ignore[operator]
    with os.fdopen(next(opened), "w", encoding="utf-8") as stream:
        out = Quiet(stream)
        for _ in range(3):
            assert out.write(MORE_THAN_ANY_BUFFER) == len(MORE_THAN_ANY_BUFFER)
            out.flush()
        out.leave()
    next(opened, None)


def test_what_has_room_again_is_written_again() -> None:
    """Otherwise a pager that paused would never see the error at the end."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stream, os.fdopen(read, "rb", buffering=0) as reader:
        out = Quiet(stream)
        out.write(MORE_THAN_ANY_BUFFER)
        while len(reader.read(1 << 16)) == 1 << 16:
            out.write("")
            if not _readable(reader):
                break
        out.write("the end\n")
        assert reader.read(1 << 16).endswith(b"the end\n")
        out.leave()


def _readable(reader: io.RawIOBase) -> bool:
    import select

    return bool(select.select([reader], [], [], 0)[0])


SIGNALLED_WHILE_LOADED = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            signal.raise_signal({number})

sys.meta_path.insert(0, Finder())
from kts.cli.entry import entry
sys.argv[1:] = ["report", "nowhere"]
sys.exit(entry())
"""


@pytest.mark.parametrize(
    ("name", "number"), [("kts.cli.main", 15), ("kts.cli.group", 2), ("kts.cli.report", 1), ("kts.app.handle", 2)]
)
def test_a_signal_while_it_is_loaded_ends_it_as_documented(name: str, number: int) -> None:
    """Otherwise Ctrl-C in the first second shows a traceback, and a cancelled job an exit code that means a bug."""
    code = SIGNALLED_WHILE_LOADED.format(name=name, number=number)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False, env=env
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


def test_a_held_terminal_costs_no_report_and_holds_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise Ctrl-S while a run ends leaves it without its report, and a terminal that nobody reads leaves `kts`."""
    from tests.helpers_cli import record

    import kts
    from kts.cli import output, report

    monkeypatch.setattr(output, "PATIENCE_S", 0.01)
    monkeypatch.setattr(output, "LAST_S", 0.01)
    monkeypatch.setenv("COLUMNS", "80")
    run = kts.load(record(tmp_path / "run"))
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal, os.fdopen(master, "rb", buffering=0) as screen:
        monkeypatch.setattr(sys, "stdout", terminal)
        termios.tcflow(slave, termios.TCOOFF)
        with pytest.raises(output.HeldError):
            report.show(run, run.directory, figures=False, as_json=False)
        assert (run.directory / "results.md").exists()
        termios.tcflow(slave, termios.TCOON)
        monkeypatch.setattr(kts, "show", lambda result, people: people.print(result))
        assert output.shown_to(output.console(stderr=False), "a line") is None
        assert b"a line" in screen.read(1 << 12)


def test_a_terminal_that_is_held_in_the_middle_of_a_table_gets_the_rest_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Ctrl-S while the table runs over the screen keeps the report's files from being written."""
    import kts
    from kts.cli import output

    monkeypatch.setattr(output, "PATIENCE_S", 0.01)
    monkeypatch.setattr(output, "LAST_S", 30.0)
    lines = [f"line {number} of a long table" for number in range(5000)]
    monkeypatch.setattr(kts, "show", lambda _, people: people.print("\n".join(lines)))
    master, slave = pty.openpty()
    read = bytearray()

    def look() -> None:
        while lines[-1].encode() not in read:
            read.extend(os.read(master, 1 << 12))

    with os.fdopen(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        people = output.console(stderr=False)
        held = output.shown_to(people, "a result")  # nobody reads: its buffer is full in the middle
        assert isinstance(held, output.HeldError)
        assert 0 < len(held.left) < len("\n".join(lines))
        looker = threading.Thread(target=look, daemon=True)
        looker.start()
        assert output.shown_at_last(people, held) is None
        looker.join(60)
    os.close(master)
    assert read.decode().split() == " ".join(lines).split()


def test_the_report_of_an_interrupted_run_does_not_hang_on_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a terminal that went ends the run as an internal error, instead of as interrupted."""
    from tests.helpers_cli import record

    import kts
    from kts.app.handle import Run
    from kts.cli import report
    from kts.errors import KtsError
    from kts.model.run import Outcome

    run = kts.load(record(tmp_path / "run"))
    interrupted = Run(run.directory, run.data, Outcome(kind="interrupted", reason="interrupted", exit_code=130))

    def closed(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(kts, "show", closed)
    with pytest.raises(KtsError) as caught:
        report.show_measured(interrupted, figures=False, as_json=False)
    assert caught.value.exit_code == 130
    assert (run.directory / "results.md").exists()
    capsys.readouterr()
