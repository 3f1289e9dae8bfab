"""Optional columns of records, on their way from a worker's chunk to the file and back."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from tests.helpers_store import make_outcome, make_records, make_writer

from kts.conduct.block import RunningBlock
from kts.errors import DataError
from kts.model.plan import Block, Quota
from kts.model.records import MOST_OPTIONAL, NO_MARK_NS, NOT_TOLD, RECORD, joined, optional_columns, record_dtype
from kts.model.run import Outcome
from kts.store import open_run
from kts.wire.framing import chunk_records, make_chunk
from kts.wire.messages import decode_from_worker, encode

SERVED = ("launches", "waits", "cpu_ns", "cpu_wait_ns", "waited_ns", "mark.first_token")


def test_a_record_without_optional_columns_is_what_it_was() -> None:
    """Else every run would grow, and older journals could not be read."""
    assert record_dtype(()) is RECORD
    assert (RECORD.itemsize, record_dtype(SERVED).itemsize) == (36, 76)
    assert optional_columns(record_dtype(SERVED)) == SERVED


@pytest.mark.parametrize(
    "names",
    [("latency",), ("mark.",), ("mark.First",), ("mark.a", "mark.a"), tuple(f"mark.m{k}" for k in range(17)), ("i",)],
)
def test_a_column_that_nobody_knows_is_refused(names: tuple[str, ...]) -> None:
    """Else a peer could make a reader take any bytes for records."""
    assert len(names) <= MOST_OPTIONAL + 1
    with pytest.raises(ValueError, match=r"optional column"):
        record_dtype(names)
    with pytest.raises(DataError, match="chunk 0 of block 1"):
        chunk_records(msgspec.structs.replace(make_chunk(1, 0, make_records(2)), optional=names))


def test_parts_with_other_columns_are_joined_with_what_is_missing_told() -> None:
    """Else a token's time would be made up, or blocks of one tenant could not be put together."""
    plain, served = make_records(2), make_records(3, 2, optional=SERVED)
    whole = joined([plain, served, make_records(0)])
    assert whole["i"].tolist() == list(range(5))
    assert whole["launches"].tolist() == [0, 0, *served["launches"].tolist()]
    assert whole["cpu_wait_ns"].tolist() == [NOT_TOLD, NOT_TOLD, *served["cpu_wait_ns"].tolist()]
    assert whole["mark.first_token"].tolist() == [NO_MARK_NS, NO_MARK_NS, *served["mark.first_token"].tolist()]
    assert joined([]).dtype == RECORD


@pytest.mark.parametrize("close", [True, False])
def test_optional_columns_come_back_from_the_file_and_cost_others_nothing(tmp_path: Path, close: bool) -> None:
    """Else marks would be lost when a run closes, or when it is killed; or be there for tenants without them."""
    writer = make_writer(tmp_path / "run")
    parts = {"fft": make_records(20), "gemm": make_records(20, optional=SERVED)}
    for tenant, records in parts.items():
        sent = chunk_records(decode_from_worker(encode(make_chunk(0, 0, records))))  # type: ignore[arg-type]
        writer.records(tenant, 0, 0, sent)
    late = make_records(5, 20, optional=("mark.last_token",))
    writer.records("gemm", 0, 1, late)
    writer.block(make_outcome(0, {"fft": 20, "gemm": 25}))
    if close:
        writer.close(Outcome(kind="complete"))
        table = pq.read_table(tmp_path / "run" / "records.parquet")
        assert table.column_names[7:] == [*SERVED, "mark.last_token"]
        assert table.column("launches").null_count == 20
    run = open_run(tmp_path / "run")
    assert run.damage == ()
    assert run.records("fft", 0).tobytes() == parts["fft"].tobytes()
    assert run.records("gemm", 0).tobytes() == joined([parts["gemm"], late]).tobytes()


def test_a_block_reaches_to_the_last_completion_whichever_iteration_it_is_of() -> None:
    """Else a block of a served model would end before its longest request."""
    records = make_records(3)
    records["retire_ns"][0] = records["retire_ns"][2] + 7
    block = Block(index=1, round=0, condition="solo-fft", quotas={"fft": Quota(iterations=3, linger=False)})
    running = RunningBlock(block, start_ns=0, deadline_ns=10**12)
    running.take("fft", make_chunk(1, 0, records))
    outcome = running.outcome(10**12, valid=True)
    assert (outcome.start_ns, outcome.end_ns) == (records["submit_ns"][0], records["retire_ns"][0])
