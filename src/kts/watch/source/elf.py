"""Where the functions of a shared library begin in its file. Reads its dynamic symbols, and believes none of its
numbers unseen: the file may be anybody's, and may change while it is read."""

from __future__ import annotations

import os
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.void]

_MOST_BYTES = 16 << 20
"""Of one table; that of a driver's names has about 100 KiB."""
_HEAD_BYTES = 64
_SECTION = np.dtype(
    {
        "names": ["type", "offset", "size", "link"],
        "formats": ["<u4", "<u8", "<u8", "<u4"],
        "offsets": [4, 24, 32, 40],
        "itemsize": 64,
    }
)
_SEGMENT = np.dtype(
    {
        "names": ["type", "flags", "offset", "address", "in_file"],
        "formats": ["<u4", "<u4", "<u8", "<u8", "<u8"],
        "offsets": [0, 4, 8, 16, 32],
        "itemsize": 56,
    }
)
_SYMBOL = np.dtype(
    {
        "names": ["name", "info", "section", "value"],
        "formats": ["<u4", "u1", "<u2", "<u8"],
        "offsets": [0, 4, 6, 8],
        "itemsize": 24,
    }
)
_DYNSYM, _LOAD, _EXECUTABLE, _FUNCTION = 11, 1, 1, 2


def function_offsets(descriptor: int, names: Collection[str]) -> dict[str, int]:
    """Offset in the file (bytes) of each of these functions that it has. ValueError where it is no 64-bit little-endian
    ELF file whose parts lie in it; OSError."""
    head = _read(descriptor, 0, _HEAD_BYTES)
    if head[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit little-endian ELF file")

    def number(at: int, width: int) -> int:
        return int.from_bytes(head[at : at + width], "little")

    sections = _table(descriptor, number(40, 8), number(60, 2), number(58, 2), _SECTION)
    segments = _table(descriptor, number(32, 8), number(56, 2), number(54, 2), _SEGMENT)
    symbols_at = np.flatnonzero(sections["type"] == _DYNSYM)
    if not len(symbols_at):
        return {}
    section = sections[symbols_at[0]]  # a library has one
    if section["link"] >= len(sections):
        raise ValueError("symbols without names")
    texts = sections[section["link"]]
    text = _read(descriptor, int(texts["offset"]), int(texts["size"]))
    count = int(section["size"]) // _SYMBOL.itemsize
    symbols = _table(descriptor, int(section["offset"]), count, _SYMBOL.itemsize, _SYMBOL)
    defined = symbols[(symbols["info"] & 15 == _FUNCTION) & (symbols["section"] != 0)]
    code = segments[(segments["type"] == _LOAD) & (segments["flags"] & _EXECUTABLE != 0)]
    return _found(defined, text, code, {name.encode(): name for name in names})


def _found(symbols: Array, text: bytes, code: Array, wanted: dict[bytes, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    longest = max(map(len, wanted), default=0)
    for at, address in zip(symbols["name"].tolist(), symbols["value"].tolist(), strict=True):
        name = wanted.get(text[at : at + longest + 1].partition(b"\0")[0])
        if name is not None and (offset := _in_file(address, code)) is not None:
            found[name] = offset
    return found


def _read(descriptor: int, at: int, count: int) -> bytes:
    if count > _MOST_BYTES or at >= 1 << 62:
        raise ValueError("a table larger than a library's are")
    read = os.pread(descriptor, count, at)
    if len(read) < count:
        raise ValueError("a table beyond the file's end")
    return read


def _table(descriptor: int, at: int, count: int, width: int, kind: np.dtype[np.void]) -> Array:
    if width != kind.itemsize:
        raise ValueError("a table of another kind")
    return np.frombuffer(_read(descriptor, at, count * width), kind)


def _in_file(address: int, code: Array) -> int | None:
    for segment in code:
        within = address - int(segment["address"])
        if 0 <= within < int(segment["in_file"]):
            return int(segment["offset"]) + within
    return None
