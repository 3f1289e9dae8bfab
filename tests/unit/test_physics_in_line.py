"""Tenants without turns (MPS, streams): their kernels stand in one line. On paper, and against a run on an H200."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.helpers_physics import due_at, fingerprint, launches, paced, pair_of_profiles, profile, saturating

import kts
from kts.app.inputs import basis
from kts.cli.main import main
from kts.model.mode import MPS, STREAMS
from kts.model.plan import PROGRAM
from kts.physics.fitted import IN_LINE_ERROR, MODEL_ERROR
from kts.physics.forecast import ModelError
from kts.physics.predict import Effort, Predictor
from kts.physics.remedies import changes
from kts.physics.simulate import SharingModel, Stream, simulate
from kts.physics.validate import Score
from kts.physics.values import make_profile
from kts.physics.whatif import Question
from kts.report.cells import number

LINE = SharingModel(2.0, (0.2,), (0.1,), (0.1,), in_line=True)
ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "examples" / "modes" / "h200-fast-5"
TURNS = (2.05, 0.2, 0.15)
SHORT = Effort(iterations=2000, replicates=10)


def once(*kernels_ms: float, lanes: tuple[int, ...] | None = None, at_ms: float = 0.0) -> Stream:
    """One iteration, submitted then, whose launches are queued at once."""
    them = launches([0.0] * len(kernels_ms), list(kernels_ms))
    if lanes is not None:
        them = replace(them, lane=np.array(lanes))
    return Stream(them, np.zeros(1, np.int64), think_ms=np.zeros(1), start_ms=at_ms)


def test_a_short_kernel_waits_for_the_rest_of_a_long_one() -> None:
    """Not for the rest of a slice: beside one that always has a kernel of 5 ms, response = U(0, 5) + d, and nothing is
    lost to switches. Else MPS would be foretold as gentle as turns."""
    rng = np.random.default_rng(1)
    light = paced(0.25, rng.uniform(40, 120, 20_000))
    outcome = simulate([light, saturating(5.0, 10**6)], LINE)
    p = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(np.quantile(outcome.tenants[0].response_ms, p), 5 * p + 0.25, atol=0.08)
    assert (outcome.switch_ms, outcome.idle_ms, outcome.switches) == (0.0, 0.0, (0, 0, 0))


def test_each_kernel_of_an_iteration_stands_in_the_line_anew() -> None:
    """Two of 2 ms beside one of 20: 44 ms, both saturating; an FFT of two kernels took 43.6 beside a GEMM of 20 on an
    H200. The long one loses one short kernel per iteration."""
    short = Stream(launches([0.0, 0.0], [2.0, 2.0]), np.zeros(100, np.int64), think_ms=np.zeros(100))
    done, long = simulate([short, saturating(20.0, 10**4)], LINE).tenants
    np.testing.assert_allclose(done.service_ms[1:], 44.0)
    np.testing.assert_allclose(long.service_ms[1:], 22.0)


def test_who_came_first_is_next_and_not_who_follows_in_the_circle() -> None:
    first, third, second = (due_at(4.0, [at]) for at in (0.0, 2.0, 1.0))
    done = simulate([first, third, second], LINE, stop_at_first=False).tenants
    assert [one.end_ms[0] for one in done] == [4.0, 12.0, 8.0]


def test_what_comes_in_the_very_instant_keeps_its_place() -> None:
    """At 3 ms each has a kernel of no length and one behind it: who is first then does both. The two simulators said
    otherwise."""
    pair = [once(1.5, 0.0, 0.5), once(1.5, 0.0, 0.5)]
    done = simulate(pair, LINE, stop_at_first=False).tenants
    assert [one.end_ms[0] for one in done] == [4.0, 3.5]


def test_a_higher_priority_goes_before_who_waits_and_interrupts_nobody() -> None:
    long, waits, high = due_at(5.0, [0.0]), due_at(1.0, [1.0]), due_at(1.0, [2.0], priority=1)
    done = simulate([long, waits, high], LINE, stop_at_first=False).tenants
    assert [one.end_ms[0] for one in done] == [5.0, 7.0, 6.0]


@pytest.mark.parametrize("came_ms", [0.5, 1.0])
def test_lanes_run_side_by_side_until_somebody_elses_kernel_came_before(came_ms: float) -> None:
    """The lane that becomes free at 1 ms starts its second kernel at once only if nobody came until then, be it in the
    very instant: a process with many streams would never let anybody in."""
    lanes = once(1.0, 4.0, 2.0, lanes=(0, 1, 0))
    alone = simulate([lanes], LINE).tenants[0]
    assert alone.service_ms[0] == 4.0
    mine, other = simulate([lanes, once(3.0, at_ms=came_ms)], LINE, stop_at_first=False).tenants
    assert (other.begin_ms[0], mine.end_ms[0]) == (4.0, 9.0)
    late = simulate([lanes, once(3.0, at_ms=1.25)], LINE, stop_at_first=False).tenants
    assert (late[0].end_ms[0], late[1].begin_ms[0]) == (4.0, 4.0)


def test_processes_whose_threads_share_a_lane_let_each_other_in() -> None:
    """At 9 ms each has a kernel that came early behind one of another thread that came late. Neither would begin, for
    ever, did the place in the line not count for what is next in the lane."""
    threads = ("a", (5.0, 1.0), 0.0), ("a", (1.0,), 2.0), ("b", (4.0, 1.0), 0.5), ("b", (1.0,), 3.0)
    pair = [
        replace(once(*kernels, lanes=(0,) * len(kernels), at_ms=at_ms), process=name)
        for name, kernels, at_ms in threads
    ]
    done = simulate(pair, LINE, stop_at_first=False).tenants
    assert [one.end_ms[0] for one in done] == [10.0, 11.0, 12.0, 13.0]


def test_a_recorded_event_waits_for_nobody_elses_kernel() -> None:
    """The stopwatch under MPS starts when it is submitted: device p99 was 23.7 of 23.9 ms on an H200. Held in the line,
    an event behind the kernel would double the wait."""
    alone = launches([0.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    made = make_profile("short", alone, fingerprint().gpu)
    other = profile("long", 30.0, n=400)
    shared = Predictor({"short": made, "long": other}, fingerprint().in_mode(MPS), SHORT).profiles["short"]
    streams = [Stream(shared.iterations, np.zeros(1, np.int64), think_ms=np.zeros(1), start_ms=1.0), once(30.0)]
    done = simulate(streams, LINE, stop_at_first=False).tenants[0]
    assert (done.begin_ms[0], done.end_ms[0]) == (1.0, 31.0)
    turns = Predictor({"short": made}, fingerprint(), SHORT).profiles["short"]
    assert turns.iterations.apart is None, "in turns an event waits for one"


def test_what_is_fitted_to_turns_is_not_taken_for_the_error_without_them() -> None:
    """Nor is an error of the user's own replaced."""
    profiles = {"fft": profile("fft", 3.0, n=400)}
    assert Predictor(profiles, fingerprint().in_mode(MPS), SHORT, MODEL_ERROR).model_error is IN_LINE_ERROR
    assert Predictor(profiles, fingerprint(), SHORT, MODEL_ERROR).model_error is MODEL_ERROR
    given = ModelError(relative=0.2, source="given")
    assert Predictor(profiles, fingerprint().in_mode(MPS), SHORT, given).model_error is given
    now = Question("as it is", ("fft",), profiles, fingerprint())
    assert now.in_mode(STREAMS).fingerprint.in_line


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    return {
        mode: kts.validate(kts.predict(from_run=MEASURED, assume=TURNS, mode=mode), MEASURED)
        for mode in ("time-slicing", MPS, STREAMS)
    }


def test_the_page_says_what_the_run_says(scores: dict[str, Score]) -> None:
    """docs/physics.md, Without turns."""
    rows = [
        f"| {mode} | {tenant.tenant} | {one.figure} | {number(one.predicted.value)} | {number(one.measured)} | "
        f"{100 * one.error:+.1f} % |"
        for mode, score in scores.items()
        for tenant in score.tenants
        if tenant.clock == "response"
        for one in tenant.figures
    ]
    page = (ROOT / "docs" / "physics.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in page, "\n".join(rows)


def test_the_error_of_the_model_comes_from_that_run(scores: dict[str, Score]) -> None:
    """Root mean square of what is predicted without turns, wider by Student's t for two tenants: docs/physics.md."""
    errors = [
        math.log1p(one.error)
        for mode in (MPS, STREAMS)
        for tenant in scores[mode].tenants
        for one in (tenant.figures if tenant.clock == "response" else ())
    ]
    wider = 2.920 / 1.645
    assert round(wider * math.sqrt(sum(e * e for e in errors) / len(errors)), 2) == IN_LINE_ERROR.relative
    assert all(one.inside for mode in (MPS, STREAMS) for tenant in scores[mode].tenants for one in tenant.figures)


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair_of_profiles(tmp_path_factory.mktemp("profiles"), n=400)


ASSUMED = ("--assume", "2,0.18,0.1", "--seconds", "20")


def test_a_prediction_file_says_its_mode(profiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else it would be held against a run in turns, unsaid."""
    file = tmp_path / "p.json"
    assert main(["predict", "--profiles", str(profiles), *ASSUMED, "--mode", "mps", "--out", str(file)]) == 0
    assert json.loads(file.read_bytes())["fingerprint"]["mode"] == "mps"
    assert "mps: kernels of all tenants in one line, none interrupted (a first model)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "mode", "said"),
    [
        ("predict", "mig", "there is no model of it here"),
        ("whatif", "exclusive", "there is one of time-slicing, mps, streams"),
    ],
)
def test_a_mode_without_a_model_is_refused(
    command: str, mode: str, said: str, profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--profiles", str(profiles), *ASSUMED, "--mode", mode]) == 2
    assert said in capsys.readouterr().err


def test_what_is_said_of_the_bands_is_what_is_in_them(profiles: Path) -> None:
    """What if and explain of a mix under MPS named the error that was fitted to turns; their bands had the other."""
    turns, line = (basis({"profiles": profiles, "assume": TURNS, "mode": mode}) for mode in ("", MPS))
    assert (turns.error, line.error) == (MODEL_ERROR, IN_LINE_ERROR)
    assert turns.error_without_turns([MPS]) == IN_LINE_ERROR
    assert turns.error_without_turns(["time-slicing"]) is None
    given = basis({"profiles": profiles, "assume": TURNS, "mode": MPS, "model_error": 0.2})
    assert given.error.relative == given.error_without_turns([STREAMS]).relative == 0.2


def test_programs_are_no_threads_of_one_process() -> None:
    """A stream of one process is none of another's: kts cannot run that, so it does not foretell it."""
    one = msgspec.structs.replace(profile("app", 3.0, n=400), workload=PROGRAM)
    with pytest.raises(kts.KtsError, match="app cannot be a thread of one process"):
        kts.predict(profiles=one, assume=TURNS, mode=STREAMS)
    assert basis({"profiles": one, "assume": TURNS}).lines == (MPS,)


def test_a_run_in_several_modes_is_explained_in_one_of_them() -> None:
    """It ended with "fft@mps has no iterations alone", whatever was asked."""
    assert kts.explain(MEASURED, worst=0).mode == "time-slicing"
    assert kts.explain(MEASURED, mode=MPS, worst=0).mode == "mps"
    with pytest.raises(kts.KtsError, match="no mode 'mig' in this run"):
        kts.explain(MEASURED, mode="mig")


def test_a_change_of_mode_is_among_what_would_change_it() -> None:
    """Who asks "horrible latency, should I take MPS?" reads it in `kts explain`. Without turns a slice is none."""
    profiles = {name: profile(name, 3.0, n=400) for name in ("a", "b")}
    now = Question("", ("a", "b"), profiles, fingerprint())
    assert [one.label for one in changes(now, ())] == ["slice 1 ms", "slice 4 ms", "mps (a first model)"]
    assert changes(now.in_mode(MPS), ()) == ()
