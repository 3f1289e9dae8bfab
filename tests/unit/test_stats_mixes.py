"""If these fail, a cell of the matrix is wrong, or a run stops before every cell is known."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.model.plan import Condition, Plan
from kts.model.summary import Mix, MixTenant, Summary, TenantSummary
from kts.stats import PrecisionRule, analyse
from kts.stats.verdict import half_width, settled

NAMES = ("a", "b", "c")
SLOWED = {("a", "shared-a+b"): 1.5, ("c", "shared-b+c"): 3.0, ("b", "shared-a+b+c"): 2.0}
"""Every other tenant is as fast in every mix as alone."""


def plan_of_pairs(precision: float | None = None, rounds: int = 10) -> Plan:
    plan = make_plan(NAMES, precision=precision, rounds=rounds)
    pairs = tuple(Condition(name=f"shared-{x}+{y}", tenants=(x, y)) for x, y in (("a", "b"), ("a", "c"), ("b", "c")))
    return msgspec.structs.replace(plan, conditions=(*plan.conditions[:3], *pairs, plan.conditions[3]))


def measured(plan: Plan) -> FakeRun:
    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        device = np.random.default_rng([number, ord(tenant), len(side)]).lognormal(0, 0.02, 300) * 4.0
        return device + 0.1, device

    run = make_run(plan, latencies)
    for block in run.blocks:
        for (tenant, condition), factor in SLOWED.items():
            if condition == block.condition:
                records = run.data[tenant, block.index]
                took = (records["retire_ns"] - records["submit_ns"]) * factor
                records["retire_ns"] = records["submit_ns"] + took.astype(np.int64)
    return run


def mixes_of(summary: Summary) -> tuple[Mix, ...]:
    assert summary.mixes is not msgspec.UNSET
    return summary.mixes


def cells_of(summary: Summary) -> dict[tuple[str, str], MixTenant]:
    return {(name, mix.condition): cell for mix in mixes_of(summary) for name, cell in mix.tenants.items()}


def test_each_mix_shows_its_own_slow_down_and_no_other() -> None:
    cells = cells_of(analyse(measured(plan_of_pairs())).summary)
    assert len(cells) == 9
    for place, cell in cells.items():
        assert cell.df_p99.estimate == pytest.approx(SLOWED.get(place, 1.0), rel=0.05)
        assert cell.device_df_p99.estimate == pytest.approx(1.0, rel=0.05)
        assert cell.kind == ("worse" if place in SLOWED else "no-change")
        assert cell.n > 2900


def test_the_full_house_stands_last_and_is_the_headline() -> None:
    summary = analyse(measured(plan_of_pairs())).summary
    house = mixes_of(summary)[-1]
    assert house.condition == "shared-a+b+c"
    for name, cell in house.tenants.items():
        assert cell.df_p99 == summary.tenants[name].response.df.p99
        assert cell.device_df_p99 == summary.tenants[name].device.df.p99


def _figures(tenant: TenantSummary) -> TenantSummary:
    """All but whether it was steady, which is asked of all that it did, and causes of what else was measured."""
    assert isinstance(tenant.causes, tuple)
    return msgspec.structs.replace(tenant, steadiness=None, causes=tenant.causes[-1:])


def test_pairs_leave_the_headline_as_it_is() -> None:
    """Else a run's figures would depend on what else was measured."""
    run = measured(plan_of_pairs())
    wanted = {c.name for c in make_plan(NAMES).conditions}
    info = msgspec.structs.replace(run.info, plan=make_plan(NAMES))
    alone = FakeRun(info=info, blocks=[b for b in run.blocks if b.condition in wanted], data=run.data)
    ours, theirs = (analyse(one).summary.tenants for one in (run, alone))
    assert [_figures(one) for one in ours.values()] == [_figures(one) for one in theirs.values()]


def test_a_run_of_the_full_house_alone_has_no_mixes() -> None:
    """Else every summary.json of an older run would change."""
    summary = analyse(measured(make_plan(NAMES))).summary
    assert b'"mixes"' not in msgspec.json.encode(summary)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


def test_records_are_read_once_with_mixes_too() -> None:
    run = measured(plan_of_pairs())
    analyse(run)
    assert set(run.reads.values()) == {1}
    assert len(run.reads) == 10 * (3 + 6 + 3)


def test_a_mix_without_valid_blocks_is_refused_alone() -> None:
    run = measured(plan_of_pairs())
    run.blocks = [msgspec.structs.replace(b, valid=b.condition != "shared-a+c") for b in run.blocks]
    cells = cells_of(analyse(run).summary)
    assert {place for place, cell in cells.items() if cell.kind == "refused"} == {
        ("a", "shared-a+c"),
        ("c", "shared-a+c"),
    }
    assert cells["a", "shared-a+c"].df_p99.refused == "no valid shared iterations"


def fed(run: FakeRun, precision: float) -> PrecisionRule:
    rule = PrecisionRule(run.info.plan, precision)
    for block in run.blocks:
        for tenant in run.info.plan.condition(block.condition).tenants:
            rule.take(tenant, run.records(tenant, block.index))
        rule.end(block)
    return rule


def test_the_run_goes_on_until_the_widest_mix_is_known() -> None:
    """What stops the run is what the report prints, in every mix."""
    run = measured(plan_of_pairs())
    widths: dict[str, list[float]] = {name: [] for name in NAMES}
    for (name, _), cell in cells_of(analyse(run).summary).items():
        widths[name].append(half_width(cell.df_p99) or 1.0)
    rule = fed(run, 0.9)
    assert rule.reached()
    assert rule.widths() == pytest.approx({name: max(found) for name, found in widths.items()}, rel=1e-3)
    least = max(max(found) for found in widths.values())
    assert not fed(run, least * 0.99).reached()
    cells = cells_of(analyse(run).summary).values()
    for precision in (least * 1.01, least * 2, 0.05):
        assert fed(run, precision).reached() == all(settled(cell.df_p99, precision) for cell in cells)
    assert fed(run, least * 2).reached()


def test_not_reached_while_one_mix_is_missing() -> None:
    run = measured(plan_of_pairs())
    run.blocks = [b for b in run.blocks if b.condition != "shared-a+c"]
    rule = fed(run, 0.9)
    assert not rule.reached()
    assert rule.widths()["a"] is None
    assert rule.widths()["b"] is not None


def test_a_mix_known_too_little_is_told() -> None:
    """Else a report would look settled because its headline is."""
    summary = analyse(measured(plan_of_pairs(precision=0.0001))).summary
    texts = {c.tenant: c.text for c in summary.warnings if c.code == "mix-precision"}
    assert set(texts) == set(NAMES)
    assert "in 2 of 2 mixes" in texts["a"]
    assert "a+b, a+c" in texts["a"]
