"""Kinds of tenants, what of the model differs by them, and the rules that a prediction must beat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as with_fields

import numpy as np
import pytest
from msgspec.structs import replace
from tests.helpers_physics import GPU, fingerprint, launches, profile, saturating

from kts.arrivals import Closed, Poisson
from kts.physics.draws import sharing
from kts.physics.forecast import ModelError
from kts.physics.hosts import late
from kts.physics.kinds import host_share, kind_of
from kts.physics.predict import Effort, Predictor
from kts.physics.profiling import queued_kernels
from kts.physics.rules import PROCESSOR_SHARING, Duty, crowd, presence, processor_sharing
from kts.physics.simulate import Stream, simulate
from kts.physics.values import Interval, Iterations, Profile, bursts, make_profile

QUICK = Effort(iterations=2000, budget=100_000, seconds=60.0, replicates=40)
MARK = fingerprint(2.0, 0.18, 0.1)


def traced(count: int, kernel_ms: float, host_ms: float) -> Profile:
    """Launches evenly spaced over ``host_ms``, the same in each of as many iterations as predictions ask for."""
    n = 500
    offsets, durations = np.tile(np.linspace(0, host_ms, count), n), np.full(n * count, kernel_ms)
    them = Iterations(np.arange(n + 1) * count, offsets, durations, np.full(n, 0.02))
    return make_profile("t", them, GPU, arrivals=Closed(think_ms=10.0))


@pytest.mark.parametrize(
    ("tenant", "kind"),
    [
        (profile("fft", 3.6), "gpu"),
        (traced(3, 0.9, 0.1), "gpu"),
        (traced(2, 0.002, 0.1), "short"),
        (traced(100, 0.003, 2.0), "eager"),
        (replace(traced(1, 0.4, 0.0), settles_next=True), "graph"),
    ],
)
def test_a_profile_says_of_which_kind_its_tenant_is(tenant: Profile, kind: str) -> None:
    """Else a tenant would get the error of another kind, or that of its name."""
    assert kind_of(tenant) == kind


def test_the_hosts_share_is_what_kernels_leave() -> None:
    """100 kernels of 3 us in 2.02 ms; a single burst of all of its time has none."""
    assert host_share(traced(100, 0.003, 2.0)) == pytest.approx(1 - 0.3 / 2.023, abs=0.01)
    assert host_share(make_profile("b", bursts([3.0], 0.0), GPU)) == 0.0


def test_a_kernels_launch_gap_is_not_counted_twice() -> None:
    """Every traced kernel is shorter; a replayed graph and single bursts, which no tracer timed, are not."""
    eager = traced(100, 0.003, 2.0)
    assert queued_kernels(eager, 0.001).iterations.duration_ms == pytest.approx(0.002)
    assert queued_kernels(eager, 0.005).iterations.duration_ms == pytest.approx(0.0)
    assert queued_kernels(replace(eager, settles_next=True), 0.001).duration == eager.duration
    assert queued_kernels(profile("fft", 3.6), 0.001).iterations.duration_ms.mean() == pytest.approx(3.6, rel=0.01)


def test_no_more_than_the_gap_is_taken_from_a_kernel() -> None:
    """Otherwise a fingerprint without a launch gap would make kernels shorter than anybody measured."""
    eager = {"t": traced(100, 0.003, 2.0)}
    assert Predictor(eager, MARK, QUICK).profiles["t"].duration == eager["t"].duration
    gap = replace(MARK, launch_gap_ms=Interval.exact(0.0002))
    assert Predictor(eager, gap, QUICK).profiles["t"].iterations.duration_ms == pytest.approx(0.0028)


def test_a_slower_host_makes_host_time_longer_and_nothing_else() -> None:
    """Launches and the retirement come later; kernels stay, and so does what a saturating tenant takes of the GPU."""
    them = launches([0.0, 1.0], [0.5, 0.5], 0.1)
    once = Stream(them, np.zeros(3, np.int64), think_ms=np.zeros(3))
    free = sharing(MARK)
    usual, slow = (simulate([s], free).tenants[0] for s in (once, with_fields(once, host=2.0)))
    assert usual.service_ms == pytest.approx(1.6)
    assert slow.service_ms == pytest.approx(2.7)
    assert slow.busy_ms == usual.busy_ms


def test_iterations_of_many_launches_are_cut_by_their_launches() -> None:
    """Else a prediction of programs takes minutes; tenants of few launches are as long as ever."""
    tenants = {"eager": traced(100, 0.003, 2.0), "fft": profile("fft", 3.6)}
    few = with_fields(QUICK, launches=30_000, replicate_launches=5_000, replicates=2)
    assert Predictor(tenants, MARK, few).mix(["eager"]).tenants["eager"].iterations == pytest.approx(300, abs=3)
    usual = Predictor(tenants, MARK, with_fields(QUICK, replicates=2)).mix(["fft"])
    assert Predictor(tenants, MARK, few).mix(["fft"]) == usual


def test_replicates_side_by_side_give_the_same_bands() -> None:
    """Draws hang on the replicate's number, and not on which thread is first."""
    tenants = {"eager": traced(100, 0.003, 2.0), "fft": profile("fft", 3.6)}
    effort = with_fields(QUICK, replicates=8)
    one_by_one = Predictor(tenants, MARK, effort).mix(["eager", "fft"])
    with ThreadPoolExecutor(4) as pool:
        assert Predictor(tenants, MARK, effort, each=pool.map).mix(["eager", "fft"]) == one_by_one


def test_a_host_that_wakes_up_late_is_late_in_every_response() -> None:
    """Otherwise an open loop's response alone is shorter than any sleeping host can make it."""
    them = bursts([1.0], 0.0)
    punctual = Stream(them, np.zeros(200, np.int64), due_ms=np.arange(200) * 10.0)
    rng = np.random.default_rng(1)
    found = [simulate([s], sharing(MARK)).tenants[0] for s in (punctual, late(punctual, rng))]
    more = found[1].response_ms - found[0].response_ms
    assert (more > 0.015).all()
    assert np.median(more) == pytest.approx(0.07, abs=0.01)
    assert found[1].service_ms == pytest.approx(1.0)
    closed = saturating(1.0, 5)
    assert late(closed, rng) is closed


def test_the_hosts_error_widens_what_the_host_takes() -> None:
    """DF of an eager tenant and its time; not the time of a tenant that the GPU takes."""

    def width(error: ModelError, name: str) -> float:
        mix = {"eager": traced(100, 0.003, 2.0), "gemm": profile("gemm", 20.0, arrivals=Closed())}
        forecast = Predictor(mix, MARK, QUICK, error).mix(["eager", "gemm"]).tenants[name]
        assert forecast.response.p50.value is not None
        return (forecast.response.p50.hi - forecast.response.p50.lo) / forecast.response.p50.value  # type: ignore[operator]

    none, wandering = ModelError(), ModelError(host=0.2, host_block=0.1, source="given")
    assert width(wandering, "eager") > width(none, "eager") + 0.05
    assert width(wandering, "gemm") < width(none, "gemm") + 0.03


def test_the_solo_sides_error_is_in_df_alone() -> None:
    """Otherwise DF's bands would leave out that the time alone, too, is only predicted."""

    def widths(error: ModelError) -> tuple[float, float]:
        pair = {"fft": profile("fft", 3.6), "gemm": profile("gemm", 20.0)}
        fft = Predictor(pair, MARK, QUICK, error).mix(["fft", "gemm"]).tenants["fft"]
        return tuple((b.hi - b.lo) / b.value for b in (fft.response.mean, fft.df.mean))  # type: ignore[operator, return-value]

    (time, df), (time_too, df_too) = widths(ModelError()), widths(ModelError(solo={"gpu": 0.1}, source="given"))
    assert time == time_too
    assert df_too > df + 0.2


def test_an_error_goes_by_kind() -> None:
    """And by what is given for all where a kind is not named."""
    error = ModelError(relative=0.05, kinds={"gpu": 0.01}, source="given")
    assert [error.of("gpu"), error.of("eager")] == [0.01, 0.05]


def test_processor_sharing_with_everybody_there_is_n_times_as_long() -> None:
    """Tenants that always have work take turns by halves; nobody else there leaves the time alone."""
    full = [Duty(busy_ms=2.0, cycle_ms=2.0, closed=True)] * 2
    assert presence(full) == pytest.approx([1.0, 1.0])
    for figures in processor_sharing([np.full(500, 2.0)] * 2, full):
        assert figures.p50 == pytest.approx(4.0)
        assert figures.p999 == pytest.approx(4.0)
    [alone] = processor_sharing([np.full(500, 2.0)], full[:1])
    assert alone.mean == pytest.approx(2.0)


def test_processor_sharing_meets_a_rare_neighbour_as_often_as_it_is_there() -> None:
    """A duty of a twentieth: most iterations take as long as alone, and the p99 twice as long."""
    busy, rare = Duty(2.0, 2.0, closed=True), Duty(1.0, 39.0, closed=True)
    assert presence([busy, rare])[1] == pytest.approx(2 / 40)
    found, _ = processor_sharing([np.full(500, 2.0), np.full(500, 1.0)], [busy, rare])
    assert found.p50 == pytest.approx(2.0)
    assert found.p99 == pytest.approx(4.0)
    assert found.mean == pytest.approx(2.0 + 2.0 * 2 / 40)


def test_how_many_are_there_is_a_sum_of_coins() -> None:
    """Three tenants that are there half of the time: 1, 3, 3, 1 of eight."""
    assert crowd([0.5] * 3) == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8])


def test_an_open_loop_beyond_its_limit_is_always_there() -> None:
    """Else a share of the time above one would make probabilities below zero."""
    full = Duty.of(profile("fft", 5.0, arrivals=Poisson(rate_hz=400.0)))
    assert presence([full]) == pytest.approx([1.0])


def test_every_tenant_of_a_mix_has_the_rule_beside_it() -> None:
    """Also where one profile comes twice."""
    pair = {"fft": profile("fft", 3.6), "gemm": profile("gemm", 20.0, arrivals=Closed())}
    forecast = Predictor(pair, MARK, with_fields(QUICK, replicates=2)).mix(["fft", "gemm", "fft"])
    for tenant in forecast.tenants.values():
        assert tenant.baselines[PROCESSOR_SHARING].p50 is not None
