"""The command line before anything is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers_cli import KTS, TINY

from kts import __version__
from kts.cli.main import main
from kts.spec import names

HEAVY = "numba numpy pydantic yaml scipy pyarrow altair rich torch msgspec asyncio"


def _loaded_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=180)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("arguments", ["['--help']", "['run', '--help']", "['predict', '--help']", "['--version']"])
def test_help_loads_nothing_heavy(arguments: str) -> None:
    """Else `kts --help` and every completion would take a second."""
    loaded = _loaded_after(f"from kts.cli.main import main\nmain({arguments})")
    if "run" in arguments or "predict" in arguments:
        loaded.discard("pydantic")  # typer's own, for the options of a command
    assert loaded.isdisjoint(HEAVY.split())


def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a user would not find it; and no command at all means help."""
    assert main([]) == 0
    text = capsys.readouterr().out
    for command in (
        "run",
        "report",
        "compare",
        "probe",
        "predict",
        "profile",
        "whatif",
        "validate",
        "selfcheck",
        "experiments",
        "runs",
        "attach",
        "collect",
        "clean",
        "schema",
        "doctor",
        "k8s",
    ):
        assert f"\n  {command} " in text
    assert "..." not in text.split("Commands:")[1]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a bug report could not name the version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kts {__version__}\n"


def test_experiments_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Else nobody would find the ready-made experiments, or could start from one."""
    assert main(["experiments"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == names()
    assert main(["experiments", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == names()
    assert main(["experiments", "demo"]) == 0
    assert capsys.readouterr().out.startswith("name: demo\n")


@pytest.mark.parametrize("what", ["experiment", "summary"])
def test_schemas_are_json(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Else `kts schema > file` would give a file that no program reads."""
    assert main(["schema", what]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")


def test_doctor_says_what_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a user would learn what is missing only when a run fails."""
    code = main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["can_measure"] else 4)
    assert [device["name"] for device in found["devices"]] == ["device cuda", "device cpu"]
    assert {"system", "cores", "numpy", "torch", "cupy"} <= {check["name"] for check in found["checks"]}
    main(["doctor"])
    assert "kts run demo" in capsys.readouterr().out


def test_doctor_elsewhere_than_on_linux_exits_with_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a script would start measuring on a system that cannot."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert main(["doctor"]) == 4
    assert "measuring needs Linux" in capsys.readouterr().out


BAD_LINES = {
    "unknown command": (["rn"], 2, "No such command 'rn'"),
    "missing argument": (["run"], 2, "what shall run?"),
    "unknown option": (["run", "demo", "--iteration", "3"], 2, "No such option"),
    "no number": (["run", "demo", "--rounds", "x"], 2, "Invalid value for '--rounds'"),
    "rounds 0": (["run", "demo", "--rounds", "0"], 2, "--rounds: must be greater than 0 (is 0)"),
    "precision": (["run", "demo", "--precision", "x"], 2, "--precision: must be a number (is 'x')"),
    "precision 2": (["run", "demo", "--precision", "2"], 2, "--precision: must be less than 1 (is 2.0)"),
    "design": (["run", "demo", "--design", "x"], 2, "--design: must be classic or interleaved (is 'x')"),
    "backend": (["run", "demo", "--on", "moon"], 2, "--on: no backend 'moon'"),
    "replay with changes": (["run", "x", "--on", "replay", "--seed", "3"], 2, "--seed: a replay is what was recorded"),
    "no such experiment": (["run", "agnts"], 3, "agnts: no such file, and no ready-made experiment of that name"),
    "no such ready-made": (["experiments", "x"], 3, "no ready-made experiment 'x'"),
    "no such schema": (["schema", "x"], 2, "no schema of 'x'"),
}


@pytest.mark.parametrize(("arguments", "code", "what"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_wrong_command_line_gives_one_line_a_remedy_and_its_code(
    arguments: list[str], code: int, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a typing mistake would end in a traceback, or in the wrong exit code for scripts."""
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second = shown.err.splitlines()
    assert first.startswith(f"error: {what}")
    assert second.startswith("  try: ")


def test_an_error_with_json_is_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a program that reads stdout would find nothing there."""
    assert main(["run", "agnts", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == 3
    assert error["what"].startswith("agnts: no such file")
    assert "agents" in error["remedy"]


def test_measuring_elsewhere_than_on_linux_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a user of another system would meet an error of the operating system."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert main(["run", "demo"]) == 4
    assert "measuring needs Linux" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a bug would show the user a traceback; with KTS_DEBUG it must."""

    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("kts.spec.catalog", broken)
    assert main(["experiments"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: unexpected RuntimeError: two lines"
    assert "KTS_DEBUG=1" in lines[1]
    monkeypatch.setenv("KTS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        main(["experiments"])


def test_ctrl_c_outside_measuring_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else stopping a long report would show a traceback."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kts.spec.catalog", interrupted)
    assert main(["experiments"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """Else `kts schema | head -1` would print a traceback."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            [*KTS, "schema"], stdout=gone, stderr=subprocess.PIPE, text=True, timeout=180, check=False
        )
    assert done.stderr == ""


def test_the_shell_completes_names_without_loading_anything_heavy() -> None:
    """Else completion would be too slow to be used, or offer nothing."""
    env = {"_KTS_COMPLETE": "complete_bash", "COMP_WORDS": "kts run ag", "COMP_CWORD": "2"}
    done = subprocess.run([*KTS], env={**os.environ, **env}, capture_output=True, text=True, timeout=180, check=False)
    assert done.stdout.split() == ["agents", "agents-fast", "agents-open"]
    loaded = _loaded_after("from kts.cli.experiments import complete_name\ncomplete_name('a')")
    assert loaded.isdisjoint({"numpy", "pydantic", "rich", "msgspec"})


def test_a_failed_check_leaves_no_run_behind(tmp_path: Path) -> None:
    """Else every mistake in a file would litter the folder of runs."""
    file = tmp_path / "x.yaml"
    file.write_text(TINY.replace("size: 32", "size: 0"), encoding="utf-8")
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["run"], "what shall run?"),
        (["run", "demo", "train.py"], "demo train.py: more than one experiment"),
        (["run", "demo", "--program-image", "x", "--on", "k8s"], "--program-image: of a program behind two dashes"),
        (["run", "--program-image", "x", "--", "y"], "--program-image needs a cluster"),
        (["run", "demo", "--", "x"], "demo and a program"),
        (["run", "--on", "replay", "--", "x"], "nothing to play again"),
        (["run", "--wrong", "--", "x"], "No such option: --wrong"),
    ],
)
def test_what_is_neither_an_experiment_nor_a_program_is_told(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a forgotten `--` would be a riddle, and half of a command line would be ignored."""
    assert main(arguments) == 2
    assert what in capsys.readouterr().err


def test_options_behind_the_dashes_are_the_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Else kts would take `--json` of somebody's program for its own, and print its error where no one looks."""
    assert main(["run", "--device", "nowhere", "--", "prog", "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "device" in shown.err


def test_a_dry_run_measures_nothing_and_says_what_its_time_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else who wants to know whether 90 s are enough would have to spend them."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", "matrix", "--dry-run", "--max-seconds", "90"]) == 0
    shown = capsys.readouterr().out
    assert "shared-tiny+fft+gemm+heavy" in shown
    assert "cannot decide all" in shown
    assert "gemm: no p99 or DF99: " in shown
    assert main(["run", "matrix", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["foretold"]
    assert told["enough"] == []
    assert len(told["expected"]) == 4 + 6 * 2 + 4
    assert main(["run", "--dry-run", "--", "true"]) == 0
    assert "nothing yet; nobody knows yet how long iterations of true take" in capsys.readouterr().out
    assert main(["run", "runs/x", "--on", "replay", "--dry-run"]) == 2
    assert (
        main(["run", "agents-fast", "--dry-run", "--max-seconds", "80", "--modes", "exclusive,time-slicing,mps"]) == 0
    )
    assert "gemm: no p99 or DF99 in any mode: " in capsys.readouterr().out
    assert main(["check", "--pair", "demo", "demo", "--dry-run", "--max-seconds", "60"]) == 0
    assert "p99 of B over A of " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
