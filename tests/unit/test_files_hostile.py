"""Files of ours: with the rights that the umask leaves, through no link, and not lost where their place cannot be
written."""

from __future__ import annotations

import errno
import io
import itertools
import os
import stat
from pathlib import Path

import pytest
from tests.helpers_report import FakeRun, analysis, summary, terminal_text
from tests.helpers_store import write_run

from kts import files
from kts.app.fingerprints import _kept
from kts.app.plans import planned
from kts.cli.main import main
from kts.errors import SetupError
from kts.model.mode import SharingMode
from kts.report import run_document, write
from kts.store import create
from kts.store.writer import _measurement_error


@pytest.mark.parametrize(("mask", "left"), [(0o077, 0o600), (0o002, 0o664)])
def test_files_of_a_run_have_the_rights_that_the_umask_leaves(tmp_path: Path, mask: int, left: int) -> None:
    """Else what a user keeps private, or shares with a group, is not."""
    before = os.umask(mask)
    try:
        writer = create(
            tmp_path / "run",
            plan=planned("demo", {})[1],
            backend="local",
            mode=SharingMode(),
            experiment_text="",
            environment={},
        )
        writer.event("note", text="one")
    finally:
        os.umask(before)
    there = {path.name: stat.S_IMODE(path.stat().st_mode) for path in writer.directory.iterdir() if path.is_file()}
    assert {"run.json", "events.jsonl", "records.journal", "run.lock"} <= there.keys()
    assert set(there.values()) == {left}


def test_no_link_is_followed_when_a_file_of_ours_is_opened(tmp_path: Path) -> None:
    """Else whoever may write in the folder chooses what kts, perhaps as root, writes into."""
    (tmp_path / "mine").write_text("untouched")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="is a link"):
        files.opened(tmp_path / "events.jsonl", os.O_WRONLY | os.O_APPEND)
    assert (tmp_path / "mine").read_text() == "untouched"


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one in place of the temporary file, whose name can be guessed."""
    (tmp_path / "mine").write_text("untouched")
    monkeypatch.setattr(files, "_serial", itertools.count(7))
    (tmp_path / "run.json").symlink_to(tmp_path / "mine")
    (tmp_path / f".run.json.{os.getpid()}-7.tmp").symlink_to(tmp_path / "mine")
    files.replace(tmp_path / "run.json", b"new")
    assert (tmp_path / "mine").read_text() == "untouched"
    assert not (tmp_path / "run.json").is_symlink()
    assert (tmp_path / "run.json").read_bytes() == b"new"


def test_pictures_go_into_a_folder_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where a link of that name leads to."""
    from kts.report import figures
    from kts.report.document import Figure

    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "plots").symlink_to(elsewhere)
    monkeypatch.setattr(figures, "draw", lambda *_: [Figure("a", "", "", "<svg/>", files=(("a.svg", b"<svg/>"),))])
    write(FakeRun(summary()), analysis(), out)
    assert list(elsewhere.iterdir()) == []
    assert (out / "plots" / "a.svg").read_bytes() == b"<svg/>"


def test_what_is_gone_is_not_said_to_be_kept(tmp_path: Path) -> None:
    """``kts report DIR`` of a folder that was removed meanwhile is no advice."""
    error = OSError(errno.ENOENT, "No such file or directory")
    told = _measurement_error(tmp_path / "gone", "events.jsonl", error)
    assert "removed or moved" in told.what
    assert "kts report" not in told.remedy
    assert "kept: kts report" in _measurement_error(tmp_path, "events.jsonl", error).remedy


def test_a_probe_is_kept_elsewhere_where_its_place_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had the device for itself for seconds; an unwritable home must not cost what it told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").write_text("a file, so no folder")
    path, problem = _kept(b"told", tmp_path / "home" / "kts" / "gpu.json")
    assert path.read_bytes() == b"told"
    assert path == Path("gpu.json")
    assert "home/kts/gpu.json cannot be written: Not a directory; kept as gpu.json" in problem
    assert _kept(b"told", tmp_path / "there" / "gpu.json") == (tmp_path / "there" / "gpu.json", "")


def test_a_probe_that_can_be_kept_nowhere_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last place is one for temporary files."""

    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "replace", full)
    with pytest.raises(SetupError, match="cannot be written: No space left on device"):
        _kept(b"told", tmp_path / "gpu.json")


class Full(io.StringIO):
    """An output that takes nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._error = OSError(number, os.strerror(number))

    def write(self, text: str) -> int:
        del text
        raise self._error


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 4), (errno.EPIPE, 1)])
def test_a_report_is_written_where_its_table_cannot_be_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    """A full disk behind ``>``, or ``| head -1``, must not cost the report of a run."""
    from rich.console import Console

    run = tmp_path / "run"
    write_run(run)
    monkeypatch.setattr("kts.cli.report.console", lambda **_: Console(file=Full(number), width=80))
    assert main(["report", str(run), "--no-figures", "--out", str(tmp_path / "out")]) == code
    assert (tmp_path / "out" / "results.md").exists()
    if code == 4:
        assert "error: standard output: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["report"], ["check"], ["explain"]])
def test_what_cannot_be_read_has_one_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Else an unreadable folder is a mistake on the command line (2), and an unreadable file in it one of data (6)."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert main([*command, str(tmp_path)]) == 6
    assert f"error: {tmp_path}: no permission to read" in capsys.readouterr().err


@pytest.mark.parametrize("width", [30, 40])
def test_a_narrow_terminal_has_every_figure_and_no_name_letter_by_letter(width: int) -> None:
    """Names of which two letters stand on a line are not read."""
    text = terminal_text(run_document(summary()), width)
    assert not [line for line in text.splitlines() if len(line.strip()) == 1 or len(line.rstrip()) > width]
    for name in ("fft", "gemm", "response", "device", "iterations/s", "ms"):
        assert name in [line.strip() for line in text.splitlines()]
    assert "shared p99: 8.29" in text
