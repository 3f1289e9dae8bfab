"""Plans, records and logs for tests of the store and of what reads from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kts.arrivals import Closed
from kts.errors import MeasurementError
from kts.model.foretold import Foretold
from kts.model.mode import SharingMode
from kts.model.neighbours import Look, Neighbours
from kts.model.plan import Condition, Kernel, Plan, Tenant
from kts.model.records import RECORD, Records, record_dtype
from kts.model.run import BlockOutcome, DeviceInfo, Outcome, WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.store import RunWriter, create
from kts.wire.appline import AppLine, format_line

CPU = DeviceInfo(kind="cpu", uuid="host-core1", name="cpu", label="CPU core 1, not a GPU", library="numpy")

PUBLISHED_MS = {
    ("fft", "solo"): (3.598, 3.645, 3.679),
    ("gemm", "solo"): (20.677, 20.896, 20.985),
    ("fft", "shared"): (3.593, 5.868, 6.101),
    ("gemm", "shared"): (20.669, 24.505, 24.690),
}
"""The reference's p50, p95 and p99 (device time)."""

UID = "0123456789abcdef"
"""Of a run, where a test needs one."""

THINK_MS = {"fft": 100.0, "gemm": 150.0}


def make_plan(rounds: int = 2, iterations: int = 100) -> Plan:
    """fft and gemm, interleaved."""
    tenants = tuple(
        Tenant(name=name, work=Kernel(workload=name, size=64), arrivals=Closed(think_ms=1.0), iterations=iterations)
        for name in ("fft", "gemm")
    )
    conditions = (
        Condition(name="solo-fft", tenants=("fft",)),
        Condition(name="solo-gemm", tenants=("gemm",)),
        Condition(name="shared-fft+gemm", tenants=("fft", "gemm")),
    )
    return Plan(
        name="pair", design="interleaved", tenants=tenants, conditions=conditions, rounds=rounds, max_rounds=rounds
    )


def make_records(
    n: int, first: int = 0, begin_ns: int = 10**9, seed: int = 0, optional: tuple[str, ...] = ()
) -> Records:
    """``n`` closed-loop records numbered from ``first``."""
    rng = np.random.default_rng((seed, first))
    records = np.zeros(n, record_dtype(optional))
    for name in optional:
        records[name] = first + np.arange(n) + len(name)
    records["i"] = first + np.arange(n)
    records["submit_ns"] = records["due_ns"] = begin_ns + 5_000_000 * (first + np.arange(n))
    records["retire_ns"] = records["submit_ns"] + rng.integers(3_000_000, 4_000_000, n)
    records["device_ms"] = (records["retire_ns"] - records["submit_ns"]) / 1e6 - 0.1
    return records


def make_outcome(
    index: int, counts: dict[str, int], *, valid: bool = True, condition: str = "solo-fft"
) -> BlockOutcome:
    """A block that lasted a second."""
    return BlockOutcome(
        index=index,
        round=index // 3,
        condition=condition,
        start_ns=(1 + index) * 10**9,
        end_ns=(2 + index) * 10**9,
        valid=valid,
        counts=counts,
        reason="" if valid else "fft died",
    )


def make_writer(directory: Path, *, overwrite: bool = False, uid: str | None = None) -> RunWriter:
    """A writer for ``make_plan``. ``uid``: as of `kts.store.create`."""
    return create(
        directory,
        plan=make_plan(),
        backend="local",
        mode=SharingMode(recorded="cpu-scheduler"),
        experiment_text="name: pair\n",
        environment={"os": "test"},
        overwrite=overwrite,
        uid=uid,
    )


def write_run(
    directory: Path, *, chunks: int = 3, per_chunk: int = 50, close: bool = True, uid: str | None = None
) -> dict[tuple[str, int], Records]:
    """A run with block 0 (fft) and block 1 (fft and gemm); returns its records by tenant and block."""
    writer = make_writer(directory, uid=uid)
    writer.worker(WorkerInfo(tenant="fft", pid=1, hostname="h", device=CPU))
    written: dict[tuple[str, int], Records] = {}
    for block, tenants in ((0, ("fft",)), (1, ("fft", "gemm"))):
        for seq in range(chunks):
            for tenant in tenants:
                part = make_records(per_chunk, seq * per_chunk, (1 + block) * 10**9, seed=len(tenant))
                writer.records(tenant, block, seq, part)
                before = written.get((tenant, block), np.empty(0, RECORD))
                written[tenant, block] = np.concatenate([before, part])
        condition = "solo-fft" if block == 0 else "shared-fft+gemm"
        writer.block(make_outcome(block, dict.fromkeys(tenants, chunks * per_chunk), condition=condition))
    if close:
        writer.close(Outcome(kind="complete"))
    return written


class MemorySink:
    """A Sink that keeps everything in memory; also a `kts.model.reading.RunData` source of records."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.workers: dict[str, WorkerInfo] = {}
        self.plan: Plan | None = None
        self.blocks: list[BlockOutcome] = []
        self.outcome: Outcome | None = None
        self.sources: dict[str, SourceState] = {}
        self.kept_samples: list[Sample] = []
        self.neighbours = Neighbours()
        self.told: list[Foretold] = []
        self._chunks: dict[tuple[str, int], list[Records]] = {}

    def event(self, kind: str, **fields: str | int | float | bool | None) -> None:
        del fields
        self.events.append(kind)

    def worker(self, info: WorkerInfo) -> None:
        self.workers[info.id] = info

    def frozen(self, plan: Plan) -> None:
        self.plan = plan

    def records(self, tenant: str, block: int, seq: int, records: Records) -> None:
        chunks = self._chunks.setdefault((tenant, block), [])
        if seq != len(chunks) or self.outcome is not None:
            raise MeasurementError(f"{tenant}, block {block}: chunk {seq} came where {len(chunks)} was due")
        chunks.append(records.copy())

    def block(self, outcome: BlockOutcome) -> None:
        self.blocks.append(outcome)

    def source(self, state: SourceState) -> None:
        self.sources[state.source] = state

    def samples(self, samples: Sequence[Sample]) -> None:
        if self.outcome is None:
            self.kept_samples += samples

    def foretold(self, told: Foretold) -> None:
        self.told.append(told)

    def look(self, look: Look) -> None:
        if self.outcome is None:
            self.neighbours = self.neighbours.after(look)

    def close(self, outcome: Outcome) -> None:
        self.outcome = self.outcome or outcome

    def read(self, tenant: str, block: int) -> Records:
        """What was received."""
        return np.concatenate([np.empty(0, RECORD), *self._chunks.get((tenant, block), [])])


def published_values(app: str, condition: str, n: int, seed: int) -> NDArray[np.float64]:
    """``n`` latencies (ms, six decimals, random order) whose p50, p95 and p99 are the published ones.

    The quantile function is flat for a few samples around each, so that every usual estimator agrees.
    """
    p50, p95, p99 = PUBLISHED_MS[app, condition]
    flat = 4 / n
    knots = [(0.0, 0.99 * p50)]
    for p, value in ((0.5, p50), (0.95, p95), (0.99, p99)):
        knots += [(p - flat, value), (p + flat, value)]
    knots.append((1.0, 1.01 * p99))
    values = np.interp(np.arange(n) / (n - 1), [p for p, _ in knots], [v for _, v in knots])
    return np.round(np.random.default_rng(seed).permutation(values), 6)


def app_lines(app: str, values_ms: Sequence[float] | NDArray[np.float64], begin_ns: int, phase: str = "") -> list[str]:
    """One KTS_APP line per latency, in closed loop with the reference's sleep; 0.2 ms of host time around each."""
    lines = []
    start = begin_ns
    for i, ms in enumerate(values_ms):
        end = start + round((float(ms) + 0.2) * 1e6)
        lines.append(
            format_line(AppLine(app=app.upper(), i=i, start_ns=start, end_ns=end, device_ms=float(ms), phase=phase))
        )
        start = end + round(THINK_MS.get(app, 100.0) * 1e6)
    return lines


def reference_logs(directory: Path, seed: int = 0, iterations: int = 800) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Writes logs in the reference's style: FFT alone, GEMM alone, then both at once. Returns the latencies (ms)."""
    directory.mkdir(parents=True, exist_ok=True)
    begins = {("fft", "solo"): 0, ("gemm", "solo"): 200, ("fft", "shared"): 400, ("gemm", "shared"): 400}
    values: dict[tuple[str, str], NDArray[np.float64]] = {}
    for number, ((app, condition), begin_s) in enumerate(begins.items()):
        values[app, condition] = published_values(app, condition, iterations, seed * 10 + number)
        lines = app_lines(app, values[app, condition], 1_700_000_000_000_000_000 + begin_s * 10**9)
        (directory / f"{app}-{condition}.log").write_text("\n".join(lines) + "\n")
    return values
