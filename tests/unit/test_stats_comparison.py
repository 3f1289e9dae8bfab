"""If these fail, `kts compare` calls noise a change or hides a change."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import Array, make_plan, make_run

from kts.model.summary import Estimate, Summary
from kts.stats import Comparison, analyse, compare
from kts.stats.comparison import ratio


def summary(factor: float, seed: int, names: tuple[str, ...] = ("fft", "gemm")) -> Summary:
    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        rng = np.random.default_rng([seed, number, len(tenant), len(side)])
        device = rng.lognormal(0, 0.02, 200) * 4.0 * (factor if side == "shared" else 1.0)
        return device + 0.1, device

    return analyse(make_run(make_plan(names), latencies)).summary


def find(comparison: Comparison, figure: str, quantile: str = "p99", clock: str = "response") -> str:
    return next(
        c.change
        for c in comparison.changes
        if (c.tenant, c.clock, c.figure, c.quantile) == ("fft", clock, figure, quantile)
    )


def test_a_doubled_df_is_higher_and_the_solo_side_is_noise() -> None:
    comparison = compare(summary(1.0, 1), summary(2.0, 2))
    assert find(comparison, "df") == "higher"
    assert find(comparison, "shared", "p50") == "higher"
    assert find(comparison, "solo") == "within-noise"


def test_a_run_against_itself_is_noise_everywhere() -> None:
    one = summary(1.5, 1)
    changes = {change.change for change in compare(one, one).changes}
    assert changes <= {"within-noise", "unknown"}


def test_missing_tenants_and_other_devices_are_told() -> None:
    a, b = summary(1.0, 1), summary(1.0, 2, ("fft", "decode"))
    b = msgspec.structs.replace(b, device="Other GPU")
    comparison = compare(a, b)
    assert comparison.only_in_a == ("gemm",)
    assert comparison.only_in_b == ("decode",)
    assert "device differs: Test GPU against Other GPU" in comparison.notes


def test_comparison_survives_json() -> None:
    comparison = compare(summary(1.0, 1), summary(2.0, 2))
    assert msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison) == comparison


def test_intervals_combine_arm_by_arm_on_the_log_scale() -> None:
    e = np.exp
    a = Estimate(estimate=1.0, lo=float(e(-0.3)), hi=float(e(0.4)))
    b = Estimate(estimate=2.0, lo=float(2 * e(-0.3)), hi=float(2 * e(0.4)))
    both = ratio(a, b)
    assert both.estimate == pytest.approx(2.0)
    assert both.lo == pytest.approx(2 * e(-0.5))
    assert both.hi == pytest.approx(2 * e(0.5))


def test_a_refused_side_is_unknown_with_its_reason() -> None:
    none = Estimate(estimate=None, lo=None, hi=None, refused="p99 needs 368 iterations, have 5")
    assert ratio(none, Estimate(estimate=1.0, lo=0.9, hi=1.1)).refused == "A: p99 needs 368 iterations, have 5"
