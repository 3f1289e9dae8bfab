"""If these fail, DF intervals are too narrow (false alarms) or too wide (needless hours of measuring)."""

from __future__ import annotations

import numpy as np
import pytest
from bench.coverage import CELLS, FEWEST_GIVEN, paired_width, scores, stopping_coverage
from scipy.special import bdtr

from kts.stats.degradation import ratio_estimate
from kts.stats.sample import make_sample

ROUNDS = tuple(range(10))


@pytest.mark.parametrize(
    ("name", "rounds", "n"),
    [(name, 10, 300) for name in CELLS] + [(name, 3, 1000) for name, cell in CELLS.items() if not cell.independent],
)
def test_two_like_conditions_give_an_interval_that_holds_one(name: str, rounds: int, n: int) -> None:
    score = scores(name, rounds, n, 80, figures=("df99",), seed=6)["df99"]
    given = len(score.widths)
    if given >= FEWEST_GIVEN:  # fewer say nothing; what is refused is in docs/measuring.md
        assert bdtr(score.held, given, 0.93) > 0.0005, score.coverage
    if CELLS[name].independent:
        assert score.given >= 0.98


def test_one_block_per_condition_still_holds_one() -> None:
    assert scores("round-robin", 1, 1500, 100, figures=("df99",))["df99"].coverage >= 0.93


def test_drift_that_both_conditions_share_cancels() -> None:
    """Pairing: a level that both blocks of a round share must not widen the interval as if it were unshared."""
    paired, apart = (paired_width(0.1, common=common, repetitions=30) for common in (True, False))
    assert paired < 0.75 * apart


def test_stopping_when_narrow_enough_costs_no_coverage() -> None:
    coverage, rounds = stopping_coverage(0.03, 100, precision=0.05, repetitions=25)
    assert bdtr(round(coverage * 25), 25, 0.93) > 0.0005
    assert 10 < rounds < 50


def test_df_of_known_distributions_is_found() -> None:
    rng = np.random.default_rng(1)
    solo = make_sample([(r, rng.lognormal(0, 0.1, 500)) for r in ROUNDS], split=False)
    shared = make_sample([(r, 2 * rng.lognormal(0, 0.1, 500)) for r in ROUNDS], split=False)
    found = ratio_estimate(shared, 0.99, solo, 0.99)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < 2.0 < found.hi
    assert found.hi - found.lo < 0.15


def test_refusal_names_the_side_that_lacks_iterations() -> None:
    enough = make_sample([(0, np.arange(1.0, 500.0))], split=True)
    few = make_sample([(0, np.arange(1.0, 121.0))], split=True)
    found = ratio_estimate(few, 0.99, enough, 0.99, names=("shared", "solo"))
    assert found.refused == "shared p99 needs 368 iterations, have 120"
    assert found.estimate is None


def test_a_round_that_lacks_one_condition_is_no_crash() -> None:
    rng = np.random.default_rng(3)
    solo = make_sample([(r, rng.lognormal(0, 0.1, 200)) for r in range(9)], split=False)
    shared = make_sample([(r, rng.lognormal(0, 0.1, 200)) for r in range(2, 10)], split=False)
    found = ratio_estimate(shared, 0.99, solo, 0.99)
    assert found.lo is not None
    assert found.lo < 1 < (found.hi or 0)


def test_a_round_of_three_iterations_does_not_seem_a_level_of_its_own() -> None:
    """Where overlap was short one round has few iterations, whose mean is anywhere."""
    widths = []
    for last in (3, 300):
        rng = np.random.default_rng(8)
        solo = make_sample([(r, rng.lognormal(0, 0.4, 300)) for r in ROUNDS], split=False)
        shared = make_sample([(r, rng.lognormal(0, 0.4, 300 if r < 9 else last)) for r in ROUNDS], split=False)
        found = ratio_estimate(shared, 0.99, solo, 0.99)
        widths.append((found.hi or 9) - (found.lo or 0))
    assert widths[0] < 1.3 * widths[1]


def test_a_stopwatch_that_reads_zero_is_refused_not_divided_by() -> None:
    zeros = make_sample([(r, np.zeros(100)) for r in ROUNDS], split=False)
    assert ratio_estimate(zeros, 0.99, zeros, 0.99).refused == "a quantile is not above zero"


def test_zeros_within_the_interval_of_a_quantile_give_no_ratio() -> None:
    """Else its upper end would be whatever number stands for zero: 2e10."""
    rng = np.random.default_rng(4)
    solo = make_sample([(r, rng.uniform(1, 2, 100) * (rng.random(100) < 0.52)) for r in ROUNDS], split=False)
    shared = make_sample([(r, rng.uniform(1, 2, 100)) for r in ROUNDS], split=False)
    assert ratio_estimate(shared, 0.5, solo, 0.5).refused == "the interval reaches latencies of zero"


def test_a_quantile_below_one_tick_is_not_known() -> None:
    rng = np.random.default_rng(5)
    solo = make_sample([(r, np.round(rng.uniform(0, 0.6, 100))) for r in ROUNDS], split=False)
    shared = make_sample([(r, np.round(rng.uniform(3, 6, 100))) for r in ROUNDS], split=False)
    found = ratio_estimate(shared, 0.5, solo, 0.5, names=("shared", "solo"))
    assert found.refused == "solo p50 is below one tick of the stopwatch (1 ms)"


def test_ticks_are_in_the_interval_of_a_ratio() -> None:
    """6 over 5 ticks is no ratio of exactly 1.20."""
    rng = np.random.default_rng(6)
    solo = make_sample([(r, np.round(rng.normal(5, 0.2, 100))) for r in ROUNDS], split=False)
    shared = make_sample([(r, np.round(rng.normal(6, 0.2, 100))) for r in ROUNDS], split=False)
    found = ratio_estimate(shared, 0.5, solo, 0.5)
    assert found.estimate == pytest.approx(1.2)
    assert (found.lo or 2) < 1.2 - 0.1
    assert (found.hi or 0) > 1.2 + 0.1


def test_jitter_does_not_widen_with_levels_that_its_quantiles_share() -> None:
    rng = np.random.default_rng(7)
    alike = rng.lognormal(0, 0.2, (10, 300))
    levels = np.exp(rng.normal(0, 0.05, (10, 1)))
    found = []
    for values in (alike.copy(), alike * levels):
        sample = make_sample(list(enumerate(values)), split=False)
        found.append(ratio_estimate(sample, 0.99, sample, 0.5))
    widths = [(each.hi or 0) - (each.lo or 0) for each in found]
    assert widths[1] < 1.5 * widths[0]
