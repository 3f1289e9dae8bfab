"""Many tenants of one kind, and mixes of one run, each looked at by itself; what a choice is worth elsewhere."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest
from tests.helpers_stats import make_plan
from tests.unit.test_modes import MODES, measured, planned

from kts.app.handle import Run
from kts.errors import UsageError
from kts.model.mode import MPS
from kts.model.modes import MODES_VERSION, Choice, InModeTenant, ModeResult, ModesSummary
from kts.model.plan import Condition, Plan
from kts.model.summary import Estimate
from kts.plan import in_modes
from kts.report.charts_crowd import draw
from kts.sharing import parse
from kts.stats.crowd import ALONE, crowds

EXAMPLES = Path(__file__).parents[2] / "examples"
FACTORS = {"time-slicing": 2.0, "mps": 1.3, "half": 1.5}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> object:
    """A module of the examples, by its name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def test_a_crowd_has_the_tail_of_all_its_tenants_by_mode() -> None:
    """Else the figure of fifty tenants would be of one of them, or of another mode."""
    found = crowds(measured(planned(), FACTORS), deadline_ms=15.0)
    assert [(one.mode, one.tenants) for one in found] == [(ALONE, 1), ("time-slicing", 2), ("mps", 2), ("half", 2)]
    assert all(2300 < one.iterations <= 2400 for one in found)
    for one in found[1:]:
        assert one.df99.estimate == pytest.approx(FACTORS[one.mode], rel=0.05)
    rates = {one.mode: one.rate_over_first for one in found}
    assert (rates[ALONE], rates["time-slicing"]) == (None, None)
    assert rates["mps"] is not None
    assert rates["mps"].estimate == pytest.approx((20 + 1) / (13 + 1), rel=0.01), "1 ms of thought each"
    assert (rates["mps"].lo or 0) > 1.4
    goodput = {one.mode: one.goodput.estimate or 0.0 for one in found}
    assert goodput[ALONE] > 0.99
    assert goodput["time-slicing"] < 0.05
    assert goodput["mps"] > goodput["half"] > goodput["time-slicing"]


def test_a_crowd_too_small_for_a_tail_has_none() -> None:
    """Else two tenants' few iterations would be drawn as a p99."""
    found = crowds(measured(planned(rounds=3), FACTORS, n=20), deadline_ms=15.0)
    assert [one.df99.estimate for one in found] == [1.0, None, None, None]
    assert "needs 368" in found[1].p99_ms.refused
    (figure,) = draw(found, {"mps": {2: 2**30}}, 15.0, "simulated")
    assert not figure.undrawn
    assert "no DF99" in figure.title


def test_a_mix_of_a_run_is_seen_as_a_run_of_it_alone(tmp_path: Path) -> None:
    """Else of twelve mixes that were measured together only the largest could be chosen for."""
    names = ["fft", "gemm", "tiny"]
    plain = make_plan(names, rounds=8)
    plain = msgspec.structs.replace(
        plain, conditions=(*plain.conditions, Condition(name="shared-fft+gemm", tenants=("fft", "gemm")))
    )
    run = Run(tmp_path, measured(in_modes(plain, MODES), FACTORS))
    assert set(run.mixes) == {("fft", "gemm", "tiny"), ("fft", "gemm")}
    part = run.of_mix("gemm", "fft")
    assert part.modes is not None
    assert [one.mode.name for one in part.modes.modes] == ["exclusive", "time-slicing", "mps", "half"]
    assert all(set(one.tenants) == {"fft", "gemm"} for one in part.modes.modes)
    assert all(one.proves for one in part.modes.modes)
    df = part.modes.mode("time-slicing").tenants["fft"].df99.estimate
    assert df == pytest.approx(2.0, rel=0.05)
    whole = run.of_mix(*names).modes
    assert whole is not None
    assert run.modes is not None
    assert whole.modes == run.modes.modes
    with pytest.raises(UsageError, match=r"no mix of fft, tiny .*"):
        run.of_mix("fft", "tiny")


def result(mode: str, work: float, slos: str | None = None, *, proves: bool = True) -> ModeResult:
    one = Estimate(estimate=10.0, lo=9.0, hi=11.0)
    tenant = InModeTenant(alone_p99=one, shared_p99=one, df99=one, progress=1.0)
    return ModeResult(mode=parse(mode)[0], shown="", proves=proves, tenants={"fft": tenant}, throughput=work, slos=slos)  # type: ignore[arg-type]


def summary(best: str, *modes: ModeResult, kind: str = "chosen") -> ModesSummary:
    return ModesSummary(
        schema=MODES_VERSION,
        run="r",
        experiment="e",
        device="d",
        is_gpu=False,
        outcome="complete",
        confidence=0.95,
        rounds=4,
        modes=modes,
        choice=Choice(best=best, runner_up="", reason="", kind=kind),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("chosen", "kind", "right", "lost"),
    [
        ("mps", "chosen", True, 0.0),
        ("time-slicing", "chosen", True, 0.04),
        ("exclusive", "chosen", False, 0.5),
        ("", "broken", False, 1.0),
    ],
)
def test_a_choice_is_right_within_a_twentieth_of_the_best(
    example: object, chosen: str, kind: str, right: bool, lost: float
) -> None:
    """Else the share of right choices would say more, or less, than it claims."""
    regret = _regret(example)
    there = summary("mps", result("exclusive", 1.0), result("time-slicing", 1.92), result("mps", 2.0))
    one = regret.scored("fft+gemm", summary(chosen, *there.modes, kind=kind), there)
    assert one.right is right
    assert one.regret(one.chosen) == pytest.approx(lost)


def test_a_mode_that_breaks_an_slo_or_is_not_proven_is_worth_nothing(example: object) -> None:
    """Else always taking the fastest mode would look free of regret."""
    regret = _regret(example)
    there = summary(
        "exclusive",
        result("exclusive", 1.0, "kept"),
        result("time-slicing", 1.9, "broken"),
        result("mps", 2.0, "kept", proves=False),
    )
    right = regret.scored("x", summary("exclusive", *there.modes), there)
    none = regret.scored("y", summary("", *there.modes, kind="undetermined"), there)
    lines = list(regret.table([right, none]))
    assert "| kts choose | 1 of 1 | 0.0 % | 0.0 % |" in lines
    assert "| always time-slicing | 0 of 1 | 100.0 % | 100.0 % |" in lines
    assert "| always mps | 0 of 1 | 100.0 % | 100.0 % |" in lines
    assert lines[-1].endswith("1 of 2 mixes.")
    assert regret.promises(there, 3.0) == {"fft": 30.0}


def test_where_mps_has_no_room_the_others_keep_theirs(example: object) -> None:
    """Else two clients too many would cost the figures of every mode."""
    data = example("modes_data")  # type: ignore[operator]
    plan = data.limited(in_modes(make_plan(["a", "b", "c", "d"]), parse("exclusive,time-slicing,mps")), "mps", 3)
    plan.check()
    assert len(plan.condition("shared-a+b+c+d").tenants) == 4
    assert plan.condition("shared-a+b+c+d@mps").tenants == ("a@mps", "b@mps", "c@mps")
    assert "d@mps" not in {tenant.name for tenant in plan.tenants}


@pytest.mark.parametrize(
    ("fails", "last_modes"),
    [
        ([], (["time-slicing", "mps", "streams"], 50)),
        (["agent-49@mps: no room for one more client"], (["time-slicing", "mps", "streams"], 48)),
        (["MPS: nvidia-cuda-mps-control is not on this machine"], (["time-slicing", "streams"], 50)),
        (["agent-9@mps: faulted"] * 3, (["time-slicing", "streams"], 50)),
        (["agent-2@streams: no sign of life"], (["time-slicing", "mps"], 50)),
    ],
)
def test_what_fails_in_a_mode_costs_that_mode_and_not_the_rest(
    example: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: list[str],
    last_modes: tuple[list[str], int],
) -> None:
    """Else one client too many would cost the machine's only hour."""
    script = example("10_modes")  # type: ignore[operator]
    modes, clients = last_modes
    left, plans = list(fails), []

    def measure(_out: Path, _text: str, plan: Plan, seconds: float) -> str:
        assert seconds > 0
        plans.append(plan)
        return left.pop(0) if left else ""

    monkeypatch.setattr(script, "_measured", measure)
    monkeypatch.setattr("sys.argv", ["10_modes.py", "fifty", str(tmp_path / "out"), "--loose"])
    script.main()
    last = plans[-1]
    last.check()
    assert [arm.mode.name for arm in last.modes if arm.mixes] == modes
    assert (
        max(len(arm.tenants) for arm in last.modes if arm.mode.kind == (MPS if "mps" in modes else "streams"))
        == clients
    )
    assert sorted({len(one.tenants) for one in last.conditions}) == sorted({1, 2, 4, 8, 16, 32, 50, clients})
    assert len(json.loads((tmp_path / "out" / "fell.json").read_text())) == len(fails)


def test_a_run_that_was_ended_by_the_clock_is_used_and_nothing_of_it_is_measured_anew(
    example: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time limit of a machine would cost what was measured before it."""
    script = example("10_modes")  # type: ignore[operator]
    run = measured(planned(), FACTORS, n=5)
    ended = SimpleNamespace(
        data=run, failure=OSError(), outcome=SimpleNamespace(kind="interrupted", reason="stopped by the user")
    )
    monkeypatch.setattr(script, "measured", lambda *_, **__: ended)
    assert script._measured(tmp_path, "", planned(), 1.0) == ""
    ended.outcome.kind, ended.outcome.reason = "incomplete", "a tenant died"
    ended.data = SimpleNamespace(blocks=())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text('{"kind": "lost", "tenant": "a@mps"}\n')
    assert script._measured(tmp_path, "", planned(), 1.0) == "a@mps: a tenant died"


def test_memory_is_that_of_the_tenants_processes_and_under_mps_the_servers(example: object) -> None:
    """Else a mode would look lighter than it is."""
    data = example("modes_data")  # type: ignore[operator]
    info = measured(planned(), FACTORS, n=5).info
    workers = tuple(msgspec.structs.replace(worker, pid=100 + number) for number, worker in enumerate(info.workers))
    info = msgspec.structs.replace(info, workers=workers)
    told = {"by_pid": {"7": 1000, **{str(worker.pid): 10 for worker in workers}}}
    assert data.memory_of(info, told) == {"time-slicing": {2: 20}, "mps": {2: 1020}, "half": {2: 1020}}
    assert data.memory_of(info, {"by_pid": {}}) == {}


def _regret(example: object) -> ModuleType:
    module: ModuleType = example("modes_regret")  # type: ignore[operator]
    return module
