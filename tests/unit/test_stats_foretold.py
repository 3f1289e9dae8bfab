"""If these fail, a run promises figures that it will refuse, or the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench.foretold import CutRun, cut, foretold
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace
from tests.helpers_conduct import MemoryRun
from tests.helpers_conduct import make_plan as conducted
from tests.helpers_stats import Array, Latencies, make_plan, make_run

from kts import plan as planning
from kts.arrivals import Closed
from kts.model.foretold import Expected, Foretold
from kts.model.plan import Plan
from kts.plan import blocks_of_round, build, expected_block, most_rounds
from kts.report import foretold as words
from kts.sharing import parse
from kts.spec import load
from kts.stats import Foretelling, analyse, responses
from kts.stats.came import came
from kts.stats.foretold import at_start
from kts.stats.modes import views
from kts.store import open_run


def places(told: Foretold) -> dict[tuple[str, str], Expected]:
    return {(one.tenant, one.condition): one for one in told.expected}


def solo(plan: Plan, ms: float) -> dict[str, float | None]:
    return {tenant.name: tenant.work.target_ms or ms for tenant in plan.tenants}


def test_matrix_in_90_s_says_whom_it_will_refuse_and_what_would_be_enough() -> None:
    """Else who gives it too little time learns that at its end."""
    plan = replace(build(load("matrix").experiment), max_seconds=90.0)
    told = at_start(plan, solo(plan, 1.0))
    refused = {one.tenant for one in told.expected if one.condition.startswith("solo-") and "p99" in one.refused}
    assert refused == {"fft", "gemm", "heavy"}
    assert told.bound == "max_seconds"
    text = "\n".join(words.lines(told))
    assert "  gemm: no p99 or DF99: " in text
    assert "of 368 iterations alone" in text
    way, fewer = told.enough
    assert way.startswith("--max-seconds ")
    assert fewer.startswith("`mixes: full`")
    again = at_start(replace(plan, max_seconds=float(way.split()[1])), solo(plan, 1.0))
    assert not again.enough
    assert words.lines(again)[0].startswith("foretold: no p99 or DF99 will be refused: ")
    assert len(words.lines(again)) == 1


@pytest.mark.parametrize(("iterations", "refused"), [(367, True), (368, False)])
def test_the_rule_is_that_of_the_figures(iterations: int, refused: bool) -> None:
    """Else foretold and came would part at the very number where it matters."""
    plan = conducted(rounds=1, iterations=iterations)
    told = places(at_start(plan, solo(plan, 1.0)))
    assert ("p99" in told["fft", "solo-fft"].refused) is refused
    assert ("df99" in told["fft", "shared-fft+gemm"].refused) is refused


def test_with_fixed_rounds_more_iterations_would_be_enough() -> None:
    """Else it would advise more time to a run that does not stop for want of it."""
    plan = conducted(rounds=2, iterations=100)
    (way,) = at_start(plan, solo(plan, 1.0)).enough
    assert way == "`iterations: 400` for fft, `iterations: 400` for gemm"
    more = replace(plan, tenants=tuple(replace(tenant, iterations=400) for tenant in plan.tenants))
    assert not at_start(more, solo(plan, 1.0)).enough


def test_in_the_classic_design_more_of_all_would_be_enough() -> None:
    """Else it would ask for more of the tenant that is there to the end, when the others are gone."""
    plan = conducted(rounds=1, iterations=400, design="classic")
    slow = replace(plan.tenants[1], arrivals=Closed(think_ms=20.0))
    plan = replace(plan, tenants=(plan.tenants[0], slow))
    told = at_start(plan, solo(plan, 4.0))
    assert "p99" in places(told)["gemm", "shared-fft+gemm"].refused
    (way,) = told.enough
    amount = int(way.split(": ")[1].split("`")[0])
    assert way == f"`iterations: {amount}` for fft, `iterations: {amount}` for gemm"
    more = replace(plan, tenants=tuple(replace(tenant, iterations=amount) for tenant in plan.tenants))
    assert not at_start(more, solo(plan, 4.0)).enough


def test_neighbours_without_pauses_are_taken_to_make_each_other_n_times_as_slow() -> None:
    """Else what company costs would be left out of the time that a run is said to take."""
    plan = conducted("a", "b", "c", rounds=1)
    house = blocks_of_round(plan, 0)
    block = next(expected_block(plan, one, solo(plan, 2.0)) for one in house if len(one.tenants) == 3)
    assert block.slower == dict.fromkeys("abc", 3.0)
    tenants = tuple(replace(tenant, arrivals=Closed(think_ms=1e6)) for tenant in plan.tenants)
    idle = expected_block(replace(plan, tenants=tenants), house[-1], solo(plan, 2.0))
    assert max(idle.slower.values()) == pytest.approx(1.0, abs=1e-4)


def test_of_whom_nobody_knows_how_long_it_takes_nothing_is_told() -> None:
    """Else a program's figures would be foretold from nothing."""
    plan = conducted(rounds=2, iterations=400, size=16)
    told = at_start(plan, {"fft": 1.0})
    assert told.untold == ("gemm",)
    assert {one.tenant for one in told.expected} == {"fft"}
    assert "nobody knows yet how long iterations of gemm take" in words.lines(told)[0]


def latencies(n: int, spread: float = 0.02) -> Latencies:
    def draw(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        rng = np.random.default_rng([number, len(tenant), len(side)])
        device = rng.lognormal(0, spread, n) * 4.0
        return device + 0.1, device

    return draw


def as_cut(rounds: int, n: int, spread: float = 0.02, **changes: object) -> CutRun:
    """A run of arrays, with calibration, all of whose iterations count but the first of each block."""
    run = make_run(make_plan(rounds=rounds), latencies(n, spread))
    workers = tuple(replace(worker, solo_ms=4.1) for worker in run.info.workers)
    tenants = tuple(replace(tenant, iterations=n * rounds) for tenant in run.info.plan.tenants)
    plan = replace(run.info.plan, tenants=tenants, **changes)
    blocks = [replace(block, window_ns=(block.start_ns, block.end_ns + 1)) for block in run.blocks]
    info = replace(run.info, workers=workers, plan=plan, blocks=tuple(blocks))
    run.info = info
    return CutRun(run, info, blocks)


MODES = parse("exclusive,time-slicing,mps")


def in_modes(rounds: int, n: int) -> CutRun:
    plan = planning.in_modes(make_plan(rounds=rounds), MODES)
    run = make_run(plan, latencies(n))
    workers = tuple(replace(worker, solo_ms=4.1) for worker in run.info.workers)
    tenants = tuple(replace(tenant, iterations=n * rounds) for tenant in plan.tenants)
    blocks = [replace(block, window_ns=(block.start_ns, block.end_ns + 1)) for block in run.blocks]
    run.info = replace(run.info, workers=workers, plan=replace(plan, tenants=tenants), blocks=tuple(blocks))
    return CutRun(run, run.info, blocks)


def test_a_run_in_modes_says_of_each_mode_what_its_time_decides() -> None:
    """Else who measures several modes learns at the end, of all of them at once, that the time was too short."""
    plan = planning.in_modes(build(load("agents-fast").experiment), MODES)
    told = at_start(replace(plan, max_seconds=80.0), solo(plan, 1.0))
    assert {(one.mode, one.condition) for one in told.expected if one.tenant == "fft"} == {
        ("", "solo-fft"),
        ("time-slicing", "shared-fft+gemm"),
        ("mps", "shared-fft+gemm"),
    }
    _, alone, shared, way = words.lines(told)
    assert alone.startswith("  gemm: no p99 or DF99 in any mode: ")
    assert shared.startswith("  gemm in time-slicing and mps: no p99 or DF99: ")
    enough = at_start(replace(plan, max_seconds=float(way.split()[-1])), solo(plan, 1.0))
    assert words.lines(enough)[0].startswith("foretold: no p99 or DF99 will be refused in any mode: ")


def test_with_fixed_rounds_more_iterations_would_be_enough_in_all_modes() -> None:
    """Else it would name tenants that the experiment does not have, once for each mode."""
    plan = planning.in_modes(conducted(rounds=2, iterations=100), MODES)
    assert at_start(plan, solo(plan, 1.0)).enough == ("`iterations: 400` for fft, `iterations: 400` for gemm",)


def test_side_by_side_nobody_knows_how_many_iterations_company_leaves() -> None:
    """Else MPS would be promised what turns give, or be refused what it has."""
    plan = planning.in_modes(replace(conducted(rounds=1, iterations=300), max_seconds=60.0), MODES)
    slow = replace(plan, tenants=tuple(replace(t, iterations=600) if "gemm" in t.name else t for t in plan.tenants))
    told = {(one.mode, one.tenant): one for one in at_start(slow, solo(slow, 2.0)).expected}
    assert "p99" not in (*told["time-slicing", "fft"].refused, *told["time-slicing", "fft"].open)
    assert "p99" in told["mps", "fft"].open


@pytest.mark.parametrize("n", [30, 120])
def test_what_came_in_each_mode_is_what_was_foretold_of_it(n: int) -> None:
    """Else a mode's figures would be held against another's, or against names that it does not have."""
    run = in_modes(6, n)
    told = foretold(run)
    info = replace(run.info, foretold=tuple(told))
    for view in views(CutRun(run.whole, info, run.blocks)).values():
        summary = analyse(view).summary
        found = came(view.info.foretold[-1], summary.tenants, (), view.info.plan.full_house.name)
        assert found.figures == 4 * 2 + 5 * 2
        assert not found.otherwise
        assert summary.foretold is UNSET


@pytest.mark.parametrize("n", [5, 30, 60, 120, 400])
def test_what_came_is_what_was_foretold(n: int) -> None:
    """Else it could not be relied on: figures of every size, by the analysis of the report."""
    run = as_cut(10, n)
    told = foretold(run)
    summary = analyse(run).summary
    mixes = () if summary.mixes is UNSET else summary.mixes
    found = came(told[-1], summary.tenants, mixes, run.info.plan.full_house.name)
    assert found.figures == 4 * 2 + 5 * 2
    assert not found.otherwise


def test_iterations_that_were_not_kept_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else p99.9 of a fast tenant would be foretold to be refused, of whom only a part is looked at."""
    monkeypatch.setattr(responses, "BLOCK_KEPT", 400)
    told = foretold(as_cut(4, 1000, precision=0.0001, max_rounds=5))[-1]
    assert {one.n for one in told.expected} == {5 * 999}


def test_a_summary_says_what_came_otherwise() -> None:
    """Else nobody could tell whether what it foretells is worth reading."""
    run = as_cut(10, 60)
    told = foretold(run)[-1]
    wrong = replace(told, expected=tuple(replace(one, refused=("p99",)) for one in told.expected))
    assert analyse(replace_cut(run, (told,))).summary.foretold is UNSET
    summary = analyse(replace_cut(run, (told, wrong))).summary
    assert summary.foretold is not UNSET
    assert {one.figure for one in summary.foretold.otherwise} == {"p99", "p999"}
    lines = [words.otherwise(one) for one in summary.foretold.otherwise]
    assert any(line.startswith("fft: p99 alone was foretold to be refused") for line in lines)
    assert any("p99.9 in shared-fft+gemm was foretold to come" in line for line in lines)


def replace_cut(run: CutRun, told: tuple[Foretold, ...]) -> CutRun:
    return CutRun(run.whole, replace(run.info, foretold=told), run.blocks)


def test_a_wide_df99_is_foretold_with_the_time_that_would_do() -> None:
    """Else a run that cannot reach its precision would say so only at its end."""
    run = as_cut(16, 100, 0.4, precision=0.02, max_rounds=20)
    told = foretold(run)[-1]
    assert told.after_rounds > 1
    assert any(told.too_wide(one) for one in told.expected)
    assert told.bound == "max_rounds"
    (way,) = told.enough
    assert way.startswith("`max_rounds: ")
    assert any("DF99 less precise than asked: +-" in line for line in words.lines(told))


def test_the_width_that_is_foretold_is_about_the_one_that_comes() -> None:
    """Else the time that it asks for would be wrong."""
    whole = as_cut(16, 800, 0.2, precision=0.001, max_rounds=17)
    early = [one for one in whole.blocks if one.round < 4]
    told = foretold(CutRun(whole.whole, whole.info, early))[-1]
    width = places(told)["fft", "shared-fft+gemm"].width
    df = analyse(whole).summary.tenants["fft"].response.df.p99
    assert width is not None
    assert df.hi is not None
    assert df.estimate is not None
    assert width == pytest.approx(df.hi / df.estimate - 1, rel=0.6)


def test_a_precise_run_is_told_to_stop_early_and_p999_is_left_open_or_refused() -> None:
    """Else it would promise figures for rounds that it never runs."""
    run = as_cut(4, 400, precision=0.5, max_rounds=1000)
    first, *later = foretold(run)
    assert all("p999" in (*one.open, *one.refused) for one in first.expected)
    assert first.bound == "max_rounds"
    assert not later or later[-1].bound == "precision"


def test_a_time_limit_is_obeyed_as_the_conductor_obeys_it() -> None:
    """Else rounds would be foretold that no time is left for."""
    plan = conducted(rounds=10)
    assert most_rounds(plan, 3.0) == 10
    assert most_rounds(replace(plan, max_seconds=10.0), 3.0) == 3
    assert most_rounds(replace(plan, max_seconds=5.0), 3.0) == 2
    assert most_rounds(replace(plan, max_seconds=2.0), 6.0) == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 5), st.sampled_from([None, 0.05]), st.sampled_from([None, 0.01, 30.0]))
def test_whatever_came_nothing_is_raised(count: int, rounds: int, precision: float | None, limit: float | None) -> None:
    """Else foretelling could end the run that it is about."""
    plan = conducted(rounds=rounds, precision=precision, max_seconds=limit, max_rounds=rounds + 3)
    run = MemoryRun(plan, count)
    foreteller = Foretelling()
    told = [foreteller.begin(plan, {"fft": 0.5, "gemm": 1e-9}, {})]
    for block in run.blocks:
        for name in plan.condition(block.condition).tenants:
            foreteller.take(name, run.records(name, block.index))
        told.append(foreteller.end(block))
    for one in told:
        assert one is None or words.lines(one)


def test_recorded_runs_refuse_what_they_foretold() -> None:
    """Else the simulated ones would be all that it is right about."""
    run = open_run(Path(__file__).parents[2] / "examples" / "results" / "h200-fast-6")
    for part in (0.05, 0.2, 1.0):
        one = cut(run, part, 1.0)
        summary = analyse(one).summary
        told = foretold(one)[-1]
        assert not came(told, summary.tenants, (), one.info.plan.full_house.name).otherwise
