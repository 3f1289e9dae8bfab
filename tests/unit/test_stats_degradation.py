"""If these fail, DF intervals are too narrow (false alarms) or too wide (needless hours of measuring)."""

from __future__ import annotations

import numpy as np
import pytest
from bench.coverage import CASES, aa_coverage

from kts.stats.degradation import Bootstrap
from kts.stats.sample import make_sample

ROUNDS = tuple(range(10))


@pytest.mark.parametrize("name", list(CASES))
def test_two_identical_solo_conditions_give_an_interval_that_holds_one(name: str) -> None:
    coverage, _ = aa_coverage(CASES[name], 0.0, 1500, 10, repetitions=100)
    assert coverage >= 0.93


def test_levels_that_differ_between_blocks_do_not_make_a_difference_of_conditions() -> None:
    coverage, _ = aa_coverage(CASES["lognormal"], 0.03, 1500, 10, repetitions=100)
    assert coverage >= 0.93


def test_one_block_per_condition_still_holds_one() -> None:
    coverage, _ = aa_coverage(CASES["round-robin"], 0.0, 1500, 1, repetitions=100)
    assert coverage >= 0.93


def test_drift_that_both_conditions_share_cancels() -> None:
    """Pairing: a level that both blocks of a round share must not widen the interval as if it were unshared."""
    _, paired = aa_coverage(CASES["lognormal"], 0.1, 1500, 10, repetitions=30, common=True)
    _, apart = aa_coverage(CASES["lognormal"], 0.1, 1500, 10, repetitions=30)
    assert paired < 0.75 * apart


def test_df_of_known_distributions_is_found() -> None:
    rng = np.random.default_rng(1)
    solo = make_sample([(r, rng.lognormal(0, 0.1, 500)) for r in ROUNDS], split=False)
    shared = make_sample([(r, 2 * rng.lognormal(0, 0.1, 500)) for r in ROUNDS], split=False)
    found = Bootstrap(rounds=ROUNDS).ratio(shared, 0.99, solo, 0.99)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < 2.0 < found.hi
    assert found.hi - found.lo < 0.15


def test_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    sample = make_sample([(r, rng.lognormal(0, 0.1, 100)) for r in ROUNDS], split=False)
    first, second = (Bootstrap(rounds=ROUNDS, seed=5).ratio(sample, 0.99, sample, 0.5) for _ in range(2))
    assert first == second


def test_refusal_names_the_side_that_lacks_iterations() -> None:
    enough = make_sample([(0, np.arange(1.0, 500.0))], split=True)
    few = make_sample([(0, np.arange(1.0, 121.0))], split=True)
    found = Bootstrap(rounds=(0,)).ratio(few, 0.99, enough, 0.99, names=("shared", "solo"))
    assert found.refused == "shared p99 needs 368 iterations, have 120"
    assert found.estimate is None


def test_a_round_that_lacks_one_condition_is_no_crash() -> None:
    rng = np.random.default_rng(3)
    solo = make_sample([(r, rng.lognormal(0, 0.1, 100)) for r in range(9)], split=False)
    shared = make_sample([(r, rng.lognormal(0, 0.1, 100)) for r in range(2, 10)], split=False)
    found = Bootstrap(rounds=ROUNDS).ratio(shared, 0.99, solo, 0.99)
    assert found.lo is not None
    assert found.lo < 1 < (found.hi or 0)


def test_a_stopwatch_that_reads_zero_is_refused_not_divided_by() -> None:
    zeros = make_sample([(r, np.zeros(100)) for r in ROUNDS], split=False)
    assert Bootstrap(rounds=ROUNDS).ratio(zeros, 0.99, zeros, 0.99).refused == "a quantile is not above zero"
