"""telemetry.parquet: the samples of a finished run. A row group holds one source, metric and subject."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kts import files
from kts.errors import DataError
from kts.model.run import SCHEMA_VERSION
from kts.model.telemetry import SampleSeries, Scope
from kts.opening import ordinary
from kts.store import layout

ROW_GROUP_SAMPLES = 1 << 20
ALLOWED = 1 << 20
"""Samples, however small the file is."""
DENSEST = 8
"""Samples per byte of the file beyond which it was made to fill memory."""
_SCHEMA_KEY, _CRC_KEY, _RUN_KEY = "kts.schema", "kts.samples_crc32", "kts.run"
CHECKED_FROM = 3
_NAMES = ("source", "metric", "scope", "subject")
_WORD = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    [
        pa.field("t_ns", pa.int64(), nullable=False),
        pa.field("span_ns", pa.int64(), nullable=False),
        pa.field("source", _WORD, nullable=False),
        pa.field("metric", _WORD, nullable=False),
        pa.field("scope", _WORD, nullable=False),
        pa.field("subject", _WORD, nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ],
    metadata={_SCHEMA_KEY: str(SCHEMA_VERSION)},
)


def write_parquet(series: Sequence[SampleSeries], directory: Path, run: str) -> None:
    """Writes telemetry.parquet of the run with the uid ``run``, whole or not at all. OSError or pyarrow.ArrowException
    if it cannot be."""
    groups = [_part(one, first) for one in series for first in range(0, len(one.t_ns), ROW_GROUP_SAMPLES)]
    with (
        files.replacing(directory / layout.TELEMETRY) as temporary,
        pq.ParquetWriter(temporary, _SCHEMA, compression="zstd", write_page_checksum=True) as writer,
    ):
        for group in groups:
            writer.write_table(_table(group), row_group_size=ROW_GROUP_SAMPLES)
        writer.add_key_value_metadata({_RUN_KEY: run, _CRC_KEY: str(_crc32(groups, run))})


def _part(series: SampleSeries, first: int) -> SampleSeries:
    """The samples of one row group."""
    part = slice(first, first + ROW_GROUP_SAMPLES)
    return replace(series, t_ns=series.t_ns[part], span_ns=series.span_ns[part], value=series.value[part])


def _crc32(groups: Sequence[SampleSeries], run: str) -> int:
    """Of the run and all that the row groups say, in their order: the format's own checksums leave out its footer."""
    crc = zlib.crc32(run.encode())
    for group in groups:
        words = "\0".join([*(getattr(group, name) for name in _NAMES), str(len(group.t_ns))])
        crc = zlib.crc32(words.encode(errors="surrogatepass"), crc)
        for column in (group.t_ns, group.span_ns, group.value):
            crc = zlib.crc32(np.ascontiguousarray(column).view(np.uint8).data, crc)
    return crc


def _table(series: SampleSeries) -> pa.Table:
    rows = len(series.t_ns)
    index = pa.array(np.zeros(rows, np.int32))
    words = [pa.DictionaryArray.from_arrays(index, pa.array([getattr(series, name)])) for name in _NAMES]
    t_ns, span_ns, value = (pa.array(column) for column in (series.t_ns, series.span_ns, series.value))
    return pa.Table.from_arrays([t_ns, span_ns, *words, value], schema=_SCHEMA)


def read_parquet(path: Path, run: str | None = None) -> list[SampleSeries]:
    """All series. ``run``: uid of the run that they must be of; None: any. DataError if the file is damaged, of a newer
    schema or another run, or not written by kts.

    Those of a schema below `CHECKED_FROM` hold no checksum over all that they say.
    """
    try:
        ordinary(path)
        file = pq.ParquetFile(path, page_checksum_verification=True)
        meta = file.metadata.metadata or {}
        schema = meta.get(_SCHEMA_KEY.encode(), b"")
        if not schema.isdigit() or int(schema) > SCHEMA_VERSION:
            raise ValueError(f"schema {schema.decode(errors='replace') or 'unknown'}")
        _check_size(file.metadata, path.stat().st_size)
        groups = [_group(file, number) for number in range(file.num_row_groups)]
        crc32, made_for = meta.get(_CRC_KEY.encode()), meta.get(_RUN_KEY.encode(), b"").decode()
        if (int(schema) >= CHECKED_FROM or crc32) and crc32 != str(_crc32(groups, made_for)).encode():
            raise ValueError("checksum of its samples")
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path.name}: damaged, or not written by this kts ({first_line})", "measure again") from error
    if run is not None and made_for != run:
        raise DataError(f"{path.name}: holds the samples of another run", "restore it from a copy")
    return _joined(groups)


def _check_size(footer: Any, size: int) -> None:
    """ValueError where the samples would take more memory than any that were taken."""
    parts = [footer.row_group(number) for number in range(footer.num_row_groups)]
    if any(part.num_rows > ROW_GROUP_SAMPLES for part in parts) or footer.num_rows > max(ALLOWED, DENSEST * size):
        raise ValueError(f"{footer.num_rows} samples in {size} bytes")
    if any(part.total_byte_size > part.num_columns * (16 * part.num_rows + (1 << 20)) for part in parts):
        raise ValueError("row groups of more bytes than their samples have")


def _group(file: pq.ParquetFile, number: int) -> SampleSeries:
    table = file.read_row_group(number)
    _check(table, file.metadata.row_group(number).num_rows)
    words = [str(table.column(name)[0].as_py()) for name in _NAMES]
    source, metric, scope, subject = words
    if scope not in ("device", "tenant"):
        raise ValueError(f"scope {scope}")
    return SampleSeries(
        source=source,
        metric=metric,
        scope=cast(Scope, scope),
        subject=subject,
        t_ns=table.column("t_ns").to_numpy(),
        span_ns=table.column("span_ns").to_numpy(),
        value=table.column("value").to_numpy(),
    )


def _check(table: pa.Table, rows: int) -> None:
    """ValueError where a row group has not as many ``rows`` as the footer says, or samples of several series."""
    if table.num_rows != rows:
        raise ValueError(f"{table.num_rows} of {rows} samples")
    if any(len(table.column(name).unique()) != 1 for name in _NAMES):
        raise ValueError("a row group of several series")


def _joined(groups: Sequence[SampleSeries]) -> list[SampleSeries]:
    """A long series has several row groups."""
    parts: dict[tuple[str, str, Scope, str], list[SampleSeries]] = {}
    for group in groups:
        parts.setdefault((group.source, group.metric, group.scope, group.subject), []).append(group)
    return [
        found[0]
        if len(found) == 1
        else SampleSeries(
            *key,
            t_ns=np.concatenate([one.t_ns for one in found]),
            span_ns=np.concatenate([one.span_ns for one in found]),
            value=np.concatenate([one.value for one in found]),
        )
        for key, found in parts.items()
    ]
