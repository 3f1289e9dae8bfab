"""The examples, where something is missing or wrong: each ends as kts does."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WRONG: dict[str, tuple[list[str], int, str]] = {
    "01_first_run.py": (["NOWHERE/run"], 4, "error: NOWHERE"),
    "03_plan_first.py": (["NOWHERE"], 3, "error: NOWHERE"),
    "04_results_table.py": (["--wirte"], 2, "error: no such argument: --wirte\n  try: nothing, or one of --write"),
    "05_predict_shared.py": (["--why", "run-9"], 2, "error: no such run: run-9"),
    "06_validate.py": (["--chek"], 2, "error: no such argument: --chek"),
    "07_replicates.py": (["--chek"], 2, "error: no such argument: --chek"),
    "08_selfcheck.py": (["--chek"], 2, "error: no such argument: --chek"),
    "09_programs.py": (["score", "NOWHERE"], 6, "error: NOWHERE"),
    "10_modes.py": (["table", "NOWHERE"], 6, "error: NOWHERE"),
    "modes_foretold.py": (["NOWHERE"], 6, "error: NOWHERE"),
    "programs_hosts.py": (["predictions", "9x"], 2, "error: no such machine: 9x\n  try: those of 1, "),
    "gate/pairs.py": (["--show", "--out", "NOWHERE"], 4, "error: NOWHERE: Not a directory\n  try: check the path"),
    "watch/on_a_node.py": (["OUT", "--kts", "kts:v1"], 4, "error: kubectl is not on the PATH\n  try: install it"),
}
"""Arguments, exit code, and how what is said begins. ``NOWHERE`` is in a folder that nobody can make."""


def test_each_example_that_people_start_is_among_them() -> None:
    """Else a new one may end in a traceback. Of programs that kts starts it is kts that tells."""
    started_by_kts = {"02_own_program", "programs"}
    files = {file for file in EXAMPLES.rglob("*.py") if file.parent.name not in started_by_kts}
    starting = {str(file.relative_to(EXAMPLES)) for file in files if "__main__" in file.read_text(encoding="utf-8")}
    assert starting - {"gate/stand_in.py"} == set(WRONG)


@pytest.mark.parametrize("script", WRONG)
def test_what_is_wrong_is_said_with_a_code(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a reader's first mistake would end in a traceback, or be taken for something else that was asked for."""
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "nowhere")
    arguments, code, words = WRONG[script]
    monkeypatch.setattr(sys, "argv", [script, *(word.replace("NOWHERE", nowhere) for word in arguments)])
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(words.replace("NOWHERE", nowhere))
