"""docs/extending.md is applied as it stands, to a copy of the source, and must then do what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^(?:`(?P<path>[\w./-]+)`:?\n\n)?```(?P<kind>python|diff|yaml|console)\n(?P<body>.*?)^```$", re.M | re.S
)
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", TEXT, flags=re.M)[1:] if BLOCK.search(part)}


def test_every_kind_of_addition_has_a_worked_example() -> None:
    """Else whoever adds one has to find its places by reading everything."""
    asked = {"A kind of work", "A telemetry source", "A report section", "An arrival process", "A check", "A cause"}
    assert asked | {"A sharing mode", "A source of a program's iterations"} <= set(SECTIONS)


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_works_as_it_stands(title: str, tmp_path: Path) -> None:
    """Else the page sends its readers to files that have moved, or shows code that no longer runs."""
    some = shutil.ignore_patterns("images", "*.nb?", "*.pyc.*", "tmp*")  # of what is compiled what stays
    for folder in ("src", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=some)
    ran = 0
    for block in BLOCK.finditer(SECTIONS[title]):
        body = block["body"]
        if block["kind"] == "diff":
            _sh(["git", "apply", "--verbose", "-"], tmp_path, given=body)
        elif block["kind"] == "console":
            ran += _console(body, tmp_path)
        elif block["path"]:
            target = tmp_path / block["path"]
            assert not target.exists(), f"{block['path']} is there already"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(body, encoding="utf-8")
    assert ran, "the example runs nothing"


def _console(body: str, cwd: Path) -> int:
    """Runs each line after ``$``; the lines below it must stand in its output, in that order. Returns how many ran."""
    commands = re.split(r"^\$ ", body, flags=re.M)[1:]
    for command in commands:
        line, _, wanted = command.partition("\n")
        words = shlex.split(line)
        if words[0] in ("kts", "python"):
            words = [sys.executable, *(["-m", "kts"] if words[0] == "kts" else []), *words[1:]]
        said, place = _sh(words, cwd), 0
        for expected in filter(None, (one.strip() for one in wanted.splitlines())):
            assert expected in said[place:], f"{line}: no {expected!r} in\n{said}"
            place = said.index(expected, place)
    return len(commands)


def _sh(words: list[str], cwd: Path, given: str = "") -> str:
    env = os.environ | {
        "PYTHONPATH": str(cwd / "src"),
        "COLUMNS": "160",
        "NO_COLOR": "1",
        "GIT_CEILING_DIRECTORIES": str(cwd.parent),
    }
    done = subprocess.run(
        words, cwd=cwd, env=env, input=given, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
