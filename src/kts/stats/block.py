"""A block as the passes see it: read once, without what cannot be true, and with which iterations count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kts.model.reading import RunData
from kts.model.records import CPU_TIMES, NOT_TOLD, WAITED, Records
from kts.model.run import BlockOutcome
from kts.shelf import ALIGNED, GrowingArray
from kts.stats.faults import sound
from kts.stats.overlap import PORTION, Counted, Mask, Span, counted
from kts.stats.sample import FloatArray
from kts.stats.series import Side
from kts.units import NS_PER_MS

TOLD = (*CPU_TIMES, WAITED)
"""Columns of times that records may have besides the clocks."""

SINGLE_PRECISION_FROM = 4_000_000
"""Runs with more records than this are held in float32 (7 digits), to halve memory and sorting time."""


@dataclass(frozen=True, eq=False)
class Rows:
    """One tenant in one block, in order of time; latencies in ms, shape ``(n,)`` each.

    ``response`` is the very array of ``service`` where every due time is the submission; ``device``: NaN without a
    stopwatch. ``told``: what else the records tell of each iteration, by column of `TOLD`; ms, NaN where they do not;
    only columns that they have. ``impossible``: how many more were left out because a latency was below zero;
    ``unsteady``: because the tenant, or one beside it, was not steady yet.
    """

    span: Span
    response: FloatArray
    service: FloatArray
    device: FloatArray
    impossible: int = 0
    unsteady: int = 0
    told: dict[str, FloatArray] = field(default_factory=dict)

    def since(self, begin_ns: int) -> Rows:
        """Without those submitted before ``begin_ns``."""
        first = int(np.searchsorted(self.span.submit_ns, begin_ns, side="left"))
        return replace(self.picked(slice(first, None)), impossible=self.impossible, unsteady=first) if first else self

    def picked(self, keep: slice | Mask) -> Rows:
        """Some of them."""
        service = self.service[keep]
        return Rows(
            span=Span(self.span.submit_ns[keep], self.span.retire_ns[keep]),
            response=service if self.response is self.service else self.response[keep],
            service=service,
            device=self.device[keep],
            told={column: values[keep] for column, values in self.told.items()},
        )


@dataclass(frozen=True, eq=False)
class MeasuredBlock:
    """A valid block of the plan: the rows of its tenants, and which of these count.

    ``side`` None: a mix besides the full house.
    """

    outcome: BlockOutcome
    side: Side | None
    rows: dict[str, Rows]
    counts: dict[str, Counted]

    @cached_property
    def spans(self) -> dict[str, Span]:
        """When each tenant's iterations ran, all of them."""
        return {name: row.span for name, row in self.rows.items()}

    @cached_property
    def kept(self) -> dict[str, Rows]:
        """The rows that count."""
        return {name: row.picked(self.counts[name].keep) for name, row in self.rows.items()}


class Pass(Protocol):
    """Learns one thing from a run's blocks, and keeps little of them. What it learnt is its own to offer."""

    def feed(self, block: MeasuredBlock) -> None:
        """The next block, in order of time. Its arrays may be kept, and are not to be changed."""


def gather(run: RunData, passes: Sequence[Pass], since_ns: Mapping[str, int] | None = None) -> None:
    """Shows every valid block to every pass. Reads the records of each tenant and block once, invalid blocks never.

    ``since_ns``: by tenant, from which submission on it was steady, if not from the first: what it and those beside it
    did before that is left out.
    """
    for block in _blocks(run, since_ns or {}):
        for one in passes:
            one.feed(block)
        del block  # before the next is read


def valid_blocks(run: RunData) -> list[BlockOutcome]:
    """Those that may be analysed: valid, and of a condition that the plan has."""
    conditions = {condition.name for condition in run.info.plan.conditions}
    return [block for block in run.blocks if block.valid and block.condition in conditions]


def held_as(blocks: Sequence[BlockOutcome]) -> np.dtype[Any]:
    """What latencies of so many iterations are held in."""
    return np.dtype(np.float32 if _rows(blocks) > SINGLE_PRECISION_FROM else np.float64)


def held_bytes(blocks: Sequence[BlockOutcome]) -> int:
    """What one latency of each iteration takes, with some room."""
    return _rows(blocks) * held_as(blocks).itemsize + sum(ALIGNED * len(block.counts) for block in blocks)


def counting(
    run: RunData, block: BlockOutcome, tenants: Sequence[str], since_ns: Mapping[str, int] | None = None
) -> dict[str, Records]:
    """The records of a block that can be true and count, by tenant; ``since_ns`` as in `gather`."""
    begin_ns = _begin_ns(tenants, since_ns or {})
    records = {name: sound(run.records(name, block.index))[0] for name in tenants}
    records = {name: rows[rows["submit_ns"] >= begin_ns] if begin_ns else rows for name, rows in records.items()}
    counts = counted(block, {name: Span.of(rows) for name, rows in records.items()})
    return {name: rows[counts[name].keep] for name, rows in records.items()}


def _rows(blocks: Sequence[BlockOutcome]) -> int:
    return sum(sum(block.counts.values()) for block in blocks)


def _begin_ns(tenants: Sequence[str], since_ns: Mapping[str, int]) -> int:
    return max((since_ns.get(name, 0) for name in tenants), default=0)


def _blocks(run: RunData, since_ns: Mapping[str, int]) -> Iterator[MeasuredBlock]:
    blocks = valid_blocks(run)
    dtype = held_as(blocks)
    for block in blocks:
        yield _read(run, block, dtype, since_ns)


def _read(run: RunData, block: BlockOutcome, dtype: DTypeLike, since_ns: Mapping[str, int]) -> MeasuredBlock:
    plan = run.info.plan
    condition = plan.condition(block.condition)
    begin_ns = _begin_ns(condition.tenants, since_ns)
    rows = {name: _compact(run.portions(name, block.index), dtype).since(begin_ns) for name in condition.tenants}
    side: Side | None = "solo" if condition.is_solo else "shared" if condition.name == plan.full_house.name else None
    return MeasuredBlock(block, side, rows, counted(block, {name: row.span for name, row in rows.items()}))


def _compact(parts: Iterable[Records], dtype: DTypeLike) -> Rows:
    """A part at a time: whole blocks of records would outweigh the result, and a long block's rows go to a file."""
    return joined(part_of(part[first : first + PORTION], dtype) for part in parts for first in _firsts(part))


def _firsts(records: Records) -> range:
    return range(0, max(len(records), 1), PORTION)


def part_of(records: Records, dtype: DTypeLike) -> Rows:
    """The rows of some records, without what cannot be true. Retirements are rebuilt from the service times."""
    records, impossible = sound(records)
    submit_ns = np.ascontiguousarray(records["submit_ns"])
    service = ((records["retire_ns"] - submit_ns) / 1e6).astype(dtype)
    closed = np.array_equal(records["due_ns"], submit_ns)
    return Rows(
        span=Span(submit_ns, submit_ns + (service * 1e6).astype(np.int64)),
        response=service if closed else ((records["retire_ns"] - records["due_ns"]) / 1e6).astype(dtype),
        service=service,
        device=records["device_ms"].astype(dtype),
        impossible=impossible,
        told={column: _told(records[column], dtype) for column in TOLD if column in (records.dtype.names or ())},
    )


def _told(values_ns: NDArray[np.int64], dtype: DTypeLike) -> FloatArray:
    return np.asarray(np.where(values_ns == NOT_TOLD, np.nan, values_ns / NS_PER_MS), dtype=dtype)


def joined(parts: Iterable[Rows]) -> Rows:
    """One after the other; at least one. Of many iterations they are in a file (`kts.shelf`)."""
    columns: dict[str, GrowingArray] = {}
    response: GrowingArray | None = None
    impossible = 0
    rows = 0
    for part in parts:
        if response is None and part.response is not part.service:
            response = GrowingArray(part.response.dtype)
            if rows:
                response.add(columns["service"].made())  # until here every due time was the submission
        if response is not None:
            response.add(part.response)
        clocks = {"submit_ns": part.span.submit_ns, "retire_ns": part.span.retire_ns}
        for name, values in {**clocks, "service": part.service, "device": part.device, **part.told}.items():
            column = columns.setdefault(name, GrowingArray(values.dtype))
            column.add(np.full(rows - len(column), np.nan))  # of those before that do not tell it
            column.add(values)
        rows += len(part.service)
        impossible += part.impossible
    for column in columns.values():
        column.add(np.full(rows - len(column), np.nan))
    made = {name: column.made() for name, column in columns.items()}
    return Rows(
        span=Span(made["submit_ns"], made["retire_ns"]),
        response=made["service"] if response is None else response.made(),
        service=made["service"],
        device=made["device"],
        impossible=impossible,
        told={column: made[column] for column in TOLD if column in made},
    )
