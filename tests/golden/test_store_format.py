"""Run directories of schema 1, as written once and kept: every later kts must read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers_store import write_run

from kts.store import open_run

GOLDEN = Path(__file__).parent
FINISHED, KILLED = GOLDEN / "store_run_v1", GOLDEN / "store_run_v1_killed"


@pytest.mark.parametrize(("directory", "outcome"), [(FINISHED, "complete"), (KILLED, "incomplete")])
def test_a_run_of_schema_1_still_reads(tmp_path: Path, directory: Path, outcome: str) -> None:
    """People's earlier measurements could no longer be reported."""
    written = write_run(tmp_path / "run", chunks=2, per_chunk=4)
    run = open_run(directory)
    assert run.damage == ()
    assert run.info.outcome.kind == outcome
    assert [(b.index, b.condition, b.valid, b.counts) for b in run.blocks] == [
        (0, "solo-fft", True, {"fft": 8}),
        (1, "shared-fft+gemm", True, {"fft": 8, "gemm": 8}),
    ]
    for key, records in written.items():
        assert run.records(*key).tobytes() == records.tobytes()


def test_the_journal_is_written_as_it_was(tmp_path: Path) -> None:
    """An older kts could not read a newer journal although the schema number is the same."""
    write_run(tmp_path / "run", chunks=2, per_chunk=4, close=False)
    written = (tmp_path / "run" / "records.journal").read_bytes()
    assert written == (KILLED / "records.journal").read_bytes()
