"""``python3 -m kts.worker.launcher.bring FOLDER`` copies into it what a container of another image needs: launcher,
tracer, and CUPTI if this image has it.

It runs before that container, from the worker's image.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from kts.worker.launcher.compile import BINARY
from kts.worker.tracing import build
from kts.worker.tracing.cupti import cupti

CUPTI = "libcupti.so"
_RUNNABLE = 0o755


def bring(to: Path, launcher: Path = BINARY, tracer: Path = build.NATIVE / build.NAME) -> int:
    """The exit code: 0, or 4 where this image lacks what must be brought, which is said."""
    if missing := [path for path in (launcher, tracer) if not path.is_file()]:
        print(f"kts: this image lacks {missing[0]}: build it by kts k8s image", file=sys.stderr, flush=True)
        return 4
    found = cupti()
    for path, name in ((launcher, launcher.name), (tracer, tracer.name), (found.path, CUPTI)):
        if path is not None:
            shutil.copyfile(path, to / name)
            (to / name).chmod(_RUNNABLE)
    if found.path is None:
        print(f"kts: only programs that bring CUPTI themselves can be traced: {found.why}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(bring(Path(sys.argv[1])))
