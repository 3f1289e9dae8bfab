"""What every Sink must do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from tests.helpers_store import CPU, MemorySink, make_outcome, make_plan, make_records, make_writer
from tests.helpers_telemetry import MS, sample

from kts.conduct.ports import Sink
from kts.errors import MeasurementError
from kts.model.plan import Plan
from kts.model.records import Records
from kts.model.run import BlockOutcome, Outcome, WorkerInfo
from kts.model.telemetry import SourceState
from kts.store import open_run


@dataclass(frozen=True)
class Kept:
    """What a closed sink gives back."""

    plan: Plan | None
    workers: dict[str, WorkerInfo]
    blocks: list[BlockOutcome]
    outcome: Outcome | None
    read: Callable[[str, int], Records]
    sources: dict[str, SourceState]
    values: dict[str, list[float]]


@dataclass(frozen=True)
class Subject:
    """A sink and how to look at what it kept."""

    sink: Sink
    kept: Callable[[], Kept]


def _memory(_: Path) -> Subject:
    sink = MemorySink()

    def kept() -> Kept:
        values: dict[str, list[float]] = {}
        for one in sink.kept_samples:
            values.setdefault(one.metric, []).append(one.value)
        return Kept(sink.plan, sink.workers, sink.blocks, sink.outcome, sink.read, sink.sources, values)

    return Subject(sink, kept)


def _directory(path: Path) -> Subject:
    writer = make_writer(path / "run")

    def kept() -> Kept:
        run = open_run(path / "run")
        workers = {worker.id: worker for worker in run.info.workers}
        sources = {state.source: state for state in run.info.telemetry}
        values = {series.metric: list(series.value) for series in run.telemetry()}
        return Kept(run.info.plan, workers, list(run.blocks), run.info.outcome, run.records, sources, values)

    return Subject(writer, kept)


@pytest.fixture(params=[_memory, _directory], ids=["memory", "directory"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    """Each implementation."""
    made: Subject = request.param(tmp_path)
    return made


def test_everything_given_is_kept(subject: Subject) -> None:
    """Measurements, blocks, workers or the outcome would be lost."""
    sink = subject.sink
    frozen = msgspec.structs.replace(make_plan(), seed=7)
    sink.event("joined", tenant="fft", n=1, ok=True, note=None)
    sink.worker(WorkerInfo(tenant="fft", pid=1, hostname="h", device=CPU))
    sink.frozen(frozen)
    parts = [make_records(5, 0), make_records(7, 5)]
    for seq, part in enumerate(parts):
        sink.records("fft", 0, seq, part)
    sink.block(make_outcome(0, {"fft": 12}))
    sink.close(Outcome(kind="complete"))
    kept = subject.kept()
    assert kept.plan == frozen
    assert kept.workers["fft"].pid == 1
    assert kept.blocks == [make_outcome(0, {"fft": 12})]
    assert kept.outcome == Outcome(kind="complete")
    assert kept.read("fft", 0).tobytes() == b"".join(part.tobytes() for part in parts)
    assert len(kept.read("gemm", 0)) == 0


def test_a_worker_told_twice_is_replaced(subject: Subject) -> None:
    """What calibration measured would be missing, or the worker listed twice."""
    for solo_ms in (None, 3.6):
        subject.sink.worker(WorkerInfo(tenant="fft", pid=1, hostname="h", device=CPU, solo_ms=solo_ms))
    subject.sink.close(Outcome(kind="complete"))
    assert subject.kept().workers["fft"].solo_ms == 3.6


def test_two_workers_of_a_tenant_are_two(subject: Subject) -> None:
    """What one of them measured on would be taken for what the other did."""
    for worker in ("", "fft-mps"):
        subject.sink.worker(WorkerInfo(id=worker, tenant="fft", pid=1, hostname="h", device=CPU))
    subject.sink.close(Outcome(kind="complete"))
    assert list(subject.kept().workers) == ["fft", "fft-mps"]


@pytest.mark.parametrize("seqs", [[1], [0, 2], [0, 0], [0, 1, 0]])
def test_missing_or_repeated_chunk_is_refused(subject: Subject, seqs: list[int]) -> None:
    """Records lost on the way would go unnoticed."""
    for seq in seqs[:-1]:
        subject.sink.records("fft", 0, seq, make_records(2, 2 * seq))
    with pytest.raises(MeasurementError, match="fft, block 0"):
        subject.sink.records("fft", 0, seqs[-1], make_records(2))


def test_numbering_is_per_tenant_and_block(subject: Subject) -> None:
    """A second tenant or block would be refused."""
    for tenant in ("fft", "gemm"):
        for block in (0, 1):
            subject.sink.records(tenant, block, 0, make_records(2))


def test_only_the_first_close_counts(subject: Subject) -> None:
    """A failure during clean-up would rewrite how the run ended."""
    subject.sink.close(Outcome(kind="interrupted", exit_code=130))
    subject.sink.close(Outcome(kind="complete"))
    outcome = subject.kept().outcome
    assert outcome is not None
    assert outcome.kind == "interrupted"


def test_records_after_close_are_refused(subject: Subject) -> None:
    """They would vanish."""
    subject.sink.close(Outcome(kind="complete"))
    with pytest.raises(MeasurementError):
        subject.sink.records("fft", 0, 0, make_records(2))


def test_samples_and_what_became_of_their_sources_are_kept(subject: Subject) -> None:
    """Telemetry would be lost, or a source that was missing not be named."""
    subject.sink.source(SourceState(source="nvml", metrics=("gpu_busy_ratio",)))
    subject.sink.source(SourceState(source="gpm", missing="no GPM"))
    subject.sink.samples([sample(1 * MS, 0.1), sample(2 * MS, 0.2)])
    subject.sink.samples([sample(3 * MS, 0.3)])
    subject.sink.source(SourceState(source="nvml", metrics=("gpu_busy_ratio",), polls=3))
    subject.sink.close(Outcome(kind="complete"))
    kept = subject.kept()
    assert kept.values == {"gpu_busy_ratio": [0.1, 0.2, 0.3]}
    assert kept.sources["nvml"].polls == 3
    assert kept.sources["gpm"].missing == "no GPM"


def test_samples_after_close_are_dropped_in_silence(subject: Subject) -> None:
    """A sampler that was late would end the run in an error."""
    subject.sink.close(Outcome(kind="complete"))
    subject.sink.samples([sample(1 * MS)])
    assert subject.kept().values == {}
