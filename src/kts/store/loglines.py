"""From a log's lines to executions; what is torn, repeated, out of order or foreign is counted and named."""

from __future__ import annotations

import re
import zlib
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kts.model.records import RECORD, Records
from kts.shown import LONGEST_LINE, shown
from kts.store.logfiles import LogFile, lines_of, position
from kts.units import NS_PER_MS, NS_PER_S, format_ms
from kts.wire.appline import AppLine, RefusedLine, format_line, parse_line
from kts.wire.applines import AppLines, Said
from kts.wire.logframe import End, Meta

Label = Literal["solo", "shared", ""]

_WORDS: dict[Label, frozenset[str]] = {
    "solo": frozenset({"solo", "alone", "isolated"}),
    "shared": frozenset({"shared", "both", "together", "contended"}),
}
_WARM = frozenset({"warm", "warmup"})
_LEAP_NS = 60 * NS_PER_S
_LEAP_CYCLES = 1000


@dataclass(frozen=True)
class Execution:
    """Iterations of one execution of an app: records in order of ``i``, and the condition its log names, if any.

    ``meta``: what the log's header says of who printed it, if it has one. ``lost``: lines beside these that mean to be
    iterations and cannot be read. ``untimed``: why its times cannot be used; empty if they can.
    """

    app: str
    label: Label
    records: Records
    place: str
    meta: Meta | None = None
    lost: int = 0
    untimed: str = ""

    @property
    def start_ns(self) -> int:
        """Start of its first iteration."""
        return int(self.records["submit_ns"].min())

    @property
    def end_ns(self) -> int:
        """End of its last iteration."""
        return int(self.records["retire_ns"].max())


@dataclass
class Contents:
    """What logs hold. ``damage``: what was not read, a line each; ``doubts``: what was read and contradicts itself."""

    stretches: list[Execution] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass
class _Lines:
    """The whole lines of one app from one source, as columns in file order."""

    i: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    end_ns: array[int] = field(default_factory=lambda: array("q"))
    ms: array[float] = field(default_factory=lambda: array("d"))
    phase: array[int] = field(default_factory=lambda: array("q"))
    at: array[int] = field(default_factory=lambda: array("q"))
    echo: array[int] = field(default_factory=lambda: array("b"))
    ends: list[tuple[End, int]] = field(default_factory=list)
    """Trailers, and how many lines are before each: before the last time that it is there."""
    meta: Meta | None = None
    lost: int = 0

    def add(self, line: AppLine, phase: int, number: int, *, echo: bool) -> None:
        self.i.append(line.i)
        self.start.append(line.start_ns)
        self.end_ns.append(line.end_ns)
        self.ms.append(line.device_ms)
        self.phase.append(phase)
        self.at.append(number)
        self.echo.append(echo)

    def end(self, end: End) -> None:
        """A trailer; behind it come echoes, and then the same once more."""
        if self.ends and self.ends[-1][0] == end:
            self.ends.pop()
        self.ends.append((end, len(self.i)))

    def altered(self, phases: list[str]) -> list[End]:
        """Trailers whose lines are as many as were printed, and not the same."""
        found = []
        first = 0
        for end, until in self.ends:
            lines = self._each_once(first, until)
            crc32 = 0
            for n in lines if len(lines) == end.count else ():
                crc32 = zlib.crc32(self._printed(end.app, n, phases).encode(), crc32)
            if len(lines) == end.count and crc32 != end.crc32:
                found.append(end)
            first = until
        return found

    def _each_once(self, first: int, until: int) -> list[int]:
        """Which lines of these are the iterations, by number: an echo only where its line is missing."""
        lines: dict[tuple[int, int], int] = {}
        for n in sorted(range(first, until), key=self.echo.__getitem__):
            lines.setdefault((self.i[n], self.start[n]), n)
        return [lines[key] for key in sorted(lines)]

    def _printed(self, app: str, n: int, phases: list[str]) -> str:
        """A line as a worker of kts prints it, and another one for what none would print."""
        line = AppLine(
            app=app,
            i=self.i[n],
            start_ns=self.start[n],
            end_ns=self.end_ns[n],
            device_ms=self.ms[n],
            phase=phases[self.phase[n]],
        )
        to_the_digit = line.device_ms != line.device_ms or line.device_ms == round(line.device_ms, 6)
        return format_line(line) + ("\n" if to_the_digit else "?\n")

    def records(self) -> Records:
        records = np.empty(len(self.i), RECORD)
        for name, column in zip(
            RECORD.names or (), (self.i, self.start, self.start, self.end_ns, self.ms), strict=True
        ):
            records[name] = column
        return records


class _Tally:
    """How many lines had a fault, and where the first was."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self.first = 0

    def add(self, number: int, count: int = 1) -> None:
        if count and (not self._count or number < self.first):
            self.first = number
        self._count += count

    def line(self, log: _LogReader) -> list[str]:
        if not self._count:
            return []
        plural, first = ("", "") if self._count == 1 else ("s", "first ")
        what = self._what.format(plural=plural)
        return [f"{log.place}: {self._count} {what}, {first}at {log.position(self.first)}"]


def read_log(log: LogFile) -> Contents:
    """What a log holds. DataError if it cannot be opened."""
    return _LogReader(log).read()


class _LogReader:
    def __init__(self, log: LogFile) -> None:
        self.place = log.place
        self._log = log
        self._named = _label_of_path(log.path)
        self._apps: dict[tuple[str, str], _Lines] = {}
        self._phases: dict[str, int] = {}
        self._torn = _Tally("torn or damaged line{plural} dropped")
        self._foreign = _Tally("foreign line{plural} ignored")
        self._why = ""
        self._lost: dict[str, int] = {}
        self._counts: list[tuple[int, str]] = []

    def position(self, number: int) -> str:
        """Where the line with this number is, counted through all parts."""
        return position(number, self._counts)

    def read(self) -> Contents:
        found = Contents()
        reader = AppLines()
        number = 0
        for part in self._log.parts:
            self._counts.append((number, part.name))
            for text in lines_of(part, found.damage):
                number += 1
                line = parse_line(text)
                if line is not None and text.endswith("\n"):
                    self._add(line, "", number)
                else:
                    self._say(reader.read(text), text, number)
        for said in reader.rest():
            self._say([said], "", number)
        found.damage += [*self._torn.line(self), *self._foreign.line(self)]
        if self._why:
            found.damage.append(f"{self.place}, {self.position(self._torn.first)}: {self._why}")
        for (app, source), lines in self._apps.items():
            if lines.i:
                self._executions(app, source, lines, found)
        return found

    def _add(self, line: AppLine, source: str, number: int, *, echo: bool = False) -> None:
        phase = self._phases.setdefault(line.phase, len(self._phases))
        self._of(line.app, source).add(line, phase, number, echo=echo)

    def _of(self, app: str, source: str) -> _Lines:
        key = (app.lower(), source)
        if (lines := self._apps.get(key)) is None:
            lines = self._apps[key] = _Lines()
        return lines

    def _say(self, all_said: list[Said] | None, text: str, number: int) -> None:
        """Takes what a line says."""
        if all_said == [] and text.strip():
            self._foreign.add(number)
        for said in all_said or ():
            what = said.what
            if isinstance(what, Meta):
                lines = self._of(what.app, said.source)
                lines.meta = lines.meta or what
            elif isinstance(what, End):
                self._of(what.app, said.source).end(what)
            elif isinstance(what, AppLine) and not self._is_cut(text, what):
                self._add(what, said.source, number, echo=said.echo)
            else:
                self._refuse(what, said.source, number, at_the_end=not text.endswith("\n"))

    def _refuse(self, what: AppLine | RefusedLine, source: str, number: int, *, at_the_end: bool) -> None:
        self._torn.add(number)
        if isinstance(what, AppLine) or not what.why:
            return
        if not self._why and number == self._torn.first:
            self._why = f"{what.why}: {shown(what.text, LONGEST_LINE)}"
        if at_the_end:
            return  # the last line of a program that was killed: nothing is lost but its end
        if what.app:
            self._of(what.app, source).lost += 1
        else:
            self._lost[source] = self._lost.get(source, 0) + 1

    def _is_cut(self, text: str, line: AppLine) -> bool:
        """True for a last line without its end whose phase, unlike any before it, may be the beginning of another."""
        return not text.endswith("\n") and bool(self._phases) and line.phase not in self._phases

    def _executions(self, app: str, source: str, lines: _Lines, found: Contents) -> None:
        """Splits one app's lines where its numbering starts again and where its phase changes; drops warm-up."""
        place = f"{self.place} ({source})" if len({source for _, source in self._apps}) > 1 and source else self.place
        records, phase, healed = self._ordered(lines, found)
        announced = sum(end.count for end, _ in lines.ends)
        if lines.ends and announced != len(records):
            found.damage.append(f"{place}: {app} has {len(records)} iterations, and its trailer announces {announced}")
        elif lines.meta is not None and not lines.ends:
            found.damage.append(f"{place}: {app} has a header and no trailer: it was cut off, or ended early")
        found.damage += [
            f"{place}: lines of {app} were changed since they were printed, as the checksum {end.crc32:08x} of its "
            f"{end.count} lines tells: figures of them may be wrong"
            for end in lines.altered(list(self._phases))
        ]
        lost = max(lines.lost + self._lost.get(source, 0) - healed, 0)
        labels = [_label(_words(text)) or _label(_words(source)) or self._named for text in self._phases]
        warm = [bool(_words(text) & _WARM) for text in self._phases]
        for begin, end in _runs(records["i"]):
            part, where, kept = _numbered(records[begin:end], phase[begin:end], f"{place}: {app}")
            found.damage += kept
            for label in ("solo", "shared", ""):
                chosen = [n for n, text in enumerate(labels) if text == label and not warm[n]]
                mine = part[np.isin(where, chosen)]
                if len(mine):
                    found.stretches.append(Execution(app, label, mine, place, lines.meta, lost))
                    found.doubts += _leaps(mine, f"{place}: {app}")

    def _ordered(self, lines: _Lines, found: Contents) -> tuple[Records, NDArray[np.int64], int]:
        """(records in order of time, each once, and echoes only where their line is missing; their phases; how many
        came from an echo)."""
        repeated, moved = _Tally("repeated line{plural} dropped"), _Tally("line{plural} out of order, sorted")
        healed = _Tally("line{plural} lost, taken from the echo")
        records, at, phase, echo = (
            lines.records(),
            np.asarray(lines.at),
            np.asarray(lines.phase),
            np.asarray(lines.echo),
        )
        plain = np.flatnonzero(echo == 0)
        begun = records["submit_ns"].copy()
        for step in _set_back(records[plain]):
            behind = plain[step + 1 :]
            back_ns = int(records["retire_ns"][plain[step]] - records["submit_ns"][plain[step + 1]])
            begun[behind] += int(begun[plain[step]]) - int(begun[plain[step + 1]]) + back_ns
            i, then = (int(records["i"][plain[n]]) for n in (step, step + 1))
            found.doubts.append(
                f"{self.place}: the clock was set back by {format_ms(back_ns / NS_PER_MS)} or more between iterations "
                f"{i} and {then}, at {self.position(int(at[plain[step + 1]]))}: the numbers go on, the times do "
                "not: how many were done in a second is not known"
            )
        times, where = begun[plain], at[plain]
        late = np.flatnonzero(times[1:] < np.maximum.accumulate(times)[:-1]) + 1
        if len(late):
            moved.add(int(where[late[0]]), len(late))
        order = np.lexsort((echo, records["i"], begun))
        records, at, phase, echo = records[order], at[order], phase[order], echo[order]
        same = np.zeros(len(records), bool)
        same[1:] = (records["i"][1:] == records["i"][:-1]) & (records["submit_ns"][1:] == records["submit_ns"][:-1])
        from_echo = ~same & (echo == 1)
        for tally, which in ((repeated, same & (echo == 0)), (healed, from_echo)):
            if which.any():
                tally.add(int(at[which].min()), int(which.sum()))
        found.damage += [*moved.line(self), *repeated.line(self), *healed.line(self)]
        return records[~same], phase[~same], int(from_echo.sum())


def _set_back(records: Records) -> NDArray[np.intp]:
    """Where, in file order, a later number ends at an earlier time. Lines of one clock, in any order, never do."""
    rises = records["i"][1:] > records["i"][:-1]
    return np.flatnonzero(rises & (records["retire_ns"][1:] < records["retire_ns"][:-1]))


def _leaps(records: Records, place: str) -> list[str]:
    """Cycles and iterations that no program takes among such short ones, unless it paused: a clock was set forward."""
    doubts = []
    starts, service = records["submit_ns"], records["retire_ns"] - records["submit_ns"]
    follows = np.diff(records["i"].astype(np.int64)) == 1
    for what, spans in (("between the starts of", np.diff(starts) * follows), ("during", service)):
        if len(spans) < 3:
            continue
        n = int(spans.argmax())
        if spans[n] > max(_LEAP_NS, _LEAP_CYCLES * float(np.median(spans))):
            i = int(records["i"][n])
            which = f"iterations {i} and {i + 1}" if what.startswith("between") else f"iteration {i}"
            usual = format_ms(float(np.median(spans)) / NS_PER_MS)
            doubts.append(
                f"{place}: {spans[n] / NS_PER_S:.3g} s passed {what} {which}, where {usual} is usual: "
                "a pause, or a clock set forward"
            )
    return doubts


def _runs(numbers: NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Ranges of one execution each, for numbers in order of time: a program that starts again starts near its first."""
    signed = numbers.astype(np.int64)
    low = int(signed.min())
    falls = np.flatnonzero((signed[1:] < signed[:-1]) & (2 * (signed[1:] - low) < signed[:-1] - low)) + 1
    edges = [0, *falls.tolist(), len(signed)]
    return [(edges[n], edges[n + 1]) for n in range(len(edges) - 1)]


def _numbered(records: Records, phase: NDArray[np.int64], place: str) -> tuple[Records, NDArray[np.int64], list[str]]:
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


def without(stretch: Execution, bad: NDArray[np.bool_]) -> Execution:
    """The stretch without these iterations."""
    return replace(stretch, records=stretch.records[~bad])


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
    named = [label for label, ours in _WORDS.items() if words & ours]
    return named[0] if len(named) == 1 else ""
