"""Every run that can be read keeps what `kts.model.reading.RunData` promises, whatever it is read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tests import helpers_conduct, helpers_stats
from tests.helpers_store import make_outcome, make_records, make_writer, reference_logs, write_run
from tests.helpers_telemetry import sample

from kts.model.reading import RunData
from kts.model.records import RECORD
from kts.model.run import Outcome
from kts.store import open_run, parquet

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDED = Path(__file__).parents[2] / "examples" / "results" / "h200-agents-2"


def _closed(folder: Path) -> RunData:
    write_run(folder / "run")
    return open_run(folder / "run")


def _in_groups(folder: Path, numbers: Sequence[int] = range(20)) -> RunData:
    """One block in row groups of five records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_RECORDS", 5)
        writer = make_writer(folder / "run")
        for seq, first in enumerate(range(0, len(numbers), 5)):
            records = make_records(5)
            records["i"] = numbers[first : first + 5]
            writer.records("fft", 0, seq, records)
        writer.block(make_outcome(0, {"fft": len(numbers)}))
        writer.close(Outcome(kind="complete"))
    return open_run(folder / "run")


def _sampled(folder: Path) -> RunData:
    writer = make_writer(folder / "run")
    writer.records("fft", 0, 0, make_records(20))
    writer.samples([sample(k, k / 10) for k in (3, 1, 2)])
    writer.block(make_outcome(0, {"fft": 20}))
    writer.close(Outcome(kind="complete"))
    return open_run(folder / "run")


def _logs(folder: Path) -> RunData:
    reference_logs(folder / "run-1", iterations=50)
    return open_run(folder / "run-1")


def _fake(_: Path) -> RunData:
    def latencies(tenant: str, side: str, number: int) -> tuple[helpers_stats.Array, None]:
        return np.full(20, 1.0 + number + len(tenant) + len(side)), None

    return helpers_stats.make_run(helpers_stats.make_plan(rounds=3), latencies)


SOURCES: dict[str, Callable[[Path], RunData]] = {
    "parquet": _closed,
    "parquet of format 1": lambda _: open_run(GOLDEN / "store_run_v1"),
    "journal of a killed run": lambda _: open_run(GOLDEN / "store_run_v1_killed"),
    "parquet in several row groups": _in_groups,
    "a run with telemetry": _sampled,
    "KTS_APP logs": _logs,
    "a run on a GPU": lambda _: open_run(RECORDED),
    "the double of the statistics' tests": _fake,
    "the double of the conductor's tests": lambda _: helpers_conduct.MemoryRun(helpers_conduct.make_plan()),
}


@pytest.fixture(params=SOURCES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunData:
    return SOURCES[request.param](tmp_path)


def test_blocks_come_in_order_of_time_under_numbers_of_their_own(run: RunData) -> None:
    """Else latency over time would be drawn wrong, and records of one block counted for another."""
    assert run.blocks
    assert all(before.start_ns <= after.start_ns for before, after in pairwise(run.blocks))
    assert len({block.index for block in run.blocks}) == len(run.blocks)


def test_a_valid_block_names_a_condition_of_the_plan_and_holds_the_records_it_counts(run: RunData) -> None:
    """Else figures would come from records that are not what run.json says was measured."""
    valid = [block for block in run.blocks if block.valid]
    assert valid
    for block in valid:
        assert set(block.counts) <= set(run.info.plan.condition(block.condition).tenants)
        for tenant, count in block.counts.items():
            assert len(run.records(tenant, block.index)) == count


def test_records_are_whole_in_order_and_possible(run: RunData) -> None:
    """Else every clock could be negative, or counted twice."""
    for block in run.blocks:
        for tenant in block.counts:
            records = run.records(tenant, block.index)
            assert records.dtype == RECORD
            assert np.all(np.diff(records["i"].astype(np.int64)) > 0)
            assert np.all(records["due_ns"] <= records["submit_ns"])
            assert np.all(records["submit_ns"] <= records["retire_ns"])


def test_a_tenant_that_was_not_active_has_no_records(run: RunData) -> None:
    """Else asking for a neighbour in a solo block would end in an exception instead of nothing."""
    block = next(block for block in run.blocks if block.valid)
    assert len(run.records("nobody", block.index)) == 0


def test_telemetry_is_in_order_of_time_and_each_series_once(run: RunData) -> None:
    """Else samples would be joined to the wrong iterations, or a metric be reported twice."""
    found = run.telemetry()
    keys = [(series.source, series.metric, series.subject) for series in found]
    assert len(set(keys)) == len(keys)
    for series in found:
        assert len(series.t_ns) == len(series.span_ns) == len(series.value) > 0
        assert np.all(np.diff(series.t_ns) >= 0)


def test_the_portions_of_a_block_are_its_records(run: RunData) -> None:
    """Else a report would be of other iterations than what `records` hands out."""
    for block in run.blocks:
        for tenant in block.counts:
            parts = list(run.portions(tenant, block.index))
            assert b"".join(part.tobytes() for part in parts) == run.records(tenant, block.index).tobytes()


def test_a_large_block_comes_in_portions(tmp_path: Path) -> None:
    """Else memory grows with the largest block, 36 bytes an iteration."""
    assert [len(part) for part in _in_groups(tmp_path).portions("fft", 0)] == [5, 5, 5, 5]


def test_a_large_block_with_iterations_twice_comes_whole_and_once(tmp_path: Path) -> None:
    """Else an iteration in two portions would count twice."""
    run = _in_groups(tmp_path, [*range(12), *range(8)])
    (part,) = run.portions("fft", 0)
    assert part["i"].tolist() == list(range(12))
    assert run.damage == ("fft, block 0: 8 repeated iterations dropped",)
