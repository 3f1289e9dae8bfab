"""Ctrl-C, and the signals that mean the same: they wait for a place where stopping is safe, but not for long."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

ENDING_S = 5.0
"""For everything that follows a first signal, until the command has ended."""
SAFE_S = 1.0
"""For the main thread to come to a safe place: a server that hangs would keep it for longer."""
_RESERVE_S = 0.5
"""Of ENDING_S, for what follows the ending itself: saying how it went."""
_SLICE_S = 0.1
"""A signal that another thread received wakes nobody: the main thread hears of it when it looks."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While it is entered, a first SIGINT, SIGTERM or SIGHUP is kept for `pause` or `check`, which raise
    KeyboardInterrupt. Where neither is called within SAFE_S, it is raised wherever the main thread is; so it is by a
    second signal, and where the ending takes too long.

    Python raises KeyboardInterrupt between any two instructions, in the midst of a write or inside a library that
    swallows it. Signals belong to the main thread; in another one this is a mere sleep.
    """

    def __init__(self, ending_s: float | None = None) -> None:
        """``ending_s``: in place of ENDING_S."""
        self._ending_s = ENDING_S if ending_s is None else ending_s
        self.came = False
        """Somebody asked to stop."""
        self.insisted = False
        """Somebody asked again, or the ending took too long: nothing may be waited for any more."""
        self._asked = threading.Event()
        self._deadline = math.inf
        self._overdue = threading.Event()
        self._over = threading.Event()
        self._waking = threading.Lock()
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if (former := signal.getsignal(number)) is not signal.SIG_IGN:  # nohup stays nohup
                    self._former[number] = former
                    signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._waking:
            self._over.set()
        for number, former in self._former.items():
            signal.signal(number, former)

    def pause(self, seconds: float) -> None:
        """Sleeps; KeyboardInterrupt, at once, for the signal that came before or comes meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._asked.wait(min(_SLICE_S, max(deadline - time.monotonic(), 0.0))):
            if time.monotonic() >= deadline:
                return
        self.check()

    def check(self) -> None:
        """KeyboardInterrupt, once, for the signal that came."""
        if self._asked.is_set():
            self._asked.clear()
            raise KeyboardInterrupt

    def left_s(self) -> float:
        """Seconds that the ending may still take; infinite while nobody asked for it."""
        return max(self._deadline - time.monotonic(), 0.0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._overdue.is_set():
            self._overdue.clear()
            if self._over.is_set():
                return
            if time.monotonic() < self._deadline:
                self.check()
                return
        if not self.came:
            self.came = True
            self._number = number
            self._deadline = time.monotonic() + self._ending_s - _RESERVE_S
            self._asked.set()
            threading.Thread(target=self._hurry, name="interrupts", daemon=True).start()
            return
        self._asked.clear()
        self.insisted = True
        raise KeyboardInterrupt

    def _hurry(self) -> None:
        """Wakes the main thread where it is blocked: when it did not come to a safe place, and when time is over."""
        for when in (self._deadline - self._ending_s + _RESERVE_S + SAFE_S, self._deadline):
            self._over.wait(max(when - time.monotonic(), 0.0))
            with self._waking:
                if self._over.is_set():
                    return
                self._overdue.set()
                signal.pthread_kill(threading.main_thread().ident or 0, self._number)
