"""Programs under MPS: side by side, each alone with slower kernels. On paper, and the words and bands of it."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_physics import fingerprint, profile

import kts
from kts.app.inputs import basis
from kts.arrivals import Closed
from kts.model.mode import MPS
from kts.model.plan import PROGRAM
from kts.physics.fitted import BESIDE, IN_LINE_ERROR, MODEL_ERROR, PROFILED_HOST, PROGRAMS_ERROR, hosts_profiled
from kts.physics.forecast import Figures, ModelError
from kts.physics.predict import Effort, Predictor
from kts.physics.side_by_side import crowded, presence
from kts.physics.values import Iterations, Profile, make_profile
from kts.report.forecasts import SIDE_BY_SIDE_WORDS

SHORT = Effort(iterations=2000, replicates=10, seconds=20)
TURNS = (2.05, 0.2, 0.15)


def program(name: str, duration_ms: float, *, think_ms: float = 10.0, n: int = 400) -> Profile:
    """Its kernels take that long on the GPU, its host next to nothing."""
    made = profile(name, duration_ms, arrivals=Closed(think_ms=think_ms), spread=0.0, n=n)
    return msgspec.structs.replace(made, workload=PROGRAM)


def eager(name: str, n: int = 400) -> Profile:
    """Four short kernels, of 0.01 ms each, one every 3 ms of its host."""
    them = Iterations(
        first=4 * np.arange(n + 1),
        offset_ms=np.tile(3 * np.arange(4.0), n),
        duration_ms=np.full(4 * n, 0.01),
        retire_ms=np.full(n, 0.5),
    )
    made = make_profile(name, them, fingerprint().gpu, workload=PROGRAM, solo_service_ms=np.full(2 * n, 9.51))
    return msgspec.structs.replace(made, method="launches")


def test_two_that_always_have_kernels_slow_each_other_by_the_measured_share() -> None:
    """Else a figure of MPS has nothing to do with what was fitted. In one line each would take twice as long."""
    pair = {"a": program("a", 5.0, think_ms=0.0), "b": program("b", 5.0, think_ms=0.0)}
    np.testing.assert_allclose(presence(list(pair.values())), 1.0, atol=0.02)
    response = Predictor(pair, fingerprint().in_mode(MPS), SHORT).mix(["a", "b"]).tenants["a"].response
    assert response.mean.value == pytest.approx(5.0 * (1 + BESIDE) + 0.05, rel=0.01)


def test_an_eager_program_hides_what_its_short_kernels_lose() -> None:
    """Its host launches one every 3 ms, and 0.01 or 0.016 ms of GPU is all the same to it: taken for processor
    sharing of whole iterations, or for standing in line, it would wait."""
    alone, beside = eager("eager"), program("busy", 5.0, think_ms=0.0)
    mix = Predictor({"eager": alone, "busy": beside}, fingerprint().in_mode(MPS), SHORT).mix(["eager", "busy"])
    assert mix.tenants["eager"].response.mean.value == pytest.approx(9.51, abs=0.05)
    assert mix.tenants["busy"].response.mean.value == pytest.approx(5.05, rel=0.02)
    assert mix.idle == pytest.approx(0.0, abs=0.02)
    assert mix.busy == pytest.approx(1 - mix.idle)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 20), st.floats(0, 50)), min_size=1, max_size=5))
def test_company_slows_and_never_by_more_than_all_of_it(them: list[tuple[float, float]]) -> None:
    """Property: presences lie between those alone and 1, and no kernel is faster than alone or slowed by more tenants
    than there are; alone nothing changes."""
    tenants = {f"t{k}": program(f"t{k}", ms, think_ms=think, n=20) for k, (ms, think) in enumerate(them)}
    shares = presence(list(tenants.values()))
    alone = [float(presence([one])[0]) for one in tenants.values()]
    assert (shares >= np.array(alone) - 1e-9).all()
    assert (shares <= 1).all()
    for name, made in crowded(tenants, 1).items():
        factor = made.iterations.duration_ms / tenants[name].iterations.duration_ms
        assert factor.min() >= 1 - 1e-4
        assert factor.max() <= 1 + BESIDE * (len(them) - 1) + 1e-4
        assert (made.iterations.offset_ms == tenants[name].iterations.offset_ms).all()


def test_hosts_that_only_profiles_tell_are_uncertain_and_slow_together() -> None:
    """A profile of four seconds foretold hosts that no run had, and bands that held a third. Where each program had a
    draw of its own, one's fast host would make up for another's slow one. Tenants of our own keep what they had."""
    tenants = {"a": eager("a"), "b": eager("b"), "ours": msgspec.structs.replace(eager("ours"), workload="decode")}
    names = {name: name for name in tenants}
    told, profiled = (
        [Predictor(tenants, fingerprint(), SHORT, error)._hosts(names, seed) for seed in range(400)]
        for error in (MODEL_ERROR, hosts_profiled(MODEL_ERROR))
    )
    assert [one["ours"] for one in told] == [one["ours"] for one in profiled]
    logs = np.log([[one["a"].shared, one["b"].shared, one["a"].solo] for one in profiled])
    parts = np.array([PROFILED_HOST, MODEL_ERROR.host, MODEL_ERROR.host_block]) ** 2
    assert logs.std(axis=0) == pytest.approx(parts.sum() ** 0.5, rel=0.15)
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(parts[0] / parts.sum(), abs=0.1)


def test_only_programs_under_mps_are_predicted_so() -> None:
    """Kernels of our own stand in line there, and hosts are as profiled in every mode, or MPS would lose by its own."""
    ours, theirs = {"fft": profile("fft", 3.0, n=400)}, {"app": program("app", 3.0)}
    line, side = (Predictor(one, fingerprint().in_mode(MPS), SHORT, MODEL_ERROR) for one in (ours, theirs))
    assert (line.side_by_side, line.model_error) == (False, IN_LINE_ERROR)
    assert (side.side_by_side, side.model_error) == (True, PROGRAMS_ERROR)
    assert Predictor(theirs, fingerprint(), SHORT, MODEL_ERROR).model_error is MODEL_ERROR
    given = ModelError(relative=0.2, source="given")
    assert Predictor(theirs, fingerprint().in_mode(MPS), SHORT, given).model_error is given
    app = eager("app")
    turns, mps = (basis({"profiles": app, "assume": TURNS, "mode": mode}) for mode in ("", MPS))
    assert (turns.error, mps.error) == (hosts_profiled(MODEL_ERROR), hosts_profiled(PROGRAMS_ERROR))
    assert turns.profiles["app"] is mps.profiles["app"] is app
    assert Predictor(theirs, fingerprint(), SHORT, mps.error).model_error == turns.error


def test_who_compares_modes_compares_the_same_hosts() -> None:
    """With other hosts in one mode only, it would lose by them alone; and where a choice minded how fast all hosts will
    be, exclusive use, of which the profile says everything, would win by that alone."""
    both = {"profiles": [eager("a"), eager("b")], "assume": TURNS, "seconds": 5}
    chosen = kts.predict_choice("a+b", slo={"a": 1000.0, "b": 1000.0}, **both)
    alone, turns, mps = (one.tenants["a"] for one in chosen.modes.modes)
    assert [one.mode.name for one in chosen.modes.modes] == ["exclusive", "time-slicing", "mps"]
    assert (
        turns.alone_p99.estimate == alone.alone_p99.estimate == mps.alone_p99.estimate == pytest.approx(9.51, rel=0.01)
    )
    assert SIDE_BY_SIDE_WORDS in chosen.modes.modes[2].shown
    asked = kts.whatif("a+b", modes=[MPS], **both)
    assert (asked.model_error, asked.without_turns) == tuple(map(hosts_profiled, (MODEL_ERROR, PROGRAMS_ERROR)))
    now, then = (answer.forecast.tenants["a"] for answer in asked.answers)
    assert now.solo == then.solo
    assert turns.shared_p99.hi < now.response.p99.hi
    figures: Figures = then.response
    assert figures.p99.lo < figures.p99.value < figures.p99.hi


def test_sealed_predictions_are_what_was_published() -> None:
    """A prediction that was made again after the run would be held against it as if it had been there before."""
    folder = Path(__file__).parents[2] / "examples" / "modes" / "h200-mps-sealed"
    published = dict(line.split("  ")[::-1] for line in (folder / "HASHES").read_text(encoding="utf-8").splitlines())
    found = {}
    for name in ("predictions", "choices"):
        with tarfile.open(folder / f"{name}.tar.xz") as tar:
            for member in tar.getmembers():
                if (file := tar.extractfile(member)) is not None:
                    found[Path(member.name).name] = hashlib.sha256(file.read()).hexdigest()
    assert found == published
