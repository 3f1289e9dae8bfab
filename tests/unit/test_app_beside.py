"""`kts run --predict -- PROGRAM`: if these fail, what is foretold is not what a run would measure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from tests.helpers_physics import fingerprint, profile

from kts.app import beside
from kts.cli.main import main
from kts.files import encode
from kts.model.mode import CPU_SCHEDULER
from kts.physics.values import Fingerprint, Gpu, Profile
from kts.report.writing import write_file
from kts.store import fingerprints

LENGTHS_MS = {"own": 4.0, "light": 2.0, "heavy": 20.0}
CORE = Gpu(kind="cpu", uuid="core 1", label="CPU core 1, not a GPU")
MARK: Fingerprint = replace(fingerprint(2.0), gpu=CORE, mode=CPU_SCHEDULER, source="measured")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was measured, in order; nothing really is."""
    told: list[str] = []

    def profiled(command: list[str], out: Path, *, tenants: Sequence[str], **how: object) -> list[Profile]:
        assert command == ["./own.py"]
        assert how["seconds"] == 10.0
        told.extend(tenants)
        made = [replace(profile(name, LENGTHS_MS[name], n=400), gpu=CORE) for name in tenants]
        for one in made:
            write_file(out / f"{one.tenant}.profile.json", encode(one))
        return made

    def probed(device: str, **how: object) -> SimpleNamespace:
        assert list(how) == ["say"]
        told.append(f"probe {device}")
        return SimpleNamespace(fingerprint=MARK)

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(beside, "profile", profiled)
    monkeypatch.setattr(beside, "probe", probed)
    return told


def test_the_mixes_of_the_run_are_foretold_in_one_table_and_one_sentence(
    measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the run could not be held against it; and the program, which is what may fail, would be profiled last."""
    fingerprints.keep(MARK, beside.folder())
    assert main(["run", "--predict", "--out", "told", "--", "./own.py"]) == 0
    shown = capsys.readouterr().out
    assert measured == ["own", "light", "heavy"]
    rows = [line.split() for line in shown.splitlines() if line.startswith(("alone", "beside"))]
    assert [row[:2] for row in rows] == [
        ["alone", rows[0][1]],
        ["beside", "light"],
        ["beside", "copy"],
        ["beside", "heavy"],
    ]
    assert "not a GPU" in shown
    assert shown.count("own has a p99 of") == 1
    assert "predicted: beside light " in shown
    told = json.loads(Path("told/prediction.json").read_text(encoding="utf-8"))
    assert [mix["name"] for mix in told["mixes"]] == ["own+light", "own+copy", "own+heavy"]
    assert sorted(path.name.split(".")[0] for path in Path("told").glob("*.profile.json")) == [
        "copy",
        "heavy",
        "light",
        "own",
    ]


def test_a_device_whose_sharing_nobody_measured_is_probed_once_the_program_is_known_to_run(measured: list[str]) -> None:
    """Else the first use would end in an error that says what to type instead of doing it."""
    beside.predict_beside(["./own.py"], "told")
    assert measured == ["own", "probe cpu", "light", "heavy"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo"], "not of demo"),
        (["--rounds", "3", "--", "x"], "--rounds"),
        (["--on", "k8s", "--", "x"], "on this machine"),
    ],
)
def test_what_cannot_be_foretold_is_refused(
    arguments: list[str], what: str, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Else an option would be ignored, and minutes spent on another question."""
    assert main(["run", "--predict", *arguments]) == 2
    assert what in capsys.readouterr().err
    assert measured == []
