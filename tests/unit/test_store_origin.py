"""If these fail, a file names another kts than the one that made it, or other inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from tests.helpers_cli import TINY, record
from tests.helpers_store import make_plan, make_writer, write_run

import kts
from kts.model.mode import SharingMode
from kts.model.provenance import Material, Provenance, canonical, made_by, made_from, material
from kts.model.run import Outcome, RunInfo
from kts.store import create, open_run, origin

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def checkout(root: Path) -> Path:
    """A package in a git checkout, all of it committed."""
    package = root / "src" / "kts"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n", encoding="utf-8")
    (package / "model" / "x.py").write_text("b = 2\n", encoding="utf-8")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")
    return package


def git(root: Path, *arguments: str) -> str:
    """As a user without a configuration."""
    own = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True).stdout.strip()


@needs_git
def test_a_checkout_names_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    """Else nobody could get the sources back that a figure was made with, or would take others for them."""
    package = checkout(tmp_path)
    commit = git(tmp_path, "rev-parse", "HEAD")
    clean = origin.of_package(package)
    assert (clean.kts, clean.commit, clean.clean) == (kts.__version__, commit, True)
    assert made_by(clean) == f"{kts.__version__}, commit {commit[:12]} (clean)"
    (tmp_path / "README.md").write_text("not a source\n", encoding="utf-8")
    assert origin.of_package(package).clean
    (package / "new.py").write_text("", encoding="utf-8")
    changed = origin.of_package(package)
    assert (changed.commit, changed.clean) == (commit, False)
    assert changed.sources != clean.sources
    assert "(modified), sources " in made_by(changed)


@needs_git
def test_a_hook_of_another_repository_does_not_mislead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a hook git's variables name the repository that it belongs to."""
    package, other = checkout(tmp_path / "a"), tmp_path / "b"
    (checkout(other) / "more.py").write_text("", encoding="utf-8")
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message", "y")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert (
        origin.of_package(package).commit
        == subprocess.run(
            ["git", "--git-dir", str(tmp_path / "a" / ".git"), "rev-parse", "HEAD"],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )


@needs_git
def test_an_installed_package_within_somebodys_checkout_is_not_of_it(tmp_path: Path) -> None:
    """A virtual environment often lies in a checkout of something else."""
    checkout(tmp_path)
    installed = tmp_path / ".venv" / "lib" / "python3" / "site-packages" / "kts"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("", encoding="utf-8")
    found = origin.of_package(installed)
    assert (found.commit, found.clean) == (None, None)
    assert found.sources
    assert made_by(found) == f"{kts.__version__}, commit unknown, sources {found.sources[:12]}"


def test_without_git_it_is_unknown_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine without git could not measure."""
    package = tmp_path / "src" / "kts"
    package.mkdir(parents=True)
    (tmp_path / ".git").write_text("gitdir: /nowhere\n", encoding="utf-8")
    assert origin.of_package(package).commit is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert origin.of_package(package).commit is None
    assert origin.git(tmp_path, "status") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [("abc123\n", ("abc123", True)), ("abc123-modified\n", ("abc123", False)), ("\n", (None, None))],
)
def test_the_image_says_what_it_was_built_from(
    text: str, found: tuple[str | None, bool | None], tmp_path: Path
) -> None:
    """There is no git in a pod: else its runs would be nobody's."""
    (tmp_path / "__init__.py").write_text("", encoding="utf-8")
    before = origin.sources_sha256(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "engine.nbi").write_text("numba leaves this", encoding="utf-8")
    (tmp_path / origin.REVISION).write_text(text, encoding="utf-8")
    of = origin.of_package(tmp_path)
    assert (of.commit, of.clean) == found
    assert of.sources == before


def test_a_run_holds_the_hashes_of_its_experiment_and_of_its_plan(tmp_path: Path) -> None:
    """docs/formats.md says how anybody can compute them; another way would make them worthless."""
    record(tmp_path / "run")
    raw = json.loads((tmp_path / "run" / "run.json").read_bytes())
    text = json.dumps(raw["plan"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    found = {one["kind"]: one["sha256"] for one in raw["provenance"]["made_from"]}
    assert found == {
        "experiment": hashlib.sha256(TINY.encode()).hexdigest(),
        "plan": hashlib.sha256(text.encode()).hexdigest(),
    }
    assert raw["provenance"]["sources"] == origin.here().sources


def test_the_hash_is_of_the_frozen_plan(tmp_path: Path) -> None:
    """Calibration changes sizes: the hash of the plan before it would be of something that never ran."""
    writer = make_writer(tmp_path / "run")
    frozen = msgspec.structs.replace(make_plan(), seed=7)
    writer.frozen(frozen)
    writer.close(Outcome(kind="complete"))
    provenance = open_run(tmp_path / "run").info.provenance
    assert provenance is not None
    assert [one.kind for one in provenance.made_from] == ["experiment", "plan"]
    assert provenance.made_from[1] == material("plan", "pair", canonical(frozen))


def test_who_measures_can_be_given(tmp_path: Path) -> None:
    """Else no test or tool could write the same run twice."""
    given = Provenance(kts="9", commit="c", clean=True)
    more = Material(kind="run", name="r/run.json", sha256="0")
    create(
        tmp_path / "run",
        plan=make_plan(),
        backend="replay",
        mode=SharingMode(recorded="m"),
        experiment_text="",
        environment={},
        made_from=[more],
        provenance=given,
    ).close(Outcome(kind="failed"))
    info = open_run(tmp_path / "run").info
    assert info.kts == "9"
    assert info.provenance is not None
    assert info.provenance.commit == "c"
    assert more in info.provenance.made_from


def test_runs_without_provenance_read_as_before() -> None:
    """Every run that was made before it was recorded."""
    old = Path(__file__).parents[1] / "golden" / "store_run_v1"
    info = open_run(old).info
    assert info.provenance is None
    assert made_by(info.provenance, info.kts) == info.kts
    assert made_from(info.provenance) == ""


def test_a_run_as_material_is_its_files(tmp_path: Path) -> None:
    """Else a prediction could be said to come from a run whose records were exchanged."""
    write_run(tmp_path / "run")
    found = origin.of_run(tmp_path / "run", 5)
    assert [one.name for one in found] == ["run/run.json", "run/records.parquet"]
    for one in found:
        assert one.sha256 == hashlib.sha256((tmp_path / one.name).read_bytes()).hexdigest()
        assert one.created_ns == 5
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "fft.log").write_text("x\n", encoding="utf-8")
    assert [one.name for one in origin.of_run(logs)] == ["logs/fft.log"]
    assert origin.of_file("profile", tmp_path / "nowhere") is None


def test_unknown_fields_do_not_hide_a_provenance() -> None:
    """A newer kts may record more."""
    text = b'{"kts": "2", "commit": "c", "clean": true, "more": 1, "made_from": []}'
    assert msgspec.json.decode(text, type=Provenance).commit == "c"
    assert RunInfo.__struct_fields__.index("provenance") > 0


def test_sources_that_cannot_be_read_are_not_given_a_hash(tmp_path: Path) -> None:
    """The hash of nothing would look like that of something, and be the same for all."""
    found = origin.of_package(tmp_path / "nowhere")
    assert found.sources == ""
    assert made_by(found) == f"{kts.__version__}, commit unknown, sources unreadable"
    assert origin.of_package(Path("/kts")).commit is None
