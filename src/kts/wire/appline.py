"""KTS_APP v1: the line that a worker prints for each iteration, as the published reference prints it.

``KTS_APP,v1,FFT,{i},{epoch_ns_start},{epoch_ns_end},{latency_ms_device:.6f},{phase_optional}``

The latency has exactly six decimals (or is ``nan``), so that a line cut inside it is never taken for whole.
"""

from __future__ import annotations

import re

import msgspec

PREFIX = "KTS_APP,"

_LINE = re.compile(
    r"KTS_APP,v1,(?P<app>[A-Za-z0-9_.-]{1,64}),(?P<i>\d{1,10}),(?P<start>\d{1,19}),(?P<end>\d{1,19})"
    r",(?P<ms>\d{1,12}\.\d{6}|nan)(?:,(?P<phase>[^,\r\n]{0,64}))?\r?\n?",
    re.ASCII,
)
_MAX_I = 2**32 - 1
_MAX_NS = 2**63 - 1


class AppLine(msgspec.Struct, frozen=True, kw_only=True):
    """One iteration. ``start_ns``, ``end_ns``: CLOCK_REALTIME; ``device_ms``: NaN where there is no stopwatch."""

    app: str
    i: int
    start_ns: int
    end_ns: int
    device_ms: float
    phase: str = ""


def format_line(line: AppLine) -> str:
    """The line, without a line end. The phase field is always there, empty if there is none."""
    return f"KTS_APP,v1,{line.app},{line.i},{line.start_ns},{line.end_ns},{line.device_ms:.6f},{line.phase}"


def parse_line(text: str) -> AppLine | None:
    """The iteration that ``text`` reports, or None if it is not a whole KTS_APP v1 line.

    A line that starts with ``PREFIX`` and gives None is torn, damaged or of another version; one that
    does not is foreign (the program's own output). Negative durations, and numbers that a record
    cannot hold, give None.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    i, start, end = int(match["i"]), int(match["start"]), int(match["end"])
    if not start <= end <= _MAX_NS or i > _MAX_I:
        return None
    return AppLine(
        app=match["app"],
        i=i,
        start_ns=start,
        end_ns=end,
        device_ms=float(match["ms"]),
        phase=match["phase"] or "",
    )
