"""Recordings of kts watch: what is written is read, and what is damaged is named and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kts.errors import DataError, MeasurementError
from kts.watch import recording
from kts.watch.calls import CALL, FUNCTIONS, Array, Piece, WatchedProcess
from kts.watch.recording import PieceWriter, RecordedSource, recorded

S = 10**9
A = WatchedProcess(number=1, pid=10, began_ticks=5, command="a", pod_uid="u", gpus=("GPU-1",))
B = WatchedProcess(number=2, pid=10, began_ticks=9, command="b")


def calls(*rows: tuple[int, int, int, int]) -> Array:
    """(ns, process, function, returned)."""
    made = np.zeros(len(rows), CALL)
    for name, column in zip(("ns", "process", "function", "returned"), zip(*rows, strict=True), strict=True):
        made[name] = column
    made["thread"] = 77
    return made


PIECES = [
    Piece(1 * S, calls((5, 1, 0, 0), (6, 1, 22, 0), (9, 1, 22, 1)), (A,)),
    Piece(2 * S, calls((S + 5, 1, 1, 0), (S + 6, 2, 3, 0)), (B,), lost=3, notes=("a ring was full",)),
    Piece(3 * S, np.empty(0, CALL), gone=(1,), unwatched=(2,)),
    Piece(4 * S, calls((3 * S + 1, 2, 0, 0))),
]


def written(path: Path, pieces: list[Piece] = PIECES) -> Path:
    with PieceWriter(path, node="n1", kts="1.0", boot_id="b") as writer:
        for piece in pieces:
            writer.write(piece)
    return path


def read(path: Path) -> tuple[list[Piece], list[str]]:
    with RecordedSource(path) as source:
        return list(source.pieces()), list(source.damage)


def same(one: Piece, other: Piece) -> bool:
    return one.calls.tobytes() == other.calls.tobytes() and one[:1] + one[2:] == other[:1] + other[2:]


def frames(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    starts = [at for at in range(len(raw)) if raw.startswith(b"KTSW", at)]
    return [raw[at:to] for at, to in zip(starts, [*starts[1:], len(raw)], strict=True)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Else a recording would tell another story than the node did."""
    got, damage = read(written(tmp_path / "r"))
    assert all(same(*pair) for pair in zip(got, PIECES, strict=True))
    assert not damage
    with RecordedSource(tmp_path / "r") as source:
        assert (source.head.node, source.head.boot_id) == ("n1", "b")
    assert recorded(tmp_path / "r")


@pytest.mark.parametrize("left", range(1, 6))
def test_a_recording_that_was_cut_is_read_up_to_the_cut(tmp_path: Path, left: int) -> None:
    """Else a kill -9 of the recorder would cost what it recorded, or pass for a whole recording."""
    parts = frames(written(tmp_path / "r"))
    for torn in (b"", parts[left][:-1]):
        (tmp_path / "r").write_bytes(b"".join(parts[:left]) + torn)
        got, damage = read(tmp_path / "r")
        assert all(same(*pair) for pair in zip(got[: left - 1], PIECES, strict=False))
        assert any("has no end" in line for line in damage)
        assert any("has no end" in note for piece in got for note in piece.notes)


def test_calls_of_a_damaged_frame_are_counted_as_lost_and_named(tmp_path: Path) -> None:
    """Else a flipped bit would be a quiet second."""
    parts = frames(written(tmp_path / "r"))
    parts[2] = parts[2][:-3] + bytes([parts[2][-3] ^ 1]) + parts[2][-2:]
    (tmp_path / "r").write_bytes(b"".join(parts))
    got, damage = read(tmp_path / "r")
    assert same(got[0], PIECES[0])
    assert got[1].lost == len(PIECES[1].calls)
    assert any("damaged bytes" in note for note in got[1].notes)
    assert len(got[2].calls) == 0  # a call of a process that only the damaged frame told of
    assert got[2].lost == 1
    assert any("not known" in line for line in damage)


def test_processes_are_told_again_behind_a_damaged_place(tmp_path: Path) -> None:
    """Else one flipped bit at the start would make a week's recording nobody's."""
    long = [Piece(k * S, calls((k * S - 1, 1, 0, 0)), (A,) if k == 1 else ()) for k in range(1, 2 * recording.REPEATED)]
    parts = frames(written(tmp_path / "r", long))
    (tmp_path / "r").write_bytes(parts[0] + b"".join(parts[2:]))
    got, _ = read(tmp_path / "r")
    assert sum(len(piece.calls) for piece in got) + sum(piece.lost for piece in got) == len(long)
    assert len(got[-1].calls) == 1
    assert [one for piece in got for one in piece.processes] == [A]


def test_frames_twice_or_of_another_recording_are_skipped_and_named(tmp_path: Path) -> None:
    """Else calls would count twice, or be another node's."""
    parts, others = frames(written(tmp_path / "r")), frames(written(tmp_path / "other"))
    (tmp_path / "r").write_bytes(b"".join([*parts[:3], parts[2], others[4], *parts[3:]]))
    got, damage = read(tmp_path / "r")
    assert [piece.calls.tobytes() for piece in got] == [piece.calls.tobytes() for piece in PIECES]
    assert sum("twice, or of another" in line for line in damage) == 2


def test_a_piece_of_many_calls_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a burst would make a frame that readers refuse."""
    monkeypatch.setattr(recording, "MOST_CALLS", 4)
    many = Piece(S, calls(*((n, 1, 0, 0) for n in range(11))), (A,), lost=5)
    got, damage = read(written(tmp_path / "r", [many]))
    assert [len(piece.calls) for piece in got] == [4, 4, 3]
    assert np.concatenate([piece.calls for piece in got]).tobytes() == many.calls.tobytes()
    assert [piece.lost for piece in got] == [0, 0, 5]
    assert [piece.until_ns for piece in got] == [3, 7, S]
    assert not damage


def test_functions_are_known_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another kts's numbers would be taken for ours."""
    written(tmp_path / "r")
    monkeypatch.setattr(recording, "FUNCTIONS", tuple(reversed(FUNCTIONS))[:-1])
    got, damage = read(tmp_path / "r")
    names = [recording.FUNCTIONS[number].name for number in got[0].calls["function"]]
    assert names == ["cuStreamSynchronize", "cuStreamSynchronize"]
    assert got[0].lost == 1
    assert any("not known" in line for line in damage)


def test_another_file_is_refused(tmp_path: Path) -> None:
    """Else a foreign file would be an empty recording."""
    (tmp_path / "r").write_bytes(b"KTSK" + bytes(200))
    with pytest.raises(DataError, match="not a recording"):
        RecordedSource(tmp_path / "r")
    with pytest.raises(DataError):
        RecordedSource(tmp_path / "none")
    assert not recorded(tmp_path / "r")


def test_a_newer_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an old kts would misread what it does not know."""
    monkeypatch.setattr(recording, "RECORDING_VERSION", 9)
    written(tmp_path / "r")
    monkeypatch.undo()
    with pytest.raises(DataError, match="newer kts"):
        RecordedSource(tmp_path / "r")


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    """Else a slip of the hand would cost a recording."""
    written(tmp_path / "r")
    with pytest.raises(MeasurementError):
        PieceWriter(tmp_path / "r", node="n", kts="1")
    assert not read(tmp_path / "r")[1]


def test_calls_out_of_order_are_not_written(tmp_path: Path) -> None:
    """Else a source's mistake would be found only by who reads the recording."""
    with PieceWriter(tmp_path / "r", node="n", kts="1") as writer, pytest.raises(ValueError, match="by time"):
        writer.write(Piece(S, calls((2, 1, 0, 0), (1, 1, 0, 0)), (A,)))


def test_a_full_disk_costs_nothing_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the last frame, written half, would make the file end in damage."""

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            self.file.write(data[:10])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    writer = PieceWriter(tmp_path / "r", node="n", kts="1")
    writer.write(PIECES[0])
    monkeypatch.setattr(writer, "_file", Full(writer._file))
    with pytest.raises(MeasurementError, match="No space left"):
        writer.write(PIECES[1])
    writer.__exit__(MeasurementError)
    got, damage = read(tmp_path / "r")
    assert same(got[0], PIECES[0])
    assert len(damage) == 1
    assert "has no end" in damage[0]
