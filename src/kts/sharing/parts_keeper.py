"""The process that takes away what `kts.sharing.parts` made, once standard input ends: kts is done with it, or gone.

Its argument is the folder of the record. A module of its own, since Python warns of one that its package has loaded.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

from kts.sharing.parts import READY, put_back


def main() -> None:
    """Waits, then puts back, and says what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(READY, flush=True)
    sys.stdin.read()
    left = put_back(Path(sys.argv[1]))
    with contextlib.suppress(OSError):
        print(left, flush=True)


if __name__ == "__main__":
    main()
