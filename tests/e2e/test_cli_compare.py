"""`kts compare` as a user calls it: two runs, several a side, one side alone; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.helpers_cli import kts, record
from tests.unit.test_stats_comparison import summary

from kts import files
from kts.cli.main import main

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a-1 to a-3 and b-1 to b-3: replicates, B's DF99 a third higher; c-1: other tenants."""
    folder = tmp_path_factory.mktemp("runs")
    for name, factor, seed in (
        *(("a", 1.5, seed) for seed in (1, 2, 3)),
        *(("b", 2.0, seed) for seed in (4, 5, 6)),
    ):
        number = seed if name == "a" else seed - 3
        made = replace(summary(factor, seed), run=f"{name}-{number}")
        (folder / f"{name}-{number}.json").write_bytes(files.encode(made))
    other = replace(summary(1.0, 7, ("decode", "tiny")), run="c-1")
    (folder / "c-1.json").write_bytes(files.encode(other))
    return folder


def asked(runs: Path, *words: str) -> list[str]:
    """A command line, with run names as paths."""
    return ["compare", *(str(runs / f"{word}.json") if word[1:2] == "-" and word[0] != "-" else word for word in words)]


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, object]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def changes(found: dict[str, object]) -> set[str]:
    return {one["change"] for one in found["changes"] if one["p"] is not None}  # type: ignore[attr-defined]


def test_two_runs_are_b_against_a_and_the_user_is_told_what_one_run_cannot_say(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else who compares two runs would take run-to-run variation for an effect."""
    found = told(capsys, asked(runs, "a-1", "b-1"))
    assert (found["a"], found["b"], found["replicated"]) == (["a-1"], ["b-1"], False)
    assert "higher" in changes(found)
    assert main(asked(runs, "a-1", "b-1")) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "One run a side: these do not tell how much two runs of one experiment differ" in text
    assert "differ by more than 5 %" in text


def test_several_a_side_stand_before_and_after_with(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell writes them: a-* --with b-*; options may stand anywhere."""
    found = told(capsys, asked(runs, "a-1", "a-2", "a-3", "--with", "b-1", "b-2", "b-3", "--threshold", "0.1"))
    assert found["a"] == ["a-1", "a-2", "a-3"]
    assert found["b"] == ["b-1", "b-2", "b-3"]
    assert found["threshold"] == 0.1
    assert found["replicated"] is True
    assert "higher" in changes(found)
    same = told(capsys, asked(runs, "a-1", "a-2", "--with", "a-3"))
    assert changes(same) <= {"same", "undetermined"}
    assert main(asked(runs, "a-1", "a-2", "--with", "b-1", "b-2")) == 0
    assert "Runs of a side differ by" in capsys.readouterr().out


def test_one_side_alone_is_pooled(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interval over replicates, and how much they differ."""
    found = told(capsys, asked(runs, "--pool", "a-1", "a-2", "a-3"))
    df = next(f for f in found["figures"] if (f["clock"], f["figure"]) == ("response", "df"))  # type: ignore[attr-defined]
    assert df["pooled"]["runs"] == 3
    assert df["pooled"]["estimate"]["lo"] < 1.5 < df["pooled"]["estimate"]["hi"]
    assert main(asked(runs, "--pool", "a-1", "a-2", "a-3")) == 0
    assert "between runs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("a-1", "c-1"), 7, "nothing was compared"),
        (("--pool", "a-1", "c-1"), 7, "nothing was pooled"),
        (("a-1",), 2, "which are side A"),
        (("a-1", "a-2", "b-1"), 2, "which are side A"),
        (("a-1", "--with"), 2, "which are side A"),
        (("a-1", "--with", "b-1", "--with", "b-2"), 2, "more than once"),
        (("--pool", "a-1", "--with", "b-1"), 2, "between two sides"),
        (("--pool", "a-1"), 2, "one run alone"),
        (("a-1", "a-1", "--with", "b-1"), 2, "is there twice"),
        (("a-1", "b-1", "--treshold", "0.1"), 2, "no option --treshold"),
    ],
)
def test_what_is_not_clear_or_not_there_is_refused(
    words: tuple[str, ...], code: int, message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison of nothing must not end as a success, nor one of other runs than were meant."""
    assert main(asked(runs, *words)) == code
    assert message in capsys.readouterr().err


def test_directories_are_analysed_anew(tmp_path: Path) -> None:
    """The usual call: two run directories, in a process of its own."""
    a, b = record(tmp_path / "a"), record(tmp_path / "b")
    done = kts("compare", a, b)
    assert done.returncode == 0, done.stderr
    assert "figures differs by more than 5 %" in done.stdout
