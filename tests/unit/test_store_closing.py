"""The instant in which a run closes: who reads then, what fails then, and who dies then.

A step is a call into the system. Python tells of each before it is made, to the profiler of its thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.helpers_store import make_outcome, make_records, make_writer

from kts.errors import MeasurementError
from kts.model.run import Outcome
from kts.model.telemetry import Sample
from kts.store import RunWriter, durable, layout, open_run, parquet, samples_parquet

SYSTEM = frozenset({"posix", "fcntl", "_io"})
ASKING = frozenset({"open", "stat", "lstat", "scandir", "listdir", "flock", "fstat"})
"""Steps of a reader in which it may find something else."""
FAILING = frozenset({"open", "replace", "unlink", "fstat", "listdir"})
BLOCKS = (0, 1)
LOADED = (parquet, samples_parquet)  # their import would be thousands of steps
PATIENCE_S = 240.0


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a loss of power would show is a step like any other, and takes no time."""
    monkeypatch.setattr(os, "fsync", os.fstat)
    monkeypatch.setattr(os, "fdatasync", os.fstat)


@contextmanager
def stepped(at: Callable[[int, str], None], names: frozenset[str] | None = None) -> Iterator[list[str]]:
    """Calls ``at(number, name)`` before each step of this thread, from 0; the names of those that were made."""
    made: list[str] = []

    def watch(_: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and called.__module__ in SYSTEM and (names is None or called.__name__ in names):
            made.append(called.__name__)
            at(len(made) - 1, called.__name__)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield made
    finally:
        sys.setprofile(before)


def sample(t_ns: int) -> Sample:
    """A tenant's share of a core."""
    return Sample(source="proc", metric="cpu", scope="tenant", subject="fft", t_ns=t_ns, span_ns=5, value=0.5)


def begun(directory: Path) -> RunWriter:
    """A run with two blocks and telemetry that is about to close."""
    writer = make_writer(directory)
    for block in BLOCKS:
        writer.records("fft", block, 0, make_records(20, 0, (1 + block) * 10**9))
        writer.samples([sample(5 + block * 10**9)])
        writer.block(make_outcome(block, {"fft": 20}))
    return writer


def read(directory: Path) -> str:
    """How the run is said to have ended, after all of it was read and held against what was written."""
    run = open_run(directory)
    records = [run.records("fft", block).tobytes() for block in BLOCKS]
    (series,) = run.telemetry()
    assert records == [make_records(20, 0, (1 + block) * 10**9).tobytes() for block in BLOCKS]
    assert list(series.t_ns) == [5, 10**9 + 5]
    assert [block.valid for block in run.blocks] == [True, True]
    assert run.damage == ()
    return run.info.outcome.kind


class Closing:
    """A writer that closes in a thread of its own, as far as it is told."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._turn = threading.Condition()
        self._allowed = self._made = 0
        self._over = False
        self._thread = threading.Thread(target=self._close)
        self._thread.start()

    def _close(self) -> None:
        try:
            with stepped(self._wait):
                self._writer.close(Outcome(kind="complete"))
        finally:
            with self._turn:
                self._over = True
                self._turn.notify_all()

    def _wait(self, number: int, _: str) -> None:
        with self._turn:
            self._made = number
            self._turn.notify_all()
            assert self._turn.wait_for(lambda: self._allowed > number, PATIENCE_S)

    def upto(self, steps: int) -> None:
        """Returns when it has made so many."""
        with self._turn:
            self._allowed = steps
            self._turn.notify_all()
            assert self._turn.wait_for(lambda: self._over or self._made >= steps, PATIENCE_S)

    def end(self) -> None:
        """Returns when the run is closed."""
        self.upto(sys.maxsize)
        self._thread.join(PATIENCE_S)


def steps_of(task: Callable[[], object], names: frozenset[str] | None = None) -> list[str]:
    """The steps that it makes."""
    with stepped(lambda *_: None, names) as made:
        task()
    return made


def visible_steps(directory: Path) -> list[int]:
    """How many steps a closing writer has made each time that another process finds something else there."""
    states: list[set[tuple[str, int]]] = []
    writer = begun(directory)
    with stepped(lambda *_: states.append({(e.name, e.inode()) for e in os.scandir(directory) if e.name[0] != "."})):
        writer.close(Outcome(kind="complete"))
    return [n for n in range(1, len(states)) if states[n] != states[n - 1]] + [len(states)]


def test_a_reader_at_any_step_of_the_closing_reads_all(tmp_path: Path) -> None:
    """`kts report` in the instant in which a run closes would end in an error, or lose records or telemetry: between
    any two steps of the reader the writer goes on, by one change or by several."""
    begun(tmp_path / "steps")
    asked = len(steps_of(lambda: read(tmp_path / "steps"), ASKING))
    changes = [0, *visible_steps(tmp_path / "changes")]
    assert asked > 15
    assert len(changes) > 6  # run.json, each of the two kinds of Parquet, each journal gone, the lock gone
    told = set()
    for begins, goes_to in combinations(changes, 2):
        every = 1 if not begins and goes_to == changes[-1] else 8  # the whole product takes minutes
        for moment in range(goes_to % every, asked, every):
            directory = tmp_path / f"{begins}-{moment}-{goes_to}"
            at = Closing(begun(directory))
            at.upto(begins)
            try:
                with stepped(lambda n, _, at=at, to=goes_to, m=moment: at.upto(to) if n == m else None, ASKING):
                    told.add(read(directory))
            finally:
                at.end()
    assert told == {"running", "complete"}


def test_who_is_killed_at_any_step_of_the_closing_leaves_all(tmp_path: Path) -> None:
    """A kill -9 while the journal becomes Parquet would cost records or telemetry, or be told as damage."""
    left: list[Path] = []

    def keep(number: int, _: str) -> None:
        left.append(shutil.copytree(tmp_path / "run", tmp_path / f"left-{number}"))

    writer = begun(tmp_path / "run")
    with stepped(keep, FAILING):
        writer.close(Outcome(kind="complete"))
    told = [read(directory) for directory in left]
    assert told == sorted(told, reverse=True)
    assert set(told) == {"incomplete", "complete"}


def test_what_fails_at_any_step_of_the_closing_costs_nothing_measured(tmp_path: Path) -> None:
    """A disk that is full, or fails, in that instant would cost records, or end in a traceback, or leave the run
    locked; a run of which all is written would be told as failed."""
    writer = begun(tmp_path / "steps")
    steps = len(steps_of(lambda: writer.close(Outcome(kind="complete")), FAILING))

    def fail(number: int, _: str, at: int) -> None:
        if number == at:
            raise OSError(errno.EIO, "failed here")

    for at in range(steps):
        directory = tmp_path / str(at)
        writer = begun(directory)
        failure = ""
        try:
            with stepped(lambda n, name, at=at: fail(n, name, at), FAILING):
                writer.close(Outcome(kind="complete"))
        except MeasurementError as error:
            failure = error.remedy
        assert not durable.is_locked(directory)
        assert read(directory) == "complete"
        assert not failure or (str(directory) in failure and not (directory / layout.PARQUET).exists())


def test_a_reader_that_asks_for_the_lock_costs_no_writer_its_run(tmp_path: Path) -> None:
    """`kts report` beside `kts attach` or `kts run --overwrite` would end these: another kts writes there."""
    (tmp_path / layout.LOCK).touch()
    reader = os.open(tmp_path / layout.LOCK, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    asked: list[str] = []

    def gone(_: int, name: str) -> None:
        if asked and name == "flock":
            os.close(reader)
        asked.append(name)

    with stepped(gone, frozenset({"flock"})):
        lock = durable.WriterLock(tmp_path)
    assert len(asked) > 1
    assert durable.is_locked(tmp_path)
    lock.release()
