"""Ctrl-C that waits for a place where stopping is safe."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

_SLICE_S = 0.1
"""A signal that another thread received wakes nobody: the main thread hears of it when it looks."""


class Interrupts:
    """While it is entered a first SIGINT is kept for `pause`; the next one raises KeyboardInterrupt wherever it comes.

    Python raises KeyboardInterrupt between any two instructions, in the midst of a write or inside a library that
    swallows it. Signals belong to the main thread; in another one this is a mere sleep.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._came = False

    def __enter__(self) -> Interrupts:
        in_main = threading.current_thread() is threading.main_thread()
        self._mine = in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # nohup stays nohup
        if self._mine:
            self._former = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, self._former)

    def pause(self, seconds: float) -> None:
        """Sleeps; KeyboardInterrupt, at once, for the SIGINT that came before or comes meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._asked.wait(min(_SLICE_S, max(deadline - time.monotonic(), 0.0))):
            if time.monotonic() >= deadline:
                return
        self._asked.clear()
        raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._came:
            raise KeyboardInterrupt
        self._came = True
        self._asked.set()
