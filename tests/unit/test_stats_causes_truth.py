"""If these fail, a part of what company adds is not what it is: simulated tenants, of which every part is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from bench.truth import Truth, truth
from tests.helpers_stats import FakeRun, make_info, make_plan

from kts.model.causes import CauseName
from kts.model.records import RECORD
from kts.model.run import BlockOutcome
from kts.physics.simulate import SharingModel, Stream
from kts.physics.values import bursts
from kts.stats import analyse

SHARING = SharingModel(slice_ms=2.05, preempt_ms=(0.2,), yield_ms=(0.15,), wake_ms=(0.15,))
ROUNDS, BLOCK_MS, COUNTED_MS = 5, 2000.0, 1900.0
HERE: dict[str, CauseName] = {"queue": "queue", "first-turn": "first-turn", "turns": "turns"}

Make = Callable[[np.random.Generator], Stream]


def paced(gpu_ms: float, think_ms: float) -> Make:
    """Bursts that take 0.5 % more or less, one in fifty up to some tenths more."""

    def make(rng: np.random.Generator) -> Stream:
        n = int(1.3 * BLOCK_MS / (gpu_ms + think_ms)) + 20
        took = gpu_ms * rng.lognormal(0, 0.005, n) + np.where(rng.random(n) < 0.02, rng.exponential(0.15, n), 0)
        think = think_ms * rng.uniform(0.5, 1.5, n)
        start = float(rng.uniform(0, think_ms + gpu_ms))
        return Stream(bursts(took, 0.02, 0.03), np.arange(n), think_ms=think, start_ms=start)

    return make


def due(gpu_ms: float, rate_hz: float) -> Make:
    """Poisson arrivals."""

    def make(rng: np.random.Generator) -> Stream:
        n = int(1.3 * BLOCK_MS * rate_hz / 1000) + 20
        took = gpu_ms * rng.lognormal(0, 0.005, n)
        return Stream(bursts(took, 0.02, 0.03), np.arange(n), due_ms=np.cumsum(rng.exponential(1000 / rate_hz, n)))

    return make


def simulated(tenants: dict[str, Make], seed: int) -> tuple[FakeRun, dict[tuple[str, bool], list[Truth]]]:
    """A run of interleaved blocks, and by tenant and whether it was in company the truth of each block."""
    plan = make_plan(tuple(tenants), rounds=ROUNDS)
    blocks, data, known = [], {}, {}
    clock_ns = 1_000_000_000
    for number in range(ROUNDS):
        for place, condition in enumerate(plan.conditions):
            rng = np.random.default_rng([seed, number, place])
            streams = [tenants[name](rng) for name in condition.tenants]
            found = truth(streams, SHARING, names=condition.tenants, horizon_ms=BLOCK_MS, stop_at_first=False)
            window_ns = (clock_ns, clock_ns + int(COUNTED_MS * 1e6))
            for name, one in zip(condition.tenants, found, strict=True):
                records = np.zeros(len(one.rows), RECORD)
                records["i"] = np.arange(len(records))
                for column, field in ((0, "due_ns"), (1, "submit_ns"), (4, "retire_ns")):
                    records[field] = np.round(one.rows[:, column] * 1e6).astype(np.int64) + clock_ns
                records["device_ms"] = one.rows[:, 3] - one.rows[:, 2]
                data[name, len(blocks)] = records
                known.setdefault((name, condition.is_solo), []).append(one)
            blocks.append(
                BlockOutcome(
                    index=len(blocks),
                    round=number,
                    condition=condition.name,
                    start_ns=clock_ns,
                    end_ns=clock_ns + int(BLOCK_MS * 1e6),
                    window_ns=window_ns,
                    valid=True,
                    counts={name: len(data[name, len(blocks)]) for name in condition.tenants},
                )
            )
            clock_ns += int((BLOCK_MS + 300) * 1e6)
    return FakeRun(info=make_info(plan, blocks), blocks=blocks, data=data), known


def counted(found: list[Truth], part: str) -> np.ndarray:
    """Of the iterations that count."""
    return np.concatenate(
        [one.parts[part][(one.rows[:, 1] <= COUNTED_MS) & (np.arange(len(one.rows)) > 0)] for one in found]
    )


@pytest.mark.parametrize(
    ("tenants", "asked"),
    [
        ({"fft": paced(3.55, 20), "gemm": paced(20.6, 30)}, ("fft", "gemm")),
        ({"fft": paced(3.55, 0.01), "gemm": paced(20.6, 0.01)}, ("fft", "gemm")),
        ({"short": paced(0.5, 5), "gemm": paced(20.6, 0.01)}, ("short",)),
        ({"fft": paced(3.55, 20), "gemm": paced(20.6, 10), "short": paced(0.5, 3)}, ("fft", "gemm", "short")),
        ({"fft": due(3.55, 60), "gemm": paced(20.6, 30)}, ("fft",)),
    ],
    ids=["paced", "saturating", "short", "three", "open loop"],
)
def test_each_part_is_within_five_percent_of_the_whole(tenants: dict[str, Make], asked: tuple[str, ...]) -> None:
    """Of the mean; and at p95 and p99 of those whose slowest iterations are known to wait for turns."""
    run, known = simulated(tenants, seed=1)
    summary = analyse(run).summary
    for name in asked:
        causes = summary.tenants[name].causes
        assert isinstance(causes, tuple)
        mean = next(of for of in causes[-1].of if of.statistic == "mean")
        told = {part.cause: part.ms for part in mean.parts}
        for part, cause in HERE.items():
            true = float(counted(known[name, False], part).mean() - counted(known[name, True], part).mean())
            assert told.get(cause, 0.0) == pytest.approx(true, abs=0.05 * mean.added_ms), (name, cause)
        for of in causes[-1].of:
            assert abs(next(part.ms for part in of.parts if part.cause == "unexplained")) < 0.05 * of.added_ms, name


def test_whose_turns_they_were() -> None:
    """Of two neighbours, one with iterations forty times as long."""
    run, known = simulated({"fft": paced(3.55, 20), "gemm": paced(20.6, 10), "short": paced(0.5, 3)}, seed=2)
    causes = analyse(run).summary.tenants["fft"].causes
    assert isinstance(causes, tuple)
    mean = next(of for of in causes[-1].of if of.statistic == "mean")
    turns = next(part for part in mean.parts if part.cause == "turns")
    found = known["fft", False]
    true = {name: float(np.concatenate([one.by["turns"][name] for one in found]).mean()) for name in ("gemm", "short")}
    assert turns.by["gemm"] / turns.ms == pytest.approx(true["gemm"] / sum(true.values()), abs=0.1)
