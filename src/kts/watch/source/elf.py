"""Where the functions of a shared library begin in its file. Reads its dynamic symbols, and believes none of its
numbers unseen: the file may be anybody's."""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.void]

_MOST_SYMBOLS = 1 << 20
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
    size = os.fstat(descriptor).st_size
    if size < 64:
        raise ValueError("too short for a library")
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
        return _offsets(content, {name.encode(): name for name in names})


def _offsets(content: mmap.mmap, wanted: dict[bytes, str]) -> dict[str, int]:
    if content[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit little-endian ELF file")
    number = {width: lambda at, width=width: int.from_bytes(content[at : at + width], "little") for width in (2, 8)}
    sections = _table(content, number[8](40), number[2](60), number[2](58), _SECTION)
    segments = _table(content, number[8](32), number[2](56), number[2](54), _SEGMENT)
    code = segments[(segments["type"] == _LOAD) & (segments["flags"] & _EXECUTABLE != 0)]
    found: dict[str, int] = {}
    for section in sections[sections["type"] == _DYNSYM]:
        if section["link"] >= len(sections):
            raise ValueError("symbols without names")
        texts = sections[section["link"]]
        begin, end = int(texts["offset"]), int(texts["offset"]) + int(texts["size"])
        if end > len(content):
            raise ValueError("names beyond the file's end")
        count = int(section["size"]) // _SYMBOL.itemsize
        symbols = _table(content, int(section["offset"]), count, _SYMBOL.itemsize, _SYMBOL)
        longest = max(map(len, wanted), default=0)
        for symbol in symbols[(symbols["info"] & 15 == _FUNCTION) & (symbols["section"] != 0)]:
            at = begin + int(symbol["name"])
            text = content[at : min(end, at + longest + 1)].partition(b"\0")[0]
            if (name := wanted.get(text)) is not None and (offset := _in_file(int(symbol["value"]), code)) is not None:
                found[name] = offset
    return found


def _table(content: mmap.mmap, offset: int, count: int, width: int, kind: np.dtype[np.void]) -> Array:
    if width != kind.itemsize or count > _MOST_SYMBOLS or offset + count * width > len(content):
        raise ValueError("a table beyond the file's end, or of another kind")
    return np.frombuffer(content[offset : offset + count * width], kind)


def _in_file(address: int, code: Array) -> int | None:
    for segment in code:
        within = address - int(segment["address"])
        if 0 <= within < int(segment["in_file"]):
            return int(segment["offset"]) + within
    return None
