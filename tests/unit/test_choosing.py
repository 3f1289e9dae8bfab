"""`kts choose`: from a run, from profiles; what it prints, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from tests.helpers_cli import record
from tests.helpers_physics import fingerprint, pair_of_profiles
from tests.helpers_report import terminal_text
from tests.helpers_stats import FakeRun
from tests.unit.test_modes import measured, planned

import kts
from kts.app.choosing import default_modes
from kts.cli import choose as command
from kts.cli.main import main
from kts.k8s.objects.choice import PLUGIN
from kts.model.modes import Chosen
from kts.model.plan import Slo
from kts.model.run import Outcome
from kts.plan import build
from kts.report import document as doc
from kts.report import markdown, page
from kts.report.choosing import chosen_elements
from kts.sharing import parse
from kts.spec import load_text

ASSUMED = ("--assume", "2,0.18,0.1", "--seconds", "20")
FACTORS = {"time-slicing": 2.0, "mps": 1.2, "half": 1.6}


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair_of_profiles(tmp_path_factory.mktemp("profiles"), n=400)


def of_run(run: FakeRun) -> kts.Run:
    return kts.Run(Path("run"), run, Outcome(kind="complete"))


def shown(chosen: Chosen, width: int = 100) -> str:
    return terminal_text(doc.Document(tuple(chosen_elements(chosen))), width)


def test_a_run_in_modes_ends_in_a_mode_a_reason_and_lines_to_copy() -> None:
    """The way of `kts choose RUN`. Every line of YAML stands in it as it is: folded, it would be another."""
    chosen = kts.choose(of_run(measured(planned(Slo(p99_ms=18.0)), FACTORS)))
    text = shown(chosen, 60)
    flat = " ".join(text.split())
    assert "Best: mps (CUDA MPS). Runner-up: exclusive. It keeps every SLO, and the device does" in flat
    assert "SLOs broken in time-slicing, half" in flat
    plugin = next(one for one in chosen.cluster if one.title == PLUGIN)
    assert plugin.text in text
    assert yaml.safe_load(plugin.text)["sharing"]["mps"]["resources"][0]["replicas"] == 2
    made = doc.Document(tuple(chosen_elements(chosen)))
    assert "    version: v1\n    sharing:\n      mps:\n" in markdown.render(made)
    assert "<pre>version: v1\nsharing:\n  mps:\n" in page.render(made)


def test_another_promise_is_another_choice_of_the_same_run() -> None:
    run = of_run(measured(planned(), FACTORS))
    assert kts.choose(run).modes.choice.best == "mps"
    assert kts.choose(run, slo={"gemm": 14.0}).modes.choice.best == "exclusive"
    none = kts.choose(run, slo={"gemm": 1.0})
    assert (none.modes.choice.kind, none.cluster) == ("broken", ())
    assert "No mode is recommended. Every mode breaks an SLO" in " ".join(shown(none).split())
    with pytest.raises(kts.KtsError, match="no tenant 'x'"):
        kts.choose(run, slo={"x": 1.0})


def test_each_way_to_end_has_its_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a script could not tell a choice from none, or a machine that is too slow from a run that is too short."""
    run = of_run(measured(planned(), FACTORS))
    monkeypatch.setattr(kts, "choose", lambda _, slo: kts.app.choose(run, slo=slo))
    p99 = run.summary.tenants["fft"].response.solo.p99.estimate
    codes = {limit: main(["choose", str(tmp_path), "--slo", f"fft.p99={limit}"]) for limit in (99.0, 1.0, p99)}
    assert codes == {99.0: 0, 1.0: 8, p99: 9}
    assert set(command.CODES.values()) == {0, 8, 9}


def test_a_run_without_modes_has_nothing_to_choose_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", str(record(tmp_path / "run"))]) == 7
    assert "measured no modes" in capsys.readouterr().err


def test_from_profiles_it_is_a_prediction_and_says_so(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the model's figures would pass for measured ones, or what is said of MPS for more than a first model."""
    asked = ("--modes", "exclusive,time-slicing,mps,mps:50", "--slo", "gemm.p99=30", "--json")
    assert main(["choose", "--profiles", str(profiles), *ASSUMED, *asked]) == 0
    out = capsys.readouterr()
    told = json.loads(out.out)
    assert told["basis"] == "predicted"
    assert [(one["mode"]["name"], one["predicted"], one["proves"]) for one in told["modes"]["modes"]] == [
        ("exclusive", True, False),
        ("time-slicing", True, False),
        ("mps", True, False),
    ]
    text = " ".join(out.err.split())
    assert "Predicted from profiles; nothing was run." in text
    assert "no model of mps-50 yet: measure it" in text
    assert "predicted: kernels of all tenants in one line, none interrupted (a first model)" in text
    assert "Without turns it is 8 % of times and 22 % of hosts' speed, fitted to one pair under MPS" in text
    assert "GPU is as it was" not in text, "nothing was run"
    for number, mode in enumerate(("time-slicing", "mps"), start=1):
        given = kts.predict("fft+gemm", profiles=profiles, assume=(2, 0.18, 0.1), seconds=20, mode=mode)
        foretold = given.mixes[0].tenants["fft"]
        shown = told["modes"]["modes"][number]["tenants"]["fft"]
        assert shown["shared_p99"]["estimate"] == foretold.response.p99.value
        assert shown["df99"]["hi"] == foretold.df.p99.hi
    turns = told["modes"]["modes"][1]
    assert turns["throughput"] == pytest.approx(sum(one["progress"] for one in turns["tenants"].values()), rel=1e-9)
    assert turns["tenants"]["gemm"]["slo_ms"] == 30


def test_an_experiments_promises_and_tenants_are_predicted(profiles: Path, tmp_path: Path) -> None:
    """Else its SLOs would be asked again on the command line, and copies of a tenant would need profiles of their
    own."""
    (tmp_path / "x.yaml").write_text(
        "name: x\ntenants:\n"
        "  fft-1: {workload: fft, size: 64, think_ms: 5, iterations: 100, slo: {p99_ms: 1}}\n"
        "  fft-2: {workload: fft, size: 64, think_ms: 5, iterations: 100}\n"
    )
    chosen = kts.predict_choice(tmp_path / "x.yaml", profiles=profiles, assume=(2, 0.18, 0.1), seconds=20)
    assert chosen.modes.choice.kind == "broken"
    assert [one.slo_ms for one in chosen.modes.modes[0].tenants.values()] == [1, None]
    named = kts.predict_choice("fft*2", slo={"fft": 500}, profiles=profiles, assume=(2, 0.18, 0.1), seconds=20)
    assert [one.slo for one in named.modes.mode("exclusive").tenants.values()] == ["kept", "kept"]


def test_a_fingerprint_of_another_mode_is_no_ground_for_turns(profiles: Path) -> None:
    other = msgspec.structs.replace(fingerprint(), mode="mps")
    with pytest.raises(kts.KtsError, match="the fingerprint is of mps, and the model needs turns"):
        kts.predict_choice(profiles=profiles, fingerprint=other)


def test_a_mode_without_a_model_alone_is_refused(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", "--profiles", str(profiles), *ASSUMED, "--modes", "mps:50"]) == 7
    assert "no model of mps-50 yet: measure it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "choose of what?"),
        (["agents", "--slo", "fft.p50=3"], "must be TENANT.p99=MS"),
        (["agents", "--slo", "fft.p99=-3"], "must be TENANT.p99=MS"),
        (["agents", "--slo", "p99=3"], "must be TENANT.p99=MS"),
        (["agents", "--assume", "2,1,1"], "no --profiles"),
        ([".", "--modes", "mps"], "nothing is measured anew"),
        (["--profiles", "PROFILES", *ASSUMED, "--device", "cpu"], "are to measure"),
        (["--profiles", "PROFILES", *ASSUMED, "--slo", "x.p99=3"], "no tenant 'x'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    words: list[str], said: str, profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["choose", *(str(profiles) if word == "PROFILES" else word for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_by_default_the_plugins_own_mps_is_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a choice for MPS could not be set on a cluster whose plugin limits every client."""
    text = "name: x\ntenants:\n" + "".join(f"  t{k}: {{workload: fft, size: 8, iterations: 9}}\n" for k in range(3))
    plan = build(load_text(text, source="x").experiment)
    monkeypatch.setattr("kts.app.choosing.shutil.which", lambda _: "/usr/bin/x")
    gpu = default_modes(msgspec.structs.replace(plan, device="cuda"))
    assert [one.name for one in parse(",".join(gpu))] == ["exclusive", "time-slicing", "mps", "mps-33"]
    assert default_modes(msgspec.structs.replace(plan, device="cpu")) == ["exclusive", "cpu-scheduler"]
    monkeypatch.setattr("kts.app.choosing.shutil.which", lambda _: None)
    assert default_modes(msgspec.structs.replace(plan, device="cuda")) == ["exclusive", "time-slicing"]
