"""Reading KTS_APP v1 lines out of text files; what is torn, repeated, out of order or foreign is counted and named."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from kts.errors import DataError
from kts.model.records import RECORD, Records
from kts.wire.appline import PREFIX, AppLine, parse_line
from kts.wire.logframe import ECHO, END, FRAME, META, End, Meta, parse_echo, parse_end, parse_meta

SUFFIXES = frozenset({".log", ".txt", ""})

Label = Literal["solo", "shared", ""]

_WORDS: dict[Label, frozenset[str]] = {
    "solo": frozenset({"solo", "alone", "isolated"}),
    "shared": frozenset({"shared", "both", "together", "contended"}),
}
_WARM = frozenset({"warm", "warmup"})


@dataclass(frozen=True)
class Stretch:
    """Iterations of one execution of an app: records in order of ``i``, and the condition its log names, if any.

    ``meta``: what the log's header says of who printed it, if it has one.
    """

    app: str
    label: Label
    records: Records
    place: str
    meta: Meta | None = None

    @property
    def start_ns(self) -> int:
        """Start of its first iteration."""
        return int(self.records["submit_ns"].min())

    @property
    def end_ns(self) -> int:
        """End of its last iteration."""
        return int(self.records["retire_ns"].max())


@dataclass
class _Lines:
    """The whole lines of one app in one file, as columns in file order."""

    i: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    end: array[int] = field(default_factory=lambda: array("q"))
    ms: array[float] = field(default_factory=lambda: array("d"))
    phase: array[int] = field(default_factory=lambda: array("q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    echo: array[int] = field(default_factory=lambda: array("b"))
    ends: set[End] = field(default_factory=set)
    meta: Meta | None = None

    def add(self, line: AppLine, phase: int, number: int, *, echo: bool) -> None:
        self.i.append(line.i)
        self.start.append(line.start_ns)
        self.end.append(line.end_ns)
        self.ms.append(line.device_ms)
        self.phase.append(phase)
        self.at.append(number)
        self.echo.append(echo)

    def records(self) -> Records:
        records = np.empty(len(self.i), RECORD)
        for name, column in zip(RECORD.names or (), (self.i, self.start, self.start, self.end, self.ms), strict=True):
            records[name] = column
        return records


class _Tally:
    """How many lines had a fault, and where the first was."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._first = 0

    def add(self, number: int, count: int = 1) -> None:
        if count and (not self._count or number < self._first):
            self._first = number
        self._count += count

    def line(self, place: str) -> list[str]:
        if not self._count:
            return []
        plural = "" if self._count == 1 else "s"
        where = f"at line {self._first}" if self._count == 1 else f"first at line {self._first}"
        return [f"{place}: {self._count} {self._what.format(plural=plural)}, {where}"]


def log_files(directory: Path) -> Iterator[Path]:
    """Every text file below ``directory`` that may hold lines, in order of name."""
    return (
        path
        for path in sorted(directory.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_file(path: Path, root: Path) -> tuple[list[Stretch], list[str]]:
    """(the file's stretches, its damage lines). DataError if it cannot be read."""
    place = str(path.relative_to(root))
    torn, foreign = _Tally("torn or damaged line{plural} dropped"), _Tally("foreign line{plural} ignored")
    apps: dict[str, _Lines] = {}
    phases: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for number, text in enumerate(file, 1):
                echo = text.startswith(ECHO)
                line = parse_echo(text) if echo else parse_line(text)
                if line is not None and not _is_cut(text, line, phases):
                    phase = phases.setdefault(line.phase, len(phases))
                    apps.setdefault(line.app.lower(), _Lines()).add(line, phase, number, echo=echo)
                elif _is_frame(text, apps):
                    continue
                elif PREFIX in text or text.startswith(FRAME):
                    torn.add(number)
                elif text.strip():
                    foreign.add(number)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}", "make it readable, or move it away") from error
    stretches: list[Stretch] = []
    damage = [*torn.line(place), *foreign.line(place)]
    named = _label_of_path(path.relative_to(root))
    for app, lines in apps.items():
        if not lines.i:
            continue
        found, faults = _stretches(app, lines, list(phases), named, place)
        stretches += found
        damage += faults
    return stretches, damage


def _is_frame(text: str, apps: dict[str, _Lines]) -> bool:
    """Takes a whole header or trailer; False for anything else."""
    if text.startswith(META) and (meta := parse_meta(text)):
        lines = apps.setdefault(meta.app.lower(), _Lines())
        lines.meta = lines.meta or meta
        return True
    if text.startswith(END) and (end := parse_end(text)):
        apps.setdefault(end.app.lower(), _Lines()).ends.add(end)
        return True
    return False


def _is_cut(text: str, line: AppLine, phases: dict[str, int]) -> bool:
    """True for a last line without its end whose phase, unlike any before it, may be the beginning of another."""
    return not text.endswith("\n") and bool(phases) and line.phase not in phases


def _stretches(app: str, lines: _Lines, phases: list[str], named: Label, place: str) -> tuple[list[Stretch], list[str]]:
    """Splits one app's lines where its numbering starts again and where its phase changes; drops warm-up."""
    records, phase, damage = _ordered(lines, place)
    announced = sum(end.count for end in lines.ends)
    if lines.ends and announced != len(records):
        damage.append(f"{place}: {app} has {len(records)} iterations, and its trailer announces {announced}")
    labels = [_label(_words(text)) or named for text in phases]
    warm = [bool(_words(text) & _WARM) for text in phases]
    stretches: list[Stretch] = []
    for begin, end in _runs(records["i"]):
        part, where, kept = _numbered(records[begin:end], phase[begin:end], f"{place}: {app}")
        damage += kept
        for label in ("solo", "shared", ""):
            chosen = [n for n, text in enumerate(labels) if text == label and not warm[n]]
            mine = part[np.isin(where, chosen)]
            if len(mine):
                stretches.append(Stretch(app, label, mine, place, lines.meta))
    return stretches, damage


def _ordered(lines: _Lines, place: str) -> tuple[Records, np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    """(records in order of time, each once, and echoes only where their line is missing; their phases; damage)."""
    repeated, moved = _Tally("repeated line{plural} dropped"), _Tally("line{plural} out of order, sorted")
    healed = _Tally("line{plural} lost, taken from the echo")
    records, at, phase, echo = lines.records(), np.asarray(lines.at), np.asarray(lines.phase), np.asarray(lines.echo)
    begun, where = records["submit_ns"][echo == 0], at[echo == 0]
    late = np.flatnonzero(begun[1:] < np.maximum.accumulate(begun)[:-1]) + 1
    if len(late):
        moved.add(int(where[late[0]]), len(late))
    order = np.lexsort((echo, records["i"], records["submit_ns"]))
    records, at, phase, echo = records[order], at[order], phase[order], echo[order]
    same = np.zeros(len(records), bool)
    same[1:] = (records["i"][1:] == records["i"][:-1]) & (records["submit_ns"][1:] == records["submit_ns"][:-1])
    for tally, which in ((repeated, same & (echo == 0)), (healed, ~same & (echo == 1))):
        if which.any():
            tally.add(int(at[which].min()), int(which.sum()))
    damage = [*moved.line(place), *repeated.line(place), *healed.line(place)]
    return records[~same], phase[~same], damage


def _runs(numbers: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> list[tuple[int, int]]:
    """Ranges of one execution each, for numbers in order of time: a program that starts again starts near its first."""
    signed = numbers.astype(np.int64)
    low = int(signed.min())
    falls = np.flatnonzero((signed[1:] < signed[:-1]) & (2 * (signed[1:] - low) < signed[:-1] - low)) + 1
    edges = [0, *falls.tolist(), len(signed)]
    return [(edges[n], edges[n + 1]) for n in range(len(edges) - 1)]


def _numbered(
    records: Records, phase: np.ndarray[tuple[int], np.dtype[np.int64]], place: str
) -> tuple[Records, np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    """Records and phases in order of ``i``, each number once, and what that says about the numbering."""
    numbers, first = np.unique(records["i"], return_index=True)
    damage = []
    if len(first) < len(records):
        damage.append(f"{place}: {len(records) - len(first)} iterations with a number used before, dropped")
    signed = numbers.astype(np.int64)
    gaps = np.flatnonzero(np.diff(signed) > 1)
    missing = int(signed[-1] - signed[0] + 1 - len(signed))
    if missing:
        at = int(signed[gaps[0]]) + 1
        damage.append(f"{place}: {missing} of iterations {signed[0]} to {signed[-1]} missing, first {at}")
    return records[first], phase[first], damage


def _label_of_path(path: Path) -> Label:
    """The condition that the file's name says, or else its folder, the nearest first."""
    for part in (path.stem, *reversed(path.parent.parts)):
        if label := _label(_words(part)):
            return label
    return ""


def _words(text: str) -> set[str]:
    return set(re.split(r"[^a-z]+", text.lower()))


def _label(words: set[str]) -> Label:
    """The condition that the words name; none if they name both."""
    found = [label for label, known in _WORDS.items() if words & known]
    return found[0] if len(found) == 1 else ""
