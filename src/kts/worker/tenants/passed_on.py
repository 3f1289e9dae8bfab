"""What a program prints beside its iterations, passed on to its worker's log within bounds."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque

MOST_BYTES = 16 << 20
"""Of all that is passed on as it comes."""
TAIL_BYTES = 64 << 10
"""Of what comes after that, so much of the end is passed on: there a program says why it died."""


class PassedOn:
    """Never costs a measurement: where it cannot be written, as on a full disk, nothing more is."""

    def __init__(self) -> None:
        self._left = MOST_BYTES
        self._left_out = 0
        self._tail: deque[tuple[str, bool]] = deque()
        self._tail_bytes = 0

    def write(self, text: str, *, on_stderr: bool) -> None:
        """Passes it on, or keeps it for the end."""
        if self._left > 0:
            self._left -= len(text)
            self._write(text, on_stderr=on_stderr)
            if self._left <= 0:
                said = f"kts.worker: over {MOST_BYTES >> 20} MiB printed: only the end of the rest is kept\n"
                self._write(said, on_stderr=True)
            return
        self._tail.append((text, on_stderr))
        self._tail_bytes += len(text)
        while self._tail_bytes > TAIL_BYTES and len(self._tail) > 1:
            dropped, _ = self._tail.popleft()
            self._tail_bytes -= len(dropped)
            self._left_out += len(dropped)

    def flush(self) -> None:
        """What was passed on can be read."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                self._give_up()

    def end(self) -> None:
        """The program is over: passes on what was kept for that."""
        if self._left_out:
            self._write(f"kts.worker: {self._left_out} characters left out\n", on_stderr=True)
        for text, on_stderr in self._tail:
            self._write(text, on_stderr=on_stderr)
        self._tail.clear()
        self._tail_bytes = self._left_out = 0
        self.flush()

    def _write(self, text: str, *, on_stderr: bool) -> None:
        try:
            (sys.stderr if on_stderr else sys.stdout).write(text)
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Both streams lead nowhere from now on: what they still hold would fail again at the end of the worker."""
        self._left = 0
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
