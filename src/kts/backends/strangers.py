"""Other measurements on this machine: two that run at once measure each other."""

from __future__ import annotations

import os
from pathlib import Path

STRANGERS_NOTE = (
    "another kts was measuring on this machine at the same time: where it used the same device or cores, "
    "its tenants are in these figures"
)
_WORKERS = tuple(f"\0-m\0kts.worker\0{option}\0".encode() for option in ("--join", "--profile"))


def strangers(proc: Path = Path("/proc")) -> list[int]:
    """Process ids of workers that some other kts started, as far as this process may see them."""
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit() and _is_stranger(entry)]


def _is_stranger(process: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
        if not any(worker in command for worker in _WORKERS):
            return False
        # "PID (NAME) STATE PPID ...", where the name may hold anything
        parent = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
    except OSError:
        return False
    return int(parent) != os.getpid()
