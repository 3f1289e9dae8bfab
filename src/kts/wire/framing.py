"""Frames on a byte stream: a 4-byte big-endian length, then that many bytes; and the record payload of a chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from kts.errors import DataError
from kts.model.records import Records, optional_columns, record_dtype
from kts.wire.messages import Chunk

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""A peer that announces more is not ours; bounded so that it cannot make us allocate."""

CHUNK_RECORDS = 4096
"""Records in a full chunk: 147 kB, sent in one go between two iterations."""

_LENGTH = struct.Struct(">I")


def frame(body: bytes) -> bytes:
    """``body`` with its length in front. ValueError if it is larger than ``MAX_FRAME_BYTES``."""
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


class Deframer:
    """Bytes in, in any portions; whole frame bodies out, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields every body completed by ``data``. DataError on an impossible length."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise DataError(f"a frame announces {length} bytes; the limit is {MAX_FRAME_BYTES}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body


def make_chunk(block: int, seq: int, records: Records) -> Chunk:
    """The message that carries ``records``. ValueError if they are no records."""
    payload = records.tobytes()
    return Chunk(
        block=block,
        seq=seq,
        count=len(records),
        crc32=zlib.crc32(payload),
        payload=payload,
        optional=optional_columns(records.dtype),
    )


def chunk_records(chunk: Chunk) -> Records:
    """The records of a chunk, read-only. DataError if columns, length or checksum are off."""
    place = f"chunk {chunk.seq} of block {chunk.block}"
    try:
        dtype = record_dtype(chunk.optional)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    if len(chunk.payload) != chunk.count * dtype.itemsize:
        raise DataError(f"{place}: {len(chunk.payload)} bytes for {chunk.count} records")
    if zlib.crc32(chunk.payload) != chunk.crc32:
        raise DataError(f"{place}: checksum does not match")
    return np.frombuffer(chunk.payload, dtype=dtype)
