"""What the command ``kts`` runs first and last: between them a signal ends it with its exit code, and no traceback."""

from __future__ import annotations

import signal

from kts.cli.leaving import SIGNALS, leave_at_once


def entry() -> int:
    """`kts.cli.main.main` as a process of its own. Its exit code."""
    mine = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup stays nohup
    for number in mine:
        signal.signal(number, leave_at_once)
    from kts.cli.main import main

    code = main()
    for number in mine:
        signal.signal(number, signal.SIG_IGN)  # all is said and done; only Python is still to end
    return code
