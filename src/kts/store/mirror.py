"""A copy of a run directory that grows elsewhere, made piece by piece."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from kts import files
from kts.errors import DataError, SetupError
from kts.model.mode import SharingMode
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo
from kts.shown import as_text
from kts.store import durable, layout, runfile
from kts.store.creation import create
from kts.store.writer import finish

GROWING = (layout.EVENTS, layout.JOURNAL, layout.TELEMETRY_JOURNAL)
"""Files that are only appended to, so that their new bytes are all that must travel."""


class Mirror:
    """The copy in ``directory``. Cut off at any byte it is a killed run, and `kts.store.open_run` reads it."""

    def __init__(self, directory: Path, lock: durable.WriterLock) -> None:
        """Made by `Mirror.create` or `Mirror.resume`."""
        self.directory = directory
        self._lock = lock
        self._notes: tuple[str, ...] = ()
        self._altered: dict[str, tuple[str, ...]] = {}
        self._lost = ""

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        plan: Plan,
        mode: SharingMode,
        experiment_text: str,
        environment: dict[str, str] | None = None,
        overwrite: bool = False,
    ) -> Mirror:
        """A new run directory, empty but for what is known before the run. Errors as in `kts.store.create`."""
        writer = create(
            directory,
            plan=plan,
            backend="k8s",
            mode=mode,
            experiment_text=experiment_text,
            environment=environment or {},
            overwrite=overwrite,
            keep_journal=True,
            uid="",
        )
        writer.close(Outcome(kind="running"))
        return cls.resume(directory)

    @classmethod
    def resume(cls, directory: Path) -> Mirror:
        """Goes on with a copy that was begun. SetupError if another kts is at it, or it cannot be written."""
        directory = directory.absolute()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / layout.LOGS).mkdir(exist_ok=True)
            return cls(directory, durable.WriterLock(directory))
        except BlockingIOError as error:
            raise SetupError(
                f"{directory}: another kts writes into it", "wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise SetupError(
                f"{directory}: {error.strerror or error}", "choose another directory with --out"
            ) from error

    def size(self, name: str) -> int:
        """Bytes of a growing file that are here already."""
        path = self.directory / name
        return path.stat().st_size if path.exists() else 0

    def append(self, name: str, data: bytes, offset: int) -> int:
        """Bytes of a growing file from ``offset`` on; its size here, afterwards. What is here already is skipped.

        DataError if bytes are missing before them, or are others than those that are here; SetupError if they cannot
        be written. The copy is never wrong: at worst it is shorter. Of telemetry all this is only noted, once: records
        must not wait for it.
        """
        try:
            return self._append(name, data, offset)
        except (DataError, SetupError) as error:
            if name != layout.TELEMETRY_JOURNAL:
                raise
            self._lost = self._lost or f"{name} could not be copied whole: {error.what}"
            self.note(self._lost)
            return offset + len(data)

    def _append(self, name: str, data: bytes, offset: int) -> int:
        if name not in GROWING:
            raise ValueError(f"{name} is not a growing file")
        path = self.directory / name
        try:
            with os.fdopen(files.opened(path, os.O_RDWR | os.O_APPEND), "a+b") as file:
                have = file.seek(0, os.SEEK_END)
                if not _continues(file, data, offset, have):
                    raise DataError(
                        f"{path}: what comes from byte {offset} on does not continue the {have} bytes that are here",
                        "fetch the run anew into another directory: --out",
                    )
                file.write(data[have - offset :])
        except OSError as error:
            raise SetupError(f"{path}: {error.strerror}", "free some space; kts attach goes on") from error
        return max(have, offset + len(data))

    def replace_run(self, data: bytes) -> None:
        """The newest run.json. DataError if it is none; the last one then stays."""
        self._write(files.decode(data, RunInfo, "the conductor's run.json", "not a run", "use one kts version"))

    def note(self, text: str) -> None:
        """Something found out here that a reader must know; kept through every `replace_run`."""
        if text not in self._notes:
            self._notes = (*self._notes, text)

    def altered(self, tenant: str, how: Iterable[str]) -> None:
        """How a tenant's pod differs from what the run asked for; kept through every `replace_run`."""
        self._altered[tenant] = tuple(dict.fromkeys((*self._altered.get(tenant, ()), *how)))

    def finish(self, outcome: Outcome | None) -> RunInfo:
        """Ends the copy: ``outcome`` replaces the conductor's own if given; Parquet replaces the journals.

        A run.json that was never fetched leaves what `create` wrote. Idempotent but for the outcome.
        """
        info = runfile.read(self.directory)
        if outcome is not None:
            info = msgspec.structs.replace(info, outcome=outcome)
        self._write(info)
        info = runfile.read(self.directory)
        if (self.directory / layout.JOURNAL).exists() and info.outcome.kind != "running":
            info = finish(self.directory, info)
        return info

    def close(self) -> None:
        """Lets others write the directory."""
        with contextlib.suppress(OSError):
            self._lock.release()

    def _write(self, info: RunInfo) -> None:
        notes = (*info.notes, *(note for note in self._notes if note not in info.notes))
        named = msgspec.structs.replace(
            info,
            id=as_text(self.directory.name),
            notes=notes,
            altered={**info.altered, **self._altered},
            created_ns=info.created_ns or time.time_ns(),
        )
        try:
            runfile.write(self.directory, named)
        except OSError as error:
            raise SetupError(f"{self.directory}: {error.strerror}", "free some space; kts attach goes on") from error


def _continues(file: BinaryIO, data: bytes, offset: int, have: int) -> bool:
    """Whether ``data``, of byte ``offset`` on, begins within the ``have`` bytes of ``file`` and agrees with them."""
    if offset > have:
        return False
    file.seek(offset)
    known = file.read(min(len(data), have - offset))
    return known == data[: len(known)]
