"""Run directories of older schemas, as written once and kept: every later kts must read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.helpers_store import write_run

from kts.model.plan import Decoder, Kernel, Program
from kts.store import open_run
from kts.store.upgrade import upgraded

GOLDEN = Path(__file__).parent
SAMPLES = {
    "gpu_busy_ratio": [0.1 * k for k in range(5)] * 2,
    "sm_clock_mhz": [1980.0 - k for k in range(5)] * 2,
}
"""Of the runs since schema 3."""
ENDS = [("", "complete"), ("_killed", "incomplete")]


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("end", "outcome"), ENDS)
def test_a_run_of_an_older_schema_still_reads(tmp_path: Path, schema: int, end: str, outcome: str) -> None:
    """People's earlier measurements could no longer be reported."""
    written = write_run(tmp_path / "run", chunks=2, per_chunk=4)
    run = open_run(GOLDEN / f"store_run_v{schema}{end}")
    assert run.info.schema == schema
    assert run.damage == ()
    assert run.info.outcome.kind == outcome
    assert [(b.index, b.condition, b.valid, b.counts) for b in run.blocks] == [
        (0, "solo-fft", True, {"fft": 8}),
        (1, "shared-fft+gemm", True, {"fft": 8, "gemm": 8}),
    ]
    for key, records in written.items():
        assert run.records(*key).tobytes() == records.tobytes()
    assert {one.metric: one.value.tolist() for one in run.telemetry()} == (SAMPLES if schema > 2 else {})
    assert run.damage == ()


def test_work_of_older_schemas_is_what_it_was() -> None:
    """A program of an older run would be taken for a kernel of ours, or the other way round."""
    assert [tenant.work for tenant in open_run(GOLDEN / "store_run_v2").info.plan.tenants] == [
        Kernel(workload="decode", size=128, library="torch", decoder=Decoder(layers=2, graph=True)),
        Program(command=("serve", "--port", "1"), env={"A": "b"}),
    ]
    assert [tenant.work for tenant in open_run(GOLDEN / "store_run_v1").info.plan.tenants] == [
        Kernel(workload="fft", size=64),
        Kernel(workload="gemm", size=64),
    ]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"plan": 1},
        {"plan": {"tenants": {}}},
        {"plan": {"tenants": [1, {}, {"work": 1}, {"work": {"workload": []}}]}},
    ],
)
def test_an_upgrade_leaves_what_it_does_not_understand_to_the_reader(content: dict[str, object]) -> None:
    """A foreign run.json would end in a traceback instead of one line."""
    assert upgraded(content).keys() == content.keys()


def test_the_journal_is_written_as_it_was(tmp_path: Path) -> None:
    """An older kts could not read a newer journal although the schema number is the same."""
    kept = GOLDEN / "store_run_v5_killed"
    write_run(tmp_path / "run", chunks=2, per_chunk=4, close=False, uid=open_run(kept).info.uid)
    written = (tmp_path / "run" / "records.journal").read_bytes()
    assert written == (kept / "records.journal").read_bytes()
