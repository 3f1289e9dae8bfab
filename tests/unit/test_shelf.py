"""Latencies of many iterations in a file: the same figures, in less memory."""

from __future__ import annotations

import errno
import tempfile
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import FakeRun, make_plan, make_run

import kts.shelf
from kts.shelf import GrowingArray, Shelf
from kts.stats import analyse, block, overlap, sample
from kts.stats.block import gather
from kts.stats.causes import kept
from kts.stats.checks import conservation
from kts.stats.overlap import Span, every
from kts.stats.sample import make_sample, ranked

ROUNDS = 4


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if few iterations were many."""
    monkeypatch.setattr(kts.shelf, "IN_MEMORY", 0)


def made(n: int = 400) -> FakeRun:
    """A run with blocks of ``n`` iterations."""
    rng = np.random.default_rng(3)
    plan = make_plan(rounds=ROUNDS)
    return make_run(plan, lambda *_: (values := rng.lognormal(0, 0.3, n), values / 2))


@pytest.mark.usefixtures("_small")
def test_what_is_put_there_is_not_in_memory_and_reads_the_same() -> None:
    """Otherwise nothing is gained, or figures are made of other latencies."""
    shelf = Shelf(1 << 16)
    arrays = [np.arange(n, dtype=dtype) for n, dtype in ((7, np.float32), (1000, np.float64), (3, np.float32))]
    shelved = [shelf.put(array) for array in arrays]
    del shelf
    for array, copy in zip(arrays, shelved, strict=True):
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array)
        assert not copy.flags.owndata
        assert not copy.flags.writeable


class FullDisk:
    """A file on it."""

    def seek(self, _: int) -> None:
        """As ever."""

    def write(self, _: memoryview) -> int:
        """No more."""
        raise OSError(errno.ENOSPC, "no space left")


class FillsUp:
    """A file on a disk that has room for one write of ``file`` more."""

    def __init__(self, file: Any) -> None:
        self._file, self._room = file, 1

    def write(self, data: memoryview) -> int:
        """Once."""
        if not self._room:
            raise OSError(errno.ENOSPC, "no space left")
        self._room -= 1
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def read_only(*_: Any, **__: Any) -> None:
    """In place of what makes a temporary file, or maps it."""
    raise OSError(errno.EROFS, "read-only")


@pytest.mark.usefixtures("_small")
def test_a_shelf_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a full or read-only disk costs a report that memory has room for."""
    array = np.arange(100.0)
    assert Shelf(64).put(array) is array, "it has no room"
    shelf = Shelf(1 << 16)
    monkeypatch.setattr(shelf, "_file", FullDisk())
    assert shelf.put(array) is array
    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert Shelf(1 << 16).put(array) is array


def test_figures_are_the_same_wherever_latencies_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a run's figures depend on how many iterations it has, or on the disk."""
    here = analyse(made()).summary
    monkeypatch.setattr(kts.shelf, "IN_MEMORY", 0)
    monkeypatch.setattr(sample, "TOGETHER", 16)
    for module in (block, conservation, kept, overlap):
        monkeypatch.setattr(module, "PORTION", 30)  # blocks have 400
    assert msgspec.json.encode(analyse(made()).summary) == msgspec.json.encode(here)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_statistics_are_exact_however_few_values_are_looked_at(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise quantiles of large runs, whose readings often are equal, are near their values and not these."""
    monkeypatch.setattr(sample, "TOGETHER", 4)
    rng = np.random.default_rng(5)
    for values in (rng.lognormal(0, 1, (5, 200)), np.round(rng.lognormal(0, 1, (5, 200))), np.ones((5, 200))):
        blocks = [(k, (row * 3**k).astype(dtype)) for k, row in enumerate(values)]
        found = make_sample(blocks, split=False)
        assert found is not None
        pool = np.sort(np.concatenate([row for _, row in blocks]))
        for rank in (0, 1, 499, 500, 989, 999):
            np.testing.assert_array_equal(found.at_ranks(np.array([rank, rank + 1])), pool[[rank, min(rank + 1, 999)]])


def test_of_many_blocks_fewer_iterations_of_each_are_kept_and_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a run of many rounds takes 200 bytes of memory for each of its iterations."""
    run = made()
    monkeypatch.setattr(kept, "MOST_IN_ALL", 40)
    found = kept.KeptIterations(run, ())
    gather(run, [found])
    rows = found.of("fft", "solo-fft")
    assert rows is not None
    assert rows.n <= 2 * 40
    assert rows.weight.sum() == pytest.approx(sum(b.counts["fft"] for b in run.blocks if b.condition == "solo-fft"))


def test_a_column_is_what_was_added_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise iterations of a long block are lost between memory and its file, or on a disk that fills up."""
    pieces = [np.arange(k, k + 50, dtype=np.float32) for k in range(4)]
    whole = np.concatenate(pieces)
    monkeypatch.setattr(kts.shelf, "IN_MEMORY", 300)

    def made(disk: Any = None) -> tuple[np.ndarray, np.ndarray]:
        column = GrowingArray(np.float32)
        for piece in pieces[:2]:
            column.add(piece)
        early = column.made()
        if disk is not None:
            monkeypatch.setattr(column, "_file", disk(column._file))
        for piece in pieces[2:]:
            column.add(piece)
        assert len(column) == len(whole)
        return early, column.made()

    on_disk, fills_up = made(), made(FillsUp)
    monkeypatch.setattr(kts.shelf.mmap, "mmap", read_only)
    unmapped = made()
    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    for early, found in (on_disk, fills_up, unmapped, made()):
        np.testing.assert_array_equal(early, whole[:100])
        np.testing.assert_array_equal(found, whole)
    assert not on_disk[1].flags.owndata
    assert not on_disk[1].flags.writeable
    assert not len(GrowingArray(np.int64).made())


def test_long_blocks_are_looked_at_in_portions_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise what a block's causes are learnt from hangs on where its portions meet."""
    for module in (kept, overlap):
        monkeypatch.setattr(module, "PORTION", 7)
    monkeypatch.setattr(sample, "TOGETHER", 50)
    rng = np.random.default_rng(9)
    for n in (0, 1, 7, 8, 200):
        submit_ns = np.sort(rng.integers(0, 5 * n + 1, n))
        retire_ns = submit_ns + rng.integers(0, 12, n)
        reached = np.maximum.accumulate(retire_ns)
        opens = np.flatnonzero(np.concatenate([[True], submit_ns[1:] > reached[:-1]])[:n])
        begins, ends = Span(submit_ns, retire_ns).busy_ns
        np.testing.assert_array_equal(begins, submit_ns[opens])
        np.testing.assert_array_equal(ends, reached[(np.append(opens[1:], n) - 1)[: len(opens)]])
        at = np.arange(0, n, 3)
        np.testing.assert_array_equal(kept._reached(retire_ns, at), reached[at])
        mask = rng.random(n) < 0.4
        for step, start in ((1, 0), (3, 0), (4, 2), (50, 25)):
            np.testing.assert_array_equal(every(n, mask.__getitem__, step, start), np.flatnonzero(mask)[start::step])
    for values in (rng.lognormal(0, 1, 5000), np.round(rng.lognormal(0, 1, 5000)), np.ones(300), np.arange(5000.0)):
        for rank in (0, 1, len(values) // 2, int(0.9 * len(values)), len(values) - 1):
            assert ranked(values, rank) == np.sort(values)[rank]
