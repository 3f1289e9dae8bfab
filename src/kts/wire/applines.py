"""A stream of text as what it says of iterations: the one reader for logs and for programs that run as tenants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from kts.wire.appline import AppLine, RefusedLine, parse_line, take_line
from kts.wire.logframe import ECHO, End, Meta, app_of, parse_end, parse_meta
from kts.wire.unwrap import Unwrapped, Unwrapper

_BEGIN = re.compile(r"KTS_(?:APP|META|ECHO|END)[,;\t]", re.IGNORECASE)
_NEAR = re.compile(r"KTS_APP\W{0,3}v\d.*\d{9}", re.IGNORECASE)
_QUOTES = "\"'`"


@dataclass(frozen=True, slots=True)
class Said:
    """What a line says. ``source``: who printed it, where a wrapper tells. ``echo``: an iteration said once more."""

    what: AppLine | RefusedLine | Meta | End
    source: str = ""
    echo: bool = False


class AppLines:
    """Reads one stream, line by line."""

    def __init__(self) -> None:
        self._unwrapper = Unwrapper()

    def read(self, text: str) -> list[Said] | None:
        """What a line (with its line end, if it has one) says; empty: nothing; None: it is a part of a later one."""
        if (line := parse_line(text)) is not None:
            return [Said(line)]
        unwrapped = self._unwrapper.unwrap(text)
        return None if unwrapped is None else list(_said(unwrapped))

    def rest(self) -> list[Said]:
        """What a line said that never ended."""
        return [said for unwrapped in self._unwrapper.rest() for said in _said(unwrapped)]


def _said(line: Unwrapped) -> Iterator[Said]:
    if "kts_" not in line.text.lower():
        return
    *segments, last = line.text.split("\r")  # what a progress bar writes over
    for segment in segments:
        yield from _segment(Unwrapped(segment, line.source, ended=True))
    yield from _segment(Unwrapped(last, line.source, line.ended))


def _segment(line: Unwrapped) -> Iterator[Said]:
    text, source, ended = line
    text = _BEGIN.sub(lambda match: match[0].upper(), text)
    begins = [match.start() for match in _BEGIN.finditer(text)]
    if not begins:
        if _NEAR.search(text):
            yield Said(RefusedLine(text=text.strip(), why="its fields are not parted by commas"), source)
        return
    meta = text[begins[0] :].startswith("KTS_META")
    if meta and (header := parse_meta(text[begins[0] :])):
        yield Said(header, source)
        return
    for begin, end in pairwise(begins):
        yield Said(RefusedLine(text=text[begin:end], why="another line begins in it"), source)
    begin = begins[-1]
    if begin and text[begin - 1] in _QUOTES and (close := text.find(text[begin - 1], begin)) > 0:
        text, ended = text[:close], True
    yield _last(text[begin:].rstrip() if ended else text[begin:], source, whole=ended and len(begins) == 1)


def _last(text: str, source: str, *, whole: bool) -> Said:
    """The line that begins here. ``whole``: nothing of it can be missing, so that its spelling need not tell."""
    if text.startswith("KTS_META"):
        return Said(RefusedLine(text=text, why=""), source)
    if text.startswith("KTS_END"):
        return Said(parse_end(text) or RefusedLine(text=text, why=""), source)
    echo = text.startswith(ECHO)
    line = app_of(text) if echo else text
    why = "it has no end of line, and no six decimals that tell that it is whole"
    taken = take_line(line) if whole else parse_line(line) or RefusedLine(text=text, why=why)
    if echo and isinstance(taken, RefusedLine):
        taken = RefusedLine(text=text, why="")
    return Said(taken, source, echo)
