"""Telemetry in the run directory: kept as it comes, read back whole, never at the records' cost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_store import make_outcome, make_records, make_writer
from tests.helpers_telemetry import MS, UUID, sample

from kts.model.run import Outcome
from kts.model.telemetry import Sample, SampleSeries, SourceState
from kts.store import durable, layout, open_run, runfile, samples, samples_parquet
from kts.store.samples import encode_samples, read_samples

DONE = Outcome(kind="complete")


def some(count: int = 20) -> list[Sample]:
    """Readings of two metrics of the device, and of a tenant."""
    found = []
    for k in range(count):
        found += [
            sample(k * 100 * MS, k / 100),
            sample(k * 100 * MS, 1980.0 + k, metric="sm_clock_mhz"),
            sample(k * 100 * MS + 1, k / 7, source="schedstat", metric="cpu_wait_ratio", scope="tenant", subject="fft"),
        ]
    return found


def as_rows(series: list[SampleSeries]) -> set[tuple[object, ...]]:
    """Every sample, in no order."""
    return {
        (s.source, s.metric, s.scope, s.subject, int(t), int(span), float(value))
        for s in series
        for t, span, value in zip(s.t_ns, s.span_ns, s.value, strict=True)
    }


def rows_of(given: list[Sample]) -> set[tuple[object, ...]]:
    """The same of what was given."""
    return {(s.source, s.metric, s.scope, s.subject, s.t_ns, s.span_ns, s.value) for s in given}


def write(directory: Path, given: list[Sample], *, close: bool = True) -> None:
    """A run of one block with these samples, in portions as the driver brings them."""
    writer = make_writer(directory)
    writer.records("fft", 0, 0, make_records(20))
    for first in range(0, len(given), 7):
        writer.samples(given[first : first + 7])
    writer.source(SourceState(source="nvml", metrics=("gpu_busy_ratio",)))
    writer.source(SourceState(source="nvml", metrics=("gpu_busy_ratio", "sm_clock_mhz"), polls=20))
    writer.source(SourceState(source="gpm", missing="no GPM"))
    writer.block(make_outcome(0, {"fft": 20}))
    if close:
        writer.close(DONE)


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_every_sample_comes_back_with_what_it_is_of(tmp_path: Path, close: bool) -> None:
    """Else telemetry would be lost with the process, or a device's value come back as a tenant's."""
    write(tmp_path / "run", some(), close=close)
    assert (tmp_path / "run" / layout.TELEMETRY).exists() == close
    assert (tmp_path / "run" / layout.TELEMETRY_JOURNAL).exists() != close
    run = open_run(tmp_path / "run")
    found = list(run.telemetry())
    assert as_rows(found) == rows_of(some())
    assert len(found) == 3
    assert all(np.all(np.diff(s.t_ns) > 0) for s in found)
    assert run.damage == ()
    assert {s.source: s.missing for s in run.info.telemetry} == {"nvml": "", "gpm": "no GPM"}
    assert next(s.polls for s in run.info.telemetry if s.source == "nvml") == 20


def test_a_run_without_telemetry_has_no_file_for_it(tmp_path: Path) -> None:
    """Else every old reader would meet a file that says nothing."""
    write(tmp_path / "run", [])
    assert not list((tmp_path / "run").glob("telemetry*"))
    assert open_run(tmp_path / "run").telemetry() == []


def test_long_series_join_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what lies beyond the first row group would be another series."""
    monkeypatch.setattr(samples_parquet, "ROW_GROUP_SAMPLES", 8)
    write(tmp_path / "run", some(50))
    found = list(open_run(tmp_path / "run").telemetry())
    assert len(found) == 3
    assert as_rows(found) == rows_of(some(50))


@pytest.mark.parametrize("cut", [1, 9, 40, 100])
def test_a_torn_last_line_costs_itself_alone(tmp_path: Path, cut: int) -> None:
    """Else a kill in the middle of a write would cost all telemetry."""
    write(tmp_path / "run", some(), close=False)
    path = tmp_path / "run" / layout.TELEMETRY_JOURNAL
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    path.write_bytes(whole[: min(last + cut, len(whole) - 1)])
    run = open_run(tmp_path / "run")
    assert rows_of(some()[:-1]) == as_rows(list(run.telemetry()))
    (tmp_path / "run" / layout.LOCK).unlink()
    dead = open_run(tmp_path / "run")
    dead.telemetry()
    assert "torn last line" in "".join(dead.damage)


def test_a_damaged_line_is_skipped_and_counted(tmp_path: Path) -> None:
    """Else a flipped bit would be read as a measurement."""
    path = tmp_path / layout.TELEMETRY_JOURNAL
    good = encode_samples(some(3), "")
    for position in range(0, len(good) - 1, 13):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        found, damage = read_samples(path, "")
        assert as_rows(found) <= rows_of(some(3))
        assert damage


def test_damaged_parquet_costs_the_telemetry_and_no_record(tmp_path: Path) -> None:
    """Else a bad disk block under the telemetry would make a run unreadable."""
    write(tmp_path / "run", some())
    path = tmp_path / "run" / layout.TELEMETRY
    path.write_bytes(path.read_bytes()[:-50])
    run = open_run(tmp_path / "run")
    assert run.telemetry() == []
    assert layout.TELEMETRY in "".join(run.damage)
    assert len(run.records("fft", 0)) == 20


def test_a_full_disk_stops_telemetry_first_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the last space would go to samples, and the records find none."""
    monkeypatch.setattr(samples, "SPARE_BYTES", 1 << 60)
    write(tmp_path / "run", some())
    run = open_run(tmp_path / "run")
    assert run.telemetry() == []
    assert any("telemetry stopped" in note and "MiB free" in note for note in run.info.notes)
    assert run.info.outcome == DONE
    assert len(run.records("fft", 0)) == 20


def test_a_write_that_fails_half_way_leaves_whole_lines_and_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a full disk under the telemetry would end the run, or leave half a line."""
    writer = make_writer(tmp_path / "run")
    writer.samples(some(2))
    whole = (tmp_path / "run" / layout.TELEMETRY_JOURNAL).read_bytes()
    original = durable.write_all
    first = encode_samples(some(1), runfile.read(tmp_path / "run").uid)[:9]

    def full(descriptor: int, data: bytes) -> None:
        if data.startswith(first):
            os.write(descriptor, data[:11])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(descriptor, data)

    monkeypatch.setattr(durable, "write_all", full)
    writer.samples(some(2))
    assert (tmp_path / "run" / layout.TELEMETRY_JOURNAL).read_bytes() == whole
    writer.samples(some(2))
    writer.records("fft", 0, 0, make_records(20))
    writer.block(make_outcome(0, {"fft": 20}))
    writer.close(DONE)
    run = open_run(tmp_path / "run")
    assert as_rows(list(run.telemetry())) == rows_of(some(2))
    assert any("telemetry stopped" in note for note in run.info.notes)
    assert run.info.outcome == DONE


def test_what_cannot_become_parquet_stays_and_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a failure in the last second would cost the telemetry of the whole run."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(samples_parquet, "write_parquet", refuse)
    write(tmp_path / "run", some())
    run = open_run(tmp_path / "run")
    assert as_rows(list(run.telemetry())) == rows_of(some())
    assert any(layout.TELEMETRY in note for note in run.info.notes)
    assert (tmp_path / "run" / layout.PARQUET).exists()


def test_any_parquet_reader_can_read_it(tmp_path: Path) -> None:
    """Else the documented columns would not be what is in the file."""
    import pyarrow.parquet as pq

    write(tmp_path / "run", some())
    table = pq.read_table(tmp_path / "run" / layout.TELEMETRY)
    assert table.column_names == ["t_ns", "span_ns", "source", "metric", "scope", "subject", "value"]
    assert table.num_rows == len(some())
    assert table.schema.metadata[b"kts.schema"] == b"5"
    assert set(table["subject"].to_pylist()) == {UUID, "fft"}
