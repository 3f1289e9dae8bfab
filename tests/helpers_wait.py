"""Waiting for what other threads and processes do: the one way in which tests do it."""

from __future__ import annotations

import time
from collections.abc import Callable
from subprocess import Popen
from typing import Any

PATIENCE_S = 180.0
"""More than a busy machine needs to start a program; less than a test's own limit, so that the reason is told."""
LEAST_LOOKS = 100
"""A machine that stood still itself has let nobody do anything: a deadline that passed meanwhile counts only then."""


def until(
    condition: Callable[[], Any],
    what: str,
    *,
    living: Popen[Any] | None = None,
    seconds: float = PATIENCE_S,
    pause_s: float = 0.02,
) -> Any:
    """The first true answer of ``condition``. The test fails with ``what`` after ``seconds`` without one, or where
    ``living`` has ended."""
    deadline, looks = time.monotonic() + seconds, 0
    while not (found := condition()):
        looks += 1
        assert looks < LEAST_LOOKS or time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        assert living is None or living.poll() is None, f"{living.args} ended ({living.returncode}) before: {what}"
        time.sleep(pause_s)
    return found
