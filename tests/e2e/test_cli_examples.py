"""The examples run as their README says."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.helpers_cli import DEADLINE_S, kts
from tests.helpers_physics import fingerprint

from kts.files import encode

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FULL = bool(os.environ.get("KTS_E2E_FULL"))


def _python(*arguments: str | Path, limit_s: float = DEADLINE_S) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs an example in this process, which has loaded kts already, and says what it prints; SystemExit where it ends
    with an error."""

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
        monkeypatch.chdir(ROOT)
        runpy.run_path(str(ROOT / script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_run_in_python(tmp_path: Path) -> None:
    """Else the first thing that a reader copies would not work."""
    lines = _python("examples/01_first_run.py", tmp_path / "run").splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["small", "heavy"]


def test_a_program_of_ones_own(tmp_path: Path) -> None:
    """Else the user's own programs could not be measured as the example promises."""
    file = ROOT / "examples" / "02_own_program" / "experiment.yaml"
    options = ("--rounds", "2", "--iterations", "60", "--precision", "none", "--no-figures", "--json")
    done = kts("run", file, "--out", tmp_path / "run", *options, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tenants"]["sorter"]["response"]["shared"]["n"] > 30


def test_a_plan_before_measuring(here: Callable[..., str]) -> None:
    """Else nobody could see what an experiment will do without running it."""
    shown = here("examples/03_plan_first.py", "agents")
    assert "round 1, block 0: " in shown
    assert re.search(r"foretold: no p99 or DF99 will be refused: \d+ rounds in about ", shown)


def test_a_crowd_in_two_modes(tmp_path: Path) -> None:
    """Else what measures fifty tenants on a GPU, in one go and with no second try, would not have run before."""
    out, step = tmp_path / "out", "examples/10_modes.py"
    few = ("--device", "cpu", "--most", "3", "--seconds", "300", "--starts", "300")
    said = _python(step, "fifty", out, *few, "--modes", "exclusive,cpu-scheduler")
    assert "outcome: complete" in said
    assert [file.name for file in out.iterdir()] == ["fifty.tar.gz"]
    rows = [line for line in _python(step, "table", out).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[:2] for row in rows[1:]] == [
        ["| alone", "1"],
        ["| cpu-scheduler", "2"],
        ["| cpu-scheduler", "3"],
    ]


def test_an_experiment_against_itself(tmp_path: Path) -> None:
    """Else nobody could find out how often the gate fails falsely on a machine of theirs."""
    file = tmp_path / "pairs.json"
    shown = _python("examples/gate/pairs.py", "--pairs", "1", "--seconds", "4", "--out", file)
    assert "| all | 1 | 0 |" in shown
    assert _python("examples/gate/pairs.py", "--show", "--out", file) == shown
    decided = _python("examples/gate/pairs.py", "--requests", "--show", "--out", "examples/gate/requests-cpu.json")
    assert all(table in Path("docs/gate.md").read_text(encoding="utf-8") for table in decided.split("\n\n"))


def test_predictions_of_programs_are_sealed_before_they_run(tmp_path: Path) -> None:
    """Else who has two GPUs for an hour would find out there that the script of the evaluation does not work."""
    (tmp_path / "busy.py").write_text(
        "import sys, time\n"
        "for i in range(10**9):\n"
        "    begin = time.time_ns(); end = begin + int(sys.argv[1]) * 1000\n"
        "    while time.time_ns() < end: pass\n"
        "    print(f'KTS_APP,v1,BUSY,{i},{begin},{time.time_ns()},nan,', flush=True); time.sleep(0.001)\n",
        encoding="utf-8",
    )
    commands = {name: f"{sys.executable} {tmp_path / 'busy.py'} {us}" for name, us in (("short", 500), ("long", 2000))}
    tenants = {name: {"workload": "command", "command": text, "seconds": 0.5} for name, text in commands.items()}
    asked = {"name": "pair", "rounds": 2, "precision": None, "device": "cpu", "tenants": tenants}
    (tmp_path / "pair.yaml").write_text(json.dumps(asked), encoding="utf-8")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "fingerprint.json").write_bytes(encode(fingerprint()))
    for step in (("seal", "--seconds", "0.5", "--hosts", "1"), ("run",)):
        _python(
            "examples/09_programs.py", step[0], tmp_path / "m", tmp_path / "pair.yaml", "--device", "cpu", *step[1:]
        )
    shown = _python("examples/09_programs.py", "score", tmp_path / "m")
    assert re.search(r"^\| all \| 1 \| \d", shown, re.MULTILINE), shown
    assert "Sealed before the run" in shown


def test_predictions_of_what_is_measured_still_come_out_as_the_docs_say(here: Callable[..., str]) -> None:
    """Else docs/physics.md could claim an accuracy that the simulator does not have, or leave a run out. Nothing of
    `--why` is in the docs: one run shows that it works."""
    here("examples/05_predict_shared.py", "--check")
    runs = () if FULL else ("h200-agents-1",)
    assert "first of their block" in here("examples/05_predict_shared.py", "--why", *runs)


def test_replicates_still_differ_as_the_docs_say(here: Callable[..., str]) -> None:
    """Else docs/measuring.md could claim that compare is quiet about runs of one experiment where it is not."""
    here("examples/07_replicates.py", "--check")


@pytest.mark.timeout(900)
def test_mixes_that_nothing_was_fitted_to_are_still_predicted_as_the_docs_say() -> None:
    """Else a change of the model could spoil what docs/physics.md claims of 25 mixes on two GPUs.

    Each error of each mix, machine and way, and how many bands of the development set's mixes hold with one error of
    shared times and one of times alone. With KTS_E2E_FULL=1 also the bands of the 25 mixes, which take minutes."""
    _python("examples/06_validate.py", "--check" if FULL else "--check-errors", limit_s=10 * DEADLINE_S)


def test_the_readme_holds_the_table_of_the_recorded_runs(here: Callable[..., str]) -> None:
    """Else README could claim figures that no run in the repository gives."""
    here("examples/04_results_table.py", "--check")


def test_the_docs_hold_what_the_full_self_check_found(here: Callable[..., str]) -> None:
    """Else docs/measuring.md could claim a coverage that no command gave."""
    here("examples/08_selfcheck.py", "--check")
