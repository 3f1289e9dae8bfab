"""A state that changes, in a terminal: drawn in place like top; elsewhere a table now and then."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kts.report import terminal
from kts.report.document import Document
from kts.report.watching import watch_elements
from kts.watch.live import WatchNow

PLAIN_INTERVAL_S = 10.0
_BESIDE_ROWS = 14
"""Lines that are left for what stands around the table."""


class Screen:
    """Shows states on ``console``. A context: leaving it gives the terminal back as it was.

    ``endless``: nobody will print the last state, so that where there is no terminal a table comes every ten seconds;
    else nothing comes there. ``last``: the last state that came. OSError where nobody reads.
    """

    def __init__(self, console: Console, *, endless: bool, now_s: Callable[[], float] = time.monotonic) -> None:
        self._console, self._endless, self._now_s = console, endless, now_s
        self._live: Live | None = None
        self._printed_s = float("-inf")
        self.last: WatchNow | None = None

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            # No thread of its own: it could tell nobody that it cannot write.
            self._live = Live(Text(), console=self._console, screen=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def __call__(self, now: WatchNow) -> None:
        """Shows it in place of the one before."""
        self.last = now
        if self._live is not None:
            self._live.update(Text.from_ansi(self._drawn(now)), refresh=True)
        elif self._endless and self._now_s() - self._printed_s >= PLAIN_INTERVAL_S:
            self._printed_s = self._now_s()
            terminal.render(Document(tuple(watch_elements(now))), self._console)
            self._console.print()
            self._console.file.flush()

    def _drawn(self, now: WatchNow) -> str:
        """As much of it as there is room for."""
        width, height = self._console.size
        off = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard", highlight=False)
        terminal.render(Document(tuple(watch_elements(now, max(height - _BESIDE_ROWS, 3)))), off)
        assert isinstance(off.file, io.StringIO)
        return "\n".join(off.file.getvalue().splitlines()[: height - 1])
