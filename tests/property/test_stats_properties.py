"""Laws that hold for any latencies. If one fails, a figure depends on something that it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kts.stats.degradation import ratio_estimate
from kts.stats.proportions import clopper_pearson
from kts.stats.quantiles import QUANTILES, quantile_estimate
from kts.stats.sample import FloatArray, LatencySample, make_sample

ROUNDS = tuple(range(5))
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from(["lognormal", "bimodal", "ties", "constant"])


def blocks(seed: int, shape: str, n: int = 120) -> list[tuple[int, FloatArray]]:
    rng = np.random.default_rng(seed)
    draws = {
        "lognormal": lambda: rng.lognormal(0, 0.5, n),
        "bimodal": lambda: 1 + (rng.random(n) < 0.02) * 5 + rng.random(n) * 0.01,
        "ties": lambda: rng.integers(1, 5, n).astype(np.float64),
        "constant": lambda: np.full(n, 3.0),
    }
    return [(r, draws[shape]()) for r in ROUNDS]


def sample(data: list[tuple[int, FloatArray]], factor: float = 1.0) -> LatencySample:
    made = make_sample([(r, factor * values) for r, values in data], split=False)
    assert made is not None
    return made


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shape=shapes)
def test_interval_holds_its_estimate_and_quantiles_rise(seed: int, shape: str) -> None:
    found = [quantile_estimate(sample(blocks(seed, shape)), p) for p in QUANTILES.values()]
    shown = [e for e in found if e.estimate is not None and e.lo is not None and e.hi is not None]
    assert len(shown) >= 1
    for e in shown:
        assert e.lo <= e.estimate <= e.hi  # type: ignore[operator]
    assert [e.estimate for e in shown] == sorted(e.estimate or 0 for e in shown)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shape=shapes, power=st.integers(-6, 6))
def test_other_units_of_time_change_nothing_but_the_unit(seed: int, shape: str, power: int) -> None:
    data, factor = blocks(seed, shape), 2.0**power
    one, other = (quantile_estimate(sample(data, f), 0.99) for f in (1.0, factor))
    found = (other.estimate, other.lo, other.hi)
    assert found == pytest.approx(tuple(factor * (v or 0) for v in (one.estimate, one.lo, one.hi)), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shape=shapes)
def test_order_changes_what_iterations_are_worth_and_never_the_estimate(seed: int, shape: str) -> None:
    data = blocks(seed, shape)
    sorted_ones = [(r, np.sort(values)) for r, values in data]
    one, other = (quantile_estimate(sample(each), 0.99) for each in (data, sorted_ones))
    assert one.refused or other.refused or other.estimate == one.estimate


@settings(max_examples=25, deadline=None)
@given(seed=seeds, shape=shapes)
def test_df_of_identical_data_is_exactly_one_and_inside(seed: int, shape: str) -> None:
    data = blocks(seed, shape)
    found = ratio_estimate(sample(data), 0.99, sample(data), 0.99)
    assert found.estimate == 1.0
    assert (found.lo or 0) <= 1.0 <= (found.hi or 0)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, factor=st.floats(0.1, 10.0))
def test_df_of_scaled_data_is_the_scale_and_drift_cancels(seed: int, factor: float) -> None:
    data = blocks(seed, "lognormal")
    found = ratio_estimate(sample(data, factor), 0.99, sample(data), 0.99)
    assert found.estimate is not None
    assert abs(found.estimate / factor - 1) < 1e-9
    assert (found.lo or 0) <= found.estimate <= (found.hi or 0)


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_clopper_pearson_holds_the_fraction_and_stays_in_bounds(trials: int, share: float) -> None:
    hits = round(share * trials)
    lo, hi = clopper_pearson(hits, trials)
    assert 0 <= lo <= hits / trials <= hi <= 1
