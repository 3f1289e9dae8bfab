"""How a signal ends the command while nothing has begun that would be lost."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
SIGNALS = (
    (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGINT, signal.SIGTERM)
)


def leave_at_once(number: int, frame: object) -> None:
    """The handler while nothing has begun that would be lost."""
    del number, frame
    os._exit(INTERRUPTED)
