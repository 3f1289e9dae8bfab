"""The one timed iteration: whatever measures, calibrates, profiles or prints runs this and nothing of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from kts.worker.devices import Device, Tracer
from kts.worker.workloads import Operation

Iterate = Callable[[], tuple[int, int]]
"""Runs one iteration; returns ``submit_ns`` and ``retire_ns``. The device's stopwatch may be read after it."""


class Watch:
    """Notes how long each iteration took to hand over, in ``issue_ns``; a ``tracer`` gets a mark around each.

    The mark is outside of what is timed. The note costs one more reading of the clock while the device works.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self.issue_ns: list[int] = []
        self._mark: Callable[[], AbstractContextManager[Any]] = tracer.mark if tracer else contextlib.nullcontext
        self._handed_ns = 0

    def noting(self, wait: Callable[[], None], now: Callable[[], int]) -> Callable[[], None]:
        """``wait``, which begins when all is handed over."""

        def noted() -> None:
            self._handed_ns = now()
            wait()

        return noted

    def around(self, iterate: Iterate) -> Iterate:
        """``iterate`` with its mark and its entry."""

        def watched() -> tuple[int, int]:
            with self._mark():
                submit_ns, retire_ns = iterate()
            self.issue_ns.append(self._handed_ns - submit_ns)
            return submit_ns, retire_ns

        return watched


def timed(
    device: Device, operation: Operation, now: Callable[[], int] = time.monotonic_ns, watch: Watch | None = None
) -> Iterate:
    """The iteration that runs ``operation`` on ``device``. Nothing else happens between its two readings of ``now``."""
    begin, end = device.begin, device.end
    wait = device.wait if watch is None else watch.noting(device.wait, now)

    def iterate() -> tuple[int, int]:
        submit_ns = now()
        begin()
        operation()
        end()
        wait()
        return submit_ns, now()

    return iterate if watch is None else watch.around(iterate)
