"""Log files as people keep them: rotated, compressed, in any usual encoding."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from kts.errors import DataError
from kts.opening import opened
from kts.store import layout

STDIN = Path("-")

LONGEST_LINE = 4 << 20
"""Characters; no program of ours prints more, and memory ends."""
_SUFFIXES = frozenset({".log", ".txt", ".out", ".err", ".stdout", ".stderr", ""})
_JSON = frozenset({".json", ".jsonl", ".ndjson"})
_ARCHIVES = (".tar", ".tgz", ".zip", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst")
_ROTATED = re.compile(
    r"(?P<base>.+?)(?:[.-](?P<time>\d{8}(?:[-T.]?\d{2,6})?)|\.(?P<number>\d{1,4})|\.(?P<old>old|bak|prev(?:ious)?))?"
    r"(?:\.(?:gz|bz2|xz|zst|lz4))?",
    re.IGNORECASE,
)
_LOOKS = re.compile(rb"KTS_APP[,;\t]v1[,;\t][^,;\t\n]{1,64}[,;\t] *\d", re.IGNORECASE)
_LOOKED_AT = 1 << 16
_PACKED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_UNREADABLE = ((b"\x28\xb5\x2f\xfd", "zstd -d"), (b"\x04\x22\x4d\x18", "lz4 -d"), (b"PK\x03\x04", "unzip"))
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class LogFile:
    """One log. ``parts``: the files that rotation made of it, oldest first. ``path``: its name, below the folder."""

    path: Path
    parts: tuple[Path, ...]

    @property
    def place(self) -> str:
        """Its name for messages."""
        return "stdin" if self.parts == (STDIN,) else str(self.path)


def logs_at(path: Path) -> tuple[list[LogFile], list[str]]:
    """(the logs in order of name, what may be one and is not read). ``path``: a folder, one file, or `STDIN`."""
    if path == STDIN:
        return [LogFile(Path(), (STDIN,))], []
    if not path.is_dir():
        return [LogFile(Path(path.name), (path,))], []
    logs: dict[Path, dict[Path, re.Match[str]]] = {}
    passed: list[str] = []
    ours = {path / name for name in layout.REPORTS}
    for file in sorted(path.rglob("*")):
        if file.name.startswith(".") or ours & {file, *file.parents} or not file.is_file():
            continue
        name = _ROTATED.fullmatch(file.name)
        assert name is not None
        base = file.with_name(name["base"])
        if file.name.lower().endswith(_ARCHIVES):
            passed.append(f"{file.relative_to(path)}: an archive is not read; unpack it")
        elif base.suffix.lower() in _SUFFIXES or (base.suffix.lower() in _JSON and _looks_like_one(file)):
            alone = base.suffix == "" and not base.is_file()  # what ends in a number may just be called so
            logs.setdefault(file if alone else base, {})[file] = name
        elif _looks_like_one(file):
            passed.append(f"{file.relative_to(path)}: holds KTS_APP lines and is not read; give it the suffix .log")
    found = (
        LogFile(base.relative_to(path), tuple(sorted(files, key=lambda f: _age(files[f]))))
        for base, files in logs.items()
    )
    return sorted(found, key=lambda log: log.path), passed


def _age(name: re.Match[str]) -> tuple[int, str, int]:
    """Sorts the parts of one log, oldest first: dated ones, then .2 before .1, then .old, then what is written to."""
    if name["time"]:
        return 0, name["time"], 0
    if name["number"]:
        return 1, "", -int(name["number"])
    return (2 if name["old"] else 3), "", 0


def _looks_like_one(file: Path) -> bool:
    try:
        with opened(file) as looked_at:
            return _LOOKS.search(looked_at.read(_LOOKED_AT)) is not None
    except OSError:
        return False


def lines_of(path: Path, damage: list[str]) -> Iterator[str]:
    """The lines of a file or of `STDIN` with their ends; what stops it short joins ``damage``. DataError if it cannot
    be opened."""
    try:
        source: IO[bytes] = sys.stdin.buffer if path == STDIN else opened(path, pipes=True)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}", "make it readable, or move it away") from error
    with source as raw:
        try:
            content = _unpacked(cast("io.BufferedReader", raw))
            with io.TextIOWrapper(content, encoding=_encoding(content), errors="replace", newline="\n") as text:
                yield from _bounded(text, path.name, damage)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, DataError) as error:
            damage.append(f"{path.name}: cannot be read further: {getattr(error, 'strerror', None) or error}")


def _bounded(text: io.TextIOWrapper, name: str, damage: list[str]) -> Iterator[str]:
    """The lines; an empty one stands for each that is longer than `LONGEST_LINE`."""
    long = 0
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            while line and not line.endswith("\n"):
                line = text.readline(LONGEST_LINE)
            long, line = long + 1, "\n"
        yield line
    if long:
        plural = "s" if long > 1 else ""
        damage.append(f"{name}: {long} line{plural} of over {LONGEST_LINE >> 20} million characters passed over")


def _unpacked(raw: io.BufferedReader) -> io.BufferedReader:
    """The content, decompressed where its first bytes say how. DataError for a compression that we cannot undo."""
    head = raw.peek(8)[:8]
    for magic, tool in _UNREADABLE:
        if head.startswith(magic):
            raise DataError(f"it is compressed; try {tool}")
    for magic, unpack in _PACKED:
        if head.startswith(magic):
            return io.BufferedReader(cast("io.RawIOBase", unpack(raw)), 1 << 16)
    return raw


def _encoding(content: io.BufferedReader) -> str:
    """By the mark of its byte order; without one, text that is zero in every second byte is UTF-16."""
    head = content.peek(1 << 12)[: 1 << 12]
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    even, odd = head[::2], head[1::2]
    if 2 * odd.count(0) > len(odd) > 4 and not even.count(0):
        return "utf-16-le"
    if 2 * even.count(0) > len(even) > 4 and not odd.count(0):
        return "utf-16-be"
    return "utf-8"


def position(ordinal: int, counts: Sequence[tuple[int, str]]) -> str:
    """``line N`` of a log whose parts have so many lines before each: (lines before, name); several: with the name."""
    before, name = next(part for part in reversed(counts) if part[0] < ordinal)
    return f"line {ordinal - before}" + (f" of {name}" if len(counts) > 1 else "")
