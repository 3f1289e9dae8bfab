"""JSON of ours in, and files replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kts import files
from kts.errors import DataError


class Inner(msgspec.Struct):
    """A figure that says itself what it cannot be."""

    x: float = 0.0
    n: int = 0

    def check(self) -> None:
        """ValueError."""
        if self.x < 0:
            raise ValueError("x is not below 0")


class Outer(msgspec.Struct):
    """As our files are: versioned, structs within tuples within dicts."""

    schema: int = 1
    words: dict[str, tuple[Inner, ...]] = {}


def _decoded(raw: bytes) -> Outer:
    return files.decode(raw, Outer, "x.json", "not a thing", "give another", newest=1)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not a thing"),
        (b"no", "not a thing"),
        (b"[]", "not a thing: Expected `object`"),
        (b'{"schema": "1"}', "not a thing: Expected `int`"),
        (b'{"schema": 2, "words": 7}', r"written by a newer kts \(schema 2, this one reads up to 1\)"),
        (b"[" * 100_000, "not a thing"),
        (b'{"a":' * 100_000, "not a thing: nested too deeply"),
        (b'{"words": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not a thing"),
        (b'{"words": {"a": [{"x": 1e999}]}}', "not a thing"),
        (b'{"words": {"a": [{"x": 1e19}]}}', "not a thing: a figure of 1e\\+19 cannot be"),
        (b'{"words": {"a": [{"n": %d}]}}' % 2**63, "not a thing"),
        (b'{"words": {"a": [{"n": %s}]}}' % (b"9" * 5000), "not a thing"),
        (b'{"words": {"a": [{"x": -1}]}}', "not a thing: x is not below 0"),
        (b'{"words": {"\xff": []}}', "not a thing: its text is not UTF-8"),
        (b'{"words": {"\\ud800": []}}', "not a thing"),
        (b"\xff\xfe{", "not a thing: its text is not UTF-8"),
    ],
)
def test_what_is_none_is_told(raw: bytes, why: str) -> None:
    """Else a damaged file would be a traceback, or figures that cannot be would be believed."""
    with pytest.raises(DataError, match=rf"^x\.json: {why}") as caught:
        _decoded(raw)
    assert caught.value.remedy


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_that_other_systems_put_in_front_are_no_damage(encoding: str) -> None:
    """Else a summary that PowerShell's > wrote, or an editor saved, could not be compared."""
    assert _decoded('{"words": {"µ": [{"x": 2.5, "n": 3}]}}'.encode(encoding)).words == {"µ": (Inner(2.5, 3),)}


@pytest.mark.parametrize(
    ("lo", "value", "hi", "sound"),
    [
        (1.0, 2.0, 3.0, True),
        (0.0, 0.0, 0.0, True),
        (None, None, None, True),
        (None, 2.0, None, True),
        (3.0, 2.0, 1.0, False),
        (-6.0, -5.0, -4.0, False),
        (-1.0, 2.0, 3.0, False),
        (1.0, None, 3.0, False),
        (1.0, 2.0, None, False),
        (1.0, 2.0, float("inf"), False),
        (float("nan"), 2.0, 3.0, False),
    ],
)
def test_a_figure_lies_in_its_interval(lo: float | None, value: float | None, hi: float | None, sound: bool) -> None:
    """Else an interval that is upside down would be scored as if it were one."""
    assert files.ordered(lo, value, hi) is sound


@pytest.mark.parametrize("name", ["nowhere.json", "."])
def test_a_file_that_cannot_be_read_is_told(name: str, tmp_path: Path) -> None:
    """Else a wrong path would be a traceback."""
    with pytest.raises(DataError) as caught:
        files.read(tmp_path / name, "give another")
    assert caught.value.remedy == "give another"


def test_a_file_too_large_to_be_ours_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a disk image given by mistake would fill the memory."""
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(DataError, match="larger than"):
        files.read(tmp_path / "big", "give another")


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Else a full disk would cost what was there."""
    (tmp_path / "a").write_bytes(b"old")

    def fail() -> None:
        with files.replacing(tmp_path / "a") as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    """Else two reports into one directory could leave a file that is half of each."""
    with files.replacing(tmp_path / "a", durably=False) as first:
        first.write_bytes(b"first")
        files.replace(tmp_path / "a", b"second")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"first")]
