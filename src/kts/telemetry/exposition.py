"""Prometheus's text format and OpenMetrics, as far as samples go. Pure; time linear in the text's length."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kts.units import NS_PER_MS

OPENMETRICS_END = "# EOF"

_NAME = re.compile(r"[ \t]*([A-Za-z_:][\w:]*)[ \t]*")
_LABEL = re.compile(r'[ \t,]*([A-Za-z_]\w*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*', re.DOTALL)
_LABELS_END = re.compile(r"[ \t,]*\}")
_VALUE = re.compile(r"[ \t]*([^\s#_]+)(?:[ \t]+([^\s#_]+))?[ \t]*(?:#.*)?")
"""Value and timestamp; an exemplar may follow. Python's float takes 1_000, Prometheus does not."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One sample. ``labels`` by their names in lower case; ``stamp_ns``: CLOCK_REALTIME that the line tells, if any."""

    name: str
    labels: dict[str, str]
    value: float
    stamp_ns: int | None = None


def lines(text: str, wanted: Callable[[str], bool]) -> Iterator[Line]:
    """The samples of lines that are ``wanted``; asked before a line is taken apart, which is what takes time. Whatever
    is no sample is passed over.

    Timestamps are milliseconds, in OpenMetrics seconds.
    """
    unit_ms = 1000 if text[-64:].rstrip().endswith(OPENMETRICS_END) else 1
    for line in text.split("\n"):  # splitlines would cut label values at characters that are no line ends here
        if wanted(line) and (told := _line(line.rstrip("\r"), unit_ms)):
            yield told


def _line(line: str, unit_ms: int) -> Line | None:
    name = _NAME.match(line)
    if name is None:
        return None
    labels: dict[str, str] = {}
    at = name.end()
    if line[at : at + 1] == "{":
        at += 1
        while label := _LABEL.match(line, at):
            labels[label[1].lower()] = _unescaped(label[2])
            at = label.end()
        end = _LABELS_END.match(line, at)
        if end is None:
            return None
        at = end.end()
    told = _VALUE.fullmatch(line, at)
    if told is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        stamp_ns = round(float(told[2]) * unit_ms) * NS_PER_MS if told[2] else None
        return Line(name[1], labels, float(told[1]), stamp_ns)
    return None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], text) if "\\" in text else text
