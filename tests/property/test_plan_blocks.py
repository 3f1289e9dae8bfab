"""Blocks of any plan: complete, in a fair order, the same every time."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from kts.model.plan import Plan
from kts.plan import block_seed, blocks_of_round, build, expected_seconds
from kts.spec.models import Experiment

_amounts = st.one_of(
    st.builds(lambda n: {"iterations": n}, st.integers(1, 10_000)),
    st.builds(lambda s: {"seconds": s}, st.floats(0.1, 1000)),
)
_names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)


@st.composite
def plans(draw: st.DrawFn, mixes: str | None = None) -> Plan:
    tenants = {
        name: {"workload": "fft", "think_ms": draw(st.floats(0, 200)), **draw(_amounts)}
        for name in draw(st.lists(_names, min_size=2, max_size=8, unique=True))
    }
    return build(
        Experiment.model_validate(
            {
                "design": draw(st.sampled_from(["classic", "interleaved"])),
                "rounds": draw(st.integers(1, 30)),
                "precision": draw(st.sampled_from([None, 0.05])),
                "seed": draw(st.integers(0, 2**63 - 1)),
                "tenants": tenants,
                "mixes": mixes or draw(st.sampled_from(["full", "full", "pairs"])),
            }
        )
    )


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 50))
def test_a_round_holds_every_condition_exactly_once(plan: Plan, number: int) -> None:
    """Else drift would not cancel, or a condition would go unmeasured."""
    blocks = blocks_of_round(plan, number)
    assert Counter(b.condition for b in blocks) == Counter(c.name for c in plan.conditions)
    assert all(b.round == number and b.tenants == plan.condition(b.condition).tenants for b in blocks)
    assert blocks == blocks_of_round(plan, number)
    if plan.design == "classic":
        assert [b.condition for b in blocks] == [c.name for c in plan.conditions]


@settings(max_examples=40, deadline=None)
@given(plans(mixes="pairs"), st.integers(0, 50))
def test_a_round_of_pairs_holds_every_pair_exactly_once(plan: Plan, number: int) -> None:
    """Else a cell of the matrix would stay empty, or count twice."""
    found = Counter(b.tenants for b in blocks_of_round(plan, number) if len(b.tenants) == 2)
    assert found == Counter(combinations([t.name for t in plan.tenants], 2))
    names = [c.name for c in plan.conditions]
    assert len(set(names)) == len(names)


@settings(max_examples=40, deadline=None)
@given(plans())
def test_block_indices_and_seeds_never_repeat(plan: Plan) -> None:
    """Else records of two blocks would be mixed up, or two tenants would think in step."""
    blocks = [block for number in range(8) for block in blocks_of_round(plan, number)]
    assert [b.index for b in blocks] == list(range(len(blocks)))
    seeds = [block_seed(plan, block, tenant) for block in blocks for tenant in block.tenants]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@settings(max_examples=60, deadline=None)
@given(plans())
def test_quotas_of_all_rounds_add_up_to_the_amount_wanted(plan: Plan) -> None:
    """Else a run would end with fewer samples than the experiment asks for, or with many more."""
    for tenant in plan.tenants:
        for condition in plan.conditions:
            if tenant.name not in condition.tenants:
                continue
            quotas = [
                block.quotas[tenant.name]
                for number in range(plan.rounds)
                for block in blocks_of_round(plan, number)
                if block.condition == condition.name
            ]
            assert all(quota.linger == (plan.design == "interleaved") for quota in quotas)
            if tenant.iterations is None:
                assert abs(sum(q.seconds or 0 for q in quotas) - (tenant.seconds or 0)) < 1e-6
            else:
                total = sum(q.iterations or 0 for q in quotas)
                assert tenant.iterations <= total < tenant.iterations + plan.rounds


@settings(max_examples=40, deadline=None)
@given(plans(), st.floats(0, 100))
def test_a_round_is_expected_to_take_longer_if_the_work_does(plan: Plan, solo_ms: float) -> None:
    """Else the time left shown to the user would be nonsense."""
    names = [tenant.name for tenant in plan.tenants]
    short = expected_seconds(plan, dict.fromkeys(names, solo_ms))
    assert 0 < short <= expected_seconds(plan, dict.fromkeys(names, solo_ms + 1))
    assert expected_seconds(plan, dict.fromkeys(names)) == expected_seconds(plan, {})
