"""The journal under arbitrary damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers_store import UID, make_records

from kts.store.journal import Frame, Journal, encode_frame, scan

CHUNKS = [("fft", 0, 0, 3), ("gemm", 0, 0, 1), ("fft", 0, 1, 2), ("fft", 1, 0, 0), ("a-longer-name", 1, 0, 4)]
OPTIONAL = {"gemm": ("launches",), "a-longer-name": ("mark.first_token", "launches", "mark.queued")}
FRAMES = [
    encode_frame(t, b, s, make_records(n, 10 * s, seed=b, optional=OPTIONAL.get(t, ())), UID) for t, b, s, n in CHUNKS
]
WHOLE = b"".join(FRAMES)
ENDS = np.cumsum([len(frame) for frame in FRAMES]).tolist()

same_path = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _identity(frame: Frame) -> tuple[str, int, int, int]:
    return frame.tenant, frame.block, frame.seq, frame.rows


@given(cut=st.integers(0, len(WHOLE)))
@same_path
def test_truncated_anywhere_gives_exactly_the_whole_frames_before(tmp_path: Path, cut: int) -> None:
    """A torn tail would lose whole frames, or be read."""
    path = tmp_path / "records.journal"
    path.write_bytes(WHOLE[:cut])
    found = scan(path)
    whole = [end for end in ENDS if end <= cut]
    assert [_identity(frame) for frame in found.frames] == CHUNKS[: len(whole)]
    assert found.damaged == ()
    left = cut - (whole[-1] if whole else 0)
    expected = f"records.journal: 1 torn frame of {left} bytes at offset {cut - left} dropped" if left else ""
    assert found.torn == expected


@given(position=st.integers(0, len(WHOLE) - 1), flip=st.integers(1, 255))
@settings(same_path, max_examples=300)
def test_a_flipped_byte_costs_its_frame_and_is_named(tmp_path: Path, position: int, flip: int) -> None:
    """Wrong records would be read silently, or good ones behind the damage lost."""
    damaged = bytearray(WHOLE)
    damaged[position] ^= flip
    path = tmp_path / "records.journal"
    path.write_bytes(damaged)
    hit = next(n for n, end in enumerate(ENDS) if position < end)
    found = scan(path)
    assert [_identity(frame) for frame in found.frames] == CHUNKS[:hit] + CHUNKS[hit + 1 :]
    assert [WHOLE[frame.start : frame.end] for frame in found.frames] == FRAMES[:hit] + FRAMES[hit + 1 :]
    start = ENDS[hit] - len(FRAMES[hit])
    assert f"{len(FRAMES[hit])} " in "".join((*found.damaged, found.torn))
    assert f"at offset {start} " in "".join((*found.damaged, found.torn))


@given(rows=st.lists(st.integers(0, 40), max_size=12), most=st.integers(1, 60))
@same_path
def test_batches_are_the_records_in_order_and_bounded(tmp_path: Path, rows: list[int], most: int) -> None:
    """Conversion would lose or reorder records, or hold a whole journal in memory."""
    path = tmp_path / "records.journal"
    first = np.cumsum([0, *rows]).tolist()
    path.write_bytes(b"".join(encode_frame("fft", 2, s, make_records(n, first[s]), UID) for s, n in enumerate(rows)))
    journal = Journal(path)
    batches = list(journal.batches("fft", 2, most))
    assert all(0 < len(batch) <= max(most, 40) for batch in batches)
    joined = np.concatenate(batches) if batches else journal.read("fft", 2)
    assert joined.tobytes() == journal.read("fft", 2).tobytes()
    assert joined["i"].tolist() == list(range(sum(rows)))


def test_magic_inside_a_payload_does_not_mislead_the_search(tmp_path: Path) -> None:
    """Records that happen to hold the frame mark would end the search for the next frame."""
    tricky = make_records(4)
    tricky["due_ns"] = int.from_bytes(b"KTSJKTSK", "little")
    first, second = encode_frame("fft", 0, 0, tricky, UID), encode_frame("fft", 0, 1, tricky, UID)
    path = tmp_path / "records.journal"
    path.write_bytes(b"x" + first[1:] + second)
    found = scan(path)
    assert [frame.seq for frame in found.frames] == [1]
    assert found.damaged == (f"records.journal: {len(first)} damaged bytes at offset 0 skipped",)


def test_a_zeroed_tail_is_named(tmp_path: Path) -> None:
    """What power loss leaves on some file systems would be read or stop the reader."""
    path = tmp_path / "records.journal"
    path.write_bytes(WHOLE + bytes(5000))
    found = scan(path)
    assert len(found.frames) == len(CHUNKS)
    assert found.damaged == (f"records.journal: 5000 damaged bytes at offset {len(WHOLE)} dropped",)


def test_records_of_another_layout_are_refused() -> None:
    """A journal would be written that nobody can read."""
    with pytest.raises(ValueError, match="dtype"):
        encode_frame("fft", 0, 0, np.zeros(3, "<f8"), UID)
