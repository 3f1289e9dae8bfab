"""A followed log, in whatever portions it comes, as records without a gap. Pure: bytes in, records out.

The API server gives each line a time stamp. After a lost connection the log is read again from a second before the
last stamp, or as a whole: what is known already is passed over, and what was missing is taken.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from datetime import datetime

import numpy as np

from kts.model.records import RECORD, Records
from kts.units import NS_PER_S
from kts.wire.appline import PREFIX, AppLine, parse_line
from kts.wire.logframe import ECHO, END, META, End, Meta, app_of, parse_end, parse_meta

LONGEST_LINE_BYTES = 65_536
MOST_WAITING = 500_000
"""Lines behind a gap that are kept until it is filled."""
WORDS = 20
"""Of the lines that are none of ours, as many are remembered: the last of them say why a worker died."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")


class LogReader:
    """The log of one pod. ``app``: whose lines they are, in lower case.

    ``mark_ns``: the youngest time stamp so far (ns since the epoch); 0 before the first.
    """

    def __init__(self, app: str) -> None:
        self.meta: Meta | None = None
        self.end: End | None = None
        self.count = 0
        self.healed = 0
        self.mark_ns = 0
        self._app = app
        self._crc32 = 0
        self._rest = b""
        self._cutting = False
        self._replayed_ns = 0
        self._echoed = -1
        self._damage = ""
        self._waiting: dict[int, tuple[AppLine, bytes]] = {}
        self._rows: list[tuple[int, int, int, int, float]] = []
        self._kept: list[bytes] = []
        self._words: deque[str] = deque(maxlen=WORDS)
        self._second: tuple[bytes, int] = (b"", 0)

    def connected(self) -> None:
        """The log comes anew: what was begun of a line is dropped, and lines up to the mark are known already."""
        self._rest = b""
        self._cutting = False
        self._replayed_ns = self.mark_ns

    def feed(self, data: bytes) -> None:
        """The next bytes of the log; a line longer than `LONGEST_LINE_BYTES` is cut. Never raises."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
        else:
            rest = self._rest + rest
        for line in lines:
            if not self._cutting:
                self._line(line[:LONGEST_LINE_BYTES])
            self._cutting = False
        if len(rest) > LONGEST_LINE_BYTES:
            if not self._cutting:
                self._line(rest[:LONGEST_LINE_BYTES])
            self._cutting, rest = True, b""
        self._rest = rest

    def take(self) -> Records:
        """The records since the last call, in order of ``i``, without a gap to those before. Times: CLOCK_REALTIME."""
        rows, self._rows = self._rows, []
        return np.array(rows, dtype=RECORD)

    def take_lines(self) -> bytes:
        """The lines since the last call as they were printed, each once, with line ends."""
        kept, self._kept = self._kept, []
        return b"".join(kept)

    @property
    def hopeless(self) -> bool:
        """True where neither the next record nor its echo came and later echoes did, or too much waits behind a gap."""
        return bool(self._damage) or self._echoed >= self.count or len(self._waiting) >= MOST_WAITING

    @property
    def whole(self) -> bool:
        """True once the trailer is there and all that it announces."""
        return self.end is not None and not self.problem()

    def problem(self) -> str:
        """What is missing, if this is all; empty if nothing is."""
        end, meta = self.end, self.meta
        if self._damage or self._waiting or self._echoed >= self.count or (end is not None and end.count > self.count):
            return self._damage or f"iteration {self.count} is missing in its log, twice: its line and its echo"
        if meta is None or end is None:
            lacking = "header (KTS_META)" if meta is None else "trailer (KTS_END)"
            return f"its log, of {self.count} iterations, has no {lacking}"
        if end.count < self.count:
            return f"its log has {self.count} iterations, and its trailer says {end.count}"
        return "" if end.crc32 == self._crc32 else "its log's checksum is wrong: lines were changed on the way"

    def last_words(self) -> str:
        """The last error that the program printed, or its last line of another kind; empty if there is none."""
        errors = [line for line in self._words if line.startswith("error: ")]
        return (errors or [line for line in self._words if not line.startswith(" ")] or [""])[-1]

    def _line(self, line: bytes) -> None:
        stamp_ns, raw = self._stamped(line)
        text = raw.decode(errors="replace")
        if text.startswith(PREFIX):
            fresh = self._iteration(text, raw, echo=False)
        elif text.startswith(ECHO):
            fresh = self._iteration(app_of(text), PREFIX.encode() + raw[len(ECHO) :], echo=True)
        elif text.startswith(META):
            fresh = self._header(parse_meta(text))
        elif text.startswith(END):
            fresh = self._trailer(parse_end(text))
        else:
            fresh = not 0 < stamp_ns <= self._replayed_ns
            if fresh and text.strip():
                self._words.append(text.rstrip()[:500])
        self.mark_ns = max(self.mark_ns, stamp_ns)
        if fresh:
            self._kept.append(raw + b"\n")

    def _iteration(self, text: str, raw: bytes, *, echo: bool) -> bool:
        """Takes an iteration or its echo; False if it is known, or none of ours."""
        line = parse_line(text)
        if line is None or line.app.lower() != self._app:
            return False
        fresh = line.i >= self.count and line.i not in self._waiting and len(self._waiting) < MOST_WAITING
        if fresh:
            self._waiting[line.i] = (line, raw.rstrip(b"\r") + b"\n")
            self.healed += echo
            self._advance()
        if echo:
            fresh = fresh or line.i > self._echoed
            self._echoed = max(self._echoed, line.i)
        return fresh

    def _advance(self) -> None:
        """Hands out what no gap holds back."""
        while (found := self._waiting.pop(self.count, None)) is not None:
            line, raw = found
            self._crc32 = zlib.crc32(raw, self._crc32)
            self._rows.append((line.i, line.start_ns, line.start_ns, line.end_ns, line.device_ms))
            self.count += 1

    def _header(self, meta: Meta | None) -> bool:
        if meta is None or meta.app.lower() != self._app:
            return False
        if self.meta is not None:
            if meta != self.meta:
                self._damage = self._damage or "its log has two headers: the worker was started twice"
            return False
        self.meta = meta
        return True

    def _trailer(self, end: End | None) -> bool:
        if end is None or end.app.lower() != self._app:
            return False
        if self.end is not None:
            if end != self.end:
                self._damage = self._damage or "its log has two trailers that do not agree"
            return False
        self.end = end
        return True

    def _stamped(self, line: bytes) -> tuple[int, bytes]:
        """(time stamp in ns, the line without it); 0 where there is none."""
        match = _STAMP.match(line)
        if match is None:
            return 0, line
        second = match[1] + match[3]
        if second != self._second[0]:
            try:
                parsed = datetime.fromisoformat(second.decode().replace("Z", "+00:00"))
                self._second = (second, round(parsed.timestamp()) * NS_PER_S)
            except (ValueError, OverflowError):
                return 0, line
        return self._second[1] + int((match[2] or b"").ljust(9, b"0")), line[match.end() :]
