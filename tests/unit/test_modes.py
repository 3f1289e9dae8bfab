"""One experiment in several modes: how it is planned, how each mode is seen by itself, and which is chosen."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.helpers_report import terminal_text
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.errors import UsageError
from kts.model.mode import EXCLUSIVE, MPS, TIME_SLICING, Evidence, Mode
from kts.model.modes import InModeTenant, ModeResult, ModesSummary
from kts.model.plan import Plan, Slo
from kts.model.run import WorkerInfo
from kts.model.summary import Estimate
from kts.model.telemetry import SampleSeries
from kts.plan import blocks_of_round, in_modes
from kts.report import document as doc
from kts.report.charts_modes import drawing
from kts.report.modes import modes_elements
from kts.sharing import check, parse, prepared
from kts.stats import analyse
from kts.stats.apart import ModesApart, WorkDone, differs
from kts.stats.choosing import choose, modes_summary, promised
from kts.stats.modes import ModesRule, views
from kts.stats.stopping import PrecisionRule
from kts.worker.sharing import PIPE

MODES = parse("exclusive,time-slicing,mps,half=mps:50")


def planned(slo: Slo = Slo(), rounds: int = 8) -> Plan:  # noqa: B008 - frozen
    return in_modes(make_plan(rounds=rounds, slo=slo), MODES)


def measured(plan: Plan, factors: dict[str, float], n: int = 150) -> FakeRun:
    """Latencies of 10 ms alone, times a factor in each mode."""
    rng = np.random.default_rng(3)

    def times(tenant: str, side: str, _: int) -> tuple[Array, Array | None]:
        mode = tenant.partition("@")[2] or "time-slicing"
        factor = 1.0 if side == "solo" else factors[mode]
        return 10 * factor * rng.lognormal(0, 0.1, n), None

    return proven(make_run(plan, times))


def proven(run: FakeRun) -> FakeRun:
    """Every worker has the evidence of its mode."""
    plan = run.info.plan
    kinds = {tenant: one.mode.kind for one in plan.modes if one.mixes for tenant in one.tenants.values()}
    workers = tuple(
        with_evidence(worker, kinds[worker.tenant]) for worker in run.info.workers if worker.tenant in kinds
    )
    run.info = msgspec.structs.replace(run.info, workers=workers)
    return run


def with_evidence(worker: WorkerInfo, mode: str) -> WorkerInfo:
    return msgspec.structs.replace(worker, sharing=(Evidence(mode=mode, seen="x", by=worker.tenant, at_ns=1),))


def test_a_round_has_every_tenant_alone_once_and_the_mix_in_every_mode() -> None:
    """Else modes would be held against different times alone, and drift would look like a mode."""
    plan = planned()
    plan.check()
    names = sorted(block.condition for block in blocks_of_round(plan, 0))
    assert names == ["shared-fft+gemm", "shared-fft+gemm@half", "shared-fft+gemm@mps", "solo-fft", "solo-gemm"]
    assert len({block.condition for k in range(6) for block in blocks_of_round(plan, k)[:1]}) > 1
    assert plan.twin("gemm@half") == "gemm"
    assert not plan.twin("gemm")


def test_in_a_mode_the_plan_is_that_of_a_run_in_it_alone() -> None:
    plain = make_plan(rounds=8)
    assert planned().in_mode("mps") == plain
    assert planned().in_mode("time-slicing") == plain
    with pytest.raises(KeyError):
        planned().in_mode("mig")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("exclusive", "nothing is shared"),
        ("mps,mps", "mps is there twice"),
        ("mps,green", "no mode 'green'"),
        ("mps:0", "no setting '0'"),
        ("mps:101", "no setting '101'"),
        ("time-slicing:50", "time-slicing has no settings"),
        ("mps:memory=8", "no setting 'memory=8'"),
        ("mps:memory=0G", "no setting"),
        ("mps:50:", "no setting ''"),
        ("mps:colour=red", "no setting 'colour=red'"),
        ("mps:chunks=4:50", "all threads of its SMs"),
        ("a b=mps", "is no name"),
        ("", "no mode ''"),
    ],
)
def test_what_is_no_set_of_modes_is_refused_with_what_there_is(words: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        in_modes(make_plan(), parse(words))


def test_settings_of_mps_are_read_in_any_order_and_name_the_mode() -> None:
    (one, two) = parse("mps:50:memory=8G:above=fft,b=mps:memory=512M:chunks=4")
    assert one == Mode(name="mps-50-memory-8G-above-fft", kind=MPS, threads_percent=50, memory_mib=8192, above="fft")
    assert two == Mode(name="b", kind=MPS, memory_mib=512, chunks=4)
    with pytest.raises(UsageError, match="no tenant 'nobody'"):
        check(in_modes(make_plan(), parse("mps:above=nobody")))


def test_only_interleaved_mixes_have_modes() -> None:
    with pytest.raises(UsageError, match="classic"):
        in_modes(make_plan(design="classic"), MODES)
    with pytest.raises(UsageError, match="no tenants that run together"):
        in_modes(make_plan(["fft"]), MODES)


def test_a_cpu_core_has_no_mps_and_a_gpu_no_cpu_scheduler() -> None:
    """Else a CPU's figures would stand under a GPU's modes."""
    cpu = msgspec.structs.replace(planned(), device="cpu")
    with pytest.raises(UsageError, match="time-slicing on the device cpu"):
        check(cpu)
    gpu = msgspec.structs.replace(in_modes(make_plan(), parse("cpu-scheduler")), device="cuda")
    with pytest.raises(UsageError, match="cpu-scheduler on the device cuda"):
        check(gpu)
    check(msgspec.structs.replace(planned(), device="cuda"))


def test_a_mode_seen_by_itself_has_the_figures_of_a_run_in_it_alone() -> None:
    """Else a tenant's iterations of one mode would count in another."""
    run = measured(planned(), {"time-slicing": 2.0, "mps": 1.3, "half": 1.5})
    seen = views(run)
    assert list(seen) == ["time-slicing", "mps", "half"]
    told = {name: analyse(one).summary for name, one in seen.items()}
    for name, truth in (("time-slicing", 2.0), ("mps", 1.3), ("half", 1.5)):
        summary = told[name]
        assert summary.mode == {"half": MPS}.get(name, name)
        df = summary.tenants["fft"].response.df.p99.estimate
        assert df == pytest.approx(truth, rel=0.05)
    solo = {one.tenants["fft"].response.solo.p99.estimate for one in told.values()}
    assert len(solo) == 1, "modes are held against different times alone"


def test_the_rule_ends_a_run_when_each_mode_alone_would_have_ended() -> None:
    plan = planned()
    run = measured(plan, {"time-slicing": 2.0, "mps": 1.3, "half": 1.5})
    together = ModesRule(plan, 0.05)
    alone = {name: PrecisionRule(view.info.plan, 0.05) for name, view in views(run).items()}
    for block in run.blocks:
        for tenant in block.counts:
            together.take(tenant, run.records(tenant, block.index))
        together.end(block)
    for name, view in views(run).items():
        for block in view.blocks:
            for tenant in block.counts:
                alone[name].take(tenant, view.records(tenant, block.index))
            alone[name].end(block)
    widths = [rule.widths() for rule in alone.values()]
    assert together.widths() == {name: max(one[name] or 9 for one in widths) for name in ("fft", "gemm")}
    assert together.reached() == all(rule.reached() for rule in alone.values())


def summarised(run: FakeRun) -> ModesSummary:
    return modes_summary(run, {name: analyse(view).summary for name, view in views(run).items()})


def told(factors: dict[str, float], slo: Slo = Slo()) -> dict[str, str]:  # noqa: B008 - frozen
    choice = summarised(measured(planned(slo), factors)).choice
    return {"best": choice.best, "next": choice.runner_up, "reason": choice.reason, "kind": choice.kind}


def test_most_work_wins_among_those_that_keep_every_slo() -> None:
    """20 ms are 10 ms times 2, with a tail: only the mode below breaks none."""
    run = measured(planned(), {"time-slicing": 2.0, "mps": 1.2, "half": 1.6})
    faster = summarised(run)
    assert (faster.choice.best, faster.choice.runner_up, faster.choice.by) == ("mps", "half", "work")
    assert "half does 1.30, 0.77 times as much (0.7" in faster.choice.reason
    assert "p99 in half: fft 1.3" in faster.choice.reason
    ratio, itself = faster.mode("half").throughput_over_best, faster.mode("mps").throughput_interval
    assert ratio is not None
    assert ratio.hi is not None
    assert ratio.hi < 1
    assert itself is not None
    assert itself.estimate == pytest.approx(faster.mode("mps").throughput, rel=1e-6), "two figures for one thing"
    assert faster.mode("mps").throughput_over_best is None
    none = told({"time-slicing": 2.0, "mps": 1.2, "half": 1.6}, Slo(p99_ms=9.0))
    assert none["best"] == ""
    assert none["kind"] == "broken"
    assert none["reason"].startswith("every mode breaks an SLO (exclusive: broken for fft p99 1")
    assert "ms, promised 9, gemm p99" in none["reason"]


def test_one_mode_under_two_names_is_not_told_apart() -> None:
    """At least 93 of 100 are asked to show no difference, of a tail or of work, though rounds differ by 10 %. Else the
    choice between equals would be chance."""
    differ = {"tail": 0, "work": 0}
    plan = in_modes(make_plan(rounds=8), parse("a=mps,b=mps"))
    for seed in range(100):
        rng = np.random.default_rng(seed)
        levels = rng.lognormal(0, 0.1, 8)

        def times(tenant: str, side: str, number: int) -> tuple[Array, Array | None]:
            del tenant, side
            return 10 * levels[number] * rng.lognormal(0, 0.2, 100), None  # noqa: B023 - used within this turn

        apart = ModesApart(make_run(plan, times), {})
        ratios = apart.p99s("b", "a")
        assert set(ratios) == {"fft", "gemm"}
        differ["tail"] += any(map(differs, ratios.values()))
        differ["work"] += differs(apart.work("b", "a"))
    assert differ["tail"] + differ["work"] <= 7
    assert differ["work"] > 0, "the intervals cannot be as wide as never to exclude 1"


def test_what_a_round_does_to_all_its_blocks_makes_no_interval_of_work_wider() -> None:
    """Else drift over a run would hide a difference of 5 %; and a rate of rounds that lack a tenant would pass for one
    of all."""
    rounds = range(6)
    drift = {number: round(1e9 * (1 + 0.1 * number)) for number in rounds}

    def work(per_round: int, off: int = 0) -> WorkDone:
        pace = {number: (per_round + off * (-1) ** number, drift[number]) for number in rounds}
        return WorkDone(alone={"fft": {n: (1000, drift[n]) for n in rounds}}, together={"fft": pace})

    ratio = work(475).work().over(work(500, off=1).work()).interval(0.95)
    assert ratio.estimate == pytest.approx(0.95, rel=1e-3)
    assert (ratio.lo or 0) > 0.94
    assert (ratio.hi or 9) < 0.96
    assert work(500).work().interval(0.95).estimate == pytest.approx(0.5)
    lacking = WorkDone({"fft": {0: (1, 1)}}, {"fft": {0: (1, 1), 1: (1, 1)}})
    assert lacking.work().interval(0.95).refused == "needs 2 rounds, have 1"


def test_rates_and_energy_have_intervals_that_drift_makes_no_wider_and_too_few_rounds_refuse() -> None:
    """Else a difference of 5 % would hide behind a clock that heats up, or a figure of one round stand as if it were
    sure."""
    drift = {number: 1e9 * (1 + 0.1 * number) for number in range(6)}

    def done(cycles: int, watts: float, rounds: int = 6) -> WorkDone:
        """Rounds in which all takes as much longer, and draws as much more."""
        pace = {number: (cycles + (-1) ** number, drift[number]) for number in range(rounds)}
        power = {number: (watts * drift[number] ** 2 / 1e9, drift[number]) for number in range(rounds)}
        return WorkDone({"fft": {n: (1000, drift[n]) for n in range(rounds)}}, {"fft": pace}, {"fft": power})

    faster, slower = done(500, 300), done(475, 300)
    rate = slower.progress("fft").interval(0.95)
    assert rate.estimate == pytest.approx(0.475, rel=1e-3)
    energy = slower.joules().over(faster.joules()).interval(0.95)
    assert energy.estimate == pytest.approx(500 / 475, rel=1e-3)
    for one in (rate, energy):
        assert 0.98 < (one.lo or 0) / (one.estimate or 1) < 1 < (one.hi or 9) / (one.estimate or 1) < 1.02
    alone = faster.joules().interval(0.95)
    assert (alone.hi or 0) / (alone.lo or 1) > 1.3, "what a round draws does not cancel where nothing else has drawn"
    assert done(500, 300, rounds=1).joules().interval(0.95).refused == "needs 2 rounds, have 1"
    silent = WorkDone(faster.alone, faster.together, {"fft": {}})
    assert silent.joules().interval(0.95).refused == "needs 2 rounds, have 0"


def test_what_decides_is_work_then_a_tail_then_an_order_that_luck_has_no_part_in() -> None:
    """Else of two modes that do the same the one that is ahead by chance would be named as if it were better."""
    rng = np.random.default_rng(5)

    def times(tenant: str, side: str, _: int) -> tuple[Array, Array | None]:
        """As much work in every mode; in mps with a tail, in time-slicing and mps:50 without."""
        ms = 20 * rng.lognormal(0, 0.1, 150) * (0.5 if side == "solo" else 1)
        if tenant.endswith("@mps"):
            ms[::30] *= 4
            ms *= 20 / ms.mean()
        return ms, None

    run = proven(make_run(in_modes(make_plan(rounds=8), parse("mps,half=mps:50,time-slicing")), times))
    found = summarised(run)
    assert (found.choice.best, found.choice.runner_up, found.choice.by) == ("time-slicing", "half", "order")
    assert "times as much (" in found.choice.reason
    assert "the two are not told apart, and time-slicing is named as the simpler one" in found.choice.reason
    tail = choose(found.modes[:2], ModesApart(run, {}))
    assert (tail.best, tail.runner_up, tail.by) == ("half", "mps", "tail")
    assert "the milder tail decides: the worst DF99 is 1.99 (fft), not 5." in tail.reason
    assert tail.reason.count("decides") == 1, "one thing decides"
    assert "no difference is shown" in tail.reason or "equal to within 2 %" in tail.reason
    quick = [
        msgspec.structs.replace(
            one, throughput=1.2 * (one.throughput or 0) if one.mode.name == "half" else one.throughput
        )
        for one in found.modes
    ]
    likely = choose(quick, ModesApart(run, {}))
    assert (likely.best, likely.by) == ("half", "likely"), "most likely the better one; the rounds show nothing"
    assert "half does more, which decides where nothing is shown" in likely.reason


def test_a_mode_without_proof_is_never_chosen() -> None:
    run = measured(planned(), {"time-slicing": 2.0, "mps": 1.2, "half": 1.6})
    unseen = tuple(
        msgspec.structs.replace(one, sharing=()) if "@mps" in one.tenant else one for one in run.info.workers
    )
    run.info = msgspec.structs.replace(run.info, workers=unseen)
    summary = modes_summary(run, {name: analyse(view).summary for name, view in views(run).items()})
    assert summary.mode("mps").shown == "asked for mps, not proven"
    assert not told_only(run).proves
    assert summary.choice.best == "half"
    assert "not proven, so not considered: mps" in summary.choice.reason


def told_only(run: FakeRun) -> ModeResult:
    """Of MPS, where its daemon's pipe is all that there is to see: kts itself has made it."""
    pipe = (Evidence(mode=MPS, seen="there is a pipe", by="x", at_ns=1, told=True),)
    workers = (msgspec.structs.replace(one, sharing=pipe) if "@mps" in one.tenant else one for one in run.info.workers)
    run.info = msgspec.structs.replace(run.info, workers=tuple(workers))
    return modes_summary(run, {"mps": analyse(views(run)["mps"]).summary}).mode("mps")


def test_who_runs_alone_is_kept_from_every_daemon() -> None:
    """Else solo blocks would be of MPS where somebody's daemon is on the machine, and no mode of the run says so."""
    for words in ("time-slicing", "exclusive,time-slicing", "cpu-scheduler"):
        plan = in_modes(make_plan(), parse(words))
        with prepared(plan) as held:
            assert set(held.env) == {tenant.name for tenant in plan.tenants}
            assert all(not list(Path(one[PIPE]).iterdir()) for one in held.env.values())
    with prepared(make_plan()) as held:
        assert held.env == {}, "a run without modes is as its machine is set"


def test_without_any_mode_there_is_no_choice() -> None:
    lone = ModeResult(mode=Mode(name="mps", kind=MPS), shown="x", proves=False, tenants={}, throughput=None)
    assert (choose([lone]).best, choose([lone]).kind) == ("", "unproven")
    assert EXCLUSIVE != TIME_SLICING


def result(name: str, throughput: float | None, **p99: tuple[float, float | None]) -> ModeResult:
    """A proven mode. By tenant: its p99, known to 5 %, and what it was promised."""
    tenants = {
        tenant: InModeTenant(
            alone_p99=estimate(10.0), shared_p99=estimate(value), df99=estimate(value / 10), progress=0.5
        )
        for tenant, (value, _) in p99.items()
    }
    one = ModeResult(mode=Mode(name=name, kind=MPS), shown="x", proves=True, tenants=tenants, throughput=throughput)
    return promised(one, {tenant: limit for tenant, (_, limit) in p99.items() if limit is not None})


def estimate(value: float) -> Estimate:
    return Estimate(estimate=value, lo=0.95 * value, hi=1.05 * value)


def test_tenants_without_an_slo_are_named_and_ask_for_nothing() -> None:
    """Else a reader would take it for a promise that all are served well."""
    some = choose([result("a", 1.5, fft=(12.0, 20.0), gemm=(90.0, None)), result("b", 1.2, fft=(11.0, 20.0))])
    assert some.best == "a"
    assert some.reason.startswith("it keeps every SLO (gemm without one), and the device does 1.50")
    none = choose([result("a", 1.5, fft=(12.0, None), gemm=(90.0, None))])
    assert (none.best, none.runner_up) == ("a", "")
    assert none.reason == "no tenant has an SLO, and the device does 1.50 tenants' worth of work"
    more = choose([result("a", 1.5, fft=(12.0, None)), result("b", 1.2, fft=(11.0, None))])
    assert more.reason.startswith("no tenant has an SLO, so throughput decides, and the device does 1.50")


def test_a_mode_that_may_keep_its_slos_is_not_one_that_breaks_them() -> None:
    """Else a run that is too short would read as a machine that is too slow, or the other way round."""
    open_ = choose([result("a", 1.5, fft=(20.0, 20.0)), result("b", 1.2, fft=(40.0, 20.0))])
    assert (open_.best, open_.kind) == ("", "undetermined")
    assert open_.reason == (
        "no mode is sure to keep every SLO (a: undetermined for fft p99 20 ms, promised 20; b: broken for fft p99 40 "
        "ms, promised 20)"
    )
    without = choose([result("a", None, fft=(1.0, 20.0)), result("b", 1.2, fft=(40.0, 20.0))])
    assert without.kind == "broken"
    assert without.reason.endswith("; without a throughput, so not considered: a")
    alone = msgspec.structs.replace(result("x", 1.0), mode=Mode(name="x", kind=EXCLUSIVE))
    nothing = choose([alone, result("a", None, fft=(1.0, None))])
    assert (nothing.best, nothing.kind) == ("", "unproven"), "a device for each is no advice where no other has figures"
    assert nothing.reason.startswith("no shared mode has a throughput")


def test_slos_can_be_asked_anew_of_a_run_that_is_there() -> None:
    """Else another promise would need another run."""
    run = measured(planned(Slo(p99_ms=18.0)), {"time-slicing": 2.0, "mps": 1.2, "half": 1.6})
    summaries = {name: analyse(view).summary for name, view in views(run).items()}
    bounded = modes_summary(run, summaries).choice
    assert bounded.best == "mps"
    assert "SLOs broken in time-slicing, half" in bounded.reason
    stricter = modes_summary(run, summaries, {"gemm": 14.0})
    assert stricter.choice.best == "exclusive"
    assert stricter.mode("mps").tenants["gemm"].slo == "broken"
    assert stricter.mode("mps").tenants["fft"].slo_ms == 18.0


def powered(run: FakeRun, watts: dict[str, float]) -> FakeRun:
    """NVML's power in the blocks of each condition, told every 10 ms."""
    t_ns, value = [], []
    for block in run.blocks:
        at = np.arange(block.start_ns + 1, block.end_ns, 10_000_000)
        t_ns.append(at)
        value.append(np.full(len(at), watts[block.condition]))
    moments = np.concatenate(t_ns)
    series = SampleSeries(
        source="nvml",
        metric="power_w",
        scope="device",
        subject="x",
        t_ns=moments,
        span_ns=np.zeros_like(moments),
        value=np.concatenate(value),
    )
    run.samples = [series]
    return run


def ends(one: ModeResult) -> tuple[float, float]:
    """Of the interval of its energy."""
    assert one.energy is not None
    assert one.energy.interval is not None
    assert one.energy.interval.lo is not None
    assert one.energy.interval.hi is not None
    return one.energy.interval.lo, one.energy.interval.hi


def test_energy_is_what_the_device_drew_over_the_work_it_did() -> None:
    """Else a mode that draws more and does more would look wasteful, and exclusive use would count one device for
    all."""
    drawn = {
        "solo-fft": 200.0,
        "solo-gemm": 300.0,
        "shared-fft+gemm": 400.0,
        "shared-fft+gemm@mps": 600.0,
        "shared-fft+gemm@half": 500.0,
    }
    run = powered(measured(planned(), {"time-slicing": 2.0, "mps": 1.25, "half": 1.6}), drawn)
    summary = modes_summary(run, {name: analyse(view).summary for name, view in views(run).items()})
    watts = {one.mode.name: one.energy.watts for one in summary.modes if one.energy is not None}
    assert watts == pytest.approx({"exclusive": 250, "time-slicing": 400, "mps": 600, "half": 500}, rel=0.01)
    for one in summary.modes:
        assert one.energy is not None
        assert one.throughput is not None
        assert one.energy.joules == pytest.approx(one.energy.watts / one.throughput)
        assert one.energy.interval is not None
        assert one.energy.interval.estimate == pytest.approx(one.energy.joules)
        for tenant in one.tenants.values():
            assert tenant.progress_interval is not None
            assert tenant.progress_interval.estimate == pytest.approx(tenant.progress)
    others = [one for one in summary.modes if one.mode.name != summary.choice.best]
    assert [one.energy is not None and one.energy.over_best is not None for one in others] == [True] * 3
    assert [rate.rate_over_best is not None for one in others for rate in one.tenants.values()] == [True] * 6
    assert "-".join(f"{end:.3g}" for end in ends(summary.modes[1])) in terminal_text(
        doc.Document(tuple(modes_elements(summary))), 140
    )
    table = terminal_text(doc.Document(tuple(modes_elements(summary))), 100)
    assert "energy" in table
    assert "250" in table
    once = powered(measured(planned(rounds=1), {"time-slicing": 2.0, "mps": 1.25, "half": 1.6}), drawn)
    single = modes_summary(once, {name: analyse(view).summary for name, view in views(once).items()})
    said = " ".join(terminal_text(doc.Document(tuple(modes_elements(single))), 140).split())
    assert "mps, half: no interval of work, energy, the rate of fft, the rate of gemm: needs 2 rounds, have 1" in said
    run.samples = []
    silent = modes_summary(run, {"mps": analyse(views(run)["mps"]).summary})
    assert [one.energy for one in silent.modes] == [None] * 4
    assert "energy" not in terminal_text(doc.Document(tuple(modes_elements(silent))), 100)


def test_a_tenant_of_whom_every_shared_df99_is_refused_has_words_in_the_picture_and_no_axis() -> None:
    """Else an axis from 0.999 to 1.004 would look as if something had been measured so finely."""
    summary = summarised(measured(planned(), {"time-slicing": 2.0, "mps": 1.25, "half": 1.6}, 20))
    chart, data = drawing(summary)
    assert "DF99: p99 shared" not in str(chart.to_dict())
    labels = [str(row["label"]) for row in data["tails0"]]
    assert labels[0] == "1.00"
    assert all(label.startswith("refused: shared p99 needs ") for label in labels[1:])
    mps = summary.mode("mps")
    known = msgspec.structs.replace(mps.tenants["fft"], df99=estimate(1.25))
    told = msgspec.structs.replace(mps, tenants=mps.tenants | {"fft": known})
    modes = tuple(told if one.mode.name == "mps" else one for one in summary.modes)
    chart, _ = drawing(msgspec.structs.replace(summary, modes=modes))
    assert str(chart.to_dict()).count("'title': 'DF99: p99 shared") == 1, "of fft, not of gemm"
