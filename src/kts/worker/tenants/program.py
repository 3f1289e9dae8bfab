"""The user's own program as a tenant.

It runs all the time and is stopped (SIGSTOP to its process group) outside the blocks in which it is active. Each
``KTS_APP,v1,...`` line it prints is an iteration; one that does not lie wholly inside the block is left out and
counted. A program that prints none serves as a neighbour: it has no records, and its quota counts as reached at once.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kts.arrivals import Closed
from kts.errors import SetupError
from kts.model.plan import PROGRAM, DeviceChoice, Program, Tenant
from kts.model.records import RECORD
from kts.model.run import ClockPair, DeviceInfo
from kts.shown import LONGEST_LINE, shown
from kts.units import NS_PER_MS, NS_PER_S, NS_PER_US, s_to_ns
from kts.wire.appline import AppLine, device_unit, unlike_epoch_ns
from kts.wire.framing import CHUNK_RECORDS
from kts.wire.messages import Ready, Start
from kts.worker.clocks import clock_pair, epoch_offset_ns
from kts.worker.detect import choose_kind
from kts.worker.failures import CommandError
from kts.worker.launcher.gpus import gpu_of
from kts.worker.launcher.remote import Launcher, at_hand
from kts.worker.loop import FLUSH_NS, HEARTBEAT_NS, Counting, Every, LeftOut, Outlet
from kts.worker.tenants.own_program import OwnProgram
from kts.worker.tenants.process import ChildProcess, Process

SETTLE_S = 10.0
"""How long a program that prints nothing must live to count as ready; KTS_SETTLE_S in the tenant's env, else in that of
kts, replaces it."""

STOPWATCH = "as the program reports it"
_LISTEN_S = 0.02
_TIMED_LINES = 5
_CLOCK_SET_NS = 5 * NS_PER_MS
_GRANTED_NS, _NEAR_NS = 10 * NS_PER_S, 3600 * NS_PER_S
_NOT_ITS_BUSINESS = ("KTS_TOKEN", "KTS_CONDUCTOR")


class ProgramTenant:
    """Implements `kts.worker.tenants.Runner`."""

    def __init__(self, tenant: Tenant, choice: DeviceChoice) -> None:
        assert isinstance(tenant.work, Program)
        self._work = tenant.work
        self._choice = choice
        self._launcher: Launcher | None = None
        self._program: OwnProgram | None = None

    def open(self) -> DeviceInfo:
        """The device that the program is taken to use: the first GPU, or these cores. Nothing is started yet.

        BesideError where the program's container did not come.
        """
        if self._work.image:
            self._launcher = at_hand(os.environ)
            self._launcher.join()
        if self._launcher is not None and self._choice != "cpu":
            return gpu_of(self._launcher.gpus, STOPWATCH)
        if choose_kind(self._choice) == "cuda":
            from kts.worker.devices.cuda import cuda_info

            return cuda_info(PROGRAM, "", STOPWATCH)
        from kts.worker.devices.cpu import cpu_info

        return cpu_info(PROGRAM, STOPWATCH)

    def calibrate(self, pulse: Callable[[], None]) -> Ready:
        """Starts the program; ready when it has printed some iterations, or lived for the settling time in silence.

        A program that speaks is timed by its first iterations after the warm-up, for at most the settling time.
        CommandError if it cannot be started, dies, or prints only broken lines.
        """
        work = self._work
        deadline_ns = time.monotonic_ns() + s_to_ns(_settle_s(work))
        program = self._program = OwnProgram(work.command, self._environment(), self._launch)
        lines: list[AppLine] = []
        while time.monotonic_ns() < deadline_ns and len(lines) < work.warmup + _TIMED_LINES:
            pulse()
            lines += program.read(_LISTEN_S)
        program.pause()
        lines += program.drain()
        self._check(lines)
        timed = lines[work.warmup :] or lines[-1:]
        durations_ms = [(line.end_ns - line.start_ns) / NS_PER_MS for line in timed]
        cycles = len(timed) - 1
        return Ready(
            size=None,
            solo_ms=statistics.median(durations_ms) if durations_ms else None,
            cycle_ms=(timed[-1].start_ns - timed[0].start_ns) / cycles / NS_PER_MS if cycles > 0 else None,
        )

    def _environment(self) -> dict[str, str]:
        """Of the program; on top of its container's, where it has one."""
        if self._launcher is not None:
            return {} if "PYTHONUNBUFFERED" in self._work.env else {"PYTHONUNBUFFERED": "1"}
        env = {key: value for key, value in os.environ.items() if key not in _NOT_ITS_BUSINESS}
        return env | {"PYTHONUNBUFFERED": "1"} | self._work.env

    def _launch(self, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        if self._launcher is not None:
            return self._launcher(argv, env)
        return ChildProcess(argv, env, self._work.workdir or None)

    def _check(self, lines: list[AppLine]) -> None:
        """CommandError if what it says of its iterations cannot be read, or cannot be true."""
        program, name = self._program, self._work.command[0]
        if program is None or not (lines or program.misspoke):
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

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        """Runs one block; returns how many iterations were not wholly inside it, and how many could not be read."""
        assert self._program is not None
        return _CommandBlock(self._program, start, outlet).run()

    def close(self) -> None:
        """Ends the program and its process group, and its container."""
        if self._program is not None:
            self._program.end()
        if self._launcher is not None:
            self._launcher.close()


make = ProgramTenant


class _CommandBlock:
    def __init__(self, program: OwnProgram, start: Start, outlet: Outlet) -> None:
        self._ahead_ns = epoch_offset_ns()
        self._program = program
        self._start = start
        self._quota = start.quota
        self._end_ns = None if start.quota.seconds is None else start.start_ns + s_to_ns(start.quota.seconds)
        self._outlet = outlet
        self._silent = not program.speaks
        self._counting = Counting(start.quota, start.start_ns, Closed())
        self._wanted = self._counting.first()
        self._closes_ns: int | None = None
        self._rows: list[tuple[int, int, int, int, float]] = []
        self._count = 0
        self._skipped = 0
        self._refused = program.refused
        self._heartbeat = Every(HEARTBEAT_NS, time.monotonic_ns())
        self._flush_due = Every(FLUSH_NS, time.monotonic_ns())

    def run(self) -> LeftOut:
        if self._stopped_before_start():
            return LeftOut()
        self._program.resume()
        try:
            self._measure()
        finally:
            self._program.pause()
            end_ns = time.monotonic_ns()
            self._add(self._program.drain(), end_ns)
            self._flush()
        return LeftOut(outside=self._skipped, unread=self._program.refused - self._refused)

    def _stopped_before_start(self) -> bool:
        while (left_ns := self._start.first_ns - time.monotonic_ns()) > 0:
            if self._between():
                return True
            time.sleep(min(left_ns / NS_PER_S, _LISTEN_S))
        return False

    def _measure(self) -> None:
        said = False
        while not self._between():
            if not said and (reached_ns := self._reached_ns()) is not None:
                if not self._quota.linger and not self._waits_for_others():
                    return
                self._outlet.quota_reached(reached_ns)
                said = True
            self._add(self._program.read(_LISTEN_S), time.monotonic_ns())

    def _reached_ns(self) -> int | None:
        """When its window may close; None before that."""
        at_ns = self._start.start_ns if self._silent else self._closes_ns
        if self._end_ns is not None:
            at_ns = self._end_ns
        return at_ns if at_ns is not None and time.monotonic_ns() >= at_ns else None

    def _waits_for_others(self) -> bool:
        """A silent program cannot know its own end; it goes on until the conductor says so."""
        return self._silent and self._end_ns is None

    def _between(self) -> bool:
        """Sends what is due; True if the block is to end."""
        now_ns = time.monotonic_ns()
        if self._heartbeat.due(now_ns):
            self._outlet.heartbeat(now_ns, self._count)
        if len(self._rows) >= CHUNK_RECORDS or self._flush_due.due(now_ns):
            self._flush()
        return self._outlet.stopped()

    def _add(self, lines: list[AppLine], latest_ns: int) -> None:
        if not lines:
            return
        limit = None if self._quota.linger else self._quota.iterations
        before_ns, self._ahead_ns = self._ahead_ns, epoch_offset_ns()
        if abs(self._ahead_ns - before_ns) > _CLOCK_SET_NS:
            by_ms = (self._ahead_ns - before_ns) / NS_PER_MS
            print(f"kts.worker: CLOCK_REALTIME was set by {by_ms:+.6g} ms during a block", file=sys.stderr, flush=True)
        for line in lines:
            submit_ns, retire_ns = line.start_ns - self._ahead_ns, line.end_ns - self._ahead_ns
            if self._count == limit or submit_ns < self._start.first_ns or retire_ns > latest_ns:
                self._skipped += 1
                continue
            self._rows.append((self._count, submit_ns, submit_ns, retire_ns, line.device_ms))
            self._count += 1
            if self._count == self._wanted:
                self._wanted = self._counting.next(self._count, submit_ns)
                self._closes_ns = self._counting.closes_ns if self._wanted else retire_ns

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        for first in range(0, len(rows), CHUNK_RECORDS):
            self._outlet.records(np.array(rows[first : first + CHUNK_RECORDS], dtype=RECORD))


def wrong_clock(lines: list[AppLine], launched: ClockPair, now: ClockPair) -> str:
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


def _settle_s(work: Program) -> float:
    text = (os.environ | work.env).get("KTS_SETTLE_S", str(SETTLE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise SetupError(f"KTS_SETTLE_S={text!r} is not a number of seconds above 0", "for example KTS_SETTLE_S: '20'")
    return seconds
