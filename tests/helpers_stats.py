"""A run made of arrays, and generators of latencies whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kts.arrivals import Closed
from kts.model.mode import SharingMode
from kts.model.plan import Condition, Kernel, Plan, Slo, Tenant
from kts.model.records import RECORD, Records
from kts.model.run import BlockOutcome, DeviceInfo, Outcome, RunInfo, WorkerInfo
from kts.model.telemetry import SampleSeries

Array = NDArray[np.float64]

SOLO, SHARED = "solo", "shared"


def make_records(
    service_ms: Array, device_ms: Array | None = None, *, begin_ns: int = 0, think_ms: Array | float = 1.0
) -> Records:
    """Closed-loop records, one after the other from ``begin_ns`` on. ``device_ms`` None: no stopwatch."""
    service_ns = np.round(np.asarray(service_ms) * 1e6).astype(np.int64)
    think_ns = np.round(np.broadcast_to(think_ms, service_ns.shape) * 1e6).astype(np.int64)
    records = np.zeros(len(service_ns), dtype=RECORD)
    cycles = np.concatenate([[0], np.cumsum(service_ns + think_ns)[:-1]]) if len(service_ns) else service_ns
    records["i"] = np.arange(len(service_ns))
    records["submit_ns"] = begin_ns + cycles
    records["due_ns"] = records["submit_ns"]
    records["retire_ns"] = records["submit_ns"] + service_ns
    records["device_ms"] = np.nan if device_ms is None else device_ms
    return records


def make_plan(
    names: Sequence[str] = ("fft", "gemm"),
    *,
    design: str = "interleaved",
    rounds: int = 10,
    precision: float | None = None,
    slo: Slo = Slo(),  # noqa: B008 - frozen
) -> Plan:
    """A plan with a solo condition for every tenant and the full house."""
    tenants = tuple(
        Tenant(name=name, work=Kernel(workload="fft", size=64), arrivals=Closed(think_ms=1.0), iterations=100, slo=slo)
        for name in names
    )
    conditions = tuple(Condition(name=f"solo-{name}", tenants=(name,)) for name in names)
    if len(names) > 1:
        conditions += (Condition(name="shared-" + "+".join(names), tenants=tuple(names)),)
    return Plan(
        name="test",
        design=design,  # type: ignore[arg-type]
        tenants=tenants,
        conditions=conditions,
        rounds=rounds,
        max_rounds=rounds,
        precision=precision,
    )


@dataclass
class FakeRun:
    """RunData from arrays in memory. ``reads`` counts how often each (tenant, block) was read."""

    info: RunInfo
    blocks: list[BlockOutcome]
    data: dict[tuple[str, int], Records]
    damage: Sequence[str] = ()
    samples: Sequence[SampleSeries] = ()
    reads: dict[tuple[str, int], int] = field(default_factory=dict)

    def records(self, tenant: str, block: int) -> Records:
        self.reads[tenant, block] = self.reads.get((tenant, block), 0) + 1
        return self.data.get((tenant, block), np.zeros(0, dtype=RECORD))

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        yield self.records(tenant, block)

    @property
    def cluster(self) -> None:
        """See RunData."""

    def telemetry(self) -> Sequence[SampleSeries]:
        return self.samples


Latencies = Callable[[str, str, int], tuple[Array, Array | None]]
"""(tenant, "solo" or "shared", round) -> service and device times in ms."""


def make_run(plan: Plan, latencies: Latencies, *, kind: str = "cuda", think_ms: float = 1.0) -> FakeRun:
    """A run of the plan, every block valid, blocks one after the other; think times jittered, seeded."""
    rng = np.random.default_rng(7)
    blocks: list[BlockOutcome] = []
    data: dict[tuple[str, int], Records] = {}
    clock_ns = 1_000_000_000
    for number in range(plan.rounds):
        for condition in plan.conditions:
            index = len(blocks)
            side = SOLO if condition.is_solo else SHARED
            for name in condition.tenants:
                service, device = latencies(name, side, number)
                think = think_ms * rng.uniform(0.5, 1.5, len(service))
                data[name, index] = make_records(service, device, begin_ns=clock_ns, think_ms=think)
            ends = [int(data[name, index]["retire_ns"].max(initial=clock_ns)) for name in condition.tenants]
            counts = {name: len(data[name, index]) for name in condition.tenants}
            blocks.append(
                BlockOutcome(
                    index=index,
                    round=number,
                    condition=condition.name,
                    start_ns=clock_ns,
                    end_ns=max(ends),
                    valid=True,
                    counts=counts,
                )
            )
            clock_ns = max(ends) + 1_000_000
    return FakeRun(info=make_info(plan, blocks, kind), blocks=blocks, data=data)


def make_info(plan: Plan, blocks: Sequence[BlockOutcome], kind: str = "cuda") -> RunInfo:
    """run.json of a run of ``plan`` on a device of that kind."""
    label = "Test GPU" if kind == "cuda" else "CPU core 1, not a GPU"
    device = DeviceInfo(kind=kind, uuid="x", name="x", label=label, library="numpy")  # type: ignore[arg-type]
    workers = tuple(WorkerInfo(tenant=t.name, pid=1, hostname="h", device=device) for t in plan.tenants)
    return RunInfo(
        schema=2,
        id="run-1",
        kts="0",
        backend="test",
        mode=SharingMode(recorded="time-slicing"),
        created_ns=0,
        plan=plan,
        workers=workers,
        blocks=tuple(blocks),
        outcome=Outcome(kind="complete"),
    )
