"""Opening what was measured: a finished run, one that was killed, one still running, or plain logs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from kts import files
from kts.errors import DataError, UsageError
from kts.model.cluster import ClusterFacts
from kts.model.records import Records
from kts.model.run import BlockOutcome, Outcome, RunInfo
from kts.model.telemetry import SampleSeries
from kts.shown import as_text
from kts.store import durable, layout, runfile
from kts.store.blocks import RecordSource, reconcile
from kts.store.journal import journal_in
from kts.store.logfiles import STDIN

KILLED = "kts was killed while measuring"


class StoredRun:
    """Implements `kts.model.reading.RunData`."""

    def __init__(
        self, info: RunInfo, source: RecordSource, damage: Sequence[str], directory: Path | None = None
    ) -> None:
        """``info.blocks`` are the blocks as they may be reported, in order of time. ``directory``: where telemetry and
        cluster.json would be."""
        self._info = msgspec.structs.replace(info, id=as_text(info.id), notes=tuple(map(as_text, info.notes)))
        self._directory = directory
        self._telemetry: Sequence[SampleSeries] | None = None
        self._source = source
        self._cluster, unread = (None, []) if directory is None else _stored_cluster(directory)
        self._damage = [as_text(line) for line in (*damage, *unread)]
        self._repeats: set[tuple[str, int]] = set()

    @property
    def info(self) -> RunInfo:
        """See RunData. ``blocks`` in it are this object's ``blocks``."""
        return self._info

    @property
    def blocks(self) -> Sequence[BlockOutcome]:
        """See RunData."""
        return self._info.blocks

    @property
    def damage(self) -> Sequence[str]:
        """See RunData. Repeated iterations join the list when their block is read."""
        return tuple(self._damage)

    @property
    def cluster(self) -> ClusterFacts | None:
        """See RunData."""
        return self._cluster

    def records(self, tenant: str, block: int) -> Records:
        """See RunData. DataError if the file turns out damaged there."""
        return self._once(tenant, block, self._source.read(tenant, block))

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """See RunData. DataError if the file turns out damaged there."""
        for part in self._source.portions(tenant, block):
            yield self._once(tenant, block, part)

    def _once(self, tenant: str, block: int, records: Records) -> Records:
        numbers = records["i"]
        if np.all(numbers[1:] > numbers[:-1]):
            return records
        _, first = np.unique(numbers, return_index=True)
        repeated = len(records) - len(first)
        if repeated and (tenant, block) not in self._repeats:
            self._repeats.add((tenant, block))
            self._damage.append(f"{tenant}, block {block}: {repeated} repeated iterations dropped")
        return records[first]

    def telemetry(self) -> Sequence[SampleSeries]:
        """See RunData. Read at the first call; what is damaged joins ``damage`` then."""
        if self._telemetry is None:
            self._telemetry, damage = (
                ([], []) if self._directory is None else _stored_samples(self._directory, self._info)
            )
            self._damage += damage
        return self._telemetry


def open_run(path: Path, trim: int = 0) -> StoredRun:
    """The run in directory ``path``: kts's own, finished or not, or KTS_APP v1 logs; also one log, or ``-`` for stdin.

    ``trim`` drops the first iterations of each log. DataError if there is nothing to report, UsageError
    if a kts run is to be trimmed (its warm-up was never recorded).
    """
    one_log = path == STDIN or (path.exists() and not path.is_dir() and path.name not in layout.OURS)
    names = set() if one_log else _names(path) | _ours(path)
    if layout.RUN not in names and not names & {layout.JOURNAL, layout.PARQUET}:
        from kts.store.applogs import open_logs

        return StoredRun(*open_logs(path, trim))
    if trim:
        raise UsageError(f"{path}: a kts run has no warm-up to trim", "leave the option out")
    if layout.RUN not in names:
        raise DataError(
            f"{path}: run.json is missing{_what_is_there(path)}",
            "restore run.json from a copy: without it nobody knows what the records are of",
        )
    if not names & {layout.JOURNAL, layout.PARQUET} and not runfile.is_run(path):
        raise DataError(
            f"{path / layout.RUN}: not a kts run, but another program's file, or damaged; no records are beside it",
            "logs can be reported from a directory without that file: copy them into one",
        )
    live = durable.is_locked(path)
    info, changed = runfile.checked(path)
    try:
        source, damage, broken = _source(path, _uid(info), live=live)
        damage = [changed, *damage] if changed else damage
        return _assemble(path, info, source, damage, broken, live=live)
    except PermissionError as error:
        raise DataError(f"{error.filename}: no permission to read", "ask its owner for read permission") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}", "check the disk") from error


def _names(path: Path) -> set[str]:
    """Names in the directory. DataError if it is none, is empty, or may not be read."""
    try:
        names = {entry.name for entry in path.iterdir()}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such directory", "check the path; runs are under runs/ by default") from error
    except NotADirectoryError as error:
        raise DataError(f"{path}: is a file", "give the directory that holds it") from error
    except PermissionError as error:
        raise DataError(f"{path}: no permission to read", "ask its owner for read permission") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}", "check the path and the disk") from error
    if not names:
        raise DataError(f"{path}: is empty", "give a run directory, or one with KTS_APP logs")
    return names


def _ours(path: Path) -> set[str]:
    """Which of the files that make a run are there. A listing may miss one that is replaced meanwhile."""
    # A run that closes puts the Parquet file in place before it removes the journal: in this order one is seen.
    return {name for name in (layout.RUN, layout.JOURNAL, layout.PARQUET) if os.path.lexists(path / name)}


def _what_is_there(path: Path) -> str:
    """What the records beside a missing run.json hold, for the error text."""
    try:
        journal = journal_in(path)
    except OSError:
        journal = None
    if journal is None:
        return f" ({layout.PARQUET} is there)"
    return f" ({layout.JOURNAL} is there with {sum(journal.counts.values())} whole records)"


def _uid(info: RunInfo) -> str | None:
    """Of the run that records must be of; None: any, for a copy that was cut off before it knew of which."""
    return info.uid if info.uid or info.schema < runfile.CHECKED_FROM else None


def _source(path: Path, run: str | None, *, live: bool) -> tuple[RecordSource, list[str], dict[tuple[str, int], str]]:
    """Where to read the records of a run, what is damaged there, and in which parts chunks are missing."""
    journal = None if (path / layout.PARQUET).exists() else journal_in(path, run)
    refused: DataError | None = None
    if journal is None and (path / layout.PARQUET).exists():  # there now, if the run closed in between
        from kts.store.parquet import ParquetRecords

        try:
            return ParquetRecords(path / layout.PARQUET, run), [], {}
        except DataError as error:
            refused = error
        journal = journal_in(path, run)
    if journal is None:
        raise refused or DataError(
            f"{path}: neither {layout.PARQUET} nor {layout.JOURNAL} is there", "restore the records from a copy"
        )
    damage = [f"{refused.what}; {layout.JOURNAL} is read instead"] if refused else []
    damage += journal.damage
    if journal.torn and not live:
        damage.append(journal.torn)
    return journal, damage, journal.broken


def _stored_samples(directory: Path, info: RunInfo) -> tuple[list[SampleSeries], list[str]]:
    """(samples, damage lines), which say so where they are fewer than run.json tells."""
    series, damage = _samples_there(directory, info)
    kept, there = info.samples, sum(len(one.t_ns) for one in series)
    if kept is not None and there < kept and not durable.is_locked(directory):
        what = f"{there} of {kept} samples of telemetry are there"
        if not any((directory / name).exists() for name in (layout.TELEMETRY, layout.TELEMETRY_JOURNAL)):
            what = f"missing, and with it {kept} samples of telemetry"
        damage = [*damage, f"{layout.TELEMETRY}: {what}"]
    return series, damage


def _samples_there(directory: Path, info: RunInfo) -> tuple[list[SampleSeries], list[str]]:
    """(samples, damage lines): of telemetry.parquet, else of the journal; none where neither is there."""
    there = (directory / layout.TELEMETRY).exists()
    found = None if there else _journal_samples(directory, info)
    damage: list[str] = []
    if found is None and (directory / layout.TELEMETRY).exists():  # there now, if the run closed in between
        from kts.store.samples_parquet import read_parquet

        try:
            return read_parquet(directory / layout.TELEMETRY, _uid(info)), []
        except DataError as error:
            damage.append(error.what)
        found = _journal_samples(directory, info)
    series, lost = found or ([], [])
    return series, [*damage, *lost]


def _journal_samples(directory: Path, info: RunInfo) -> tuple[list[SampleSeries], list[str]] | None:
    """(samples, damage lines) of the journal, None where there is none."""
    from kts.store.samples import read_samples

    path = directory / layout.TELEMETRY_JOURNAL
    try:
        return read_samples(path, info.uid, live=durable.is_locked(directory))
    except FileNotFoundError:
        return None
    except OSError as error:
        return [], [f"{path.name}: {error.strerror or error}"]


def _stored_cluster(directory: Path) -> tuple[ClusterFacts | None, list[str]]:
    """(what cluster.json holds, damage lines); None where it is not there."""
    path = directory / layout.CLUSTER
    if not path.exists():
        return None, []
    try:
        raw = files.read(path, "restore it from a copy", pipes=False)
        return files.decode(raw, ClusterFacts, path.name, "not what a cluster tells of a run", ""), []
    except DataError as error:
        return None, [error.what]


def _assemble(
    path: Path,
    info: RunInfo,
    source: RecordSource,
    damage: list[str],
    broken: dict[tuple[str, int], str],
    *,
    live: bool,
) -> StoredRun:
    """The run with its blocks checked against its records and its outcome as it is now."""
    ended = "run ended inside this block"
    outcome, notes = info.outcome, info.notes
    if outcome.kind == "running" and live:
        ended = "this block is still running"
        notes = (*notes, "still running: this is what had been recorded so far")
    elif outcome.kind == "running" and outcome.reason:  # a copy of a run that went on elsewhere
        ended = "this block was still running"
        notes = (*notes, outcome.reason)
    elif outcome.kind == "running":
        outcome = Outcome(kind="incomplete", reason=KILLED, remedy="measure again for the rest", exit_code=5)
    blocks, mismatches = reconcile(info, source, broken, ended)
    whole = msgspec.structs.replace(info, blocks=blocks, outcome=outcome, notes=notes)
    return StoredRun(whole, source, [*damage, *mismatches], path)


class _Event(msgspec.Struct):
    kind: str = ""
    tenant: str = ""
    realtime_ns: int = 0


_decoder = msgspec.json.Decoder(_Event)


def _events(directory: Path) -> Iterator[_Event]:
    """Of events.jsonl; none where it is not there."""
    try:
        lines = files.read(directory / layout.EVENTS, "", pipes=False).splitlines()
    except DataError:
        return
    for line in lines:
        try:
            yield _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue  # a torn or damaged line: the rest still counts


def concluded_ns(directory: Path) -> int | None:
    """When the run in ``directory`` ended, CLOCK_REALTIME of the machine that conducted it, as events.jsonl has it;
    None where it does not say so."""
    return next((event.realtime_ns for event in _events(directory) if event.kind == "concluded"), None)


def opening_order(directory: Path) -> tuple[str, ...]:
    """Tenants, first to last, as events.jsonl has it; empty where it has nothing or is not there.

    A time-sliced GPU serves its contexts in the order in which they were made. Those that opened within the same
    few milliseconds may have made theirs the other way round.
    """
    found: dict[str, None] = {}
    for event in _events(directory):
        if event.kind == "opened" and event.tenant:
            found[event.tenant] = None
    return tuple(found)
