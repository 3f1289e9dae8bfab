"""A recording of pieces: a file that is only ever appended to, one checked frame per piece.

Little-endian frame::

    magic    4 bytes  "KTSW"
    crc32    u32      of everything behind it in the frame
    seq      u32      number of the frame, from 0
    told     u32      bytes of what is told
    packed   u32      bytes of the packed calls
    calls    u32      in this frame
    before   u64      calls in all frames before it
    uid      u64      of the recording
    told     msgpack: `RecordingHead` in the first frame, then one `_Told` per piece; at the end `_Ended`
    packed   the columns of CALL one after the other, each number less the one before it, by zlib

A reader takes every frame that checks and goes on behind a damaged place at the next one. ``before`` says how many
calls are missing there, and every `REPEATED` frames all processes that live are told again, so that they are known
behind it.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts import files
from kts.errors import DataError, MeasurementError
from kts.opening import opened
from kts.watch.calls import CALL, FUNCTIONS, Array, Piece, WatchedProcess

RECORDING_VERSION = 1
MOST_CALLS = 1 << 20
"""In one frame; bounds what a damaged one can make a reader unpack. A larger piece becomes several."""
MOST_TOLD = 16 << 20
MOST_PACKED = MOST_CALLS * CALL.itemsize * 2
REPEATED = 64

_MAGIC = b"KTSW"
_HEAD = struct.Struct("<4sIIIIIQQ")
_CHECKED_FROM = 8
_SEARCH_BYTES = 1 << 20
_MOST_DAMAGE = 100
_REMEDY = "record it again with kts watch --out"


class RecordingHead(msgspec.Struct, frozen=True, kw_only=True, tag="head", tag_field="t"):
    """Whose calls they are. ``began_ns``, ``began_realtime_ns``: CLOCK_MONOTONIC and CLOCK_REALTIME read together.

    ``functions``: names; calls have their numbers.
    """

    schema: int
    node: str
    boot_id: str
    kts: str
    began_ns: int
    began_realtime_ns: int
    functions: tuple[str, ...]


class _Told(msgspec.Struct, frozen=True, kw_only=True, tag="piece", tag_field="t", omit_defaults=True):
    """A `Piece` but for its calls. ``again``: processes that were told before."""

    until_ns: int
    processes: tuple[WatchedProcess, ...] = ()
    again: tuple[WatchedProcess, ...] = ()
    gone: tuple[int, ...] = ()
    lost: int = 0
    unwatched: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


class _Ended(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="t"):
    """Nothing follows."""


_decoder = msgspec.msgpack.Decoder(RecordingHead | _Told | _Ended)


class PieceWriter:
    """Writes a recording to ``path``, which must not be there. A context: an end without error is told to readers.

    MeasurementError where the disk takes no more; the file then ends with its last whole frame.
    """

    def __init__(self, path: Path, *, node: str, kts: str, boot_id: str = "") -> None:
        self._path = path
        try:
            self._file = os.fdopen(files.opened(path, os.O_WRONLY | os.O_EXCL), "wb", buffering=0)
        except OSError as error:
            raise MeasurementError(
                f"{path}: {error.strerror}", "name another place, or remove what is there"
            ) from error
        self._uid = secrets.randbits(64)
        self._seq = self._calls = self._bytes = 0
        self._living: dict[int, WatchedProcess] = {}
        head = RecordingHead(
            schema=RECORDING_VERSION,
            node=node,
            boot_id=boot_id,
            kts=kts,
            began_ns=time.monotonic_ns(),
            began_realtime_ns=time.time_ns(),
            functions=tuple(function.name for function in FUNCTIONS),
        )
        try:
            self._frame(head)
        except BaseException:
            self._file.close()
            raise

    @property
    def bytes_written(self) -> int:
        """So far."""
        return self._bytes

    def write(self, piece: Piece) -> None:
        """Appends it. ValueError where its calls are no CALL, or not by time."""
        if piece.calls.dtype != CALL or not _by_time(piece.calls):
            raise ValueError("calls of another type, or not by time")
        at = 0
        while len(piece.calls) - at > MOST_CALLS:
            part = piece.calls[at : at + MOST_CALLS]
            self._frame(_Told(until_ns=int(part["ns"][-1]), processes=piece.processes if not at else ()), part)
            at += MOST_CALLS
        again = tuple(self._living.values()) if self._seq % REPEATED == 0 else ()
        self._living.update({one.number: one for one in piece.processes})
        told = _Told(
            until_ns=piece.until_ns,
            processes=piece.processes if not at else (),
            again=again,
            gone=piece.gone,
            lost=piece.lost,
            unwatched=piece.unwatched,
            notes=piece.notes,
        )
        self._frame(told, piece.calls[at:])
        for number in piece.gone:
            self._living.pop(number, None)

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                self._frame(_Ended())
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def _frame(self, told: RecordingHead | _Told | _Ended, calls: Array | None = None) -> None:
        count = 0 if calls is None else len(calls)
        text = msgspec.msgpack.encode(told)
        packed = _packed(calls) if calls is not None and count else b""
        head = _HEAD.pack(_MAGIC, 0, self._seq, len(text), len(packed), count, self._calls, self._uid)
        checked = b"".join((head[_CHECKED_FROM:], text, packed))
        frame = _MAGIC + zlib.crc32(checked).to_bytes(4, "little") + checked
        try:
            written = 0
            while written < len(frame):
                written += self._file.write(frame[written:]) or 0
        except OSError as error:
            self._file.truncate(self._bytes)
            raise MeasurementError(
                f"{self._path}: {error.strerror}; what was written before is kept",
                "free some space, or record for less",
            ) from error
        self._bytes += len(frame)
        self._seq += 1
        self._calls += count


class _Frame(NamedTuple):
    """A whole, checked one; ``end``: where it ends in the file."""

    seq: int
    told: RecordingHead | _Told | _Ended
    calls: Array
    before: int
    uid: int
    end: int


class RecordedSource:
    """`CallSource`: what `PieceWriter` wrote. DataError where ``path`` is no recording, or a newer kts wrote it.

    What is damaged is named in `damage` and in the notes of the piece behind it, and the calls that are missing there
    are its ``lost``. A recording that was cut is read up to the cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = RecordingHead(
            schema=RECORDING_VERSION,
            node="",
            boot_id="",
            kts="",
            began_ns=0,
            began_realtime_ns=0,
            functions=tuple(function.name for function in FUNCTIONS),
        )
        self.damage: deque[str] = deque(maxlen=_MOST_DAMAGE)
        self._untold: list[str] = []
        try:
            self._file: BinaryIO = opened(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}", _REMEDY) from error
        self._frames = self._whole_frames()
        try:
            self._first = self._next()
            if self._first is None:
                raise DataError(f"{path}: not a recording of kts watch", _REMEDY)
            if isinstance(self._first.told, RecordingHead):
                self.head = self._first.told
                if self.head.schema > RECORDING_VERSION:
                    raise files.newer(path, self.head.schema, RECORDING_VERSION)
            else:
                self._damaged("its head is damaged: whose calls they are is not known")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> RecordedSource:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def pieces(self) -> Iterator[Piece]:
        """See CallSource. Once: a second call goes on where the first stopped."""
        numbers = _numbers(self.head.functions)
        known: set[int] = set()
        calls = missing = 0
        seq = until_ns = 0
        frame, self._first = self._first, None
        ended = False
        while frame is not None:
            if frame.seq < seq or frame.uid != self._uid:
                self._damaged(f"frame {frame.seq} is there twice, or of another recording; skipped")
            else:
                if frame.seq > seq:
                    self._damaged(f"{frame.seq - seq} frames before frame {frame.seq} are missing")
                missing += max(0, frame.before - calls)
                calls = frame.before + len(frame.calls)
                seq = frame.seq + 1
                ended = isinstance(frame.told, _Ended)
                if isinstance(frame.told, _Told):
                    told = frame.told
                    news = [*told.processes, *(one for one in told.again if one.number not in known)]
                    known.update(one.number for one in news)
                    kept = self._believed(frame.calls, numbers, known)
                    until_ns = max(until_ns, told.until_ns)
                    lost = told.lost + missing + len(frame.calls) - len(kept)
                    notes = (*told.notes, *self._untold)
                    self._untold, missing = [], 0
                    yield Piece(until_ns, kept, tuple(news), told.gone, lost, told.unwatched, notes)
                    known.difference_update(told.gone)
            frame = self._next()
        if not ended:
            self._damaged("has no end: whoever recorded was stopped, or the file was cut")
        if self._untold or missing:
            yield Piece(until_ns, np.empty(0, CALL), lost=missing, notes=tuple(self._untold))
            self._untold = []

    def _believed(self, calls: Array, numbers: Array, known: set[int]) -> Array:
        """Those of processes and functions that are known, with our numbers for functions."""
        function = calls["function"]
        good = function < len(numbers)
        mapped = numbers[np.minimum(function, len(numbers) - 1)] if len(numbers) else np.full(len(calls), -1)
        good &= (mapped >= 0) & _among(calls["process"], known) & (calls["returned"] <= 1)
        if good.all() and (mapped == function).all():
            return calls
        if strange := int((~good).sum()):
            self._damaged(f"{strange} calls of processes or functions that are not known; skipped")
        kept = calls[good]
        kept["function"] = mapped[good]
        return kept

    def _next(self) -> _Frame | None:
        frame = next(self._frames, None)
        if frame is not None and not hasattr(self, "_uid"):
            self._uid = frame.uid
        return frame

    def _damaged(self, what: str) -> None:
        line = f"{self.path.name}: {what}"
        self.damage.append(line)
        if len(self._untold) < _MOST_DAMAGE:
            self._untold.append(line)

    def _whole_frames(self) -> Iterator[_Frame]:
        """In file order; what is skipped is named."""
        size = os.fstat(self._file.fileno()).st_size
        offset = 0
        while offset < size:
            frame = self._frame_at(offset, size)
            if frame is None:
                behind = self._behind(offset + 1, size)
                frame = behind[1]
                if offset or frame is not None:
                    self._damaged(f"{behind[0] - offset} damaged bytes at offset {offset} skipped")
                if frame is None:
                    return
            yield frame
            offset = frame.end

    def _behind(self, offset: int, size: int) -> tuple[int, _Frame | None]:
        """The first whole frame at ``offset`` or behind it, and where it begins; else the file's end."""
        while offset < size:
            self._file.seek(offset)
            window = self._file.read(_SEARCH_BYTES)
            at = window.find(_MAGIC)
            if at < 0:
                offset += max(1, len(window) - len(_MAGIC) + 1)
                continue
            if (frame := self._frame_at(offset + at, size)) is not None:
                return offset + at, frame
            offset += at + 1
        return size, None

    def _frame_at(self, offset: int, size: int) -> _Frame | None:
        self._file.seek(offset)
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(_MAGIC):
            return None
        _, crc, seq, told_bytes, packed_bytes, count, before, uid = _HEAD.unpack(head)
        end = offset + _HEAD.size + told_bytes + packed_bytes
        if told_bytes > MOST_TOLD or packed_bytes > MOST_PACKED or count > MOST_CALLS or end > size:
            return None
        body = self._file.read(told_bytes + packed_bytes)
        if zlib.crc32(body, zlib.crc32(head[_CHECKED_FROM:])) != crc:
            return None
        try:
            told = _decoder.decode(body[:told_bytes])
            calls = _unpacked(body[told_bytes:], count)
        except (msgspec.DecodeError, ValueError, zlib.error):
            return None  # checks, so it was made so: not by us
        return _Frame(seq, told, calls, before, uid, end)


def recorded(path: Path) -> bool:
    """Whether the file begins as a recording does. False where it cannot be read."""
    try:
        with opened(path) as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False


def _among(numbers: NDArray[np.uint32], known: set[int]) -> NDArray[np.bool_]:
    """Whether each is known. A third of the time of `np.isin` where these are small, as they are."""
    if not known or min(known) < 0 or max(known) > MOST_CALLS:
        return np.isin(numbers, list(known))
    table = np.zeros(max(known) + 2, bool)
    table[list(known)] = True
    found: NDArray[np.bool_] = table.take(numbers, mode="clip")
    return found


def _numbers(functions: tuple[str, ...]) -> Array:
    """Our number of each function of a recording; -1 where we have none."""
    ours = {function.name: number for number, function in enumerate(FUNCTIONS)}
    return np.array([ours.get(name, -1) for name in functions], dtype=np.int64)


def _packed(calls: Array) -> bytes:
    columns = []
    for name in CALL.names or ():
        column = calls[name]
        columns.append(np.diff(column, prepend=column.dtype.type(0)).tobytes())
    return zlib.compress(b"".join(columns), 1)


def _unpacked(packed: bytes, count: int) -> Array:
    """ValueError, zlib.error where it is not so many calls."""
    calls = np.empty(count, CALL)
    if not count:
        if packed:
            raise ValueError("calls where none are told")
        return calls
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(packed, count * CALL.itemsize + 1)
    if len(raw) != count * CALL.itemsize or not unpacker.eof or unpacker.unused_data:
        raise ValueError("other than so many calls")
    at = 0
    for name in CALL.names or ():
        dtype = CALL[name]
        column = np.frombuffer(raw, dtype, count, at)
        np.cumsum(column, dtype=dtype, out=calls[name])
        at += column.nbytes
    if not _by_time(calls):
        raise ValueError("calls that are not by time")
    return calls


def _by_time(calls: Array) -> bool:
    return bool((calls["ns"][1:] >= calls["ns"][:-1]).all())
