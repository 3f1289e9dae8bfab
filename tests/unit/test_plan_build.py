"""From an experiment to a plan."""

from __future__ import annotations

import msgspec
import pytest

from kts.model.plan import Decoder, Kernel, Plan
from kts.plan import blocks_of_round, build, expected_seconds
from kts.spec import load, load_text


def test_every_tenant_runs_alone_and_all_run_together() -> None:
    """Else there would be nothing to compare sharing with."""
    plan = build(load("agents").experiment)
    assert [(c.name, c.tenants) for c in plan.conditions] == [
        ("solo-fft", ("fft",)),
        ("solo-gemm", ("gemm",)),
        ("shared-fft+gemm", ("fft", "gemm")),
    ]
    assert plan.full_house.name == "shared-fft+gemm"


def test_the_shared_condition_of_many_tenants_has_a_short_name() -> None:
    """Else 32 long names would make a table column of 1,300 characters."""
    tenants = "".join(f"  {'t' * 30}{n}: {{workload: fft}}\n" for n in range(8))
    plan = build(load_text("tenants:\n" + tenants, source="x").experiment)
    assert plan.full_house.name == "shared-all-8"
    assert len(plan.full_house.tenants) == 8


def test_replicas_become_tenants_with_solos_and_seeds_of_their_own() -> None:
    """Else replicas would think in step, or have nothing to be compared with."""
    text = "tenants: {a: {workload: fft, replicas: 3}, b: {workload: gemm}}"
    plan = build(load_text(text, source="x").experiment)
    assert [t.name for t in plan.tenants] == ["a-1", "a-2", "a-3", "b"]
    assert len({t.seed for t in plan.tenants}) == 4
    assert [c.name for c in plan.conditions] == ["solo-a-1", "solo-a-2", "solo-a-3", "solo-b", "shared-a-1+a-2+a-3+b"]


def test_one_entry_with_replicas_is_enough() -> None:
    """Else two equal tenants would have to be written twice."""
    plan = build(load_text("tenants: {a: {workload: fft, replicas: 2}}", source="x").experiment)
    assert plan.full_house.tenants == ("a-1", "a-2")


@pytest.mark.parametrize(
    ("mixes", "wanted"),
    [
        ("full", [("a", "b", "c")]),
        ("pairs", [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]),
        ("all", [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]),
        ("[[c, a]]", [("a", "c"), ("a", "b", "c")]),
        ("[[c, b, a], [b, a]]", [("a", "b"), ("a", "b", "c")]),
    ],
)
def test_mixes_are_measured_once_each_with_the_full_house_last(mixes: str, wanted: list[tuple[str, ...]]) -> None:
    """Else a pair would be measured twice or never, or the headline would be of another condition."""
    tenants = "".join(f"  {name}: {{workload: fft}}\n" for name in "abc")
    plan = build(load_text(f"mixes: {mixes}\ntenants:\n{tenants}", source="x").experiment)
    assert [c.tenants for c in plan.mixes] == wanted
    assert plan.full_house == plan.mixes[-1]
    assert [c.name for c in plan.conditions if c.is_solo] == ["solo-a", "solo-b", "solo-c"]


def test_names_of_long_mixes_are_short_and_differ() -> None:
    """Else two mixes with the same beginning would be taken for one."""
    tenants = "".join(f"  {'t' * 39}{n}: {{workload: fft}}\n" for n in range(6))
    plan = build(load_text("mixes: all\ntenants:\n" + tenants, source="x").experiment)
    names = [c.name for c in plan.conditions]
    assert len(set(names)) == len(names) == 6 + 57
    assert max(map(len, names)) <= 80


def test_the_ready_made_matrix_fits_its_time() -> None:
    """Else it would end undetermined for lack of time wherever it is run."""
    plan = build(load("matrix").experiment)
    assert len(plan.mixes) == 7
    assert plan.max_seconds is not None
    assert plan.rounds * expected_seconds(plan, {}) < plan.max_seconds


def test_classic_is_one_round_in_order_without_sequential_stopping() -> None:
    """Else the reference's procedure would not be repeated to the letter."""
    plan = build(load("reference").experiment)
    assert (plan.rounds, plan.max_rounds, plan.precision, plan.max_seconds) == (1, 1, None, None)
    blocks = blocks_of_round(plan, 0)
    assert [b.condition for b in blocks] == ["solo-fft", "solo-gemm", "shared-fft+gemm"]
    assert [(q.iterations, q.linger) for b in blocks for q in b.quotas.values()] == [(800, False)] * 4


def test_without_a_precision_there_are_exactly_the_rounds_asked_for() -> None:
    """Else a run with a fixed amount of work would go on."""
    plan = build(load_text("precision: null\ntenants: {a: {workload: fft}, b: {workload: fft}}", source="x").experiment)
    assert (plan.precision, plan.rounds, plan.max_rounds) == (None, 10, 10)


def test_the_order_of_blocks_differs_between_rounds_and_seeds() -> None:
    """Else drift within a round would always favour the same condition."""
    plan = build(load("agents").experiment)
    orders = {tuple(b.condition for b in blocks_of_round(plan, number)) for number in range(20)}
    assert len(orders) == 6
    other = msgspec.structs.replace(plan, seed=plan.seed + 1)
    assert [b.condition for n in range(9) for b in blocks_of_round(plan, n)] != [
        b.condition for n in range(9) for b in blocks_of_round(other, n)
    ]


def test_a_plan_survives_being_written_and_read() -> None:
    """Else a run directory could not say what was run."""
    plan = build(load("demo").experiment)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_a_round_below_zero_is_refused() -> None:
    """Else a mistake in counting rounds would give blocks with indices of other rounds."""
    with pytest.raises(ValueError, match="below 0"):
        blocks_of_round(build(load("demo").experiment), -1)


def test_the_demo_is_expected_to_fit_its_time() -> None:
    """Else the first thing that a stranger runs would end undetermined for lack of time."""
    plan = build(load("demo").experiment)
    expected = plan.rounds * expected_seconds(plan, {})
    assert plan.max_seconds is not None
    assert expected < plan.max_seconds <= 75


def test_a_decoder_and_a_tiny_kernel_are_planned_as_written() -> None:
    """Else the frozen plan would not say what ran; the width stands where every other size does."""
    text = (
        "tenants:\n"
        "  chat: {workload: decode, d_model: 512, layers: 8, context: 256, graph: true, library: torch}\n"
        "  blink: {workload: tiny}\n"
    )
    plan = build(load_text(text, source="x").experiment)
    chat, blink = (tenant.work for tenant in plan.tenants)
    assert chat == Kernel(
        workload="decode", size=512, decoder=Decoder(layers=8, context=256, graph=True), library="torch", warmup=5
    )
    assert blink == Kernel(workload="tiny", size=4096, library="auto", warmup=5)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
