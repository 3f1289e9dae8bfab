"""Making a run directory: never over a file that is not ours, never beside a live writer."""

from __future__ import annotations

import errno
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from kts.errors import SetupError, UsageError
from kts.model.masking import kept_plan
from kts.model.mode import SharingMode
from kts.model.neighbours import Neighbours
from kts.model.plan import Plan
from kts.model.provenance import Material, Provenance, canonical, material
from kts.model.run import SCHEMA_VERSION, RunInfo
from kts.shown import as_text
from kts.store import durable, layout, origin, runfile
from kts.store.writer import RunWriter


def create(
    directory: Path,
    *,
    plan: Plan,
    backend: str,
    mode: SharingMode,
    experiment_text: str,
    environment: dict[str, str],
    overwrite: bool = False,
    keep_journal: bool = False,
    made_from: Sequence[Material] = (),
    provenance: Provenance | None = None,
    neighbours: Neighbours | None = None,
    uid: str | None = None,
) -> RunWriter:
    """A new run directory and its writer. Its parents are made as needed.

    ``overwrite`` replaces a run that is there (files of other names stay). ``keep_journal``: closing makes no
    records.parquet, so that a copy can follow the growing journal to its end. ``made_from``: what besides experiment
    and plan. ``provenance``: of the kts that measures; by default this one's. ``neighbours``: given where somebody is
    to look for them. ``uid``: by default a new one; empty for a copy of a run that is not there yet. UsageError if
    something is there that may not be replaced; SetupError if the directory cannot be written or a run is live in it.
    """
    directory = directory.absolute()
    try:
        existed = _check_free(directory, overwrite=overwrite)
        directory.mkdir(parents=True, exist_ok=True)
        lock = durable.WriterLock(directory)
    except BlockingIOError as error:
        raise SetupError(
            f"{directory}: another kts is measuring into it", "wait for it, or choose another directory with --out"
        ) from error
    except OSError as error:
        raise _setup_error(directory, error) from error
    made_by = provenance or origin.here()
    experiment = material("experiment", plan.name, experiment_text.encode())
    info = RunInfo(
        schema=SCHEMA_VERSION,
        id=as_text(directory.name),
        kts=made_by.kts,
        backend=backend,
        mode=mode,
        created_ns=time.time_ns(),
        plan=kept_plan(plan),
        environment=environment,
        experiment=experiment_text,
        provenance=made_by.of([experiment, *made_from, material("plan", plan.name, canonical(kept_plan(plan)))]),
        neighbours=neighbours,
        uid=secrets.token_hex(8) if uid is None else uid,
        samples=None if uid == "" else 0,
    )
    try:
        _clear(directory)
        (directory / layout.LOGS).mkdir(exist_ok=True)
        runfile.write(directory, info)
        return RunWriter(directory, info, lock, keep_journal=keep_journal)
    except OSError as error:
        _give_up(directory, lock, remove=not existed)
        raise _setup_error(directory, error) from error


def _check_free(directory: Path, *, overwrite: bool) -> bool:
    """True if the directory exists (and may be used), False if not. UsageError if it may not be used."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is not a directory")
    names = {path.name for path in directory.iterdir() if not layout.is_scaffold(path.name)}
    if not names:
        return True
    if not runfile.is_run(directory):
        raise UsageError(
            f"{directory}: holds files and is not a kts run ({min(names)})",
            "choose a new directory with --out; kts deletes only its own runs",
        )
    if not overwrite:
        raise UsageError(f"{directory}: holds a run already", "choose another directory with --out, or add --overwrite")
    return True


def _clear(directory: Path) -> None:
    """Removes the run that is there; run.json last, so that until then the rest is recognised as ours."""
    names = sorted(layout.REPLACEABLE - {layout.LOCK, layout.RUN})
    names += [path.name for path in directory.iterdir() if layout.is_unfinished(path.name, *layout.REPLACEABLE)]
    for path in [directory / name for name in (*names, layout.RUN)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _give_up(directory: Path, lock: durable.WriterLock, *, remove: bool) -> None:
    """Leaves nothing of a run that could not be created."""
    try:
        _clear(directory)
        lock.release()
        if remove:
            directory.rmdir()
    except OSError:
        return


def _setup_error(directory: Path, error: OSError) -> SetupError:
    if isinstance(error, PermissionError):
        return SetupError(f"{directory}: no permission to write", "choose a directory of yours with --out")
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return SetupError(f"{directory}: a file is in the way", "choose another directory with --out")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SetupError(f"{directory}: no space left", "free some, or choose another disk with --out")
    return SetupError(f"{directory}: {error.strerror or error}", "choose another directory with --out")
