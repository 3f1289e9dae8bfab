"""Turns looked for by two probes: what their traces say, and what that does to the mode that was asked for."""

from __future__ import annotations

import sys
import textwrap

import pytest
from msgspec.structs import replace
from tests.helpers_probe import HERE_NS, THRESHOLD_NS, seen_by, sharing, watching
from tests.helpers_stats import make_plan
from tests.unit.test_modes import measured, planned

from kts.errors import MeasurementError
from kts.model.modes import ModeResult
from kts.model.sharing_facts import TurnsKind, TurnsSeen
from kts.physics.simulate import simulate
from kts.plan import in_modes
from kts.sharing import parse, probed
from kts.sharing.port import Held
from kts.stats import analyse
from kts.stats.choosing import modes_summary
from kts.stats.modes import views
from kts.worker.probe.together import together
from kts.worker.probe.traces import GapTrace

MS = 1_000_000


def looked_for(ms: float, *gaps: tuple[float, float], after_ms: float = 0.0) -> GapTrace:
    start = HERE_NS + round(after_ms * MS)
    pairs = tuple((start + round(begin * MS), round(length * MS)) for begin, length in gaps)
    return GapTrace(start_ns=start, end_ns=start + round(ms * MS), gaps=pairs)


def test_probes_that_a_gpu_serves_in_turns_are_never_there_together() -> None:
    """Else time-slicing would go unproven, or MPS would be believed of a device that takes turns."""
    outcome = simulate([watching(300), watching(300)], sharing(), horizon_ms=300)
    first, second = outcome.tenants
    found = together(seen_by(first), seen_by(second), THRESHOLD_NS)
    assert found.kind == "turns"
    assert found.both < 0.01
    assert found.handed > 50
    assert all(0.4 < away < 0.7 for away in found.away)
    assert "two probes took turns" in found.words()


@pytest.mark.parametrize("gaps", [(), ((50.0, 2.0), (52.5, 0.01))])
def test_probes_that_are_there_at_once_take_no_turns(gaps: tuple[tuple[float, float], ...]) -> None:
    """Also where a third party, which has contexts of its own, takes the device from both of them."""
    found = together(looked_for(300, *gaps), looked_for(300, *((b - 4, g) for b, g in gaps), after_ms=4), THRESHOLD_NS)
    assert found.kind == "at-once"
    assert found.both == pytest.approx(1.0)
    assert found.window_ms == pytest.approx(296)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (looked_for(300), looked_for(300, after_ms=290)),
        (looked_for(300), looked_for(300, (0.0, 150.0))),
        (looked_for(300, (0.0, 150.0)), looked_for(300, (150.0, 150.0))),
    ],
    ids=["hardly at once", "half and half", "one after the other, once"],
)
def test_what_shows_neither_is_called_neither(a: GapTrace, b: GapTrace) -> None:
    """Else one that came late would count as a turn."""
    assert together(a, b, THRESHOLD_NS).kind == "unclear"


@pytest.mark.parametrize(
    ("mode", "kind", "proves", "says"),
    [
        ("mps", "at-once", True, "mps; no turns were seen by two probes"),
        ("mps", "turns", False, "asked for mps, not proven: two probes took turns"),
        ("time-slicing", "turns", True, "time-slicing; two probes took turns"),
        ("time-slicing", "at-once", False, "asked for time-slicing, not proven: no turns were seen"),
        ("mps", "unclear", True, "mps"),
        ("mps", "not-looked", True, "mps"),
    ],
)
def test_a_mode_is_proven_only_where_probes_do_not_see_the_opposite(
    mode: str, kind: TurnsKind, proves: bool, says: str
) -> None:
    """Else a client of a server that does not let clients run at once would be reported as MPS, and chosen."""
    one = _with({mode: TurnsSeen(kind=kind, window_ms=300, why="no compiler")}, mode)
    assert one.proves is proves
    assert one.shown.startswith(says)
    doubted = kind in ("unclear", "not-looked")
    assert any("prob" in text for text in one.doubts) is doubted


def _with(turns: dict[str, TurnsSeen], mode: str) -> ModeResult:
    run = measured(planned(rounds=4), {"time-slicing": 2.0, "mps": 1.3, "half": 1.5})
    return modes_summary(run, {n: analyse(v).summary for n, v in views(run).items()}, turns=turns).mode(mode)


PROBE = """
import json, os, sys
end = 300_000_000 if os.environ["SEES"] == "all" else 1
info = {"kind": "cuda", "uuid": "g", "name": "G", "label": "G", "library": "l"}
print(json.dumps({"kind": "done", "info": info}), flush=True)
for line in sys.stdin:
    if json.loads(line)["do"] == "ticks":
        print(json.dumps({"kind": "done", "numbers": list(range(0, 3200, 32))}), flush=True)
    else:
        print(json.dumps({"kind": "done", "trace": {"start_ns": 0, "end_ns": end}}), flush=True)
"""


def test_each_probe_has_the_environment_of_a_tenant() -> None:
    """Else probes would look at another mode than the tenants are in."""
    command = (sys.executable, "-c", textwrap.dedent(PROBE))
    assert probed.seen("cuda", [{"SEES": "all"}, {"SEES": "all"}], command=command).kind == "at-once"
    assert probed.seen("cuda", [{"SEES": "all"}, {"SEES": "nothing"}], command=command).kind == "unclear"
    with pytest.raises(MeasurementError, match="SEES"):
        probed.seen("cuda", [{}, {}], command=command)


def test_a_machine_without_a_probe_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a missing compiler would end a run that needs none; and modes without turns are not asked about."""
    asked = []

    def none(_: str, envs: list[dict[str, str]]) -> TurnsSeen:
        asked.append(envs)
        raise MeasurementError("no compiler", "install one")

    monkeypatch.setattr(probed, "seen", none)
    plan = replace(in_modes(make_plan(), parse("exclusive,time-slicing,mps,streams")), device="cuda")
    env = {"fft": {"A": "1"}, "gemm": {"A": "2"}, "fft@mps": {"B": "1"}, "gemm@mps": {"B": "2"}}
    found = probed.looked(plan, Held(env), lambda _: None)
    assert found == dict.fromkeys(("time-slicing", "mps"), TurnsSeen(kind="not-looked", why="no compiler"))
    assert asked == [[{"A": "1"}, {"A": "2"}], [{"B": "1"}, {"B": "2"}]]
    assert probed.looked(replace(plan, device="cpu"), Held(env), print) == {}
