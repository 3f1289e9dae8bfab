"""``python3 -m kts.worker.launcher.compile FILE CC...`` makes the launcher by a C compiler: in the image's build."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("launcher.c")
BINARY = Path(__file__).with_name("launcher")
"""Where an image has it."""
FLAGS = (
    *("-std=c11", "-O2", "-s", "-static", "-nostdlib", "-ffreestanding"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
)
"""A file that needs nothing but the kernel."""


def compiled(to: Path, cc: Sequence[str]) -> Path:
    """``to``, once it is made. CalledProcessError, after the compiler's words on stderr."""
    subprocess.run([*cc, *FLAGS, "-o", str(to), str(SOURCE)], check=True)
    return to


if __name__ == "__main__":
    compiled(Path(sys.argv[1]), sys.argv[2:] or ["cc"])
