"""The user's own program, kept alive: its iterations as values, its other output passed on, restarted when it ends."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from kts.model.masking import masked_command
from kts.model.run import ClockPair
from kts.units import NS_PER_MS, NS_PER_S, s_to_ns
from kts.wire.appline import AppLine, RefusedLine, longest_device_ms
from kts.wire.applines import AppLines
from kts.worker.clocks import clock_pair
from kts.worker.failures import CommandError
from kts.worker.tenants.passed_on import PassedOn
from kts.worker.tenants.process import Launch, PrintedLine, Process, in_a_pod
from kts.worker.tracing.kept import Kept
from kts.worker.tracing.layout import Kind
from kts.worker.tracing.reader import Batch, Tracing
from kts.worker.tracing.trips import HANDS_OVER

_QUICK_END_NS = NS_PER_S
_QUICK_ENDS = 3
_REMEMBERED = 1000
_LOOK_S = 0.02


class OwnProgram:
    """The program through all its lives.

    ``launched``: when its first life began. ``speaks``: it has printed an iteration at some time. ``refused``: how many
    lines meant to be one and cannot be read; ``misspoke``: the first of these. ``impossible``: the first device time
    that was longer than its response, and this (ms).
    """

    def __init__(
        self, argv: tuple[str, ...], env: Mapping[str, str], launch: Launch, tracing: Tracing | None = None
    ) -> None:
        """Starts it by ``launch``. ``tracing``: where its calls to the GPU are seen. CommandError if it cannot be
        started."""
        self.speaks = False
        self.launched = clock_pair()
        self.refused = 0
        self.misspoke: RefusedLine | None = None
        self.impossible: tuple[float, float] | None = None
        self._said: dict[tuple[str, int, int, int], None] = {}
        self._argv = argv
        self._env = env
        self._begin = launch
        self._tracing = tracing
        self.kept: Kept | None = None
        """Gets all that is seen, where it is there."""
        self._hands_over = False
        self._begun: ClockPair | None = None
        self._restarts = 0
        self._quick_ends = 0
        self._passed_on = PassedOn()
        self._process = self._launch()
        self._kills = self._process.memory().kills

    def read(self, timeout_s: float) -> list[AppLine]:
        """Iterations printed within ``timeout_s``.

        A program that ended with 0 is started again. CommandError if it ended otherwise, or keeps ending at once
        without an iteration.
        """
        code = self._process.exit_code()  # asked first: what it printed before its end is then there to read
        if code is None:
            return self._parse(self._process.lines(timeout_s))
        lines = self.drain()
        if code != 0:
            raise self._died(code)
        self._restart()
        return lines

    def _died(self, code: int) -> CommandError:
        """With the limit of memory, where the kernel killed the program, or a process of it, for that."""
        self._passed_on.end()
        what = _obituary(self._argv[0], code, self._process.last_line)
        limit, kills = self._process.memory()
        if limit is None or kills <= self._kills:
            return CommandError(what, f"run it alone: {' '.join(masked_command(self._argv))}{in_a_pod()}")
        limited = f"{limit / 2**20:.0f} MiB"
        remedy = f"give it more memory than {limited}: --pod-memory on Kubernetes, else its cgroup's limit"
        return CommandError(f"{what}; killed for memory: all it may use is {limited}", remedy)

    def drain(self) -> list[AppLine]:
        """Iterations that are there to read now."""
        return self._parse(self._process.drain())

    @property
    def traced(self) -> bool:
        """Whether its calls may be seen."""
        return self._tracing is not None

    @property
    def calls_lost(self) -> int:
        """Calls that were seen and not kept."""
        return 0 if self._tracing is None else self._tracing.lost

    def seen(self) -> list[Batch]:
        """Its calls to the GPU that nobody has taken yet."""
        batches = [] if self._tracing is None else [self._since_begun(batch) for batch in self._tracing.read()]
        if self.kept is not None:
            self.kept.add(batches, time.monotonic_ns())
        for batch in batches:
            if HANDS_OVER[batch.events["kind"]].any():
                self._hands_over = self._spoke = True
        return batches

    def until_held(self, within_s: float) -> None:
        """Returns when it waits, at a gate that was closed before its start, to hand its first work to the GPU.

        One that tells of an iteration before that, or refuses to be seen, or is not there ``within_s`` is stopped where
        it stands. CommandError: see `read`.
        """
        assert self._tracing is not None
        until_ns = time.monotonic_ns() + s_to_ns(within_s)
        while not self.speaks and time.monotonic_ns() < until_ns:
            self.read(_LOOK_S)
            processes = [process for process in self._tracing.processes if process.alive]
            if any(process.held for process in processes):
                return
            if any(process.why for process in processes):
                break
        self._process.pause()

    def begin(self) -> None:
        """Lets it go on from where `until_held` left it. What it did by now, and what it was about, is not heard of."""
        self.drain()
        self.seen()
        self._begun = clock_pair()
        self.resume()

    def pause(self) -> None:
        """Holds it. Work that it has queued on a GPU still runs.

        A program that was seen to hand work to the GPU since it was let go on waits at the next that it would hand
        over, with all that it holds on the host; any other is stopped where it stands, with its process group.
        """
        if self._tracing is not None and self._hands_over:
            self._tracing.gate(closed=True)
        else:
            self._process.pause()

    def resume(self) -> None:
        """Lets it go on."""
        self._hands_over = False
        if self._tracing is not None:
            self._tracing.gate(closed=False)
        self._process.resume()

    def end(self) -> None:
        """Ends it and its process group."""
        if self._tracing is not None:
            self._tracing.gate(closed=False)  # a thread that waits there would not hear that it is to end
        self._process.kill()
        self._passed_on.end()

    def _launch(self) -> Process:
        self._launched_ns = time.monotonic_ns()
        self._spoke = False
        self._readers = (AppLines(), AppLines())
        return self._begin(self._argv, self._env)

    def _restart(self) -> None:
        quick = not self._spoke and time.monotonic_ns() - self._launched_ns < _QUICK_END_NS
        self._quick_ends = self._quick_ends + 1 if quick else 0
        if self._quick_ends == _QUICK_ENDS:
            raise CommandError(
                f"command {self._argv[0]} ends at once, {_QUICK_ENDS} times in a row",
                "a tenant must run until it is ended, or print iterations",
            )
        self._process.kill()
        self._restarts += 1
        print(f"kts.worker: {self._argv[0]} ended and is started again ({self._restarts})", file=sys.stderr, flush=True)
        self._process = self._launch()

    def _parse(self, printed: list[PrintedLine]) -> list[AppLine]:
        """The iterations among what it printed; all else is passed on."""
        found: list[AppLine] = []
        for text, on_stderr in printed:
            all_said = self._readers[on_stderr].read(text) or []
            lines = [said.what for said in all_said if isinstance(said.what, AppLine) and not said.echo]
            for said in all_said:
                if isinstance(said.what, RefusedLine) and said.what.why:
                    self.refused += 1
                    self.misspoke = self.misspoke or said.what
            if not lines:
                self._passed_on.write(text, on_stderr=on_stderr)
            found += [self._checked(line) for line in lines if self._is_new(line) and not self._was_held(line)]
        if printed:
            self._passed_on.flush()
        if found:
            self._spoke = self.speaks = True
        return found

    def _was_held(self, line: AppLine) -> bool:
        return self._begun is not None and line.start_ns < self._begun.realtime_ns <= line.end_ns

    def _since_begun(self, batch: Batch) -> Batch:
        """Without ranges in which it was held before it had begun."""
        if self._begun is None:
            return batch
        held = (batch.events["kind"] == Kind.RANGE) & (batch.events["begin_ns"] < self._begun.monotonic_ns)
        if not held.any():
            return batch
        breaks = batch.breaks - np.searchsorted(np.flatnonzero(held), batch.breaks)
        return replace(batch, events=batch.events[~held], breaks=breaks)

    def _is_new(self, line: AppLine) -> bool:
        """False for what it says again, on its other stream or in a shell's trace."""
        key = (line.app, line.i, line.start_ns, line.end_ns)
        if key in self._said:
            return False
        self._said[key] = None
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        return True

    def _checked(self, line: AppLine) -> AppLine:
        """Without a device time that is longer than the iteration it is part of."""
        response_ms = (line.end_ns - line.start_ns) / NS_PER_MS
        if not line.device_ms > longest_device_ms(response_ms):
            return line
        self.impossible = self.impossible or (line.device_ms, response_ms)
        return msgspec.structs.replace(line, device_ms=math.nan)


def _obituary(name: str, code: int, last_line: str) -> str:
    end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"command {name} {end}; its last line: {last_line or 'none'}"
