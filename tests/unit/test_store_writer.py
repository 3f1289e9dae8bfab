"""Writing a run directory: creation, failure, close."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from tests.helpers_store import make_outcome, make_records, make_writer, write_run

from kts import files
from kts.errors import KtsError, MeasurementError, SetupError, UsageError
from kts.model.run import Outcome
from kts.store import durable, open_run, parquet

DONE = Outcome(kind="complete")


def test_finished_directory_holds_only_the_documented_files(tmp_path: Path) -> None:
    """The journal, the lock or the reserve would be left behind, or the Parquet missing."""
    write_run(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "events.jsonl", "records.parquet", "logs"}


def test_run_says_running_until_it_is_closed(tmp_path: Path) -> None:
    """A killed run would pass for a finished one."""
    writer = make_writer(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["outcome"]["kind"] == "running"
    writer.close(DONE)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["outcome"]["kind"] == "complete"


def test_events_carry_both_clocks_and_are_there_at_once(tmp_path: Path) -> None:
    """Events could not be joined with logs, or would be lost with the process."""
    writer = make_writer(tmp_path / "run")
    writer.event("block-started", block=3, valid=True, reason=None)
    (line,) = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event.pop("realtime_ns") > 10**18
    assert event.pop("monotonic_ns") > 0
    assert event == {"kind": "block-started", "block": 3, "valid": True, "reason": None}
    writer.close(DONE)


def test_parquet_splits_into_row_groups_of_one_tenant_and_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading one block would scan the file, or records would move between blocks."""
    monkeypatch.setattr(parquet, "ROW_GROUP_RECORDS", 100)
    written = write_run(tmp_path / "run", chunks=5, per_chunk=40)
    footer = parquet.pq.ParquetFile(tmp_path / "run" / "records.parquet").metadata
    assert footer.num_row_groups == 9
    assert footer.metadata[b"kts.records"] == b"600"
    run = open_run(tmp_path / "run")
    assert {key: run.records(*key).tobytes() for key in written} == {key: r.tobytes() for key, r in written.items()}


@pytest.mark.parametrize(("name", "kind"), [("notes.txt", "file"), ("run.json", "file"), ("data", "folder")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_is_not_a_run_is_never_touched(tmp_path: Path, name: str, kind: str, overwrite: bool) -> None:
    """Foreign files would be deleted."""
    if kind == "file":
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="not a kts run") as caught:
        make_writer(tmp_path, overwrite=overwrite)
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_existing_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """A measurement would be lost by typing a command twice, or old figures stay beside new records."""
    write_run(tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("{}")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds a run already"):
        make_writer(tmp_path / "run")
    make_writer(tmp_path / "run", overwrite=True).close(DONE)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / "summary.json").exists()
    assert open_run(tmp_path / "run").blocks == ()


def test_a_live_run_is_not_replaced(tmp_path: Path) -> None:
    """Two conductors would write into one directory."""
    writer = make_writer(tmp_path / "run")
    with pytest.raises(SetupError, match="another kts"):
        make_writer(tmp_path / "run", overwrite=True)
    writer.close(DONE)
    make_writer(tmp_path / "run", overwrite=True).close(DONE)


def test_a_file_in_the_way_is_explained(tmp_path: Path) -> None:
    """A traceback."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(SetupError, match="a file is in the way"):
            make_writer(path)


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.EACCES, "no permission"), (errno.ENOSPC, "no space"), (errno.EROFS, "Read-only file system")],
)
def test_a_directory_that_cannot_be_written_is_explained_and_not_left_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """A traceback, or a leftover that blocks the next try."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "replace", refuse)
    with pytest.raises(SetupError, match=says) as caught:
        make_writer(tmp_path / "run")
    assert caught.value.remedy
    assert not (tmp_path / "run").exists()


class _FullDisk:
    """Stands for `durable.write_all` on a disk with room for ``room`` bytes."""

    def __init__(self, room: int, number: int = errno.ENOSPC) -> None:
        self.room = room
        self.number = number

    def __call__(self, descriptor: int, data: bytes) -> None:
        part = data[: self.room]
        self.room -= os.write(descriptor, part)
        if len(part) < len(data):
            raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "disk full"), (errno.EDQUOT, "disk full"), (errno.EIO, "Input/output"), (errno.EFBIG, "larger")],
)
def test_disk_full_keeps_every_whole_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """What was measured before the disk was full could not be reported, or the failure would pass unnoticed."""
    writer = make_writer(tmp_path / "run")
    monkeypatch.setattr(durable, "write_all", _FullDisk(4000, number))
    writer.records("fft", 0, 0, make_records(50))
    writer.records("fft", 0, 1, make_records(50, 50))
    with pytest.raises(MeasurementError, match=says) as caught:
        writer.records("fft", 0, 2, make_records(50, 100))
    assert "kept" in caught.value.remedy
    with pytest.raises(MeasurementError, match=says):
        writer.records("fft", 0, 2, make_records(50, 100))
    writer.event("failed")
    writer.block(make_outcome(0, {"fft": 150}, valid=False))
    writer.close(Outcome(kind="incomplete", reason="disk full", exit_code=5))
    run = open_run(tmp_path / "run")
    assert run.records("fft", 0)["i"].tolist() == list(range(100))
    assert [block.valid for block in run.blocks] == [False]
    assert run.info.outcome.reason == "disk full"
    assert any("writing stopped" in note for note in run.info.notes)
    assert not (tmp_path / "run" / ".reserve").exists()


def test_events_that_cannot_be_written_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring would go on with nothing recorded."""
    writer = make_writer(tmp_path / "run")
    monkeypatch.setattr(durable, "write_all", _FullDisk(0))
    with pytest.raises(MeasurementError, match="disk full"):
        writer.event("started")
    with pytest.raises(MeasurementError, match="disk full"):
        writer.records("fft", 0, 0, make_records(1))
    writer.close(Outcome(kind="failed"))
    assert open_run(tmp_path / "run").info.outcome.kind == "failed"


def test_failed_conversion_keeps_the_journal_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run would be lost in its last second."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parquet.pq.ParquetWriter, "write_table", full)
    written = write_run(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.records("gemm", 1).tobytes() == written["gemm", 1].tobytes()
    assert run.damage == ()
    assert any("No space left" in note and "records.journal is kept" in note for note in run.info.notes)
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_a_closing_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command would report success for a run that says running."""
    writer = make_writer(tmp_path / "run")
    writer.records("fft", 0, 0, make_records(5))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "replace", refuse)
    with pytest.raises(KtsError, match="Input/output error"):
        writer.close(DONE)
    run = open_run(tmp_path / "run")
    assert run.info.outcome.kind == "incomplete"
    assert len(run.records("fft", 0)) == 5
