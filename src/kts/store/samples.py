"""telemetry.journal: samples as they come, one checked line per reading, only ever appended to.

A line is the CRC-32 (zlib, 8 hex digits) of the run's uid and what follows the space behind it, and a JSON list
``[t_ns, span_ns, source, scope, subject, {metric: value, ...}]``. Before schema 5 a run has no uid.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np

from kts import files
from kts.model.telemetry import Sample, SampleSeries, Scope
from kts.opening import opened
from kts.store import durable, layout
from kts.units import NS_PER_S

MAX_LINE_BYTES = 1 << 16
SPARE_BYTES = 64 << 20
"""Telemetry stops before the disk is fuller than this, so that records do not find it full."""
LOOK_EVERY_NS = NS_PER_S

_Line = tuple[int, int, str, Scope, str, dict[str, float]]
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)
_Key = tuple[str, str, Scope, str]


def encode_samples(samples: Iterable[Sample], run: str) -> bytes:
    """The lines of ``samples`` of the run with the uid ``run``: neighbours of one source and moment share one."""
    lines, seed = [], zlib.crc32(run.encode())
    for head, group in groupby(samples, key=lambda s: (s.t_ns, s.span_ns, s.source, s.scope, s.subject)):
        body = _encode((*head, {sample.metric: sample.value for sample in group}))
        lines.append(b"%08x %s\n" % (zlib.crc32(body, seed), body))
    return b"".join(lines)


class SampleJournal:
    """Writes telemetry.journal; the file is made with the first sample. Never raises: `problem` says why it stopped.
    ``count``: samples in it."""

    def __init__(self, directory: Path, run: str) -> None:
        self.problem = ""
        self.count = 0
        self._run = run
        self._directory = directory
        self._path = directory / layout.TELEMETRY_JOURNAL
        self._descriptor: int | None = None
        self._bytes = 0
        self._look_ns = 0

    def append(self, samples: Sequence[Sample]) -> None:
        """Keeps ``samples`` unless it has stopped; on a failure the file is cut back to its last whole line."""
        if self.problem or not samples:
            return
        data = encode_samples(samples, self._run)
        try:
            if self._descriptor is None:
                self._descriptor = files.opened(self._path, os.O_WRONLY | os.O_APPEND)
            self._check_room()
            durable.write_all(self._descriptor, data)
            self._bytes += len(data)
            self.count += len(samples)
        except OSError as error:
            self.stop(f"telemetry stopped: {self._path.name}: {error.strerror or error}")

    def _check_room(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + LOOK_EVERY_NS
        disk = os.statvfs(self._directory)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < SPARE_BYTES:
            raise OSError(f"only {free_bytes >> 20} MiB free on the disk; records go first")

    def stop(self, problem: str) -> None:
        """Writes nothing more."""
        self.problem = self.problem or problem
        with contextlib.suppress(OSError):
            if self._descriptor is not None:
                os.ftruncate(self._descriptor, self._bytes)

    def close(self) -> None:
        """Makes durable what is there, as far as that can be."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fdatasync(self._descriptor)
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def read_samples(path: Path, run: str, *, live: bool = False) -> tuple[list[SampleSeries], list[str]]:
    """(series, damage lines) of the telemetry.journal of the run with the uid ``run``. OSError.

    A line that does not check, or is of another run, is skipped and counted. An unfinished last line is damage only in
    a dead run.
    """
    columns: dict[_Key, tuple[array[int], array[int], array[float]]] = {}
    skipped = torn = 0
    seed = zlib.crc32(run.encode())
    with opened(path) as file:
        while line := file.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n"):
                torn = len(line)
                continue
            torn = 0
            read = _checked(line, seed)
            if read is None:
                skipped += 1
                continue
            t_ns, span_ns, source, scope, subject, values = read
            for metric, value in values.items():
                key = (source, metric, scope, subject)
                t, span, of = columns.setdefault(key, (array("q"), array("q"), array("d")))
                t.append(t_ns)
                span.append(span_ns)
                of.append(value)
    damage = [f"{path.name}: {skipped} damaged lines skipped"] if skipped else []
    if torn and not live:
        damage.append(f"{path.name}: a torn last line of {torn} bytes dropped")
    series = [_series(key, *column) for key, column in sorted(columns.items())]
    if repeated := sum(len(t) for t, _, _ in columns.values()) - sum(len(one.t_ns) for one in series):
        damage.append(f"{path.name}: {repeated} repeated samples dropped")
    return series, damage


def _checked(line: bytes, seed: int) -> _Line | None:
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:-1], seed):
            return None
        read = _decoder.decode(line[9:-1])
        files.check(read)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return read


def _series(key: _Key, t: array[int], span: array[int], value: array[float]) -> SampleSeries:
    """In order of time, each sample once."""
    source, metric, scope, subject = key
    t_ns = np.frombuffer(t, np.int64)
    order = np.argsort(t_ns, kind="stable")
    t_ns, span_ns = t_ns[order], np.frombuffer(span, np.int64)[order]
    of = np.frombuffer(value, np.float64)[order]
    once = np.ones(len(t_ns), bool)
    once[1:] = (t_ns[1:] != t_ns[:-1]) | (span_ns[1:] != span_ns[:-1]) | (of[1:] != of[:-1])
    return SampleSeries(
        source=source,
        metric=metric,
        scope=scope,
        subject=subject,
        t_ns=t_ns[once],
        span_ns=span_ns[once],
        value=of[once],
    )
