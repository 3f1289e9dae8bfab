"""records.journal: what arrives while measuring, one checked frame per chunk, only ever appended to.

Little-endian frame::

    magic         4 bytes  "KTSK"
    crc32         u32      of everything behind it in the frame
    tenant_bytes  u16
    record_bytes  u16      size of one record: 36, and what its optional columns take
    block         i32
    seq           u32      number of the chunk within its tenant and block, from 0
    count         u32      records in the frame
    run           u64      uid of the run; not there in frames that begin with "KTSJ", of schemas before 5
    tenant        UTF-8, tenant_bytes: the tenant's name, then a NUL and its name for each optional column
    payload       count packed records (kts.model.records.record_dtype)
"""

from __future__ import annotations

import os
import re
import struct
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kts.model.records import MOST_OPTIONAL, RECORD, Records, joined, optional_columns, record_dtype
from kts.opening import opened
from kts.store import layout

MAX_FRAME_RECORDS = 1 << 20
"""Bounds what a damaged header can make a reader load."""

MAX_TENANT_BYTES = 1024
MAX_RECORD_BYTES = RECORD.itemsize + 8 * MOST_OPTIONAL

_MAGIC, _MAGIC_BEFORE_5 = b"KTSK", b"KTSJ"
_MAGICS = re.compile(b"KTS[JK]")
_HEAD = struct.Struct("<4sIHHiII")
_RUN = struct.Struct("<Q")
_CHECKED_FROM = 8
_SEARCH_BYTES = 1 << 20


class Frame(NamedTuple):
    """One whole, checked frame. ``start`` and ``end``: of the frame; ``payload``: where its records begin (bytes).
    ``optional``: its records' optional columns. ``run``: the uid of its run; empty before schema 5."""

    tenant: str
    block: int
    seq: int
    rows: int
    start: int
    payload: int
    end: int
    optional: tuple[str, ...]
    run: str


@dataclass(frozen=True)
class Scan:
    """What a journal holds: its whole frames in file order, and what was skipped, one line each.

    ``torn``: of these, the line on an unfinished last frame, empty if there is none. It is damage
    in a dead run, and nothing unusual in a live one.
    """

    frames: tuple[Frame, ...]
    damaged: tuple[str, ...] = field(default=())
    torn: str = ""


def encode_frame(tenant: str, block: int, seq: int, records: Records, run: str) -> bytes:
    """One frame of the run with the uid ``run``. ValueError if they are no records, are too many, or the tenant's name
    is too long."""
    name = "\0".join((tenant, *optional_columns(records.dtype))).encode()
    if len(records) > MAX_FRAME_RECORDS or len(name) > MAX_TENANT_BYTES:
        raise ValueError(f"a frame of {len(records)} records of a tenant with a name of {len(name)} bytes")
    head = _HEAD.pack(_MAGIC, 0, len(name), records.dtype.itemsize, block, seq, len(records))
    front = head[_CHECKED_FROM:] + _RUN.pack(int(run, 16)) + name
    payload = np.ascontiguousarray(records).view(np.uint8).data
    crc32 = zlib.crc32(payload, zlib.crc32(front))
    return b"".join((_MAGIC, crc32.to_bytes(4, "little"), front, payload))


def scan(path: Path) -> Scan:
    """Finds and checks every frame; goes on behind a damaged place at the next whole frame. OSError."""
    with opened(path) as file:
        return _scanned(file, path.name)


def _scanned(file: BufferedReader, name: str) -> Scan:
    frames: list[Frame] = []
    damaged: list[str] = []
    size = os.fstat(file.fileno()).st_size
    offset = 0
    while offset < size:
        frame = _frame_at(file, offset, size)
        if frame is None:
            frame = _next_frame(file, offset + 1, size)
            if frame is None:
                break
            damaged.append(f"{name}: {frame.start - offset} damaged bytes at offset {offset} skipped")
        frames.append(frame)
        offset = frame.end
    left = size - offset
    if left and not _is_torn(file, offset, size):
        damaged.append(f"{name}: {left} damaged bytes at offset {offset} dropped")
        left = 0
    torn = f"{name}: 1 torn frame of {left} bytes at offset {offset} dropped" if left else ""
    return Scan(tuple(frames), tuple(damaged), torn)


def _frame_at(file: BufferedReader, offset: int, size: int) -> Frame | None:
    """The frame that starts at ``offset``, None if none whole does."""
    head = _sane_head(file, offset)
    if head is None:
        return None
    name = offset + head.size
    payload = name + head.tenant_bytes
    end = payload + head.rows * head.record_bytes
    if end > size:
        return None
    body = file.read(end - name)
    if zlib.crc32(body, zlib.crc32(head.checked)) != head.crc32:
        return None
    try:
        tenant, *optional = body[: head.tenant_bytes].decode().split("\0")
        if record_dtype(tuple(optional)).itemsize != head.record_bytes:
            return None
    except ValueError:
        return None
    return Frame(tenant, head.block, head.seq, head.rows, offset, payload, end, tuple(optional), head.run)


class _FrameHead(NamedTuple):
    """``size``: in bytes. ``checked``: what of it the checksum covers."""

    crc32: int
    tenant_bytes: int
    record_bytes: int
    block: int
    seq: int
    rows: int
    run: str
    size: int
    checked: bytes


def _sane_head(file: BufferedReader, offset: int) -> _FrameHead | None:
    """The head at ``offset``, if sane. ``file`` is then behind it."""
    file.seek(offset)
    packed = file.read(_HEAD.size)
    if len(packed) < _HEAD.size:
        return None
    magic, crc, tenant_bytes, record_bytes, block, seq, count = _HEAD.unpack(packed)
    sane = _MAGICS.fullmatch(magic) and RECORD.itemsize <= record_bytes <= MAX_RECORD_BYTES and block >= 0
    if not sane or count > MAX_FRAME_RECORDS or tenant_bytes > MAX_TENANT_BYTES:
        return None
    run = b"" if magic == _MAGIC_BEFORE_5 else file.read(_RUN.size)
    if magic == _MAGIC and len(run) < _RUN.size:
        return None
    uid = f"{_RUN.unpack(run)[0]:016x}" if run else ""
    checked = packed[_CHECKED_FROM:] + run
    return _FrameHead(crc, tenant_bytes, record_bytes, block, seq, count, uid, len(packed) + len(run), checked)


def _next_frame(file: BufferedReader, offset: int, size: int) -> Frame | None:
    """The first whole frame at ``offset`` or behind it."""
    while offset < size:
        file.seek(offset)
        window = file.read(_SEARCH_BYTES)
        found = _MAGICS.search(window)
        if found is None:
            offset += max(1, len(window) - len(_MAGIC) + 1)
            continue
        at = found.start()
        frame = _frame_at(file, offset + at, size)
        if frame is not None:
            return frame
        offset += at + 1
    return None


def _is_torn(file: BufferedReader, offset: int, size: int) -> bool:
    """True if the rest of the file is the beginning of a frame, as a write that was cut short leaves it."""
    file.seek(offset)
    start = file.read(_HEAD.size)
    if len(start) < _HEAD.size or (start.startswith(_MAGIC) and offset + _HEAD.size + _RUN.size > size):
        return any(start[: len(_MAGIC)] == magic[: len(start)] for magic in (_MAGIC, _MAGIC_BEFORE_5))
    head = _sane_head(file, offset)
    return head is not None and offset + head.size + head.tenant_bytes + head.record_bytes * head.rows > size


class Journal:
    """A scanned journal, readable by tenant and block, also when a run that closes has removed it meanwhile.

    ``optional``: the optional columns of all its records.
    """

    def __init__(self, path: Path, run: str | None = None) -> None:
        """Scans ``path``: reads it once. ``run``: the uid of the run whose frames count; None: any. OSError."""
        self._file = opened(path)
        weakref.finalize(self, self._file.close)
        found = _scanned(self._file, path.name)
        self.path = path
        self.torn = found.torn
        ours = [frame for frame in found.frames if run is None or frame.run == run]
        self._frames: dict[tuple[str, int], list[Frame]] = {}
        for frame in ours:
            self._frames.setdefault((frame.tenant, frame.block), []).append(frame)
        self.broken: dict[tuple[str, int], str] = {}
        for key, frames in self._frames.items():
            frames.sort(key=lambda frame: frame.seq)
            if [frame.seq for frame in frames] != list(range(len(frames))):
                self.broken[key] = f"{path.name}: chunks of {key[0]} in block {key[1]} are missing or there twice"
        others = len(found.frames) - len(ours)
        foreign = (f"{path.name}: {others} frames of another run skipped",) if others else ()
        self.damage = (*found.damaged, *foreign, *self.broken.values())
        self.optional = tuple(dict.fromkeys(name for frame in ours for name in frame.optional))
        self.counts = {key: sum(frame.rows for frame in frames) for key, frames in self._frames.items()}

    def read(self, tenant: str, block: int) -> Records:
        """All records of a tenant in a block, in the order of their chunks. Empty if it has none. OSError."""
        return self._load(self._frames.get((tenant, block), []))

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """In one: a journal is what a run leaves that did not end well, and may hold numbers twice."""
        yield self.read(tenant, block)

    def batches(self, tenant: str, block: int, most: int) -> Iterator[Records]:
        """The same in portions of at most ``most`` records (at least one chunk). OSError."""
        portion: list[Frame] = []
        rows = 0
        for frame in self._frames.get((tenant, block), []):
            if rows and rows + frame.rows > most:
                yield self._load(portion)
                portion, rows = [], 0
            portion.append(frame)
            rows += frame.rows
        if rows:
            yield self._load(portion)

    def _load(self, frames: list[Frame]) -> Records:
        if len({frame.optional for frame in frames}) > 1:
            return joined(self._load([frame]) for frame in frames)
        dtype = record_dtype(frames[0].optional if frames else ())
        records = np.empty(sum(frame.rows for frame in frames), dtype)
        target = records.view(np.uint8).data
        file = self._file.raw  # what is read is larger than any buffer
        at = 0
        for frame in frames:
            end = at + frame.rows * dtype.itemsize
            file.seek(frame.payload, os.SEEK_SET)
            while at < end:
                got = file.readinto(target[at:end])
                if not got:
                    raise OSError(f"{self.path.name} became shorter while it was read")
                at += got
        return records


def journal_in(directory: Path, run: str | None = None) -> Journal | None:
    """The journal of a run directory, None if there is none; ``run`` as of `Journal`. OSError."""
    try:
        return Journal(directory / layout.JOURNAL, run)
    except FileNotFoundError:
        return None
