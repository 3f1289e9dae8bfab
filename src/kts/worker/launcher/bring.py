"""``python3 -m kts.worker.launcher.bring FOLDER`` copies into it what a container of another image needs.

It runs before that container, from the worker's image.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from kts.worker.launcher.compile import BINARY

LAUNCHER = BINARY.name
_RUNNABLE = 0o755


def bring(to: Path) -> int:
    """The exit code: 0, or 4 where this image lacks what is to be brought, which is said."""
    if not BINARY.is_file():
        print(f"kts: this image has no launcher ({BINARY}): build it by kts k8s image", file=sys.stderr, flush=True)
        return 4
    shutil.copyfile(BINARY, to / LAUNCHER)
    (to / LAUNCHER).chmod(_RUNNABLE)
    return 0


if __name__ == "__main__":
    sys.exit(bring(Path(sys.argv[1])))
