"""Predictions: figures, bands, baselines, other slices and rates, and the score against what was measured."""

from __future__ import annotations

from dataclasses import replace as with_fields

import numpy as np
import pytest
from msgspec.structs import replace
from tests.helpers_physics import GPU, fingerprint, launches, profile, recorded_run
from tests.helpers_stats import FakeRun, make_plan, make_records, make_run

from kts.arrivals import Closed, Poisson
from kts.errors import RefusalError
from kts.files import encode
from kts.physics import published
from kts.physics.draws import sharing, streams
from kts.physics.files import decode_prediction
from kts.physics.forecast import FIGURES, Figures, MixForecast, ModelError
from kts.physics.predict import Effort, Predictor, all_mixes, numbered
from kts.physics.recorded import measured, profile_of
from kts.physics.rules import as_burst
from kts.physics.simulate import simulate
from kts.physics.summaries import plain
from kts.physics.validate import MODEL, score
from kts.physics.values import Interval, Iterations, Packed, bursts, make_profile
from kts.physics.whatif import Question, at_rate, what_if

QUICK = Effort(iterations=2000, budget=100_000, seconds=60.0, replicates=30)
PAIR = {
    "fft": profile("fft", 3.6, arrivals=Closed(think_ms=100.0), deadline_ms=6.0),
    "gemm": profile("gemm", 20.0, arrivals=Closed(think_ms=150.0)),
}
MARK = fingerprint(2.0, 0.18, 0.1)


def predict(**changes: object) -> MixForecast:
    return Predictor(**{"profiles": PAIR, "fingerprint": MARK, "effort": QUICK, **changes}).mix(["fft", "gemm"])


@pytest.mark.parametrize(("slice_ms", "within"), [(2.2, 0.03)])
def test_the_published_shared_rows_follow_from_the_solo_rows_and_a_slice(slice_ms: float, within: float) -> None:
    """p95 and p99 of both tenants on the published clock, by the same simulator as everything else."""
    forecast = Predictor(published.profiles(), published.fingerprint(slice_ms), Effort(replicates=2)).mix(
        ["fft", "gemm"]
    )
    for name, (_, p95, p99) in published.SHARED_MS.items():
        device = forecast.tenants[name].device
        assert device.p95.value == pytest.approx(p95, rel=within)
        assert device.p99.value == pytest.approx(p99, rel=within)


def test_published_solo_quantiles_are_met() -> None:
    """Else the case would begin from other rows than the published ones."""
    for name, quantiles in published.SOLO_MS.items():
        found = np.quantile(published.solo_ms(name, 4000), [0.5, 0.95, 0.99])
        np.testing.assert_allclose(found, quantiles, rtol=1e-3)


def test_a_prediction_is_the_same_every_time() -> None:
    """Same profiles, fingerprint and seed: same figures and bands, to the bit; another seed: others."""
    again = predict()
    assert predict() == again
    assert predict(effort=with_fields(QUICK, seed=1)) != again


def test_every_figure_lies_in_its_band() -> None:
    """Else a band would say that its own figure is unlikely."""
    for tenant in predict().tenants.values():
        for figures in (tenant.response, tenant.service, tenant.device, tenant.df, tenant.device_df):
            for name in FIGURES:
                band = getattr(figures, name)
                if band.value is not None:
                    assert band.lo <= band.value <= band.hi


def test_bands_hold_what_simulated_runs_of_that_length_show() -> None:
    """Nominal 90 %. The runs have their own seeds, and the fingerprint and profile as they are."""
    effort = with_fields(QUICK, replicates=60, iterations=20_000, budget=10**6)
    forecast = Predictor(PAIR, MARK, effort).mix(["fft", "gemm"])
    inside = 0
    for seed in range(100):
        both = [streams(PAIR[name], [700], 10_000 + seed, name)[0] for name in PAIR]
        done = simulate(both, sharing(MARK), horizon_ms=60e3).tenants
        for name, tenant in zip(PAIR, done, strict=True):
            band = forecast.tenants[name].response.p95
            assert band.lo is not None
            assert band.hi is not None
            inside += band.lo <= np.quantile(tenant.response_ms, 0.95) <= band.hi
    assert 0.82 <= inside / 200 <= 0.98


def test_what_is_not_known_widens_the_band() -> None:
    """A slice known to 5 % only, and a model error of 5 %."""
    vague = replace(MARK, slice_ms=Interval(value=2.0, lo=1.9, hi=2.1))

    def width(forecast: MixForecast) -> float:
        band = forecast.tenants["fft"].device.p95  # of an iteration that is interrupted once: solo + q + 2 c
        return band.hi - band.lo  # type: ignore[operator]

    exact = width(predict())
    assert width(predict(fingerprint=vague)) > exact + 0.1
    assert width(predict(model_error=ModelError(relative=0.05, source="given"))) > exact + 2 * 1.4 * 0.05 * 5.96


def test_a_band_holds_any_order_of_the_tenants_unless_it_is_known() -> None:
    """Otherwise a graph's successor, which waits a round more, would lie outside of a band that claims to be wide."""
    settling = replace(profile("graph", 1.5, arrivals=Closed()), settles_next=True)
    late = profile("late", 0.2, arrivals=Closed(think_ms=12.0))
    full = profile("full", 6.0, arrivals=Closed())
    mix = {"profiles": {"graph": settling, "late": late, "full": full}, "fingerprint": MARK, "effort": QUICK}
    behind, before = ["graph", "late", "full"], ["late", "graph", "full"]
    known = [Predictor(**mix, order_known=True).mix(names).tenants["late"].response.p50 for names in (behind, before)]
    assert known[0].value > 1.1 * known[1].value
    assert known[0].lo > known[1].hi
    either = Predictor(**mix).mix(behind).tenants["late"].response.p50
    assert either.lo < known[1].hi
    assert either.hi > known[0].lo


def test_a_stopwatch_that_a_copy_engine_starts_shows_the_wait() -> None:
    """Otherwise the predicted device clock of a decoder is without what its measured one holds."""
    chat = profile("chat", 0.5, arrivals=Closed(think_ms=10.0))
    beside = ["chat", "gemm"]
    for waits in (True, False):
        mix = {"chat": replace(chat, stopwatch_waits=waits), "gemm": profile("gemm", 20.0, arrivals=Closed())}
        found = Predictor(mix, MARK, QUICK).mix(beside).tenants["chat"]
        wait = found.response.p50.value - found.device.p50.value
        assert (wait < 0.2) != waits


def test_shares_of_time_and_rates_add_up() -> None:
    """Busy, switching and idle are all of the GPU's time; rates are those of the cycles."""
    forecast = predict()
    assert forecast.busy + forecast.switching + forecast.idle == pytest.approx(1.0)
    fft = forecast.tenants["fft"]
    assert fft.rate_hz.value == pytest.approx(1000 / (100 + fft.response.mean.value), rel=0.01)  # type: ignore[operator]
    assert fft.gpu_share == pytest.approx(fft.rate_hz.value * 3.6e-3, rel=0.02)  # type: ignore[operator]


def test_misses_are_those_beyond_the_deadline() -> None:
    """A promise of 6 ms, which no iteration breaks alone."""
    fft = predict().tenants["fft"]
    assert fft.missed is not None
    assert fft.missed.value is not None
    assert 0.05 < fft.missed.value < 0.2
    assert fft.response.p95.value > 6.0  # type: ignore[operator]
    assert predict().tenants["gemm"].missed is None


def test_df_is_against_the_measured_solo_where_there_is_one() -> None:
    """And says so; without enough of it against the simulated one; an open loop's is always simulated."""
    profiled = predict().tenants["fft"]
    assert profiled.solo_source == "profiled"
    assert profiled.solo.p99 == pytest.approx(np.quantile(PAIR["fft"].solo_service.ms, 0.99))
    bare = {
        name: replace(p, solo_service=Packed.of_ms([3.0]), solo_device=Packed.of_ms([])) for name, p in PAIR.items()
    }
    simulated = predict(profiles=bare).tenants["fft"]
    assert simulated.solo_source == "simulated"
    assert simulated.solo.p99 == pytest.approx(profiled.solo.p99, rel=0.01)
    for tenant in (profiled, simulated):
        assert tenant.df.p99.value == pytest.approx(tenant.response.p99.value / tenant.solo.p99)  # type: ignore[operator]
    poisson = {**PAIR, "fft": replace(PAIR["fft"], arrivals=Poisson(rate_hz=10.0))}
    assert predict(profiles=poisson).tenants["fft"].solo_source == "simulated"


def test_baselines_know_less() -> None:
    """Sharing costs nothing; N times solo; single bursts."""
    fft = predict().tenants["fft"]
    assert set(fft.baselines) == {"df-1", "n-times-solo", "single-burst", "processor-sharing"}
    assert fft.baselines["df-1"].p99 == fft.solo.p99
    assert fft.baselines["n-times-solo"].p99 == 2 * fft.solo.p99  # type: ignore[operator]
    assert fft.baselines["single-burst"].p99 == pytest.approx(fft.response.p99.value, rel=0.05)


def test_a_single_burst_is_as_long_as_the_launches_alone() -> None:
    """The baseline must agree alone, or it would be made to look bad."""
    them = launches([0.0, 0.5, 1.0], [0.1, 0.1, 0.1], 0.05)
    burst = as_burst(make_profile("d", them, GPU), sharing(MARK)).iterations
    assert burst.duration_ms.tolist() == pytest.approx([1.1])
    assert burst.retire_ms.tolist() == pytest.approx([0.05])


def test_too_few_iterations_give_no_tail() -> None:
    """p99.9 needs 3688: no number instead of a bad one."""
    assert predict().tenants["gemm"].response.p999.value is None
    assert plain(np.arange(100.0)).p99 is None
    assert plain(np.empty(0)).mean is None


def test_a_name_may_come_twice_and_mixes_are_complete() -> None:
    """Replicas get names of their own; every pair, triple and quad."""
    assert numbered(["fft", "gemm", "fft"]) == {"fft": "fft", "gemm": "gemm", "fft-2": "fft"}
    assert len(all_mixes(["a", "b", "c", "d"])) == 6 + 4 + 1
    forecast = Predictor(PAIR, MARK, QUICK).mix(["gemm", "gemm"])
    one, two = forecast.tenants.values()
    assert one.response.p50.value == pytest.approx(two.response.p50.value, rel=0.02)


def test_a_fast_tenant_beside_a_slow_one_still_shows_the_slow_ones_tail() -> None:
    """How much is simulated follows the rates in the mix, not those alone."""
    pair = {
        "tiny": profile("tiny", 0.05, arrivals=Closed(think_ms=0.0)),
        "gemm": profile("gemm", 20.0, arrivals=Closed(think_ms=0.0)),
    }
    forecast = Predictor(pair, MARK, Effort(seconds=30.0, replicates=3)).mix(["tiny", "gemm"])
    assert forecast.tenants["gemm"].iterations > 3688
    assert forecast.tenants["tiny"].df.p50.value > 5  # type: ignore[operator]


def test_an_open_loop_that_cannot_keep_up_says_so() -> None:
    """Else a p99 that only depends on how long one looked would be taken for one."""
    fast = {**PAIR, "fft": replace(PAIR["fft"], arrivals=Poisson(rate_hz=400.0))}
    assert predict(profiles=fast).tenants["fft"].overloaded
    calm = predict(profiles={**PAIR, "fft": replace(PAIR["fft"], arrivals=Poisson(rate_hz=50.0))})
    assert not any(tenant.overloaded for tenant in calm.tenants.values())


def test_a_cpu_stopwatch_stands_still_in_the_turns_of_others() -> None:
    """Thread CPU time: the device clock of a CPU profile does not grow by sharing."""
    cpu = replace(MARK, gpu=replace(GPU, kind="cpu"))
    assert predict(fingerprint=cpu).tenants["fft"].device_df.p99.value == pytest.approx(1.0, abs=0.05)


def test_other_slices_more_tenants_other_rates_and_faster_gpus() -> None:
    """Each in the direction that it must go."""
    base = Question("as it is", ("fft", "gemm"), PAIR, MARK)
    answers = what_if(
        [base, base.with_slice(0.5), base.one_more("gemm"), base.at_rate(0.5), base.on_faster_gpu(2.0)],
        QUICK,
        ModelError(),
    )
    p99 = {answer.label: answer.forecast.tenants["fft"].response.p99.value for answer in answers}
    rate = {answer.label: answer.forecast.tenants["fft"].rate_hz.value for answer in answers}
    usual = p99["as it is"]
    assert p99["one more gemm"] > usual + 1.5  # type: ignore[operator]
    assert p99["GPU 2 times as fast"] < 0.7 * usual  # type: ignore[operator]
    assert rate["0.5 times the rate"] == pytest.approx(0.5 * rate["as it is"], rel=0.02)  # type: ignore[operator]
    assert p99["slice 0.5 ms"] != usual
    assert "fft" not in answers[2].forecast.tenants["gemm-2"].profile
    with pytest.raises(KeyError):
        base.one_more("nobody")
    with pytest.raises(RefusalError, match="back to back"):
        at_rate(PAIR["gemm"], 20.0)


def _run(seed: int, factor: float = 1.0) -> FakeRun:
    """A run whose shared block is a simulation of `PAIR`, every latency times ``factor``."""
    both = [streams(PAIR[name], [1500], seed, name)[0] for name in PAIR]
    done = simulate(both, sharing(MARK), horizon_ms=100e3).tenants
    alone = {name: make_records(p.solo_service.ms[:400], p.solo_device.ms[:400]) for name, p in PAIR.items()}
    together = {}
    for name, tenant in zip(PAIR, done, strict=True):
        pauses = np.append(np.diff(tenant.submit_ms), 0.0) - factor * tenant.service_ms
        together[name] = make_records(factor * tenant.service_ms, factor * tenant.device_ms, think_ms=pauses)
    solos = [(f"solo-{name}", {name: rows}) for name, rows in alone.items()]
    return recorded_run([*solos, ("shared-fft+gemm", together)])


def test_the_score_of_a_true_prediction_is_good_and_of_a_false_one_bad() -> None:
    """Errors are those put in; the bands hold the truth and nothing else; simpler rules come off worse."""
    prediction = Predictor(PAIR, MARK, with_fields(QUICK, seconds=100.0)).predict([["gemm", "fft"]])
    good = score(prediction, _run(5))
    assert good.errors["response"][MODEL]["p99"].worst < 0.03
    assert good.errors["response"]["df-1"]["p99"].median > 0.2
    held = good.coverage["response"]
    assert sum(c.inside for c in held.values()) >= 0.7 * sum(c.n for c in held.values())
    bad = score(prediction, _run(5, 1.25))
    assert bad.errors["response"][MODEL]["p99"].median == pytest.approx(0.2, abs=0.03)
    assert sum(c.inside for c in bad.coverage["response"].values()) == 0
    assert any("assumed" in note for note in good.notes)


def test_df_is_scored_against_the_runs_own_solo_blocks() -> None:
    """Else a prediction of DF, which is what a user asks for, would be held against nothing.

    Measured: shared / solo of the run; simpler rules are divided by the solo figure that they started from; too few
    iterations: not scored.
    """
    prediction = Predictor(PAIR, MARK, with_fields(QUICK, seconds=100.0)).predict([["gemm", "fft"]])
    run = _run(5)
    found = score(prediction, run)
    fft = next(t for t in found.tenants if t.tenant == "fft" and t.clock == "df")
    p99 = next(f for f in fft.figures if f.figure == "p99")
    shared = measured(run)["fft+gemm"]["fft"].response_ms
    alone = PAIR["fft"].solo_service.ms[:400]
    assert p99.measured == pytest.approx(np.quantile(shared, 0.99) / np.quantile(alone, 0.99), rel=1e-3)
    assert abs(p99.error) < 0.03
    assert p99.rules["df-1"] == pytest.approx(1 / p99.measured - 1, rel=1e-3)
    assert fft.iterations == min(len(shared), len(alone))
    assert "p999" in fft.skipped
    assert found.errors["df"][MODEL]["p99"].n >= 1
    assert sum(c.n for c in found.coverage["device_df"].values()) > 0


def test_the_score_is_by_kind_of_tenant_too() -> None:
    """Else bands that fail for one kind would hide behind those of another."""
    prediction = Predictor(PAIR, MARK, with_fields(QUICK, seconds=100.0)).predict([["gemm", "fft"]])
    found = score(prediction, _run(5))
    assert set(found.kinds) == {"gpu"}
    of_kind = found.kinds["gpu"]["response"]["p99"]
    assert of_kind.error == found.errors["response"][MODEL]["p99"]
    assert of_kind.bands == found.coverage["response"]["p99"]


def test_the_score_says_where_a_profile_is_of_another_size_than_the_run() -> None:
    """Otherwise a calibrated size that came out differently looks like an error of the model."""
    run = _run(5)
    sizes = {tenant.name: tenant.work.size for tenant in run.info.plan.tenants}
    assert None not in sizes.values()
    other = {name: replace(p, size=sizes[name] + (name == "fft")) for name, p in PAIR.items()}
    notes = score(Predictor(other, MARK, QUICK).predict([["fft", "gemm"]]), run).notes
    assert sum("is of size" in note for note in notes) == 1
    assert any(note.startswith("fft: the profile is of size") for note in notes)


def test_the_score_leaves_out_what_was_not_measured_well_enough() -> None:
    """A p99 of 200 iterations is no truth to be held against."""
    few = {name: make_records(np.full(200, 4.0), np.full(200, 3.9)) for name in PAIR}
    run = recorded_run([("shared-fft+gemm", few)])
    prediction = Predictor(PAIR, MARK, QUICK).predict([["fft", "gemm"]])
    found = score(prediction, run)
    assert all("p99" in tenant.skipped for tenant in found.tenants)
    assert "p99" not in found.errors["response"][MODEL]
    other = Predictor(PAIR, MARK, QUICK).predict([["fft", "fft"]])
    with pytest.raises(RefusalError, match="no mix in common"):
        score(other, run)


def test_what_cannot_be_true_is_in_no_profile_and_in_nothing_measured() -> None:
    """Else an iteration that ends before it began is in the prediction, although no report has it."""
    run = make_run(make_plan(rounds=3), lambda *_: (np.full(50, 4.0), np.full(50, 3.0)))
    n = {side: len(each["fft"].response_ms) for side, each in measured(run).items()}
    for (tenant, _), records in run.data.items():
        if tenant == "fft":
            records["due_ns"][20] = records["retire_ns"][20] + 1
            records["device_ms"][21] = -1.0
    assert profile_of(run, "fft").solo_service.n == 48 * 3
    assert {side: len(each["fft"].response_ms) for side, each in measured(run).items()} == {
        side: count - 2 * 3 for side, count in n.items()
    }


def test_a_runs_solo_blocks_are_profiles() -> None:
    """Device time as the burst, the rest of the service time behind it, both in the solo sample."""
    run = _run(5)
    found = profile_of(run, "fft")
    assert found.method == "burst"
    np.testing.assert_allclose(found.iterations.duration_ms, PAIR["fft"].solo_device.ms[:400], atol=1e-6)
    np.testing.assert_allclose(found.iterations.retire_ms, 0.05, atol=1e-6)
    np.testing.assert_allclose(found.solo_service.ms, PAIR["fft"].solo_service.ms[:400], atol=1e-6)
    assert set(measured(run)) == {"fft+gemm"}
    no_solo = recorded_run([])
    with pytest.raises(RefusalError, match="no iterations alone"):
        profile_of(no_solo, "fft")


def test_a_prediction_file_gives_back_the_prediction() -> None:
    """Else `kts validate` would score something else."""
    made = Predictor(PAIR, MARK, QUICK).predict([["fft", "gemm"]], kts="1", notes=["n"])
    assert decode_prediction(encode(made), "p") == made
    assert isinstance(made.mixes[0].tenants["fft"].response, Figures)
    assert bursts([1.0], 0.0).n == 1


def test_a_tenant_of_two_round_trips_is_predicted_to_wait_for_a_slice_in_each() -> None:
    """Else waits would reach the file and not the figures. Beside a tenant that always has work each trip waits for a
    yield, a slice and a switch, which the single-burst rule counts once; alone they cost nothing but their notice."""
    nan, n = np.nan, 400
    them = Iterations(
        np.arange(n + 1) * 2,
        np.tile([0.0, 0.5], n),
        np.tile([0.25, 0.5], n),
        np.full(n, 0.05),
        wait_ms=np.tile([0.0, nan], n),
        notice_ms=np.tile([0.02, nan], n),
    )
    alone = np.full(2000, 0.25 + 0.02 + 0.5 + 0.5 + 0.05)
    profiles = {
        "two": make_profile("two", them, GPU, solo_service_ms=alone),
        "always": profile("always", 30.0, arrivals=Closed()),
    }
    busy = replace(profiles["always"], retire=Packed.of_ms(np.zeros(500)))
    found = Predictor({**profiles, "always": busy}, MARK, QUICK).mix(["two", "always"]).tenants["two"]
    turn = 0.1 + 2.0 + 0.18  # the neighbour's, and the switches to it and back
    assert found.response.p50.value == pytest.approx(2 * turn + 0.25 + 0.5, abs=1e-3)
    assert found.solo.p50 == pytest.approx(alone[0])
    assert found.baselines["single-burst"].p50 == pytest.approx(turn + alone[0] - 0.05, abs=1e-3)
