"""Lives of programs that are held by SIGSTOP and take turns, each alone on the GPU; rings are read all the time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

import numpy as np

from bench.tracer_costs import Stretch, Times
from kts.errors import SetupError
from kts.units import NS_PER_S
from kts.wire.appline import PREFIX, AppLine, parse_line
from kts.worker.clocks import epoch_offset_ns
from kts.worker.tenants.sources import FromTrips
from kts.worker.tracing.build import library
from kts.worker.tracing.cupti import cupti
from kts.worker.tracing.layout import Level
from kts.worker.tracing.reader import Batch, Tracing

_READ_EVERY_S = 0.01
_QUIET_S = 0.02
_LATEST_STOP_S = 2.0
_FEWEST_WARM = 20
_PREFIX = PREFIX.encode()


class Life:
    """One process of a program, untraced (``level`` None) or traced. Of its lines and events nothing is left out."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], level: Level | None) -> None:
        self.argv, self.level = argv, level
        self.tracing = None if level is None else Tracing(level=level)
        given = dict(env)
        if self.tracing is not None:
            given |= self.tracing.env(given, library().path, cupti(argv, given).path)
        self.stretches: list[Stretch] = []
        self.warm: list[Batch] = []
        self.measured: list[Batch] = []
        self.said = 0
        """Lines so far."""
        self.first_s = float("inf")
        self.failed = ""
        """Why it is of no use any more."""
        self._out: list[bytes] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the life)
        try:
            self._process = subprocess.Popen(
                argv, env=given, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
            )
        except OSError as error:
            self._errors.close()
            raise SetupError(f"{argv[0]} cannot be started: {error.strerror}", "see the program after --") from error
        assert self._process.stdout is not None
        self.fd = self._process.stdout.fileno()
        os.set_blocking(self.fd, False)

    def signal(self, number: signal.Signals) -> None:
        """To all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def hear(self) -> int:
        """Takes what it has printed; how many lines of iterations were in it."""
        heard = 0
        while not self.failed:
            try:
                chunk = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                self._errors.seek(0)
                last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
                self.failed = f"it ended by itself after {self.said} KTS_APP lines: {''.join(last)}"
                break
            self._out.append(chunk)
            heard += chunk.count(_PREFIX)
        if heard and not self.said:
            self.first_s = time.monotonic()
        self.said += heard
        return heard

    def trace(self) -> None:
        """Empties its rings."""
        if self.tracing is not None:
            batches = self.tracing.read()
            if self.level is Level.CALLS:
                (self.measured if self.stretches else self.warm).extend(batches)

    def lines(self) -> list[AppLine]:
        """All whole lines that it has printed."""
        texts = b"".join(self._out).decode(errors="replace").split("\n")[:-1]
        return [line for text in texts if (line := parse_line(text)) is not None]

    def times(self) -> Times:
        """Begins and ends of its iterations by its lines, CLOCK_REALTIME."""
        return np.array([(line.start_ns, line.end_ns) for line in self.lines()], np.int64).reshape(-1, 2)

    def trips(self) -> tuple[Times, str, bool]:
        """(the same by its round trips; what an iteration is, in words; whether that is sure)."""
        source = FromTrips(None)
        source.take((), self.warm)
        source.settle()
        source.settled = True
        records, ahead_ns = source.take((), self.measured), epoch_offset_ns()
        times = np.column_stack([records["submit_ns"], records["retire_ns"]]).astype(np.int64) + ahead_ns
        words = source.words() if source.speaks else "no round trip is seen"
        return times, words, source.speaks and "no pattern" not in words

    def notes(self) -> list[str]:
        """What is to be said of its trace."""
        if self.tracing is None:
            return []
        return [*self.tracing.notes(), *([f"{self.tracing.lost} events lost"] if self.tracing.lost else [])]

    def end(self) -> None:
        """Kills it, and removes its trace. Idempotent."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()
            if self.tracing is not None:
                self.tracing.close()


class Company:
    """All lives of all programs: one thread hears these, reads their rings, and gives turns."""

    def __init__(self) -> None:
        self.lives: list[Life] = []

    def add(self, argv: Sequence[str], env: Mapping[str, str], level: Level | None) -> Life:
        """Starts a life, which runs until it is held."""
        self.lives.append(Life(argv, env, level))
        return self.lives[-1]

    def drop(self, lives: Sequence[Life]) -> None:
        """Ends these."""
        for life in lives:
            life.end()
        self.lives = [life for life in self.lives if life not in lives]

    def pump(self, seconds: float) -> None:
        """Hears all and reads all rings for so long, now and then, so that no line costs its program a wake-up."""
        until = time.monotonic() + seconds
        while True:
            for life in self.lives:
                life.hear()
                life.trace()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_READ_EVERY_S, left))

    def warm(self, seconds: float, limit_s: float) -> None:
        """Lets each run until ``seconds`` after its first line, then holds it; by ``limit_s``, or it has failed."""
        until, running = time.monotonic() + limit_s, list(self.lives)
        while running:
            self.pump(_READ_EVERY_S)
            now = time.monotonic()
            for life in [one for one in running if now >= one.first_s + seconds and one.said >= _FEWEST_WARM]:
                self.hold(life)
                running.remove(life)
            for life in running if now > until else ():
                life.failed = life.failed or f"it printed {life.said} KTS_APP lines in {limit_s:.0f} s"
                life.signal(signal.SIGSTOP)
            running = [life for life in running if not life.failed]
        self.pump(2 * _QUIET_S)

    def hold(self, life: Life) -> int:
        """Stops it right after its next line, when the least is in flight; returns when (CLOCK_REALTIME)."""
        life.hear()
        until = time.monotonic() + _LATEST_STOP_S
        while time.monotonic() < until and not life.failed:
            if select.select([life.fd], [], [], _READ_EVERY_S)[0] and life.hear():
                break
            life.trace()
        stopped_ns = time.time_ns()
        life.signal(signal.SIGSTOP)
        return stopped_ns

    def turn(self, life: Life, seconds: float) -> None:
        """Lets it run alone for a stretch, all others being held; what it has in flight at the end ends meanwhile."""
        resumed_ns = time.time_ns()
        life.signal(signal.SIGCONT)
        life.stretches.append(Stretch(resumed_ns, resumed_ns + int(seconds * NS_PER_S)))
        self.pump(seconds)
        life.stretches[-1] = Stretch(resumed_ns, self.hold(life))
        self.pump(_QUIET_S)
