"""What counts of a stretch, how lives are paired, and what intervals tell of a cost that is given."""

from __future__ import annotations

import numpy as np
import pytest
from bench.tracer_costs import Cost, Stretch, Times, agreement, costs, figures, order

_MS = 1_000_000


def _back_to_back(durations_ms: object, begin_ns: int = 0) -> Times:
    ends = begin_ns + np.cumsum(np.asarray(durations_ms, float) * _MS).astype(np.int64)
    return np.column_stack([np.append(begin_ns, ends[:-1]), ends])


def _lives(rng: np.random.Generator, cost: float, lives: int = 4, rounds: int = 3) -> list[list[Times]]:
    return [[_back_to_back((1 + cost) * rng.normal(5, 0.05, 150)) for _ in range(rounds)] for _ in range(lives)]


def test_neither_the_start_of_a_stretch_nor_what_a_stop_cuts_counts() -> None:
    times = _back_to_back([10] * 10, begin_ns=5 * _MS)
    counted = Stretch(resumed_ns=0, stopped_ns=89 * _MS).counted(times, skip_ns=20 * _MS)
    assert counted[:, 0].tolist() == [begin * _MS for begin in (25, 35, 45, 55, 65, 75)]


def test_an_iteration_that_a_hold_cut_counts_in_no_stretch() -> None:
    times = np.array([[80 * _MS, 400 * _MS]])  # it began before the stop, and ended in the next turn
    assert not any(len(stretch.counted(times, 0)) for stretch in (Stretch(0, 90 * _MS), Stretch(300 * _MS, 900 * _MS)))


def test_each_arm_is_first_of_its_pairs_equally_often() -> None:
    rounds = [order(4, 4, number) for number in range(2)]
    assert "".join("UC"[traced] for traced, _ in rounds[0]) == "UCCUUCCU"
    assert "".join("UC"[traced] for traced, _ in rounds[1]) == "CUUCCUUC"
    assert all([i for _, i in turns] == [0, 0, 1, 1, 2, 2, 3, 3] for turns in rounds)


def test_a_rate_has_no_time_between_stretches_in_it() -> None:
    apart = [_back_to_back([4] * 50), _back_to_back([4] * 50, begin_ns=10**12)]
    assert figures(apart).rate == pytest.approx(250)


def test_a_given_cost_is_told_with_an_interval_around_it() -> None:
    rng = np.random.default_rng(1)
    told = costs(_lives(rng, 0.02), _lives(rng, 0))
    for name in ("throughput", "p50", "p99"):
        assert told[name].low <= told[name].estimate <= told[name].high
        assert told[name].estimate == pytest.approx(0.02, abs=0.008)
    assert told["p50"].verdict(0.01) == "over"


def test_one_life_apart_from_the_others_leaves_the_verdict_open() -> None:
    rng = np.random.default_rng(2)
    ours = _lives(rng, 0)
    ours[0] = _lives(rng, 0.2, lives=1)[0]
    assert costs(ours, _lives(rng, 0))["p50"].verdict(0.01) == "undecided"


def test_a_drift_that_both_arms_share_costs_nothing() -> None:
    arms: dict[bool, list[list[Times]]] = {traced: [[], [], [], []] for traced in (False, True)}
    slower = 0.0
    for number in range(2):
        for traced, i in order(4, 4, number):
            arms[traced][i].append(_back_to_back([5 * (1 + slower)] * 100))
            slower += 0.01
    assert costs(arms[True], arms[False])["p50"].estimate == pytest.approx(0, abs=0.001)


def test_a_stretch_with_hardly_an_iteration_is_refused() -> None:
    few = [[_back_to_back([5] * 3)]]
    with pytest.raises(ValueError, match="fewer than"):
        costs(few, few)


@pytest.mark.parametrize(("high", "verdict"), [(0.009, "ok"), (0.02, "undecided")])
def test_a_verdict_follows_the_interval(high: float, verdict: str) -> None:
    assert Cost(0.001, -0.01, high).verdict(0.01) == verdict


def test_lines_and_round_trips_are_compared_only_if_these_are_the_same_iterations() -> None:
    lines = _back_to_back([5] * 200)
    inner = lines + np.array([10_000, -10_000])
    assert agreement(lines, inner).differences() == pytest.approx((-0.004, -0.004))
    assert "100 iterations by round trips" in agreement(lines, inner[::2]).why
    assert agreement(lines, inner, "irregular").why == "irregular"
