"""If these fail, a printed quantile or its interval is not what docs/measuring.md says it is."""

from __future__ import annotations

import numpy as np
import pytest
from bench.coverage import CASES, quantile_coverage

from kts.stats.dependence import design_effect, weight
from kts.stats.proportions import clopper_pearson, fraction_within
from kts.stats.quantiles import binomial_ranks, min_samples, quantile_estimate
from kts.stats.sample import make_sample


@pytest.mark.parametrize(("p", "needed"), [(0.5, 6), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_min_samples_are_the_published_ones(p: float, needed: int) -> None:
    assert min_samples(p) == needed


def test_one_iteration_too_few_is_refused_and_says_so() -> None:
    sample = make_sample([(0, np.arange(1.0, 368.0))], split=False)
    found = quantile_estimate(sample, 0.99)
    assert (found.estimate, found.lo, found.hi) == (None, None, None)
    assert found.refused == "p99 needs 368 iterations, have 367"


def test_just_enough_iterations_are_not_refused() -> None:
    found = quantile_estimate(make_sample([(0, np.arange(1.0, 369.0))], split=False), 0.99)
    assert found.hi == 368.0


def test_pooled_quantiles_of_unequal_units_are_numpys() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        blocks = [(r, rng.lognormal(0.3 * r, 0.4, rng.integers(1, 400))) for r in range(6)]
        pool = np.concatenate([values for _, values in blocks])
        sample = make_sample([(r, v.copy()) for r, v in blocks], split=False)
        assert sample is not None
        for p in (0.0, 0.5, 0.95, 0.99, 0.999, 1.0):
            assert sample.quantile(p) == pytest.approx(float(np.quantile(pool, p)), rel=1e-12)


def test_resampling_every_unit_once_gives_the_pooled_quantile() -> None:
    rng = np.random.default_rng(4)
    sample = make_sample([(r, rng.lognormal(0, 0.2, 100)) for r in range(8)], split=False)
    assert sample is not None
    for p in (0.5, 0.95, 0.99):
        assert sample.resampled(np.ones((1, 8)), p)[0] == pytest.approx(sample.quantile(p), rel=1e-12)


def test_resampling_twice_one_unit_is_the_quantile_of_the_doubled_data() -> None:
    rng = np.random.default_rng(5)
    units = [rng.lognormal(0, 0.2, 150) for _ in range(3)]
    sample = make_sample([(r, unit.copy()) for r, unit in enumerate(units)], split=False)
    assert sample is not None
    expected = np.quantile(np.concatenate([units[0], units[0], units[2]]), 0.99)
    assert sample.resampled(np.array([[2.0, 0.0, 1.0]]), 0.99)[0] == pytest.approx(float(expected), rel=1e-12)


def test_thinning_a_large_pool_moves_a_quantile_by_less_than_its_standard_error_over_fifty() -> None:
    rng = np.random.default_rng(6)
    sample = make_sample([(r, rng.lognormal(0, 0.2, 20_000)) for r in range(10)], split=False)
    assert sample is not None
    weights = rng.multinomial(10, np.full(10, 0.1), size=200).astype(np.float64)
    thin, full = sample.resampled(weights, 0.99), sample.resampled(weights, 0.99, groups=10**9)
    assert np.abs(thin - full).max() < full.std() / 50


def test_independent_ranks_are_the_classical_ones() -> None:
    """n = 100, median: order statistics 40 and 60 hold it with 95.4 % (David & Nagaraja 2003, table); tighter fails."""
    lower, upper = binomial_ranks(100, 0.5, 0.95)
    assert (lower * 100, upper * 100) == (40, 60)


def test_runs_of_slow_iterations_widen_the_interval() -> None:
    """An interval that ignores dependence would be too narrow for tenants that drift through a neighbour's cycle."""
    slow = np.repeat(np.arange(40) % 10 == 0, 50)
    values = np.where(slow, 6.0, 4.0) + np.linspace(0, 0.01, slow.size)
    sample = make_sample([(r, v) for r, v in enumerate(np.split(values, 40))], split=False)
    assert sample is not None
    assert design_effect(sample, 5.0) > 10


def test_chance_spread_between_units_counts_little() -> None:
    assert weight(1.0, 9) == 0.0
    assert weight(0.3, 9) == 0.0
    assert weight(1.2, 9) < 0.2
    assert weight(5.0, 9) > 0.95


@pytest.mark.parametrize(
    ("name", "n", "rounds"),
    [(name, n, r) for name in ("lognormal", "bimodal", "round-robin") for n, r in ((800, 10), (3000, 1))]
    + [("bursts", 3000, 10), ("bursts", 3000, 1)],
)
def test_p99_intervals_cover_the_truth_as_often_as_they_say(name: str, n: int, rounds: int) -> None:
    coverage, _ = quantile_coverage(CASES[name], 0.99, n, rounds, repetitions=600)
    assert 0.93 <= coverage <= 0.98


def test_clopper_pearson_is_the_published_interval() -> None:
    """10 of 100: 0.0490 to 0.1762 (Clopper & Pearson 1934, as tabulated since)."""
    assert clopper_pearson(10, 100) == (pytest.approx(0.04900, abs=5e-5), pytest.approx(0.17622, abs=5e-5))
    assert clopper_pearson(0, 100) == (0.0, pytest.approx(0.03622, abs=5e-5))
    assert clopper_pearson(100, 100) == (pytest.approx(0.96378, abs=5e-5), 1.0)


def test_an_iteration_exactly_at_the_deadline_meets_it() -> None:
    assert fraction_within(make_sample([(0, np.array([1.0, 2.0, 3.0]))], split=False), 2.0).estimate == 2 / 3
