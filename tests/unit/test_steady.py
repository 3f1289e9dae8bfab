"""Change points, warm-up and settling, on series whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from kts.steady import FEWEST, Settling, course

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


def _lognormal(rng: np.random.Generator, n: int) -> Floats:
    return rng.lognormal(0, 0.2, n)


def _spikes(rng: np.random.Generator, n: int) -> Floats:
    values = rng.lognormal(0, 0.05, n)
    values[::37] *= 20
    return values


def _bimodal(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.5, 1.0, 4.0) * rng.lognormal(0, 0.05, n)


def _slow_runs(rng: np.random.Generator, n: int) -> Floats:
    values = rng.lognormal(0, 0.05, n)
    for first in np.cumsum(rng.integers(30, 90, n)):
        values[first : first + int(rng.integers(4, 11))] *= 3
    return values


def _ticks(rng: np.random.Generator, n: int) -> Floats:
    return np.round(rng.lognormal(0, 0.1, n) * 5) / 5


STEADY: dict[str, Draw] = {
    "lognormal": _lognormal,
    "heavy tail": lambda rng, n: rng.pareto(1.5, n) + 1,
    "periodic spikes": _spikes,
    "two modes": _bimodal,
    "slow runs": _slow_runs,
    "coarse clock": _ticks,
    "constant": lambda _rng, n: np.ones(n),
}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize("n", [0, 1, 9, 20, 60, 300, 3000])
def test_what_is_steady_loses_nothing(name: str, n: int) -> None:
    """Otherwise good iterations are left out of the figures, or a verdict is withheld for noise."""
    rng = np.random.default_rng(n)
    found = [course(STEADY[name](rng, n)) for _ in range(10)]
    assert sum(one.first > 0 or not one.steady for one in found) == 0


@pytest.mark.parametrize("name", ["lognormal", "heavy tail", "periodic spikes", "slow runs", "constant"])
@pytest.mark.parametrize(("n", "slow"), [(60, 15), (300, 200), (3000, 200), (30_000, 200)])
def test_no_iteration_of_a_start_four_times_slower_counts(name: str, n: int, slow: int) -> None:
    """Otherwise a warm-up is in the tail that is reported. What is lost besides is next to nothing."""
    rng = np.random.default_rng(n)
    for _ in range(5):
        values = STEADY[name](rng, n)
        values[:slow] *= 4
        found = course(values)
        assert found.kind == "warm-up"
        assert slow <= found.first <= slow + max(10, n / 50)


def test_a_short_slow_start_of_a_long_series_is_seen() -> None:
    """Otherwise a long run may hold a warm-up that is shorter than the grid that changes are looked for on."""
    values = np.random.default_rng(11).lognormal(0, 0.2, 500_000)
    values[:200] *= 4
    found = course(values)
    assert (found.kind, found.segments[-1].beyond) == ("warm-up", 500_000)
    assert 200 <= found.first < 300


def test_a_warm_up_by_steps_is_one_warm_up() -> None:
    """Otherwise only the slowest of several stages of compiling is left out."""
    values = np.random.default_rng(1).lognormal(0, 0.03, 600) * np.repeat([4.0, 2.0, 1.4, 1, 1, 1], 100)
    found = course(values)
    assert (found.kind, found.first) == ("warm-up", 300)
    assert [round(one.level, 1) for one in found.segments] == [4.0, 2.0, 1.4, 1.0]


def test_a_host_that_wanders_between_levels_loses_nothing() -> None:
    """Otherwise a slow stretch of the host is taken for a warm-up only because it came first."""
    levels = np.repeat([1.75, 1.0, 1.75, 1.0, 1.3], [100, 200, 80, 150, 70])
    found = course(np.random.default_rng(2).lognormal(0, 0.05, 600) * levels)
    assert (found.kind, found.first) == ("changing", 0)
    assert [one.first for one in found.segments] == [0, 100, 300, 380, 530]


def test_rounds_that_differ_in_level_lose_nothing() -> None:
    """Otherwise the slowest of few rounds is left out whenever it is the first."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        levels = np.repeat(np.sort(rng.lognormal(0, 0.05, 3))[::-1], 100)
        assert course(rng.lognormal(0, 0.05, 300) * levels).first == 0


@pytest.mark.parametrize("growth", [np.linspace(1, 3, 500), np.geomspace(8, 1, 500)])
def test_what_changes_to_its_end_has_no_steady_state(growth: Floats) -> None:
    """Otherwise a figure stands for a state that the program was only passing through."""
    assert course(np.random.default_rng(4).lognormal(0, 0.03, 500) * growth).kind == "no-steady-state"


def test_half_of_a_run_on_a_busier_host_is_no_slow_start() -> None:
    """Otherwise one of two rounds is left out when the host was busy in the first."""
    rng = np.random.default_rng(12)
    levels = np.repeat([1.35, 1.0], 300)
    assert course(rng.lognormal(0, 0.05, 600) * levels).first == 0
    assert course(rng.lognormal(0, 0.05, 600) * np.repeat([1.35, 1.0], [60, 540])).first == 60


def test_a_start_that_is_nearly_all_has_no_steady_state() -> None:
    """Otherwise the figures of a short run are those of its warm-up."""
    values = np.random.default_rng(5).lognormal(0, 0.1, 240)
    values[:200] *= 4
    assert course(values).kind == "no-steady-state"


def test_a_state_slower_than_all_before_is_a_slowdown_and_counts() -> None:
    """Otherwise a cache that grows is hidden, or what users of the program wait is left out."""
    values = np.random.default_rng(6).lognormal(0, 0.05, 400) * np.repeat([1.0, 1.6], [250, 150])
    found = course(values)
    assert (found.kind, found.first) == ("slowdown", 0)
    assert len(found.segments) == 2


def test_conditions_that_differ_are_no_changes() -> None:
    """Otherwise every block with a neighbour looks like another state of the tenant."""
    rng = np.random.default_rng(7)
    of = np.repeat(np.arange(10) % 2, 40)
    values = rng.lognormal(0, 0.1, 400) * np.where(of, 3.0, 1.0)
    assert course(values, of).kind == "flat"
    values[:60] *= 4
    found = course(values, of)
    assert found.kind == "warm-up"
    assert 60 <= found.first <= 64


def _settle(values: Floats, limit_s: float = 10.0) -> Settling:
    settling, at_s = Settling(limit_s), 0.0
    for value in values:
        if settling.add(at_s, float(value)):
            break
        at_s += float(value) / 1e3
    return settling


def test_work_that_is_steady_from_the_start_is_settled_at_once() -> None:
    """Otherwise every run pays for the warm-up that few have."""
    rng = np.random.default_rng(8)
    for draw in STEADY.values():
        settling = _settle(draw(rng, 100))
        assert settling.settled
        assert len(settling.durations_ms) == 20
    slow = _settle(300 * _lognormal(rng, 100))
    assert slow.settled
    assert len(slow.durations_ms) == FEWEST


def test_it_waits_until_a_warm_up_is_over() -> None:
    """Otherwise a run begins while the tenant still warms up."""
    values = np.random.default_rng(9).lognormal(0, 0.05, 5000) * (1 + 4 * np.exp(-np.arange(5000) / 40))
    settling = _settle(values)
    assert settling.settled
    assert 60 < len(settling.durations_ms) < 600
    assert max(settling.steady_ms) < 1.6


def _program(slow: int, slow_ms: float, fast_ms: float, limit_s: float = 120.0) -> Settling:
    settling, at_s = Settling(limit_s, least=400, quick_s=30.0), 0.0
    for value in [slow_ms] * slow + [fast_ms] * 20_000:
        if settling.add(at_s, value):
            break
        at_s += value / 1e3
    return settling


@pytest.mark.parametrize(("slow", "slow_ms", "fast_ms"), [(256, 70.0, 15.0), (200, 8.0, 2.0), (29, 400.0, 10.0)])
def test_a_start_that_is_slow_and_even_is_waited_for(slow: int, slow_ms: float, fast_ms: float) -> None:
    """Otherwise what a program does once for each shape, or each length of its cache, is taken for its life."""
    settling = _program(slow, slow_ms, fast_ms)
    assert settling.settled
    assert slow <= settling.course.first <= slow + 2
    assert max(settling.steady_ms) == fast_ms
    assert len(settling.durations_ms) <= 1.25 * max(3 * slow, slow + 400) + 1  # it looks again after each quarter


@pytest.mark.parametrize(
    ("each_ms", "limit_s", "took_s"), [(10.0, 60.0, 4.0), (100.0, 60.0, 30.0), (100.0, 10.0, 10.0)]
)
def test_a_program_without_a_slow_start_is_seen_for_so_long(each_ms: float, limit_s: float, took_s: float) -> None:
    """Otherwise runs of slow programs last longer than is said."""
    settling = _program(0, each_ms, each_ms, limit_s)
    assert settling.settled
    assert settling.took_s == pytest.approx(took_s, rel=0.01)


def test_after_a_slow_start_slow_iterations_need_not_be_hundreds() -> None:
    """Otherwise a program of one iteration a second runs for minutes before it is measured."""
    settling = _program(3, 4000.0, 600.0)
    assert settling.settled
    assert settling.took_s < 60


def test_what_is_there_decides_where_no_more_comes() -> None:
    """Otherwise a program whose time is over before it was looked at counts as steady, with its slow start in it."""
    settling = Settling(10.0, least=400, quick_s=30.0)
    settling.end()
    for k, value in enumerate([8.0] * 60 + [2.0] * 200):
        settling.add(k / 100, value)
    assert not settling.over
    settling.end()
    assert (settling.over, settling.settled, settling.course.first) == (True, True, 60)


def test_at_its_limit_it_says_that_nothing_is_steady() -> None:
    """Otherwise a run waits for ever, or does not say what it measured."""
    values = 10 * np.random.default_rng(10).lognormal(0, 0.02, 2000) * np.geomspace(1, 30, 2000)
    settling = _settle(values, limit_s=4.0)
    assert settling.over
    assert settling.took_s < 4.5
    if settling.settled:
        assert len(settling.durations_ms) == 20  # so slow a growth shows only later: the run's own pass sees it
