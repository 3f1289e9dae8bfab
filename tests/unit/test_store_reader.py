"""Reading run directories: damaged, killed, of another version, or not runs at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.helpers_store import make_outcome, make_records, make_writer, write_run

from kts.errors import DataError, UsageError
from kts.model.run import Outcome
from kts.store import open_run
from kts.store.journal import scan

DONE = Outcome(kind="complete")


def _edit(directory: Path, **changes: Any) -> None:
    path = directory / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _killed(directory: Path) -> Path:
    """A run that ended without close, as a killed one looks once its lock is gone; its journal."""
    write_run(directory, close=False)
    (directory / "run.lock").unlink()
    return directory / "records.journal"


def test_finished_run_gives_back_what_was_written(tmp_path: Path) -> None:
    """Records would change between measuring and reporting."""
    written = write_run(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.damage == ()
    assert [(b.index, b.valid, b.counts) for b in run.blocks] == [
        (0, True, {"fft": 150}),
        (1, True, {"fft": 150, "gemm": 150}),
    ]
    assert {key: run.records(*key).tobytes() for key in written} == {key: r.tobytes() for key, r in written.items()}
    assert len(run.records("nobody", 0)) == len(run.records("fft", 99)) == 0


def test_a_missing_stopwatch_stays_nan(tmp_path: Path) -> None:
    """A tenant without a device stopwatch would get latencies of zero."""
    writer = make_writer(tmp_path / "run")
    records = make_records(3)
    records["device_ms"] = [np.nan, 1.5, np.nan]
    writer.records("fft", 0, 0, records)
    writer.block(make_outcome(0, {"fft": 3}))
    writer.close(DONE)
    assert np.isnan(open_run(tmp_path / "run").records("fft", 0)["device_ms"]).tolist() == [True, False, True]


def test_killed_run_reads_from_the_journal(tmp_path: Path) -> None:
    """A killed run could not be reported."""
    _killed(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.info.outcome.kind == "incomplete"
    assert run.damage == ()
    assert [block.valid for block in run.blocks] == [True, True]


def test_torn_tail_is_named_and_its_block_is_not_analysed(tmp_path: Path) -> None:
    """A short block would be analysed as a whole one."""
    journal = _killed(tmp_path / "run")
    last = scan(journal).frames[-1]
    with journal.open("r+b") as file:
        file.truncate(last.start + 812)
    run = open_run(tmp_path / "run")
    assert run.damage == (
        f"records.journal: 1 torn frame of 812 bytes at offset {last.start} dropped",
        "block 1: 100 of 150 announced records of gemm",
    )
    assert [block.valid for block in run.blocks] == [True, False]
    assert "100 of 150" in run.blocks[1].reason
    assert len(run.records("gemm", 1)) == 100


def test_damaged_middle_frame_is_skipped_and_named(tmp_path: Path) -> None:
    """Everything behind a bad sector would be lost, or wrong records read."""
    journal = _killed(tmp_path / "run")
    frame = scan(journal).frames[1]
    data = bytearray(journal.read_bytes())
    data[frame.payload + 40] ^= 1
    journal.write_bytes(data)
    run = open_run(tmp_path / "run")
    assert run.damage[0] == f"records.journal: {frame.end - frame.start} damaged bytes at offset {frame.start} skipped"
    assert "chunks of fft in block 0 are missing" in run.damage[1]
    assert [block.valid for block in run.blocks] == [False, True]
    assert len(run.records("fft", 0)) == 100


def test_a_block_with_fewer_records_than_announced_is_not_analysed(tmp_path: Path) -> None:
    """Lost records would bias the figures unnoticed."""
    writer = make_writer(tmp_path / "run")
    writer.records("fft", 0, 0, make_records(5))
    writer.block(make_outcome(0, {"fft": 6, "gemm": 1}))
    writer.close(DONE)
    run = open_run(tmp_path / "run")
    assert run.damage == ("block 0: 5 of 6 announced records of fft", "block 0: 0 of 1 announced records of gemm")
    assert not run.blocks[0].valid


def test_unannounced_records_of_a_tenant_that_died_are_no_damage(tmp_path: Path) -> None:
    """A worker that was killed would be reported as a damaged file."""
    writer = make_writer(tmp_path / "run")
    writer.records("fft", 0, 0, make_records(5))
    writer.block(make_outcome(0, {}, valid=False))
    writer.close(Outcome(kind="incomplete"))
    run = open_run(tmp_path / "run")
    assert run.damage == ()
    assert run.blocks[0].reason == "fft died"


@pytest.mark.parametrize("close", [True, False])
def test_records_come_in_order_and_repeats_are_dropped_and_named(tmp_path: Path, close: bool) -> None:
    """An iteration would count twice."""
    writer = make_writer(tmp_path / "run")
    second = make_records(4, 2)
    second["device_ms"] = 99.0
    writer.records("fft", 0, 0, make_records(4)[::-1])
    writer.records("fft", 0, 1, second)
    writer.block(make_outcome(0, {"fft": 8}))
    if close:
        writer.close(DONE)
    run = open_run(tmp_path / "run")
    for _ in range(2):
        records = run.records("fft", 0)
        assert records["i"].tolist() == [0, 1, 2, 3, 4, 5]
        assert (records["device_ms"] == 99.0).tolist() == [False] * 4 + [True] * 2
        assert run.damage == ("fft, block 0: 2 repeated iterations dropped",)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_parquet_without_journal_is_explained(tmp_path: Path, share: float) -> None:
    """A traceback, or part of a run reported as the whole."""
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "records.parquet"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"records\.parquet: truncated or damaged") as caught:
        open_run(tmp_path / "run")
    assert caught.value.remedy
    assert "\n" not in caught.value.what


def test_truncated_parquet_beside_a_journal_is_replaced_by_it(tmp_path: Path) -> None:
    """A run that lost power during its last second could not be read although all is there."""
    written = write_run(tmp_path / "run", close=False)
    (tmp_path / "run" / "records.parquet").write_bytes(b"PAR1 not quite")
    run = open_run(tmp_path / "run")
    assert "records.journal is read instead" in run.damage[0]
    assert run.records("fft", 0).tobytes() == written["fft", 0].tobytes()


def test_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """A newer run would be misread."""
    write_run(tmp_path / "run")
    _edit(tmp_path / "run", schema=99)
    with pytest.raises(DataError, match=r"written by a newer kts \(schema 99, this one reads up to 5\)") as caught:
        open_run(tmp_path / "run")
    assert "upgrade" in caught.value.remedy


def test_unknown_fields_of_the_same_schema_pass(tmp_path: Path) -> None:
    """A later kts could add nothing without breaking this one."""
    write_run(tmp_path / "run")
    _edit(tmp_path / "run", weather="fine")
    assert len(open_run(tmp_path / "run").blocks) == 2


@pytest.mark.parametrize("text", ["", '{"schema": 1, "id": "x', "[]", '{"schema": 1}', '{"id": "x"}', "\x00\xff"])
def test_damaged_run_json_is_explained(tmp_path: Path, text: str) -> None:
    """A traceback."""
    write_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"run\.json: damaged") as caught:
        open_run(tmp_path / "run")
    assert caught.value.remedy


def test_missing_run_json_is_explained_with_what_is_there(tmp_path: Path) -> None:
    """The user would not learn that the records are still there."""
    write_run(tmp_path / "run", close=False)
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(DataError, match=r"run\.json is missing \(records\.journal is there with 450 whole records\)"):
        open_run(tmp_path / "run")


def test_run_without_records_file_is_explained(tmp_path: Path) -> None:
    """A traceback."""
    write_run(tmp_path / "run")
    (tmp_path / "run" / "records.parquet").unlink()
    with pytest.raises(DataError, match="neither"):
        open_run(tmp_path / "run")


def test_paths_that_are_no_run_are_explained(tmp_path: Path) -> None:
    """A traceback, or an error that does not say what to give instead."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, says in (("none", "no such directory"), ("file", "is a file"), ("empty", "is empty")):
        with pytest.raises(DataError, match=says) as caught:
            open_run(tmp_path / name)
        assert caught.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_explained(tmp_path: Path) -> None:
    """A traceback."""
    write_run(tmp_path / "run")
    (tmp_path / "run" / "records.parquet").chmod(0)
    with pytest.raises(DataError, match="no permission"):
        open_run(tmp_path / "run")


def test_trimming_a_kts_run_is_refused(tmp_path: Path) -> None:
    """Measured iterations would be dropped as warm-up."""
    write_run(tmp_path / "run")
    with pytest.raises(UsageError, match="no warm-up"):
        open_run(tmp_path / "run", trim=5)


def test_the_file_of_another_program_is_called_that(tmp_path: Path) -> None:
    """The user would read a key of our metadata, and learn nothing."""
    write_run(tmp_path / "run")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "run" / "records.parquet")
    with pytest.raises(DataError, match=r"records\.parquet: .*another program made this file"):
        open_run(tmp_path / "run")
