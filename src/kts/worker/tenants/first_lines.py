"""Whether what a program says of its first iterations can be read, and can be true."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kts.model.run import ClockPair
from kts.shown import LONGEST_LINE, shown
from kts.units import NS_PER_MS, NS_PER_S, NS_PER_US
from kts.wire.appline import AppLine, device_unit, unlike_epoch_ns
from kts.worker.clocks import clock_pair
from kts.worker.failures import CommandError
from kts.worker.tenants.own_program import OwnProgram

_GRANTED_NS, _NEAR_NS = 10 * NS_PER_S, 3600 * NS_PER_S


def check_first(name: str, program: OwnProgram, lines: Sequence[AppLine]) -> None:
    """CommandError where not. ``name``: of the program."""
    if not (lines or program.misspoke):
        return
    if not lines and (bad := program.misspoke):
        raise CommandError(
            f"command {name} prints lines that cannot be read: {bad.why}: {shown(bad.text, LONGEST_LINE)}",
            "print KTS_APP,v1,NAME,i,start_ns,end_ns,device_ms,phase, with nan where there is no device_ms",
        )
    if like := wrong_clock(lines, program.launched, clock_pair()):
        raise CommandError(
            f"command {name}: its start_ns and end_ns are not CLOCK_REALTIME in nanoseconds: {like}",
            "print time.time_ns() (Python), clock_gettime(CLOCK_REALTIME) in ns (C), or time.Now().UnixNano() (Go)",
        )
    without = sum(math.isnan(line.device_ms) for line in lines)
    if program.impossible and 2 * without >= len(lines) and (unit := device_unit(*program.impossible)):
        ms, response_ms = program.impossible
        raise CommandError(
            f"command {name}: {ms:.6g} as device_ms in a response of {response_ms:.6g} ms: {unit}",
            "print milliseconds, or nan where there is no device time",
        )


def wrong_clock(lines: Sequence[AppLine], launched: ClockPair, now: ClockPair) -> str:
    """Which clock or unit a program takes its times from if most of its iterations do not end between its launch and
    now; empty if they do."""
    since_ns = launched.realtime_ns - _GRANTED_NS
    ends = [line.end_ns for line in lines if not since_ns <= line.end_ns <= now.realtime_ns + _GRANTED_NS]
    if 2 * len(ends) <= len(lines):
        return ""
    value = ends[-1]
    clocks = {"since 1970": now.realtime_ns, "of CLOCK_MONOTONIC": now.monotonic_ns}
    for unit, ns in {
        "nanoseconds": 1,
        "microseconds": NS_PER_US,
        "milliseconds": NS_PER_MS,
        "seconds": NS_PER_S,
    }.items():
        for clock, now_ns in clocks.items():
            if abs(value * ns - now_ns) < max(_NEAR_NS, ns):
                return f"{value} looks like {unit} {clock}"
    if not (like := unlike_epoch_ns(value)):
        return f"{value} is {abs(value - now.realtime_ns) / NS_PER_S:.0f} s from now"
    return f"{value} looks like {like}"
