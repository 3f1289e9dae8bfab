"""A result that took minutes is told before a file of it is written."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from tests.helpers_cli import record
from tests.helpers_physics import fingerprint, profile

from kts.cli.main import main
from kts.files import encode

EXAMPLE = Path(__file__).parents[2] / "examples" / "programs" / "results" / "llama"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With what is asked about, and a file where a folder is asked for."""
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "run")
    (tmp_path / "profiles").mkdir()
    for name in ("fft", "gemm"):
        (tmp_path / "profiles" / f"{name}.profile.json").write_bytes(encode(profile(name, 1.0, n=20)))
    (tmp_path / "fingerprint.json").write_bytes(encode(fingerprint()))
    (tmp_path / "taken").touch()
    return tmp_path


def arguments(command: str, out: str) -> list[str]:
    """A command that writes to ``out``, or below it."""
    given = ["--profiles", "profiles", "--fingerprint", "fingerprint.json"]
    return {
        "explain": ["explain", "run", "--worst", "0", "--no-figures", "--out", out],
        "predict": ["predict", *given, "--seconds", "1", "--out", f"{out}/p.json"],
        "validate": ["validate", str(EXAMPLE / "prediction.json"), str(EXAMPLE / "run"), "--no-figures", "--out", out],
    }[command]


@pytest.mark.parametrize(
    ("command", "names"), [("explain", "fft"), ("predict", "fft"), ("validate", "decode")], ids=lambda text: text
)
def test_a_folder_that_cannot_be_written_costs_no_table(
    folder: Path, command: str, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of prediction would end in an error about a folder, and be lost."""
    assert main([*arguments(command, "taken"), "--json"]) == 4
    told = capsys.readouterr()
    before, error, after = told.err.partition("error: ")
    assert names in before, "the table is for people, and on stderr with --json"
    assert error
    assert "taken" in after
    assert "error" in json.loads(told.out), "the error is the one document on stdout"
    assert (folder / "taken").is_file()


def test_a_reader_that_has_gone_costs_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kts explain RUN --out DIR | head -1` would leave DIR empty."""
    with Path("/dev/full").open("w", buffering=1, encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(arguments("explain", "new")) != 0
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert {path.name for path in (folder / "new").iterdir()} == {"explain.html", "explain.md"}
