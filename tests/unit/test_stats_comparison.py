"""If these fail, `kts compare` calls noise a change or hides a change."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from bench.compare import coverage, simulate
from msgspec.structs import replace
from tests.helpers_stats import Array, make_plan, make_run

from kts.errors import RefusalError
from kts.model.provenance import Provenance
from kts.model.summary import Estimate, Summary
from kts.stats import Comparison, analyse, compare
from kts.stats.comparison import FAMILY, ComparedFigure, holm, pool
from kts.stats.replicates import Difference, between_runs, difference, pooled

Z = 1.959964


def summary(factor: float, seed: int, names: tuple[str, ...] = ("fft", "gemm"), spread: float = 0.02) -> Summary:
    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        rng = np.random.default_rng([seed, number, len(tenant), len(side)])
        device = rng.lognormal(0, spread, 200) * 4.0 * (factor if side == "shared" else 1.0)
        return device + 0.1, device

    return analyse(make_run(make_plan(names), latencies)).summary


def find(comparison: Comparison, figure: str, quantile: str = "p99", clock: str = "response") -> ComparedFigure:
    return next(
        c for c in comparison.changes if (c.tenant, c.clock, c.figure, c.quantile) == ("fft", clock, figure, quantile)
    )


def estimate(value: float, error: float) -> Estimate:
    """A figure whose interval is that of a relative standard error."""
    return Estimate(estimate=value, lo=float(value * np.exp(-Z * error)), hi=float(value * np.exp(Z * error)))


def found(a: list[Estimate], b: list[Estimate]) -> Difference:
    one = difference(a, b)
    assert isinstance(one, Difference)
    return one


# what is said of two sides


def test_a_doubled_df_is_higher_and_the_solo_side_is_the_same() -> None:
    comparison = compare([summary(1.0, 1)], [summary(2.0, 2)])
    assert find(comparison, "df").change == "higher"
    assert find(comparison, "shared", "p50").change == "higher"
    assert find(comparison, "solo").change == "same"
    assert comparison.sentence == "8 of 12 figures differ by more than 5 %; 4 agree within that."


def test_a_run_against_itself_agrees_everywhere() -> None:
    one = summary(1.5, 1)
    comparison = compare([one], [one])
    assert {change.change for change in comparison.changes} <= {"same", "unknown", "not-judged"}
    assert comparison.sentence == "All 12 figures agree within 5 %."


def test_the_family_is_judged_and_nothing_else() -> None:
    """Each figure more costs the others their power: those that nobody reads must not."""
    comparison = compare([summary(1.0, 1)], [summary(1.3, 2)])
    judged = [(c.clock, c.figure, c.quantile) for c in comparison.changes if c.p is not None]
    assert judged == [*FAMILY, *FAMILY] or sorted(judged) == sorted([*FAMILY, *FAMILY])
    assert comparison.family == len(judged)


def test_the_threshold_is_what_counts_as_a_change() -> None:
    """A difference that is sure but small is none for whoever asks for 5 %, and one for whoever asks for 1 %."""
    a, b = summary(1.0, 1, spread=0.001), summary(1.03, 2, spread=0.001)
    assert find(compare([a], [b]), "df").change == "same"
    assert find(compare([a], [b], 0.01), "df").change == "higher"
    assert find(compare([b], [a], 0.01), "df").change == "lower"


def test_neither_sure_to_differ_nor_to_agree_is_undetermined() -> None:
    """Absence of evidence is no evidence: a wide interval around 1 is not "the same"."""
    comparison = compare([summary(1.0, 1, spread=0.3)], [summary(1.0, 2, spread=0.3)])
    assert find(comparison, "df").change == "undetermined"
    assert "undetermined" in comparison.sentence


def test_without_a_common_tenant_nothing_is_claimed() -> None:
    """ "0 of 0 figures differ" reads as success."""
    with pytest.raises(RefusalError, match=r"nothing was compared.*fft.*decode") as refused:
        compare([summary(1.0, 1, ("fft", "gemm"))], [summary(1.0, 2, ("decode", "tiny"))])
    assert refused.value.exit_code == 7


def test_refused_figures_alone_are_no_comparison() -> None:
    """The same for tenants whose figures are all refused."""

    def few(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        del tenant, side, number
        return np.full(2, 4.0), np.full(2, np.nan)

    one = analyse(make_run(make_plan(rounds=2), few)).summary
    with pytest.raises(RefusalError, match="no figure can be judged"):
        compare([one], [one])


def test_missing_tenants_and_what_else_differs_are_told() -> None:
    a, b = summary(1.0, 1), summary(1.0, 2, ("fft", "decode"))
    b = replace(b, device="Other GPU", provenance=Provenance(kts="1", commit="0123456789abcdef", clean=False))
    comparison = compare([a], [b])
    assert comparison.only_in_a == ("gemm",)
    assert comparison.only_in_b == ("decode",)
    assert "device differs: Test GPU against Other GPU" in comparison.notes
    assert "kts differs: commit not recorded against commit 0123456789ab, modified" in comparison.notes


def test_milliseconds_of_other_work_are_not_judged_and_ratios_are() -> None:
    """A tenant calibrated to another size is another program: its milliseconds say nothing of the machine."""
    a, b = summary(1.0, 1), summary(2.0, 2)
    b = replace(b, tenants={n: replace(t, size=32) for n, t in b.tenants.items()})
    comparison = compare([a], [b])
    assert find(comparison, "solo").change == find(comparison, "shared").change == "not-judged"
    assert find(comparison, "df").change == "higher"
    assert comparison.family == 4
    assert any("milliseconds are not judged" in note for note in comparison.notes)


def test_comparison_survives_json() -> None:
    comparison = compare([summary(1.0, 1)], [summary(2.0, 2)])
    assert msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison) == comparison


def test_runs_of_a_side_that_differ_keep_a_change_from_being_sure() -> None:
    """Two runs 30 % apart on one side: the third, on the other, may be one more of them."""
    far = [summary(1.0, 1), summary(1.3, 2)]
    assert find(compare([far[0]], [summary(1.25, 3)]), "df").change == "higher"
    replicated = compare(far, [summary(1.25, 3)])
    assert replicated.replicated
    assert find(replicated, "df").change == "undetermined"
    between = find(replicated, "df").between
    assert between is not None
    assert 0.1 < between < 0.3


# the figures themselves


def test_intervals_of_single_runs_combine_arm_by_arm_on_the_log_scale() -> None:
    e = np.exp
    a = Estimate(estimate=1.0, lo=float(e(-0.3)), hi=float(e(0.4)))
    b = Estimate(estimate=2.0, lo=float(2 * e(-0.3)), hi=float(2 * e(0.4)))
    both = found([a], [b]).ratio
    assert both.estimate == pytest.approx(2.0)
    assert both.lo == pytest.approx(2 * e(-0.5))
    assert both.hi == pytest.approx(2 * e(0.5))


def test_a_refused_side_is_unknown_with_its_reason() -> None:
    none = Estimate(estimate=None, lo=None, hi=None, refused="p99 needs 368 iterations, have 5")
    assert difference([none], [estimate(1, 0.1)]) == "A: p99 needs 368 iterations, have 5"
    assert "not above zero" in str(difference([estimate(1, 0.1)], [Estimate(estimate=1.0, lo=0.0, hi=2.0)]))
    assert pooled([none, none]).estimate == none
    assert pooled([none, estimate(1, 0.1)]).runs == 1


def test_pooled_runs_of_equal_error_are_their_mean_with_students_interval() -> None:
    """The balanced case has a closed form: mean and t of the runs' own spread."""
    values = [2.0, 2.2, 2.1, 1.9]
    one = pooled([estimate(value, 1e-4) for value in values])
    logs = np.log(values)
    error = logs.std(ddof=1) / 2
    assert one.estimate.estimate == pytest.approx(np.exp(logs.mean()), rel=1e-6)
    assert one.estimate.hi == pytest.approx(np.exp(logs.mean() + 3.182446 * error), rel=1e-3)
    assert one.between == pytest.approx(logs.std(ddof=1), rel=1e-3)
    assert one.runs == 4


def test_runs_that_agree_too_well_are_not_surer_than_their_own_errors() -> None:
    """Two runs alike by chance must not make an interval that their iterations do not allow."""
    one = pooled([estimate(2.0, 0.05), estimate(2.0, 0.05)])
    assert one.between == pytest.approx(0, abs=1e-4)
    assert one.estimate.hi == pytest.approx(2 * np.exp(12.7062 * 0.05 / np.sqrt(2)), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_variation_between_runs_is_where_the_restricted_likelihood_is_highest(seed: int) -> None:
    """The search on a grid must not stop at a lower hill. Reference: the likelihood on a fine grid."""
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.001, 0.05, 6)
    values = rng.normal(0, 0.03, 6) + rng.normal(0, errors)
    side = np.array([0, 0, 0, 0, 1, 1])

    def score(tau: float) -> float:
        weight = 1 / (errors**2 + tau**2)
        terms = -np.log(weight).sum()
        for one in (side == 0, side == 1):
            w, y = weight[one], values[one]
            terms += np.log(w.sum()) + (w * (y - (w * y).sum() / w.sum()) ** 2).sum()
        return float(terms)

    grid = np.linspace(0, 0.2, 20_001)
    assert between_runs(values, errors, side) == pytest.approx(grid[np.argmin([score(t) for t in grid])], abs=1e-4)


def test_both_sides_vary_alike_so_one_run_can_stand_against_several() -> None:
    """Else a new run could not be held against replicates of the old."""
    several = [estimate(value, 0.01) for value in (2.0, 2.1, 2.05, 1.95)]
    one = found(several, [estimate(2.6, 0.01)])
    assert one.df == 3
    assert one.p_beyond(0.05) < 0.05
    assert found(several, [estimate(2.1, 0.01)]).p_beyond(0.05) == 1.0


def test_a_threshold_of_zero_is_the_usual_test() -> None:
    one = found([estimate(1.0, 0.01)], [estimate(1.03, 0.01)])
    assert one.p_beyond(0.0) == pytest.approx(2 * (1 - 0.98173), abs=1e-3)  # z = 2.09
    assert [one.p_beyond(t) for t in (0.0, 0.01, 0.02)] == sorted(one.p_beyond(t) for t in (0.0, 0.01, 0.02))


def test_holm_adjusts_as_in_the_paper() -> None:
    """Holm (1979): the smallest p times m, the next times m - 1, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_pool_has_an_interval_and_how_much_runs_differ() -> None:
    """What ten replicates are for."""
    together = pool([summary(factor, seed) for seed, factor in enumerate((1.5, 1.55, 1.6), start=1)])
    df = next(f for f in together.figures if (f.tenant, f.clock, f.figure) == ("fft", "response", "df"))
    lo, value, hi = df.pooled.estimate.lo, df.pooled.estimate.estimate, df.pooled.estimate.hi
    assert lo is not None
    assert value is not None
    assert hi is not None
    assert 1.4 < lo < value < hi < 1.7
    assert df.pooled.runs == 3
    assert df.pooled.between is not None
    with pytest.raises(RefusalError, match="nothing was pooled"):
        pool([summary(1, 1), summary(1, 2, ("decode", "tiny"))])


# how often it is wrong: small versions of `python -m bench compare`


@pytest.mark.parametrize(("sides", "between"), [((1, 1), 0.01), ((2, 2), 0.03), ((3, 3), 0.02), ((5, 5), 0.03)])
def test_false_alarms_are_rare_in_a_family(sides: tuple[int, int], between: float) -> None:
    """At most 5 % of comparisons of one experiment with itself may raise any alarm among twelve figures."""
    assert simulate(sides, between, repetitions=100).alarms <= 0.05


def test_at_the_threshold_itself_replicated_sides_are_still_right() -> None:
    """The hardest case that is no change: every figure differs by just the threshold."""
    assert simulate((3, 3), 0.02, repetitions=100).at_threshold <= 0.09  # 5 % and two standard errors


def test_a_large_difference_is_found() -> None:
    """A test that never speaks would pass all the others."""
    assert simulate((5, 5), 0.02, repetitions=30).twenty > 0.9
    assert simulate((1, 1), 0.0, repetitions=30).twenty > 0.8


def test_a_pooled_interval_holds_the_truth() -> None:
    """Nominal 95 %; narrower with more runs."""
    rates, widths = zip(*(coverage(count, 0.02, repetitions=150) for count in (3, 5, 10)), strict=True)
    assert min(rates) >= 0.90
    assert all(a > b for a, b in pairwise(widths))
