"""Units. Names of values end in their unit (``_ns``, ``_ms``, ``_s``, ``_bytes``); this converts and prints them."""

from __future__ import annotations

import math

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def ms_to_ns(ms: float) -> int:
    """Milliseconds to whole nanoseconds, rounded to nearest."""
    return round(ms * NS_PER_MS)


def s_to_ns(seconds: float) -> int:
    """Seconds to whole nanoseconds, rounded to nearest."""
    return round(seconds * NS_PER_S)


def ns_to_ms(ns: int) -> float:
    """Nanoseconds to milliseconds."""
    return ns / NS_PER_MS


def ns_to_s(ns: int) -> float:
    """Nanoseconds to seconds."""
    return ns / NS_PER_S


def format_ms(ms: float) -> str:
    """A latency for people: three significant digits and a unit, e.g. ``3.60 ms``, ``412 us``, ``1.25 s``."""
    for limit, factor, unit in ((1e-3, 1e6, "ns"), (1.0, 1e3, "us"), (1e3, 1.0, "ms")):
        if abs(ms) < limit:
            return f"{_three_digits(ms * factor)} {unit}"
    return f"{_three_digits(ms / 1e3)} s"


def format_duration(seconds: float) -> str:
    """A stretch of time for people: ``48 s``, ``2 min 05 s``, ``1 h 12 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_ratio(value: float, decimals: int = 2) -> str:
    """A ratio for people: two decimals, or as many as asked; one less from 10 on."""
    return f"{value:.{decimals if value < 9.995 else decimals - 1}f}"


def whole(count: float) -> int:
    """So many whole ones, however a quotient was rounded."""
    return math.floor(count + 1e-9)


def ratio_texts(estimate: float, lo: float, hi: float) -> tuple[str, str, str]:
    """A ratio and its interval for people: two decimals, or as many as it takes to tell the ends apart, and each of
    the three from 1 where the interval excludes 1; six at most."""
    base = next((d for d in range(2, 6) if lo == hi or format_ratio(lo, d) != format_ratio(hi, d)), 6)

    def text(value: float) -> str:
        shown = [format_ratio(value, decimals) for decimals in range(base, 7)]
        side = 1 if lo > 1 else -1 if hi < 1 else 0
        return next((one for one in shown if side * (float(one) - 1) > 0 or not side), shown[-1])

    return text(estimate), text(lo), text(hi)


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    decimals = 2 if magnitude < 9.995 else 1 if magnitude < 99.95 else 0
    return f"{value:.{decimals}f}"
