"""KTS_APP v1: the line that a worker prints for each iteration, as the published reference prints it.

``KTS_APP,v1,FFT,{i},{epoch_ns_start},{epoch_ns_end},{latency_ms_device:.6f},{phase_optional}``

Six decimals (or ``nan``) tell that a line is whole even where its end is missing. A line that has its end may write its
latency in other ways, too: `take_line`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

PREFIX = "KTS_APP,"

_LINE = re.compile(
    r"KTS_APP,v1,(?P<app>[A-Za-z0-9_.-]{1,64}),(?P<i>\d{1,10}),(?P<start>\d{1,19}),(?P<end>\d{1,19})"
    r",(?P<ms>\d{1,12}\.\d{6}|nan)(?:,(?P<phase>[^,\r\n]{0,64}))?\r?\n?",
    re.ASCII,
)
_APP = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_WHOLE = re.compile(r"(\d+)(?:\.0*)?", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_DECIMAL = re.compile(r"\+?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_NO_STOPWATCH = re.compile(
    r"[+-]?(?:nan(?:\(\w*\))?|1\.#(?:QNAN|IND|NAN)\d*)|null|none|nil|undefined|n/?a", re.IGNORECASE
)
_MAX_I = 2**32 - 1
_MAX_NS = 2**63 - 1
_MAX_MS = 1e12
_FIELDS = 7
_LONGEST_PHASE = 64


class AppLine(msgspec.Struct, frozen=True, kw_only=True):
    """One iteration. ``start_ns``, ``end_ns``: CLOCK_REALTIME; ``device_ms``: NaN where there is no stopwatch."""

    app: str
    i: int
    start_ns: int
    end_ns: int
    device_ms: float
    phase: str = ""


class RefusedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that means to be an iteration and cannot be taken for one.

    ``why``: its field, what stands there, and what is wrong with it. ``app``: where that much can be read.
    """

    text: str
    why: str
    app: str = ""


class _FieldError(Exception):
    """Why a field cannot be taken."""


def format_line(line: AppLine) -> str:
    """The line, without a line end. The phase field is always there, empty if there is none."""
    return f"KTS_APP,v1,{line.app},{line.i},{line.start_ns},{line.end_ns},{line.device_ms:.6f},{line.phase}"


def parse_line(text: str) -> AppLine | None:
    """The iteration that ``text`` reports, or None if it is not a KTS_APP v1 line to the letter.

    Negative durations, and numbers that a record cannot hold, give None.
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
        phase=(match["phase"] or "").strip(),
    )


def take_line(text: str) -> AppLine | RefusedLine:
    """The iteration that a line reports whose end is known, in any spelling whose meaning is beyond doubt.

    ``text`` begins with ``KTS_APP`` and a separator (comma, semicolon or tab) and has no line end. Spaces around
    fields, any number of decimals, exponents, whole numbers, the spellings of NaN, ``ms`` behind the number, and a
    decimal comma where it can be nothing else are taken.
    """
    if (line := parse_line(text)) is not None:
        return line
    separator = text[len("KTS_APP")]
    fields = [field.strip() for field in text.split(separator)]
    app = fields[2] if len(fields) > 2 and _APP.fullmatch(fields[2]) else ""
    try:
        return _from_fields(fields, separator)
    except _FieldError as fault:
        return RefusedLine(text=text, why=str(fault), app=app)


def _from_fields(fields: list[str], separator: str) -> AppLine:
    if len(fields) < 2 or fields[1].lower() != "v1":
        raise _FieldError(f"version {fields[1] if len(fields) > 1 else ''!r}: this kts reads v1")
    if len(fields) < _FIELDS:
        raise _FieldError(
            f"{len(fields)} fields where {_FIELDS} or {_FIELDS + 1} must be: it is cut off, or a field is missing"
        )
    app, number, start, end = fields[2:6]
    if not _APP.fullmatch(app):
        raise _FieldError(f"app {app!r}: 1 to 64 letters, digits, '_', '.' or '-'")
    i, start_ns, end_ns = _whole("i", number, _MAX_I), _time("start_ns", start), _time("end_ns", end)
    if end_ns < start_ns:
        raise _FieldError(
            f"end_ns {end} lies {(start_ns - end_ns) / 1e6:.6g} ms before start_ns: cut off, or a clock set back"
        )
    latency, phase = _latency_and_phase(fields[_FIELDS - 1 :], separator)
    if len(phase) > _LONGEST_PHASE:
        raise _FieldError(f"phase of {len(phase)} characters: at most {_LONGEST_PHASE}")
    return AppLine(app=app, i=i, start_ns=start_ns, end_ns=end_ns, device_ms=_milliseconds(latency), phase=phase)


def _latency_and_phase(rest: list[str], separator: str) -> tuple[str, str]:
    """The two last fields. A comma between two groups of digits may be a decimal comma or the one before the phase."""
    latency, *more = rest
    if separator == "," and more and _DIGITS.fullmatch(latency) and _DIGITS.fullmatch(more[0]):
        if len(more) > 2 or not (len(more[0]) == 6 or more[1:] not in ([], [""])):
            raise _FieldError(f"device_ms '{latency},{more[0]}': a decimal comma, or a phase? Print a point")
        return f"{latency}.{more[0]}", more[1] if more[1:] else ""
    while len(more) > 1 and not more[-1]:
        more.pop()
    if len(more) > 1:
        count = _FIELDS + len(more)
        raise _FieldError(
            f"{count} fields where {_FIELDS} or {_FIELDS + 1} must be: there is no comma in a phase or number"
        )
    if separator != "," and latency.count(",") == 1 and "." not in latency:
        latency = latency.replace(",", ".")
    return latency, more[0] if more else ""


def _whole(name: str, text: str, most: int) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None or len(match[1]) > 19 or int(match[1]) > most:
        raise _FieldError(f"{name} {text!r}: a whole number, at most {most}")
    return int(match[1])


def _time(name: str, text: str) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None or len(match[1]) > 19 or int(match[1]) > _MAX_NS:
        hint = ""
        told = float(text) if _DECIMAL.fullmatch(text) else math.inf
        if math.isfinite(told) and (like := unlike_epoch_ns(int(told))):
            hint = f" (it looks like {like})"
        raise _FieldError(f"{name} {text!r}: whole nanoseconds since 1970, all digits{hint}")
    return int(match[1])


def _milliseconds(text: str) -> float:
    if _NO_STOPWATCH.fullmatch(text):
        return math.nan
    number = text[:-2].rstrip() if text.lower().endswith("ms") else text
    if not _DECIMAL.fullmatch(number) or not float(number) < _MAX_MS:
        what = f"device_ms {text!r}" if text else "device_ms is empty"
        raise _FieldError(f"{what}: milliseconds of the device, such as 3.598000, or nan")
    return float(number)


_EARLIEST_S, _LATEST_S = 978_307_200, 4_294_967_296
_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))


def unlike_epoch_ns(value: int) -> str:
    """What a time looks like that cannot be nanoseconds since 1970 in the years 2001 to 2106; empty if it can.

    Microseconds since 1970 are as many as the nanoseconds that a machine counts in its second to seventh week.
    """
    for unit, per_s in _UNITS:
        if _EARLIEST_S * per_s <= value < _LATEST_S * per_s:
            return "" if unit == "nanoseconds" else f"{unit} since 1970"
    return "a clock that does not count from 1970, such as CLOCK_MONOTONIC"


def longest_device_ms(response_ms: Any) -> Any:
    """The longest device time that such a response (a number or an array) may have as its part: clocks differ by a
    hundredth, or 0.1 ms."""
    return 1.01 * response_ms + 0.1


def device_unit(device_ms: float, response_ms: float) -> str:
    """What a device time looks like that is at least 20 times longer than its iteration; empty if no unit fits."""
    if device_ms < 20 * response_ms:
        return ""
    for unit, per_ms in (("microseconds", 1e3), ("nanoseconds", 1e6)):
        if device_ms / per_ms <= longest_device_ms(response_ms):
            return f"device_ms looks like {unit}"
    return ""
