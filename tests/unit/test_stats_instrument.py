"""What the self-check of the instrument says of runs whose truth is known."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from kts.stats.instrument import (
    InstrumentPart,
    alike,
    clock_parts,
    delayed_quantile,
    observed,
    on_quiet,
    recovered,
    stopwatch_parts,
)
from kts.stats.sample import Blocks
from kts.worker.instrument import Delays, Timers, delayed, host_clock

EACH_MS, TAIL_MS, SHARE = 1.0, 4.0, 0.03
GOOD = Timers(
    size=256,
    solo_ms=2.0,
    clock_step_ns=40,
    clock_cost_ns=60.0,
    backwards=0,
    stopwatch="thread CPU time",
    step_ms=1e-6,
    cost_ms=0.001,
    times=4.01,
)


def blocks(seed: int, *, level: float = 1.0, each_ms: float = 0.0, tail_ms: float = 0.0, noise: float = 0.02) -> Blocks:
    """Eight rounds of 200 iterations of 2 ms."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(8):
        late = each_ms + tail_ms * (rng.random(200) < SHARE)
        found.append((number, level * rng.lognormal(0, noise) * 2.0 * rng.lognormal(0, noise, 200) + late))
    return found


def states(parts: Any) -> set[str]:
    return {part.state for part in parts}


def test_equal_tenants_pass_and_unequal_ones_fail() -> None:
    """Else a core or a clock that favours one tenant would be in every comparison."""
    assert states(alike(blocks(1), blocks(2))) == {"passed"}
    assert states(alike(blocks(1), blocks(2, level=1.5))) == {"failed"}


def test_equal_tenants_are_rarely_called_unequal() -> None:
    """One self-check in a hundred that cries wolf is one that nobody believes."""
    failed = sum("failed" in states(alike(blocks(2 * k), blocks(2 * k + 1))) for k in range(100))
    assert failed <= 1


def test_delays_that_are_there_are_found_and_those_that_are_not_are_missed() -> None:
    """Else an instrument that loses what happens inside an iteration would pass."""
    late = blocks(2, each_ms=EACH_MS, tail_ms=TAIL_MS)
    assert states(recovered(blocks(1), late, EACH_MS, TAIL_MS, SHARE)) == {"passed"}
    p50, _, p99 = recovered(blocks(1), late, EACH_MS, TAIL_MS, SHARE)
    assert p50.state == "passed"
    assert p50.value == pytest.approx(1.5, rel=0.05)
    assert p99.value == pytest.approx(3.3, rel=0.05)
    without_each = recovered(blocks(1), blocks(2, tail_ms=TAIL_MS), EACH_MS, TAIL_MS, SHARE)
    assert next(iter(without_each)).state == "failed"
    without_tail = recovered(blocks(1), blocks(2, each_ms=EACH_MS), EACH_MS, TAIL_MS, SHARE)
    assert [part.state for part in without_tail][2] == "failed"


def test_the_true_quantile_is_that_of_very_many_draws() -> None:
    rng = np.random.default_rng(3)
    alone = np.sort(rng.lognormal(0, 0.3, 2000))
    drawn = rng.choice(alone, 400_000) + EACH_MS + TAIL_MS * (rng.random(400_000) < SHARE)
    for p in (0.5, 0.94, 0.96, 0.99):
        assert delayed_quantile(alone, p, EACH_MS, TAIL_MS, SHARE) == pytest.approx(np.quantile(drawn, p), rel=0.02)


def test_wild_rounds_leave_it_undecided() -> None:
    """A busy machine proves nothing, either way."""
    assert states(alike(blocks(1, noise=0.4), blocks(2, noise=0.4))) <= {"undecided"}
    few: Blocks = [(k, np.full(10, 2.0)) for k in range(8)]
    assert [part.state for part in alike(few, few)][1] == "undecided"
    assert states(alike([], [])) == {"undecided"}


def test_telemetry_that_slows_iterations_is_off() -> None:
    assert states(observed(blocks(1, level=1.4), blocks(2), ["nvml"])) == {"failed"}
    assert states(observed(blocks(1), blocks(2), ["nvml"])) == {"passed"}
    assert states(observed(blocks(1), blocks(2), [])) == {"not-applicable"}


def test_a_busy_core_decides_nothing() -> None:
    """Others' work comes where it likes: a difference is theirs, and so is none."""
    off = list(alike(blocks(1), blocks(2, level=1.5)))
    assert states(on_quiet(off, 0.3)) == {"undecided"}
    assert states(on_quiet(off, 0.001)) == states(on_quiet(off, None)) == {"failed"}


@pytest.mark.parametrize(
    ("changes", "off"),
    [
        ({}, set()),
        ({"clock_step_ns": 1_000_000}, {"clock"}),
        ({"clock_step_ns": 0}, {"clock"}),
        ({"clock_cost_ns": 5000.0}, {"clock"}),
        ({"backwards": 1}, {"clock"}),
        ({"step_ms": 1.0}, {"stopwatch, step"}),
        ({"times": 1.0}, {"stopwatch, linear"}),
        ({"cost_ms": 0.1}, {"stopwatch, cost"}),
    ],
)
def test_each_fault_of_a_clock_is_its_own(changes: dict[str, Any], off: set[str]) -> None:
    told = msgspec.structs.replace(GOOD, **changes)
    parts: list[InstrumentPart] = [*clock_parts(told), *stopwatch_parts(told)]
    assert {part.name for part in parts if part.state == "failed"} == off


def test_a_busy_core_is_no_fault_of_the_stopwatch() -> None:
    """Work that lost its core in between finds its caches cold."""
    told = msgspec.structs.replace(GOOD, times=4.7, waited=0.5)
    assert [part.state for part in stopwatch_parts(told)] == ["passed", "undecided", "passed"]


def test_a_device_without_a_stopwatch_is_not_blamed() -> None:
    told = msgspec.structs.replace(GOOD, step_ms=None, times=None, stopwatch="")
    assert [part.state for part in stopwatch_parts(told)] == ["not-applicable", "passed"]


def test_a_clock_is_read_as_it_is() -> None:
    steps = iter([40] * 500 + [-400] + [40] * 200_000)
    now_ns = 0

    def now() -> int:
        nonlocal now_ns
        now_ns += next(steps)
        return now_ns

    step_ns, cost_ns, backwards = host_clock(now)
    assert (step_ns, backwards) == (40, 1)
    assert cost_ns == pytest.approx(40.0, rel=0.02)


def test_delays_are_as_told_and_come_before_the_work() -> None:
    delays = Delays(tenant="a", blocks=(1,), each_ms=1.0, tail_ms=4.0, share=0.05, seed=3)
    drawn = delays.of_block(1)
    first = [next(drawn) for _ in range(4000)]
    assert set(first) == {1_000_000, 5_000_000}
    assert 0.03 < first.count(5_000_000) / 4000 < 0.07
    again = delays.of_block(1)
    assert [next(again) for _ in range(4000)] == first
    done: list[str] = []
    late = delayed(lambda: done.append("work"), iter([0, 0]))
    late()
    assert done == ["work"]
