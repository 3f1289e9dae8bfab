"""Names of a node's containers, as the kubelet writes them for whoever ships logs: they need no right but to list a
folder. Reads no log: only what links are called, and where they lead."""

from __future__ import annotations

import os
from pathlib import Path

from kts.errors import SetupError
from kts.k8s.objects.podnames import NamesKnown, of_logs

LOGS = Path("/var/log/containers")
"""In every kubelet with a container runtime interface; the place cannot be configured."""


def names(folder: Path = LOGS) -> NamesKnown:
    """Of all containers that are there, or were a moment ago. SetupError where the folder cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return of_logs([(entry.name, _target(entry)) for entry in entries])
    except OSError as error:
        raise SetupError(
            f"{folder}: {error.strerror}: pods have no names", "mount it, read-only, at the same place"
        ) from error


def _target(entry: os.DirEntry[str]) -> str:
    try:
        return str(Path(entry.path).readlink())
    except OSError:  # no link, or gone meanwhile
        return ""
