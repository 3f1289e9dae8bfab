"""fleet.json: written whole at every change, read back with an explanation where that cannot be."""

from __future__ import annotations

from pathlib import Path

from kts import files
from kts.errors import SetupError, UsageError
from kts.model.fleet import FLEET_VERSION, NODES, Fleet
from kts.store import layout

FLEET = "fleet.json"


def is_fleet(directory: Path) -> bool:
    """True if it is a fleet directory, whether or not its fleet.json can be read."""
    return (directory / FLEET).is_file()


def read(directory: Path) -> Fleet:
    """fleet.json. DataError if it is missing, damaged or of a newer schema."""
    path = directory / FLEET
    remedy = f"restore it from a copy; the runs under {directory / NODES} can be reported each alone"
    return files.decode(
        files.read(path, "check the path and the disk"), Fleet, str(path), "damaged: not a fleet", remedy,
        newest=FLEET_VERSION,
    )  # fmt: skip


def write(directory: Path, fleet: Fleet) -> None:
    """Replaces fleet.json durably. SetupError."""
    try:
        (directory / NODES).mkdir(parents=True, exist_ok=True)
        files.replace(directory / FLEET, files.encode(fleet))
    except OSError as error:
        raise SetupError(f"{directory}: {error.strerror or error}", "choose another directory with --out") from error


def check_new(directory: Path) -> None:
    """UsageError where a run, or another fleet, is there already."""
    for name in (FLEET, layout.RUN):
        if (directory / name).exists():
            raise UsageError(f"{directory}: {name} is there already", "choose another directory with --out")
