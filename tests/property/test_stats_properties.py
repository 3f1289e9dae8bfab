"""Laws that hold for any latencies. If one fails, a figure depends on something that it must not depend on."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kts.stats.degradation import Bootstrap
from kts.stats.proportions import clopper_pearson
from kts.stats.quantiles import QUANTILES, quantile_estimate
from kts.stats.sample import FloatArray, Sample, make_sample

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


def sample(data: list[tuple[int, FloatArray]], factor: float = 1.0) -> Sample:
    made = make_sample([(r, factor * values) for r, values in data], split=False)
    assert made is not None
    return made


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shape=shapes)
def test_interval_holds_its_estimate_and_quantiles_rise(seed: int, shape: str) -> None:
    found = [quantile_estimate(sample(blocks(seed, shape)), p) for p in QUANTILES.values()]
    shown = [e for e in found if e.estimate is not None and e.lo is not None and e.hi is not None]
    assert len(shown) == 3
    for e in shown:
        assert e.lo <= e.estimate <= e.hi  # type: ignore[operator]
    assert [e.estimate for e in shown] == sorted(e.estimate or 0 for e in shown)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shape=shapes, power=st.integers(-6, 6))
def test_other_units_of_time_change_nothing_but_the_unit(seed: int, shape: str, power: int) -> None:
    data, factor = blocks(seed, shape), 2.0**power
    one, other = (quantile_estimate(sample(data, f), 0.99) for f in (1.0, factor))
    assert (other.estimate, other.lo, other.hi) == tuple(factor * (v or 0) for v in (one.estimate, one.lo, one.hi))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shape=shapes)
def test_order_within_a_block_does_not_matter_to_rounds(seed: int, shape: str) -> None:
    data = blocks(seed, shape)
    rng = np.random.default_rng(seed)
    shuffled = [(r, rng.permutation(values)) for r, values in data]
    assert quantile_estimate(sample(data), 0.99) == quantile_estimate(sample(shuffled), 0.99)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, shape=shapes)
def test_df_of_identical_data_is_exactly_one_and_inside(seed: int, shape: str) -> None:
    data = blocks(seed, shape)
    found = Bootstrap(rounds=ROUNDS, replicates=200).ratio(sample(data), 0.99, sample(data), 0.99)
    assert found.estimate == 1.0
    assert (found.lo or 0) <= 1.0 <= (found.hi or 0)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, factor=st.floats(0.1, 10.0))
def test_df_of_scaled_data_is_the_scale_and_drift_cancels(seed: int, factor: float) -> None:
    data = blocks(seed, "lognormal")
    found = Bootstrap(rounds=ROUNDS, replicates=200).ratio(sample(data, factor), 0.99, sample(data), 0.99)
    assert found.estimate is not None
    assert abs(found.estimate / factor - 1) < 1e-9
    assert (found.lo or 0) <= found.estimate <= (found.hi or 0)


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_clopper_pearson_holds_the_fraction_and_stays_in_bounds(trials: int, share: float) -> None:
    hits = round(share * trials)
    lo, hi = clopper_pearson(hits, trials)
    assert 0 <= lo <= hits / trials <= hi <= 1
