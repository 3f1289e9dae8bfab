"""records.parquet: the records of a finished run. A row group holds one tenant and one block.

Which one, the checksum of its records and their optional columns stand in the file's metadata under ``kts.index``: the
format's own checksums leave out its footer, and a damaged footer must not move records elsewhere. An optional column is
in the file if any record has it, and null in row groups without it.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kts import files
from kts.errors import DataError
from kts.model.records import COUNTS, RECORD, Records, joined, optional_columns, record_dtype
from kts.model.run import SCHEMA_VERSION
from kts.opening import ordinary
from kts.store import layout
from kts.store.journal import Journal

ROW_GROUP_RECORDS = 1 << 20

ALLOWED_RECORDS = 1 << 22
"""Of a tenant's block, however small the file is: memory for them is not worth a word."""
DENSEST = 16
"""Records per byte of the file beyond which it was made to fill memory: of measured ones, a byte holds a tenth."""
_COLUMN_BYTES, _PAGES_BYTES = 16, 1 << 20
_FIELDS: tuple[str, ...] = RECORD.names or ()
_SCHEMA_KEY, _COUNT_KEY = "kts.schema", "kts.records"
_INDEX_KEY, _INDEX_CRC_KEY, _RUN_KEY = "kts.index", "kts.index_crc32", "kts.run"
_REMEDY = "restore it from a copy, or measure again"

_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("block", pa.int32(), nullable=False),
        pa.field("i", pa.uint32(), nullable=False),
        pa.field("due_ns", pa.int64(), nullable=False),
        pa.field("submit_ns", pa.int64(), nullable=False),
        pa.field("retire_ns", pa.int64(), nullable=False),
        pa.field("device_ms", pa.float64(), nullable=False),
    ]
)


class RowGroup(NamedTuple):
    """A row group. ``crc32``: of its records, packed. ``optional``: its optional columns."""

    tenant: str
    block: int
    rows: int
    crc32: int
    optional: tuple[str, ...] = ()

    @classmethod
    def of(cls, tenant: str, block: int, rows: int, crc32: int, optional: list[str] | None = None) -> RowGroup:
        """From an entry of the index. ValueError or TypeError for one that is none."""
        group = cls(tenant, block, rows, crc32, tuple(optional or ()))
        record_dtype(group.optional)
        return group

    @property
    def entry(self) -> tuple[Any, ...]:
        """Its entry in the index."""
        return self if self.optional else self[:-1]


def convert(journal: Journal, directory: Path, run: str) -> None:
    """Writes records.parquet from ``journal``, whole or not at all, one row group in memory at a time. ``run``: uid of
    the run that the records are of.

    OSError, pyarrow.ArrowException or DataError if it cannot be; there is no new file then.
    """
    target = directory / layout.PARQUET
    groups: list[RowGroup] = []
    schema = _schema(journal.optional)
    with files.replacing(target) as temporary:
        with pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["tenant", "block"],
            column_encoding=_encoding(journal.optional),
            write_statistics=["tenant", "block"],
        ) as writer:
            for tenant, block in sorted(journal.counts, key=lambda key: (key[1], key[0])):
                for records in journal.batches(tenant, block, ROW_GROUP_RECORDS):
                    writer.write_table(_table(tenant, block, records, schema), row_group_size=ROW_GROUP_RECORDS)
                    crc32, optional = zlib.crc32(records.view(np.uint8).data), optional_columns(records.dtype)
                    groups.append(RowGroup(tenant, block, len(records), crc32, optional))
            writer.add_key_value_metadata(_metadata(groups, run))
        if ParquetRecords(temporary, run).counts != journal.counts:
            raise DataError(f"{temporary}: does not hold what {journal.path.name} holds")


def _check_size(row_group: Any, rows: int) -> None:
    """ValueError where a row group would take more memory than its records can."""
    if row_group.num_rows != rows or not 0 <= rows <= ROW_GROUP_RECORDS:
        raise ValueError(f"a row group of {row_group.num_rows} of {rows} records")
    if row_group.total_byte_size > row_group.num_columns * (_COLUMN_BYTES * rows + _PAGES_BYTES):
        raise ValueError(f"a row group of {row_group.total_byte_size} bytes for {rows} records")


def _schema(optional: tuple[str, ...]) -> pa.Schema:
    types = ((name, pa.uint32() if name in COUNTS else pa.int64()) for name in optional)
    return pa.schema([*_SCHEMA, *(pa.field(name, kind) for name, kind in types)])


def _encoding(optional: tuple[str, ...]) -> dict[str, str]:
    """Sorted whole numbers shrink most as differences, doubles by their bytes; both also read several times faster."""
    names = (*_FIELDS, *optional)
    return {name: "BYTE_STREAM_SPLIT" if name == "device_ms" else "DELTA_BINARY_PACKED" for name in names}


def _table(tenant: str, block: int, records: Records, schema: pa.Schema) -> pa.Table:
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(records), np.int32)), pa.array([tenant]))
    blocks = pa.array(np.full(len(records), block, np.int32))
    there, n = records.dtype.names or (), len(records)
    columns = [
        pa.array(np.ascontiguousarray(records[one.name])) if one.name in there else pa.nulls(n, one.type)
        for one in list(schema)[2:]
    ]
    return pa.Table.from_arrays([names, blocks, *columns], schema=schema)


def _metadata(groups: list[RowGroup], run: str) -> dict[str, str]:
    index = json.dumps([group.entry for group in groups])
    return {
        _SCHEMA_KEY: str(SCHEMA_VERSION),
        _COUNT_KEY: str(sum(group.rows for group in groups)),
        _INDEX_KEY: index,
        _RUN_KEY: run,
        _INDEX_CRC_KEY: str(zlib.crc32((index + run).encode())),
    }


class ParquetRecords:
    """records.parquet, readable by tenant and block without a scan."""

    def __init__(self, path: Path, run: str | None = None) -> None:
        """Reads the footer. ``run``: the uid of the run that they must be of; None: any. DataError if it is damaged, of
        a newer schema or another run, or not written by kts."""
        self.path = path
        self.counts: dict[tuple[str, int], int] = {}
        self._row_groups: dict[tuple[str, int], list[int]] = {}
        try:
            ordinary(path)
            self._file = pq.ParquetFile(path)
            self._groups = self._read_index(self._file.metadata, run)
        except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from error
        for number, group in enumerate(self._groups):
            key = (group.tenant, group.block)
            self.counts[key] = self.counts.get(key, 0) + group.rows
            self._row_groups.setdefault(key, []).append(number)

    def read(self, tenant: str, block: int) -> Records:
        """All records of a tenant in a block, as written. Empty if it has none. DataError if they are damaged."""
        numbers = self._row_groups.get((tenant, block), [])
        dtypes = {record_dtype(self._groups[number].optional) for number in numbers} or {RECORD}
        if len(dtypes) > 1:
            return joined(self._load(number) for number in numbers)
        records = np.empty(self.counts.get((tenant, block), 0), dtypes.pop())
        at = 0
        for number in numbers:
            end = at + self._groups[number].rows
            self._load(number, records[at:end])
            at = end
        return records

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """The same a row group at a time, if numbers rise throughout; else in one. DataError if they are damaged."""
        groups = self._row_groups.get((tenant, block), [])
        if len(groups) < 2 or not self._rising(groups):
            yield self.read(tenant, block)
            return
        for number in groups:
            yield self._load(number)

    def _rising(self, groups: list[int]) -> bool:
        last = -1
        try:
            for number in groups:
                i = self._file.read_row_group(number, columns=["i"]).column("i").to_numpy()
                if not len(i) or int(i[0]) <= last or not np.all(i[1:] > i[:-1]):
                    return False
                last = int(i[-1])
        except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from error
        return True

    def _load(self, number: int, target: Records | None = None) -> Records:
        """Fills ``target``, or a new array, with a row group."""
        group = self._groups[number]
        if target is None:
            target = np.empty(group.rows, record_dtype(group.optional))
        names = list(target.dtype.names or ())
        try:
            table = self._file.read_row_group(number, columns=names)
            for name in names:
                target[name] = table.column(name).to_numpy()
        except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from error
        if zlib.crc32(target.view(np.uint8).data) != group.crc32:
            raise self._unreadable(f"checksum of {group.tenant} in block {group.block}")
        return target

    def _read_index(self, footer: Any, run: str | None) -> list[RowGroup]:
        meta = footer.metadata or {}
        if not {key.encode() for key in (_SCHEMA_KEY, _INDEX_KEY, _INDEX_CRC_KEY)} <= meta.keys():
            raise ValueError("without the index that kts writes: another program made this file, or made it anew")
        schema, index, crc32 = (meta[key.encode()] for key in (_SCHEMA_KEY, _INDEX_KEY, _INDEX_CRC_KEY))
        if schema.isdigit() and int(schema) > SCHEMA_VERSION:
            raise files.newer(self.path, int(schema), SCHEMA_VERSION)
        made_for = meta.get(_RUN_KEY.encode(), b"")
        if crc32 != str(zlib.crc32(index + made_for)).encode():
            raise ValueError("checksum of its index")
        if run is not None and made_for != run.encode():
            raise DataError(f"{self.path}: holds the records of another run", _REMEDY)
        groups = [RowGroup.of(*group) for group in json.loads(index)]
        rows = sum(group.rows for group in groups)
        if footer.num_row_groups != len(groups) or footer.num_rows != rows:
            raise ValueError(f"{footer.num_rows} of {rows} records")
        for number, group in enumerate(groups):
            _check_size(footer.row_group(number), group.rows)
        per_block = Counter[tuple[str, int]]()
        for group in groups:
            per_block[group.tenant, group.block] += group.rows
        size = self.path.stat().st_size
        most = max(ALLOWED_RECORDS, DENSEST * size)
        if max(per_block.values(), default=0) > most or rows > 4 * most:
            raise ValueError(f"{rows} records in {size} bytes: no measurement is so even")
        return groups

    def _unreadable(self, why: object) -> DataError:
        if isinstance(why, PermissionError):
            return DataError(f"{self.path}: no permission to read", "ask its owner for read permission")
        first_line = str(why).splitlines()[0] if str(why) else type(why).__name__
        return DataError(f"{self.path}: truncated or damaged ({first_line})", _REMEDY)
