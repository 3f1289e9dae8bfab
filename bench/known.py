"""Simulated runs of which every part of the added time is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.watched import Floats, Truth, truth
from kts.arrivals import Closed
from kts.model.plan import Condition, Kernel, Plan, Tenant
from kts.model.records import RECORD, Records
from kts.model.run import BlockOutcome
from kts.physics.rehearsal import BREAK_NS, MemoryRun, Played
from kts.physics.simulate import Stream
from kts.physics.synthetic import HOST_AFTER_MS, HOST_BEFORE_MS, SHARING, SyntheticKernel
from kts.physics.values import Iterations, bursts
from kts.units import NS_PER_MS

BLOCK_MS, COUNTED_MS = 2000.0, 1900.0
"""Length of a block, and of what counts of it."""

Make = Callable[[np.random.Generator], Stream]
"""One block of a tenant: more iterations than the block has time for."""


def paced(kernel: SyntheticKernel, think_ms: float) -> Make:
    """A closed loop, its pauses half as long to one and a half times."""

    def make(rng: np.random.Generator) -> Stream:
        n = _enough(kernel.ms + think_ms)
        return _closed(kernel.draw(n, rng), rng, think_ms, kernel.ms)

    return make


def due(kernel: SyntheticKernel, rate_hz: float) -> Make:
    """An open loop of Poisson arrivals."""

    def make(rng: np.random.Generator) -> Stream:
        n = _enough(1000 / rate_hz)
        return Stream(kernel.draw(n, rng), np.arange(n), due_ms=np.cumsum(rng.exponential(1000 / rate_hz, n)))

    return make


def varied(low_ms: float, high_ms: float, think_ms: float) -> Make:
    """A closed loop of work between two lengths, all as likely."""

    def make(rng: np.random.Generator) -> Stream:
        n = _enough(low_ms + think_ms)
        return _closed(bursts(rng.uniform(low_ms, high_ms, n), HOST_AFTER_MS, HOST_BEFORE_MS), rng, think_ms, high_ms)

    return make


def in_launches(
    n: int, count: int, each_ms: float, every_ms: float, rng: np.random.Generator, *, host_spread: float
) -> Iterations:
    """``n`` iterations of ``count`` launches; ``host_spread``: of how fast the host is, from iteration to iteration."""
    offset = HOST_BEFORE_MS + every_ms * np.arange(count)
    return Iterations(
        first=np.arange(n + 1, dtype=np.int64) * count,
        offset_ms=(offset * rng.lognormal(0, host_spread, (n, 1))).ravel(),
        duration_ms=each_ms * rng.lognormal(0, 0.01, n * count),
        retire_ms=np.full(n, HOST_AFTER_MS),
    )


def launched(count: int, each_ms: float, every_ms: float, think_ms: float) -> Make:
    """A closed loop of iterations of so many launches, between which a GPU that is free waits for the host."""

    def make(rng: np.random.Generator) -> Stream:
        n = _enough(count * every_ms + think_ms)
        them = in_launches(n, count, each_ms, every_ms, rng, host_spread=0.01)
        return _closed(them, rng, think_ms, count * every_ms)

    return make


def _enough(cycle_ms: float) -> int:
    return int(1.3 * BLOCK_MS / cycle_ms) + 20


def _closed(them: Iterations, rng: np.random.Generator, think_ms: float, took_ms: float) -> Stream:
    think = think_ms * rng.uniform(0.5, 1.5, them.n)
    return Stream(them, np.arange(them.n), think_ms=think, start_ms=float(rng.uniform(0, think_ms + took_ms)))


FFT, GEMM, SHORT = (SyntheticKernel(ms, spread=0.005) for ms in (3.55, 20.6, 0.5))
TRIPS = SyntheticKernel(4.0, trips=2, between_ms=0.3)
GRID: Mapping[str, Mapping[str, Make]] = {
    "fft, gemm": {"fft": paced(FFT, 20), "gemm": paced(GEMM, 30)},
    "the same, saturating": {"fft": paced(FFT, 0.01), "gemm": paced(GEMM, 0.01)},
    "short, gemm saturating": {"short": paced(SHORT, 5), "gemm": paced(GEMM, 0.01)},
    "short, gemm": {"short": paced(SHORT, 3), "gemm": paced(GEMM, 30)},
    "three": {"fft": paced(FFT, 20), "gemm": paced(GEMM, 10), "short": paced(SHORT, 3)},
    "fft due, gemm": {"fft": due(FFT, 60), "gemm": paced(GEMM, 30)},
    "two round trips, gemm": {"trips": paced(TRIPS, 15), "gemm": paced(GEMM, 30)},
    "2 to 12 ms, gemm": {"varied": varied(2, 12, 20), "gemm": paced(GEMM, 30)},
    "60 launches, gemm": {"launches": launched(60, 0.02, 0.1, 10), "gemm": paced(GEMM, 30)},
    "60 launches, short": {"launches": launched(60, 0.02, 0.1, 10), "short": paced(SHORT, 3)},
}
"""Mixes of tenants: fixed work, work that varies sixfold, and work for which the GPU mostly waits."""


@dataclass(frozen=True, eq=False)
class Known:
    """A run, and of each tenant's iterations that count where their time went: by tenant and whether it had company,
    one of each block."""

    run: MemoryRun
    truth: Mapping[tuple[str, bool], list[Truth]]


def known(tenants: Mapping[str, Make], seed: int, rounds: int) -> Known:
    """Interleaved blocks of every tenant alone, and of all of them."""
    run = MemoryRun(_plan(tuple(tenants), rounds, seed))
    found: dict[tuple[str, bool], list[Truth]] = {}
    for number in range(rounds):
        for place, condition in enumerate(run.plan.conditions):
            rng = np.random.default_rng([seed, number, place])
            streams = [tenants[name](rng) for name in condition.tenants]
            told = truth(streams, SHARING, names=condition.tenants, horizon_ms=BLOCK_MS, stop_at_first=False)
            index = len(run.blocks)
            opened_ns = NS_PER_MS * 1000 + index * (int(BLOCK_MS * NS_PER_MS) + BREAK_NS)
            records = {name: _records(one, opened_ns) for name, one in zip(condition.tenants, told, strict=True)}
            outcome = BlockOutcome(
                index=index,
                round=number,
                condition=condition.name,
                start_ns=opened_ns,
                end_ns=opened_ns + int(BLOCK_MS * NS_PER_MS),
                window_ns=(opened_ns, opened_ns + int(COUNTED_MS * NS_PER_MS)),
                valid=True,
                counts={name: len(rows) for name, rows in records.items()},
            )
            run.add(Played(outcome, records))
            for name, one in zip(condition.tenants, told, strict=True):
                found.setdefault((name, not condition.is_solo), []).append(_counted(one))
    return Known(run, found)


def _plan(names: tuple[str, ...], rounds: int, seed: int) -> Plan:
    work = Kernel(workload="fft", size=64)
    tenants = tuple(Tenant(name=name, work=work, arrivals=Closed(think_ms=1.0), iterations=100) for name in names)
    alone = tuple(Condition(name=f"solo-{name}", tenants=(name,)) for name in names)
    house = Condition(name="shared-" + "+".join(names), tenants=names)
    return Plan(
        name="known",
        design="interleaved",
        tenants=tenants,
        conditions=(*alone, house),
        rounds=rounds,
        max_rounds=rounds,
        seed=seed,
    )


def _records(found: Truth, opened_ns: int) -> Records:
    records = np.zeros(len(found.rows), RECORD)
    records["i"] = np.arange(len(records))
    for column, name in ((0, "due_ns"), (1, "submit_ns"), (4, "retire_ns")):
        records[name] = np.round(found.rows[:, column] * NS_PER_MS).astype(np.int64) + opened_ns
    records["device_ms"] = found.rows[:, 3] - found.rows[:, 2]
    return records


def _counted(found: Truth) -> Truth:
    """Without the first iteration, and without those that were submitted too late to count."""
    keep = found.rows[:, 1] <= COUNTED_MS
    keep[:1] = False

    def of(columns: Mapping[str, Floats]) -> dict[str, Floats]:
        return {name: values[keep] for name, values in columns.items()}

    return Truth(found.rows[keep], of(found.parts), {kind: of(by) for kind, by in found.by.items()})
