"""If these fail, a host that is slow since its core is has no cause, or one is named that no data show."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.helpers_stats import SHARED, SOLO, Array, FakeRun, make_plan, make_run

from kts.model.causes import Causes, Part
from kts.model.telemetry import SampleSeries
from kts.stats import analyse
from kts.stats.causes.facts import Change
from kts.stats.causes.host import slow_core
from kts.stats.causes.speed import follows
from kts.units import NS_PER_MS

N, ROUNDS = 300, 8
HOST_MS, WORK_MS, LOOP_US = 2.0, 1.0, 10.0
LOOK_NS = 120 * NS_PER_MS


def cores(seed: int, *, company: float) -> dict[tuple[str, int], float]:
    """By what factor the core of each block is slower than at best: 1 to 1.6, as whoever has its other half computes or
    not; ``company``: in company it is so much slower still."""
    rng = np.random.default_rng(seed)
    return {
        (side, number): (company if side == SHARED else 1.0) * rng.uniform(1, 1.6)
        for side in (SOLO, SHARED)
        for number in range(ROUNDS)
    }


def looked_at(run: FakeRun, factors: dict[tuple[str, int], float], seed: int, noise: float = 0.02) -> FakeRun:
    """With looks at the core of `fft`."""
    rng = np.random.default_rng([seed, 1])
    t_ns, values = [], []
    for block in run.blocks:
        if "fft" in block.counts:
            side = SOLO if block.condition.startswith("solo") else SHARED
            at = np.arange(block.start_ns + LOOK_NS, block.end_ns, LOOK_NS)
            t_ns.append(at)
            values.append(LOOP_US * factors[side, block.round] * np.exp(noise * rng.standard_normal(len(at))))
    times = np.concatenate(t_ns)
    series = SampleSeries("host", "core_loop_us", "tenant", "fft", times, np.zeros_like(times), np.concatenate(values))
    return replace(run, samples=(series,))


def program(
    kind: str, seed: int, factors: dict[tuple[str, int], float], first_ms: float = 0.0, slope: float = 1.0
) -> FakeRun:
    """fft has 2 ms of host (on a CPU core: of CPU time) that follow its core, and waits that long in company; gemm is
    always there."""

    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        if tenant == "gemm":
            return np.full(3 * N, 4.0), np.full(3 * N, 3.9)
        rng = np.random.default_rng([seed, number, len(side)])
        host = HOST_MS * factors[side, number] ** slope * rng.normal(1, 0.02, N)
        wait = rng.uniform(0, 2 * first_ms, N) * (side == SHARED)
        return (host + 0.01, host) if kind == "cpu" else (host + wait + WORK_MS, np.full(N, WORK_MS))

    return make_run(make_plan(rounds=ROUNDS), latencies, kind=kind, think_ms=0.05)


def of_fft(run: FakeRun) -> Causes:
    (found,) = analyse(run).summary.tenants["fft"].causes  # type: ignore[misc, union-attr]
    assert isinstance(found, Causes)
    return found


def parts(found: Causes) -> dict[str, Part]:
    return {part.cause: part for part in next(one for one in found.of if one.statistic == "mean").parts}


def slower_ms(factors: dict[tuple[str, int], float]) -> float:
    mean = {side: np.mean([f for (where, _), f in factors.items() if where == side]) for side in (SOLO, SHARED)}
    return HOST_MS * float(mean[SHARED] - mean[SOLO])


@pytest.mark.parametrize(("kind", "first_ms"), [("cuda", 1.5), ("cuda", 0.0), ("cpu", 0.0)])
def test_what_a_slower_core_adds_is_told_with_its_loops_and_apart_from_others_turns(kind: str, first_ms: float) -> None:
    """Cores differ by 1.6 from round to round, and are 1.3 times slower in company: 0.8 ms of host, or of CPU time."""
    for seed in range(4):
        factors = cores(seed, company=1.3)
        found = parts(of_fft(looked_at(program(kind, seed, factors, first_ms), factors, seed)))
        truth, added = slower_ms(factors), slower_ms(factors) + first_ms
        assert found["slow-core"].ms == pytest.approx(truth, abs=0.05 * added), seed
        assert found["slow-core"].lo is not None
        assert found["slow-core"].hi is not None
        assert found["slow-core"].lo <= truth <= found["slow-core"].hi
        assert found["slow-core"].data.startswith("a loop on its core took ")
        if first_ms:
            assert found["first-turn"].ms == pytest.approx(first_ms, abs=0.05 * added)
        assert abs(found["unexplained"].ms) <= 0.05 * added
        assert sum(part.ms for part in found.values()) == pytest.approx(added, abs=0.1 * added)


def test_few_looks_do_not_make_the_core_a_smaller_cause_than_it_is() -> None:
    """Loops that differ by chance flatten the line through them; what is left would be called the launch path."""
    found = []
    for seed in range(12):
        factors = cores(seed, company=1.3)
        whole = parts(of_fft(looked_at(program("cuda", seed, factors, 1.5), factors, seed, noise=0.15)))
        found += [whole["slow-core"].ms / slower_ms(factors)] if "slow-core" in whole else []
    assert len(found) >= 10
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)


def test_a_core_that_its_host_does_not_follow_is_no_cause() -> None:
    """Twenty tenants whose loops differ by themselves: one may be told so by chance."""
    told = 0
    for seed in range(20):
        loops = cores(seed, company=1.3)
        run = looked_at(program("cuda", seed, cores(seed + 100, company=1.0), 1.5), loops, seed)
        told += "slow-core" in parts(of_fft(run))
    assert told <= 2


def test_cores_that_differ_from_round_to_round_are_nobodys_cause_where_nothing_was_added() -> None:
    """Else every clean run on a busy machine has one."""
    firsts = []
    for seed in range(20):
        factors = cores(seed, company=1.0)
        firsts.append(of_fft(looked_at(program("cuda", seed, factors), factors, seed)).first())
    assert sum(one is not None for one in firsts) <= 1


def test_a_side_that_lacks_what_the_other_has_is_not_split() -> None:
    """A program whose waits are recorded alone and not in company: what is its host's is known of one side only."""

    def side(first_block: int, *, waits: bool) -> Any:
        factors = np.repeat(np.random.default_rng(first_block).uniform(1, 1.6, ROUNDS), N)
        told = np.full(N * ROUNDS, 0.5 if waits else np.nan)
        rows = {"service": HOST_MS * factors + 0.5, "waited": told, "device": np.full(N * ROUNDS, np.nan)}
        looks = LOOP_US * factors * np.tile(np.exp(0.01 * np.sin(np.arange(N) // 100)), ROUNDS)
        block = np.repeat(np.arange(ROUNDS) + first_block, N)
        rest = rows["service"] - rows["device"]
        return SimpleNamespace(
            **rows, rest=rest, n=N * ROUNDS, block=block, weight=np.ones(N * ROUNDS), rate=lambda _: looks
        )

    whole = follows(side(0, waits=True), [side(ROUNDS, waits=True)], is_cpu=False)
    assert whole is not None
    assert whole.slope == pytest.approx(1.0, abs=0.05)
    assert follows(side(0, waits=True), [side(ROUNDS, waits=False)], is_cpu=False) is None
    assert follows(side(0, waits=False), [side(ROUNDS, waits=False)], is_cpu=False) is None


def test_without_looks_nothing_is_said_of_the_core() -> None:
    """Runs of an earlier kts have none, nor has a run without telemetry."""
    assert "slow-core" not in parts(of_fft(program("cuda", 1, cores(1, company=1.3), 1.5)))


@pytest.mark.parametrize(
    ("rates", "cause", "words"),
    [
        ({}, "slow-core", "a loop on its core took 13 us, alone 10"),
        ({"sibling": (0.1, 0.9)}, "sibling", "hardware threads beside it were busy 0.9, alone 0.1"),
        ({"core_clock": (3000.0, 2000.0)}, "slower-clocks", "its clock was 2000 MHz, alone 3000"),
        ({"sibling": (0.1, 0.15), "core_clock": (3000.0, 3000.0)}, "slow-core", "a loop on its core took"),
    ],
)
def test_what_makes_the_core_slow_is_named_where_data_show_it(
    rates: dict[str, tuple[float, float]], cause: str, words: str
) -> None:
    """Otherwise a clock is blamed that stood still, or nobody learns that the other hardware thread is busy."""
    facts: Any = SimpleNamespace(rates={"core_loop": (10.0, 13.0), **rates}.get)
    told = slow_core(facts, Change(place="speed", ms=1.0, is_mean=True, at_mean=1.0))
    assert told is not None
    assert told[0] == cause
    assert words in told[1]
    assert slow_core(facts, Change(place="speed", ms=-1.0, is_mean=True, at_mean=-1.0)) is None
