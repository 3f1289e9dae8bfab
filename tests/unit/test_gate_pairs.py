"""If these fail, `kts check --pair` fails builds that changed nothing, or looks until it finds something."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from bench.gate import NOISES, Score, compare
from msgspec.structs import replace
from scipy.special import ndtri
from tests.helpers_conduct import MemorySink
from tests.helpers_stats import Array, FakeRun, make_run

from kts import plan as planning
from kts.conduct import events as ev
from kts.conduct.keeper import Keeper
from kts.errors import UsageError
from kts.model.gate import Gate
from kts.model.plan import Plan, Program
from kts.model.run import Outcome
from kts.report.document import Document
from kts.report.gate import gate_elements
from kts.report.markdown import render
from kts.spec import load_text
from kts.stats import analyse
from kts.stats.pair_gate import PairLooks, PairRule, compared
from kts.stats.pairs import Rounds
from kts.stats.spending import Spending
from kts.store.blocks import reconcile

LIMIT_S = 60.0


# looking often


@pytest.mark.parametrize("fractions", [[1.0], [0.2, 0.4, 0.6, 0.8, 1.0], [0.1, 0.11, 0.12, 0.9, 1.0], [0.5, 0.5, 1.0]])
def test_however_often_one_looks_all_looks_together_err_as_often_as_asked(fractions: Sequence[float]) -> None:
    """Else a gate that looks thirty times would fail one build in seven that changed nothing."""
    spending, rng = Spending(0.05), np.random.default_rng(1)
    units = np.arange(1, len(fractions) + 1)
    p = [spending.look(float(k), fraction) for k, fraction in zip(units, fractions, strict=True)]
    z = np.cumsum(rng.normal(size=(200_000, len(p))), axis=1) / np.sqrt(units)
    beyond = z > -ndtri(np.maximum(p, 1e-300))
    assert beyond.any(axis=1).mean() == pytest.approx(0.05, abs=0.002)


def test_a_look_at_the_end_alone_is_the_usual_test_and_an_early_one_is_strict() -> None:
    assert Spending(0.01).look(10.0, 1.0) == pytest.approx(0.01)
    assert Spending(0.01).look(10.0, 0.1) == pytest.approx(0.0001)


# one tenant's rounds


def drawn(factor: float, seed: int = 1, rounds: int = 20, n: int = 500, *, level: float = 0.0) -> Rounds:
    rng = np.random.default_rng(seed)
    levels = np.exp(rng.normal(0, level, (rounds, 1))) if level else 1.0
    a, b = (rng.lognormal(0, 0.1, (rounds, n)) * levels for _ in range(2))
    return Rounds(list(a), list(b * factor))


def test_the_statistic_vanishes_at_the_ratio_of_the_p99s_and_the_interval_is_around_it() -> None:
    rounds = drawn(1.3)
    found = rounds.interval(0.025)
    assert rounds.statistic(np.log(2.0)) < -5 < 5 < rounds.statistic(np.log(1.0))
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo < 1.3 < found.hi < found.lo * 1.1
    assert abs(rounds.statistic(np.log(found.lo * 0.999))) > abs(rounds.statistic(np.log(found.lo * 1.02)))


def test_what_a_round_does_to_both_versions_cancels() -> None:
    """A machine whose rounds differ by 30 % must not hide a tail that is 10 % worse."""
    even, uneven = (drawn(1.1, level=level).interval(0.025) for level in (0.0, 0.3))
    assert (uneven.hi or 9) / (uneven.lo or 1) < 1.1 * (even.hi or 9) / (even.lo or 1)


def test_a_bare_multiple_of_both_changes_nothing_and_swapping_them_turns_the_ratio() -> None:
    rounds = drawn(1.2)
    slower = Rounds([ms * 7 for ms in rounds.a], [ms * 7 for ms in rounds.b])
    assert slower.statistic(0.1) == pytest.approx(rounds.statistic(0.1))
    swapped = Rounds(rounds.b, rounds.a)
    assert swapped.statistic(-0.1) == pytest.approx(-rounds.statistic(0.1), rel=0.1)


@pytest.mark.parametrize(
    ("rounds", "why"),
    [
        (drawn(1.0, rounds=3), "needs 4 rounds, have 3"),
        (drawn(1.0, rounds=4, n=50), "A p99 needs 368 iterations, have 200"),
        (Rounds([np.zeros(200)] * 4, [np.ones(200)] * 4), "A: times of zero"),
    ],
)
def test_too_little_to_compare_is_refused(rounds: Rounds, why: str) -> None:
    assert rounds.interval(0.025).refused == why


def test_ticks_of_a_coarse_stopwatch_do_not_count_for_one_side() -> None:
    rng = np.random.default_rng(3)
    a, b = (np.round(rng.lognormal(3, 0.05, (20, 500))) for _ in range(2))
    assert abs(Rounds(list(a), list(b)).statistic(0.0)) < 3


# the plan


TEXT = """\
name: {name}
device: {device}
max_seconds: 300
tenants:
  api: {{workload: fft, {size}, think_ms: 1, iterations: 100}}
  {other}: {{workload: gemm, size: 64}}
"""


def version(name: str, size: str = "size: 64", other: str = "batch", device: str = "auto", more: str = "") -> Plan:
    text = TEXT.format(name=name, size=size, other=other, device=device) + more
    return planning.build(load_text(text, source=name).experiment)


def test_a_fail_says_how_much_slower_at_least_where_too_few_slow_iterations_say_how_much_at_most() -> None:
    """Else a gate that fails on a tail 60 times as long would show no figure at all, and no reason for that."""
    rng = np.random.default_rng(5)
    a, b = rng.lognormal(-2, 0.1, (8, 400)), rng.lognormal(2, 0.1, (8, 400))
    a[0, :80] = 2.0  # of the old version one round alone was slow
    looks = PairLooks(planning.pair(version("old"), version("new"), tolerance=0.05))
    looks.look({"api": Rounds(list(a), list(b))}, 8, 100.0)
    api, _ = looks.criteria(8)
    assert (api.judgement, api.measured.refused) == ("fail", "so few slow iterations bound no ratio")
    assert api.why.startswith("B / A is at least ")
    assert float(api.why.split()[-1]) > 1.05


def test_a_pair_measures_both_versions_together_with_their_own_neighbours_and_nobody_alone() -> None:
    plan = planning.pair(version("old"), version("new"), tolerance=0.05)
    assert [condition.tenants for condition in plan.conditions] == [("api-a", "batch-a"), ("api-b", "batch-b")]
    blocks = [block for number in range(40) for block in planning.blocks_of_round(plan, number)]
    assert {block.quotas["api-a"].seconds for block in blocks if "api-a" in block.quotas} == {5.0}
    assert 8 < sum(block.condition == "shared-a" for block in blocks[::2]) < 32, "the order changes from round to round"
    assert plan.sequential
    plan.check()


@pytest.mark.parametrize(
    ("b", "what"),
    [
        (version("new", other="other"), "do not have the same tenants: api, batch against api, other"),
        (version("new", device="cpu"), "A asks for device cuda, B for cpu"),
        (version("new", device="cuda", more="subject: api\n"), "A is about all tenants, B about api"),
    ],
)
def test_experiments_that_are_no_versions_of_each_other_are_refused(b: Plan, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        planning.pair(version("old", device="cuda"), b, tolerance=0.05)


def test_the_same_work_has_the_same_size_in_both_and_other_work_its_own() -> None:
    """Calibration settles on another size every time, and a version would seem to differ by that."""
    same = planning.pair(version("a", "target_ms: 3"), version("b", "target_ms: 3"), tolerance=0.05)
    other = planning.pair(version("a", "target_ms: 3"), version("b", "target_ms: 4"), tolerance=0.05)
    assert [same.twin(name) for name in ("api-a", "batch-a", "api-b", "batch-b")] == ["", "", "api-a", "batch-a"]
    assert other.twin("api-b") == ""


# a run of it


class Counted:
    """The records of a run in memory, as `reconcile` counts them."""

    def __init__(self, run: FakeRun) -> None:
        indices = {block.index for block in run.info.blocks}
        self.counts = {place: len(records) for place, records in run.data.items() if place[1] in indices}
        self.read, self.portions = run.records, run.portions


def run_of(factor: float, rounds: int = 25, kind: str = "undetermined") -> FakeRun:
    """A pair in which B's api takes ``factor`` times as long."""
    plan = planning.pair(version("old"), version("new"), tolerance=0.05, max_seconds=LIMIT_S)

    def latencies(tenant: str, side: str, number: int) -> tuple[Array, None]:
        del side
        rng = np.random.default_rng([number, *tenant.encode()])
        return rng.lognormal(0, 0.05, 300) * 2.0 * (factor if tenant == "api-b" else 1.0), None

    run = make_run(replace(plan, rounds=rounds), latencies)
    run.info = replace(run.info, plan=plan, outcome=Outcome(kind=kind))  # type: ignore[arg-type]
    return run


def gate(run: FakeRun) -> Gate:
    return compared(run, analyse(run).summary)


@pytest.mark.parametrize(("factor", "said"), [(1.0, "pass"), (0.5, "pass"), (1.3, "fail"), (1.05, "inconclusive")])
def test_a_worse_version_fails_the_same_one_passes_and_one_at_the_limit_is_left_open(factor: float, said: str) -> None:
    found = gate(run_of(factor))
    assert found.judgement == said
    assert found.criteria[0].tenant == "api"
    ratio = found.criteria[0].measured
    assert (ratio.lo or 9) <= factor <= (ratio.hi or 0)


def held_back(run: FakeRun, tenant: str) -> FakeRun:
    """Its pod had half a CPU."""
    workers = tuple(replace(one, cpu_limit=0.5 if one.tenant == tenant else None) for one in run.info.workers)
    run.info = replace(run.info, workers=workers)
    return run


def apart(run: FakeRun) -> FakeRun:
    """B's tenants were on another GPU than A's."""
    first, *_, last = run.info.workers
    workers = (first, *run.info.workers[1:-1], replace(last, device=replace(last.device, uuid="another")))
    run.info = replace(run.info, workers=workers)
    return run


@pytest.mark.parametrize(
    ("factor", "spoilt", "why"),
    [
        (1.0, lambda run: held_back(run, "api-a"), "api-a: a CPU limit of 0.5 CPUs held it back"),
        (1.3, lambda run: held_back(run, "api-b"), "api-b: a CPU limit of 0.5 CPUs held it back"),
        (1.3, apart, "The tenants were not on one device"),
    ],
    ids=["of A", "of B", "of the run"],
)
def test_a_failed_check_of_either_version_leaves_nothing_decided(
    factor: float, spoilt: Callable[[FakeRun], FakeRun], why: str
) -> None:
    """Else a build would fail, or pass, by a figure of which the run itself says that it tells nothing."""
    found = gate(spoilt(run_of(factor)))
    assert found.judgement == "inconclusive"
    (api,) = (one for one in found.criteria if one.tenant == "api")
    assert (api.judgement, api.more_s) == ("inconclusive", None)
    assert why in api.why


def test_what_may_be_off_by_less_than_lies_to_the_limit_takes_no_decision() -> None:
    """Else every run with a caution would be inconclusive, however clear it is."""

    def early(run: FakeRun) -> FakeRun:
        """B's batch is away for the last tenth of each block: p99 of api may be off by some percent."""
        for (tenant, _), rows in run.data.items():
            if tenant == "batch-b":
                rows.resize(int(len(rows) * 0.9), refcheck=False)
        return run

    found = gate(early(run_of(2.0)))
    assert found.criteria[0].judgement == "fail", found.criteria[0].why


def test_it_stops_as_soon_as_it_is_decided_and_the_records_say_the_same_afterwards() -> None:
    """Else the figures of a report would not be those that ended the run."""
    run = run_of(1.3)
    rule = PairRule(run.info.plan)
    stopped = 0
    for block in run.blocks:
        for name in run.info.plan.condition(block.condition).tenants:
            rule.take(name, run.records(name, block.index))
        rule.end(block)
        if block.index % 2 and block.round >= 3 and rule.reached():
            stopped = block.round + 1
            break
    assert 4 <= stopped < 25
    cut = run_of(1.3, rounds=stopped, kind="complete")
    found = gate(cut)
    assert found.judgement == "fail"
    assert gate(run).measured_s == found.measured_s


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_rounds_beside_a_program_that_was_still_starting_stop_no_run(factor: float) -> None:
    """Else a run ends as decided, and whoever reads its records, where these rounds do not count, finds nothing
    decided."""
    run = run_of(factor)
    loading = range(3)
    last = replace(run.info.plan.tenants[-1], work=Program(command=("serve",)))
    plan = replace(run.info.plan, tenants=(*run.info.plan.tenants[:-1], last))
    for block in run.blocks:
        if last.name in block.counts and block.round in loading:
            block.counts[last.name] = 0
            run.data[last.name, block.index] = run.data[last.name, block.index][:0]
            run.data["api-b", block.index]["retire_ns"] += 10_000_000
    rule = PairRule(plan)
    keeper = Keeper(MemorySink(), rule)
    keeper.keep(ev.Freeze(plan=plan, solo_ms={tenant.name: None for tenant in plan.tenants}))
    asked: list[bool] = []
    for block in run.blocks:
        for name in block.counts:
            keeper.keep(ev.Keep(tenant=name, block=block.index, seq=0, records=run.records(name, block.index)))
        keeper.keep(ev.EndBlock(outcome=block))
        if block.index % 2 and block.round >= 3:
            asked.append(rule.reached())
            if asked[-1]:
                break
    measured = run.blocks[: 2 * (3 + len(asked))]
    run.info = replace(run.info, plan=plan, blocks=tuple(measured), outcome=Outcome(kind="complete"))
    run.blocks = list(reconcile(run.info, Counted(run), {}, "")[0])
    found = gate(run)
    assert [block.round for block in run.blocks if not block.valid] == [0, 1, 2, 3]
    assert asked[-1]
    assert len(asked) > 4
    assert found.judgement == ("fail" if factor > 1 else "pass")
    assert "batch-b was still starting" in run.blocks[1].reason + run.blocks[0].reason


def test_a_run_that_was_stopped_says_what_it_has_and_is_inconclusive() -> None:
    for rounds, why in (
        (12, "the interval holds the limit"),
        (4, "so few slow iterations bound no ratio"),
        (2, "needs 4 rounds, have 2"),
        (0, "needs 4 rounds, have 0"),
    ):
        found = gate(run_of(1.05, rounds, kind="interrupted"))
        assert (found.judgement, found.criteria[0].why) == ("inconclusive", why)
        assert "interrupted: judged by what was measured" in " ".join(found.notes)


def test_a_block_without_its_other_half_does_not_count() -> None:
    run = run_of(1.0, 6)
    run.blocks[-1] = replace(run.blocks[-1], valid=False)
    assert gate(run).measured_s == gate(run_of(1.0, 5)).measured_s


def test_people_see_both_versions_and_what_would_decide() -> None:
    text = render(Document(tuple(gate_elements(gate(run_of(1.05, 5))))))
    assert "| tenant | figure | A | B | B / A (95 % interval) | at most |" in text
    assert "more decide this, unless a ratio is at its limit (behind this:" in text


# error rates, as docs/gate.md has them from many more


def test_equal_versions_do_not_fail_and_one_that_is_a_fifth_worse_is_found() -> None:
    for noise in NOISES[:4]:
        for factor, wanted in ((1.0, "pass"), (1.2, "fail")):
            score = Score()
            for number in range(2):
                compare(noise, factor, (number, 7), score)
            assert score.answers[wanted] == 2, (noise.name, factor)
