"""Commands in a folder whose files have the names of modules that kts and its processes load."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kts.app import selfchecks
from kts.worker.interpreter import module

NAMES = ("numpy", "socket", "selectors", "json", "ctypes", "signal", "subprocess", "msgspec", "argparse", "random")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whichever of its modules is run leaves a file there, and fails."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open('{name}.was-run', 'w').close()\nraise SystemExit(99)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("kts.worker", ["--join"]),  # says that it is given no conductor
        ("kts.worker.probe", ["--who", "--device", "cpu", "--looks", "1"]),
        ("kts.worker.instrument", ["--help"]),
    ],
)
def test_a_process_of_ours_runs_nothing_of_the_folder(folder: Path, name: str, arguments: list[str]) -> None:
    """Otherwise whoever can write where kts is called has his code run, or a stray numpy.py ends every run."""
    command = [sys.executable, *module(name), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=180, check=False, env=os.environ)
    assert not list(folder.glob("*.was-run")), done.stderr
    assert done.returncode != 99


def test_the_processes_that_simulate_run_nothing_of_the_folder(folder: Path) -> None:
    """Otherwise kts selfcheck does: how they are started is not ours to say."""
    with selfchecks._processes(2) as begin:
        assert begin(pow, 2, 5)() == 32
    assert not list(folder.glob("*.was-run"))


def test_where_our_source_is_the_folder_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise python -m kts in a checkout starts workers that have no kts."""
    assert "-P" in module("kts.worker")
    monkeypatch.chdir(Path(module.__code__.co_filename).resolve().parents[2])
    assert "-P" not in module("kts.worker")


def test_no_module_is_started_by_other_options() -> None:
    """Otherwise the next process that is added runs what lies in the folder: one for MIG devices did, as root."""
    source = Path(module.__code__.co_filename).resolve().parents[1]
    bare = re.compile(r'(?:sys\.executable|"python3?"),\s*"-m"')
    assert [path.name for path in source.rglob("*.py") if bare.search(path.read_text(encoding="utf-8"))] == []
