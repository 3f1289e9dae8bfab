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
from kts.shelf import Shelf
from kts.stats import analyse, sample
from kts.stats.block import gather
from kts.stats.causes import kept
from kts.stats.sample import make_sample

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


def read_only(**_: Any) -> None:
    """In place of a temporary file."""
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
