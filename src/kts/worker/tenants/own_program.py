"""The user's own program, kept alive: its iterations as values, its other output passed on, restarted when it ends."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Mapping

from kts.units import NS_PER_S
from kts.wire.appline import PREFIX, AppLine, parse_line
from kts.worker.failures import CommandError
from kts.worker.tenants.process import Process

_QUICK_END_NS = NS_PER_S
_QUICK_ENDS = 3


class OwnProgram:
    """The program through all its lives.

    ``speaks``: it has printed an iteration at some time. ``misspoke``: the first line that meant to be one and
    cannot be read, empty if there was none.
    """

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str]) -> None:
        """Starts it. CommandError if it cannot be started."""
        self.speaks = False
        self.misspoke = ""
        self._argv = argv
        self._env = env
        self._restarts = 0
        self._quick_ends = 0
        self._process = self._launch()

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
            raise CommandError(
                _obituary(self._argv[0], code, self._process.last_line), f"run it alone: {shlex.join(self._argv)}"
            )
        self._restart()
        return lines

    def drain(self) -> list[AppLine]:
        """Iterations that are there to read now."""
        return self._parse(self._process.drain())

    def pause(self) -> None:
        """Stops its process group where it stands. Work it has queued on a GPU still runs."""
        self._process.pause()

    def resume(self) -> None:
        """Lets it go on."""
        self._process.resume()

    def end(self) -> None:
        """Ends it and its process group."""
        self._process.kill()

    def _launch(self) -> Process:
        self._launched_ns = time.monotonic_ns()
        self._spoke = False
        return Process(self._argv, self._env)

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

    def _parse(self, texts: list[str]) -> list[AppLine]:
        found = []
        for text in texts:
            if line := parse_line(text):
                found.append(line)
            else:
                print(text)
                if text.startswith(PREFIX):
                    self.misspoke = self.misspoke or text
        if texts:
            sys.stdout.flush()
        if found:
            self._spoke = self.speaks = True
        return found


def _obituary(name: str, code: int, last_line: str) -> str:
    end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"command {name} {end}; its last line: {last_line or 'none'}"
