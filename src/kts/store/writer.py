"""The writer of a run directory: all that was acknowledged survives the death of this process."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kts import files
from kts.errors import DataError, MeasurementError
from kts.model.foretold import Foretold
from kts.model.masking import kept_plan
from kts.model.neighbours import Look, Neighbours
from kts.model.plan import Plan
from kts.model.provenance import canonical, material
from kts.model.records import Records
from kts.model.run import BlockOutcome, Outcome, RunInfo, WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.store import durable, layout, runfile
from kts.store.journal import Journal, encode_frame
from kts.store.samples import SampleJournal, read_samples
from kts.units import NS_PER_S

RESERVE_BYTES = 4 << 20
"""Set aside at the start and given up when the disk is full, so that run.json can still say so."""

SYNC_EVERY_NS = NS_PER_S
"""Power loss costs at most about this much of measuring; a killed process costs nothing."""


class RunWriter:
    """Implements `kts.conduct.ports.Sink`. Made by `kts.store.create`.

    After the first failed write every ``records`` and ``frozen`` raises again, events are dropped,
    and ``block`` and ``close`` keep what they are told for run.json alone.
    """

    def __init__(self, directory: Path, info: RunInfo, lock: durable.WriterLock, *, keep_journal: bool = False) -> None:
        """For a directory that holds run.json and no records. OSError."""
        self.directory = directory
        self._keep_journal = keep_journal
        self._info = info
        self._lock = lock
        self._failure: MeasurementError | None = None
        self._closed = False
        self._next_seq: dict[tuple[str, int], int] = {}
        self._kept_bytes = 0
        self._synced_ns = time.monotonic_ns()
        self._samples = SampleJournal(directory, info.uid)
        _reserve(directory / layout.RESERVE)
        append = os.O_WRONLY | os.O_APPEND
        self._journal = files.opened(directory / layout.JOURNAL, append)
        self._events = files.opened(directory / layout.EVENTS, append)
        files.sync_directory(directory)

    def event(self, kind: str, **fields: str | int | float | bool | None) -> None:
        """See Sink."""
        if self._failure or self._closed:
            return
        stamps = {"realtime_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns(), "kind": kind}
        try:
            durable.write_all(self._events, msgspec.json.encode({**stamps, **fields}) + b"\n")
        except OSError as error:
            raise self._failed(layout.EVENTS, error) from error
        if kind == "note":
            self._note(str(fields.get("text", "")))  # reaches run.json with its next version

    def worker(self, info: WorkerInfo) -> None:
        """See Sink."""
        others = tuple(worker for worker in self._info.workers if worker.id != info.id)
        self._update(msgspec.structs.replace(self._info, workers=(*others, info)))

    def environment(self, found: dict[str, str]) -> None:
        """What was learnt of the machine that measures, besides what was known at the start."""
        self._update(msgspec.structs.replace(self._info, environment={**self._info.environment, **found}))

    def frozen(self, plan: Plan) -> None:
        """See Sink."""
        if self._failure:
            raise self._failure
        plan, made_by = kept_plan(plan), self._info.provenance
        if made_by is not None:
            made_by = made_by.renewed(material("plan", plan.name, canonical(plan)))
        self._update(msgspec.structs.replace(self._info, plan=plan, provenance=made_by))

    def records(self, tenant: str, block: int, seq: int, records: Records) -> None:
        """See Sink. MeasurementError if a chunk is missing or comes twice."""
        if self._failure:
            raise self._failure
        due = self._next_seq.get((tenant, block), 0)
        if seq != due or self._closed:
            problem = f"chunk {seq} came where {due} was due" if seq != due else "the run is closed"
            raise MeasurementError(
                f"{tenant}, block {block}: {problem}; records were lost on the way",
                f"what came before is kept: kts report {self.directory}",
            )
        frame = encode_frame(tenant, block, seq, records, self._info.uid)
        try:
            durable.write_all(self._journal, frame)
            self._kept_bytes += len(frame)
            if time.monotonic_ns() - self._synced_ns >= SYNC_EVERY_NS:
                self._sync()
        except OSError as error:
            raise self._failed(layout.JOURNAL, error) from error
        self._next_seq[tenant, block] = due + 1

    def block(self, outcome: BlockOutcome) -> None:
        """See Sink."""
        try:
            if not self._failure:
                self._sync()
                os.fsync(self._events)
        except OSError as error:
            self._info = _with_block(self._info, outcome)
            raise self._failed(layout.JOURNAL, error) from error
        self._update(_with_block(self._info, outcome))

    def source(self, state: SourceState) -> None:
        """See Sink. Reaches run.json with its next version."""
        others = tuple(known for known in self._info.telemetry if known.source != state.source)
        self._info = msgspec.structs.replace(self._info, telemetry=(*others, state))

    def samples(self, samples: Sequence[Sample]) -> None:
        """See Sink. Stops at its first failure, and early on a disk that is nearly full."""
        if self._failure or self._closed or self._samples.problem:
            return
        self._samples.append(samples)
        self._info = msgspec.structs.replace(self._info, samples=self._samples.count)
        if self._samples.problem:
            self._note(self._samples.problem)

    def foretold(self, told: Foretold) -> None:
        """See Sink."""
        if not self._closed:
            self._info = msgspec.structs.replace(self._info, foretold=(*self._info.foretold, told))

    def look(self, look: Look) -> None:
        """See Sink."""
        if not self._closed:
            known = self._info.neighbours or Neighbours()
            self._info = msgspec.structs.replace(self._info, neighbours=known.after(look))

    def close(self, outcome: Outcome) -> None:
        """See Sink. Turns the journals into Parquet; keeps a journal, and says so, if that cannot be.

        MeasurementError if the outcome itself cannot be written and no failure was told before.
        """
        if self._closed:
            return
        told = self._failure is not None
        self._closed = True
        self._info = msgspec.structs.replace(self._info, outcome=outcome)
        with contextlib.ExitStack() as held:
            held.callback(self._let_go)
            self._release_reserve()
            self._samples.close()
            try:
                if not told:
                    self._sync()
                    runfile.write(self.directory, self._info)
                    if not self._keep_journal:
                        self._info = finish(self.directory, self._info)
            except OSError as error:
                self._failed(layout.RUN, error)
            with contextlib.suppress(OSError):
                if self._failure:
                    runfile.write(self.directory, self._info)
        if self._failure and not told:
            raise self._failure

    def _let_go(self) -> None:
        """What cannot be closed or removed costs nothing: the system closes it with the process."""
        for descriptor in (self._journal, self._events):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with contextlib.suppress(OSError):
            self._lock.release()

    def _update(self, info: RunInfo) -> None:
        self._info = info
        if self._failure or self._closed:
            return
        try:
            runfile.write(self.directory, info)
        except OSError as error:
            raise self._failed(layout.RUN, error) from error

    def _sync(self) -> None:
        os.fdatasync(self._journal)
        self._synced_ns = time.monotonic_ns()

    def _failed(self, name: str, error: OSError) -> MeasurementError:
        """Stops writing, leaves only whole frames, and makes room for the last words."""
        self._failure = _measurement_error(self.directory, name, error)
        self._samples.stop(self._failure.what)
        self._note(f"writing stopped: {self._failure.what}")
        with contextlib.suppress(OSError):
            os.ftruncate(self._journal, self._kept_bytes)
        self._release_reserve()
        return self._failure

    def _note(self, text: str) -> None:
        self._info = msgspec.structs.replace(self._info, notes=(*self._info.notes, text))

    def _release_reserve(self) -> None:
        with contextlib.suppress(OSError):
            (self.directory / layout.RESERVE).unlink(missing_ok=True)


def finish(directory: Path, info: RunInfo) -> RunInfo:
    """Puts records.parquet and telemetry.parquet in place of complete journals; ``info`` as it then is in run.json.

    Where that cannot be, a journal is kept and a note says why. OSError only where run.json cannot be written.
    """
    return _finish_samples(directory, _finish_records(directory, info))


def _finish_samples(directory: Path, info: RunInfo) -> RunInfo:
    path = directory / layout.TELEMETRY_JOURNAL
    if not path.exists():
        return info
    import pyarrow as pa

    from kts.store.samples_parquet import write_parquet

    try:
        series, damage = read_samples(path, info.uid)
        write_parquet(series, directory, info.uid)
    except (OSError, pa.ArrowException) as error:
        return _noted(directory, info, _kept(path, layout.TELEMETRY, error))
    if damage:
        info = _noted(directory, info, *damage)
    _remove(path)
    return info


def _finish_records(directory: Path, info: RunInfo) -> RunInfo:
    import pyarrow as pa

    from kts.store.parquet import convert

    path = directory / layout.JOURNAL
    try:
        journal = Journal(path, info.uid)
        if journal.damage or journal.torn:
            raise OSError("the journal is damaged: " + "; ".join((*journal.damage, journal.torn)))
        convert(journal, directory, info.uid)
    except (OSError, pa.ArrowException, DataError) as error:
        return _noted(directory, info, _kept(path, layout.PARQUET, error))
    _remove(path)
    return info


def _kept(journal: Path, name: str, error: Exception) -> str:
    return f"{name} could not be written ({error}); {journal.name} is kept and read instead"


def _noted(directory: Path, info: RunInfo, *notes: str) -> RunInfo:
    info = msgspec.structs.replace(info, notes=(*info.notes, *notes))
    runfile.write(directory, info)
    return info


def _remove(path: Path) -> None:
    """A journal that is read no more; one that stays costs space alone."""
    with contextlib.suppress(OSError):
        path.unlink()
        files.sync_directory(path.parent)


def _with_block(info: RunInfo, outcome: BlockOutcome) -> RunInfo:
    return msgspec.structs.replace(info, blocks=(*info.blocks, outcome))


def _reserve(path: Path) -> None:
    with os.fdopen(files.opened(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            file.write(bytes(RESERVE_BYTES))


def _measurement_error(directory: Path, name: str, error: OSError) -> MeasurementError:
    if not directory.is_dir():
        return MeasurementError(
            f"{directory}: was removed or moved while the run was recorded into it",
            "look where it is now, or measure again",
        )
    kept = f"what was recorded is kept: kts report {directory}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return MeasurementError(f"disk full while recording ({directory / name})", f"free some space; {kept}")
    if error.errno == errno.EFBIG:
        return MeasurementError(
            f"{directory / name}: larger than files may be here", f"raise the limit (ulimit -f unlimited); {kept}"
        )
    return MeasurementError(f"{directory / name}: {error.strerror or error}", f"check the disk; {kept}")
