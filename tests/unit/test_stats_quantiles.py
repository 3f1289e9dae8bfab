"""If these fail, a printed quantile or its interval is not what docs/measuring.md says it is."""

from __future__ import annotations

import re

import numpy as np
import pytest
from bench.coverage import CELLS, scores
from scipy.special import bdtr

from kts.stats.dependence import UNITS_BELIEVED, weight
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
    values = np.random.default_rng(0).permutation(np.arange(1.0, 369.0))
    found = quantile_estimate(make_sample([(0, values)], split=False), 0.99)
    assert found.hi == pytest.approx(368.0, abs=0.1)


def test_a_coarse_stopwatch_widens_by_half_a_tick_on_either_side() -> None:
    """1.20 to 1.20: a reading of 5 ms to a tick of 1 ms may be anything from 4.5 to 5.5."""
    rng = np.random.default_rng(1)
    read = [(r, np.round(rng.normal(5.0, 0.2, 300))) for r in range(10)]
    sample = make_sample(read, split=False)
    assert sample is not None
    assert sample.tick == 1.0
    found = quantile_estimate(sample, 0.5)
    assert (found.estimate, found.lo, found.hi) == (5.0, 4.5, 5.5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_tick_is_found_in_spite_of_rounding_and_stray_values(dtype: type) -> None:
    rng = np.random.default_rng(2)
    values = np.asarray(np.round(rng.normal(3.6, 0.05, 3000) / 0.016) * 0.016, dtype=dtype)
    values[:5] += dtype(0.0003)
    sample = make_sample([(0, values)], split=False)
    assert sample is not None
    assert sample.tick == pytest.approx(0.016, rel=1e-4)


def test_continuous_latencies_have_no_tick() -> None:
    sample = make_sample([(0, np.random.default_rng(3).lognormal(0, 0.2, 3000))], split=False)
    assert sample is not None
    assert sample.tick == 0.0


def test_pooled_quantiles_of_unequal_units_are_numpys() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        blocks = [(r, rng.lognormal(0.3 * r, 0.4, rng.integers(1, 400))) for r in range(6)]
        pool = np.concatenate([values for _, values in blocks])
        sample = make_sample([(r, v.copy()) for r, v in blocks], split=False)
        assert sample is not None
        for p in (0.0, 0.5, 0.95, 0.99, 0.999, 1.0):
            assert sample.quantile(p) == pytest.approx(float(np.quantile(pool, p)), rel=1e-12)


def test_independent_ranks_are_the_classical_ones() -> None:
    """n = 100, median: order statistics 40 and 60 hold it with 95.4 % (David & Nagaraja 2003, table); tighter fails."""
    lower, upper = binomial_ranks(100, 0.5, 0.95)
    assert (lower * 100, upper * 100) == (40, 60)


def test_slow_iterations_in_runs_count_as_what_they_are_worth() -> None:
    """Ten in a row are worth one: an interval that ignores it holds the truth half as often as it says."""
    slow = np.random.default_rng(4).permutation(np.arange(400) < 12).repeat(10)
    values = np.where(slow, 6.0, 4.0) + np.random.default_rng(5).uniform(0, 0.01, slow.size)
    sample = make_sample(list(enumerate(np.split(values, 10))), split=False)
    assert sample is not None
    effect = sample.dependence.design_effect(0.97)
    assert 6 < effect.ratio < 14
    assert not effect.by_units
    refused = quantile_estimate(sample, 0.99).refused
    assert refused.startswith("p99 needs 368 iterations, 4000 here are worth ") or not refused


def test_a_refusal_says_what_the_iterations_are_worth_and_why() -> None:
    """Otherwise a tail that nobody knows gets an interval, or the user does not learn what to do."""
    slow = np.resize(np.repeat(np.arange(5) == 3, 16), 400)
    values = np.where(slow, 6.0, 4.0) + np.random.default_rng(6).uniform(0, 0.01, 400)
    found = quantile_estimate(make_sample(list(enumerate(np.split(values, 5))), split=False), 0.99)
    assert found.estimate is None
    assert re.fullmatch(r"p99 needs 368 iterations, 400 here are worth \d+: slow ones come in runs", found.refused)


def test_where_iterations_are_worth_too_few_the_slower_end_lies_beyond_the_slowest() -> None:
    """Otherwise a p99 that the sample may well not reach ends at the sample's end, or is refused although its rounds
    differ by a hair."""
    rng = np.random.default_rng(8)
    levels = np.repeat([1.0, 1.004, 0.998, 1.012, 1.0], 180)
    close = (
        3.8 * levels * rng.normal(1, 0.004, 900) * (1 + 0.01 * (rng.random(900) < np.repeat([0, 0, 0, 0.2, 0], 180)))
    )
    sample = make_sample(list(enumerate(np.split(close, 5))), split=False)
    assert sample is not None
    assert sample.n / sample.dependence.design_effect(0.99).ratio < 368
    found = quantile_estimate(sample, 0.99)
    assert close.max() < (found.hi or 0) < 1.1 * close.max()


def test_levels_of_rounds_are_told_from_the_noise_of_their_iterations() -> None:
    rng = np.random.default_rng(7)
    alike = rng.lognormal(0, 0.2, (10, 300))
    levels = np.exp(rng.normal(0, 0.1, (10, 1)))
    same, differing = (make_sample(list(enumerate(v)), split=False) for v in (alike.copy(), alike * levels))
    assert same is not None
    assert differing is not None
    assert same.dependence.between < 0.02**2
    assert 0.06**2 < differing.dependence.between < 0.14**2


def test_chance_counts_little_and_more_of_it_is_asked_of_few_units() -> None:
    assert weight(1.0, 9) == 0.0
    assert weight(0.3, 9) == 0.0
    assert weight(1.5, 9) < 0.2
    assert weight(5.0, 30) > 0.95
    assert weight(5.0, 2, 0.0, UNITS_BELIEVED) < 0.4


def test_a_coarse_stopwatch_and_differing_levels_are_not_taken_for_slow_rounds() -> None:
    """Levels a hair apart move a whole tick's readings over a threshold; the p99 would be refused for nothing."""
    rng = np.random.default_rng(9)
    levels = rng.normal(1, 0.02, (10, 1))
    sample = make_sample(list(enumerate(np.round(rng.normal(4.5, 0.8, (10, 300)) * levels))), split=False)
    assert sample is not None
    assert sample.dependence.design_effect(0.99).ratio < 1.5


def at_least(share: float, given: int) -> int:
    """Fewest of ``given`` that chance leaves, one time in 2000, of something that happens with that probability."""
    return int(np.searchsorted(bdtr(np.arange(given + 1), given, share), 0.0005))


@pytest.mark.parametrize(
    ("name", "rounds", "n"),
    [(name, 10, 300) for name in CELLS] + [(name, 3, 1000) for name, cell in CELLS.items() if not cell.independent],
)
def test_p99_and_goodput_hold_the_truth_as_often_as_they_say(name: str, rounds: int, n: int) -> None:
    for figure, score in scores(name, rounds, n, 80, figures=("p99", "goodput"), seed=5).items():
        assert score.held >= at_least(0.93, len(score.widths)), (figure, score.coverage, score.given)
        if CELLS[name].independent:
            assert score.given >= 0.99, figure


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if cell.independent])
def test_independent_iterations_get_the_classical_interval(name: str) -> None:
    """Knowing dependence must not cost where there is none: at most a tenth wider than independence allows."""
    wider = []
    for repetition in range(60):
        values = CELLS[name].latencies(np.random.default_rng([8, repetition]), 10, 300)
        pool = np.sort(values.ravel())
        sample = make_sample(list(enumerate(values)), split=False)
        assert sample is not None
        found = quantile_estimate(sample, 0.99)
        lo, hi = (pool[round(rank * 3000) - 1] for rank in binomial_ranks(3000, 0.99, 0.95))
        assert found.lo is not None
        assert found.hi is not None
        wider.append((found.hi - found.lo - sample.tick) / (hi - lo))
    assert np.median(wider) < 1.1


def test_clopper_pearson_is_the_published_interval() -> None:
    """10 of 100: 0.0490 to 0.1762 (Clopper & Pearson 1934, as tabulated since)."""
    assert clopper_pearson(10, 100) == (pytest.approx(0.04900, abs=5e-5), pytest.approx(0.17622, abs=5e-5))
    assert clopper_pearson(0, 100) == (0.0, pytest.approx(0.03622, abs=5e-5))
    assert clopper_pearson(100, 100) == (pytest.approx(0.96378, abs=5e-5), 1.0)


def test_goodput_knows_that_slow_ones_come_in_runs() -> None:
    """As independent iterations its interval would hold the truth every second time."""
    score = scores("slow runs", 10, 300, 100, figures=("goodput",))["goodput"]
    assert np.median(score.widths) > 2 * (clopper_pearson(2940, 3000)[1] - clopper_pearson(2940, 3000)[0])


def test_every_deadline_met_is_no_certainty() -> None:
    sample = make_sample([(r, np.random.default_rng(r).lognormal(0, 0.1, 300)) for r in range(10)], split=False)
    found = fraction_within(sample, 100.0)
    assert found.estimate == found.hi == 1.0
    assert found.lo == pytest.approx(clopper_pearson(3000, 3000)[0], abs=1e-4)


def test_an_iteration_exactly_at_the_deadline_meets_it() -> None:
    assert fraction_within(make_sample([(0, np.array([1.0, 2.0, 3.0]))], split=False), 2.0).estimate == 2 / 3
