"""Which iterations of a block count, and which of them met a neighbour's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.shelf import GrowingArray

Mask = NDArray[np.bool_]
Ints = NDArray[np.int64]

PORTION = 1_000_000
"""Iterations that are looked at together, where temporary arrays would outweigh them all."""


@dataclass(frozen=True, eq=False)
class Span:
    """A tenant's iterations in a block, in order of submission: ``submit_ns`` and ``retire_ns``, shape ``(n,)``,
    CLOCK_MONOTONIC. They may overlap, and retire in another order."""

    submit_ns: Ints
    retire_ns: Ints

    @classmethod
    def of(cls, records: Records) -> Span:
        """Of a tenant's records in a block."""
        return cls(np.ascontiguousarray(records["submit_ns"]), np.ascontiguousarray(records["retire_ns"]))

    @cached_property
    def busy_ns(self) -> tuple[Ints, Ints]:
        """From when until when it had anything in flight, in order, none touching another."""
        begins, ends = GrowingArray(np.int64), GrowingArray(np.int64)
        reached = np.iinfo(np.int64).min
        for first in range(0, len(self.submit_ns), PORTION):
            submit_ns, retire_ns = (times[first : first + PORTION] for times in (self.submit_ns, self.retire_ns))
            reaches = np.maximum(np.maximum.accumulate(retire_ns), reached)
            before = np.concatenate([[reached], reaches[:-1]])
            opens = submit_ns > before
            opens[:1] |= first == 0
            begins.add(submit_ns[opens])
            ends.add(before[opens][int(first == 0) :])
            reached = reaches[-1]
        ends.add(np.array([reached][: len(begins)]))
        return begins.made(), ends.made()

    def active_ns(self) -> tuple[int, int] | None:
        """From when until when the tenant was there, where nobody wrote down when it was told to be; None without
        iterations.

        From its first submission until its last completion and a mean pause more. Without that pause m iterations would
        span m - 1 cycles, and a tenant with few would seem to be busier than it was.
        """
        if not len(self.submit_ns):
            return None
        pauses = self.submit_ns[1:] - self.retire_ns[:-1]
        pause_ns = int(pauses.mean()) if len(pauses) else 0
        return int(self.submit_ns.min()), int(self.retire_ns.max()) + max(pause_ns, 0)


@dataclass(frozen=True, eq=False)
class Counted:
    """``keep``: picks the iterations that count. Of the others ``lead`` lie outside of the block's window or are the
    tenant's first, which follows a pause; ``alone`` ran while a neighbour was not there."""

    keep: slice | Mask
    lead: int = 0
    alone: int = 0


def counted(block: BlockOutcome, spans: Mapping[str, Span]) -> dict[str, Counted]:
    """Which iterations of ``block`` count, for every tenant in it.

    With a window (`BlockOutcome.window_ns`): those submitted in it, but for each tenant's first. All tenants were there
    for all of it. Without: those that overlap the time in which every neighbour was there (`Span.active_ns`); a
    neighbour without records (a command that reports nothing) was there for all of it.
    """
    if block.window_ns is not None:
        return {name: _in_window(span, *block.window_ns) for name, span in spans.items()}
    active = {name: span.active_ns() for name, span in spans.items()}
    found = {}
    for name, span in spans.items():
        keep = np.ones(len(span.submit_ns), dtype=np.bool_)
        for other, there in active.items():
            if other != name and there is not None:
                keep &= (span.retire_ns >= there[0]) & (span.submit_ns <= there[1])
        found[name] = Counted(_as_slice(keep), alone=int(len(keep) - keep.sum()))
    return found


def _as_slice(keep: Mask) -> slice | Mask:
    """The slice that picks the same, if there is one: then arrays are views of the block's, not copies."""
    first, beyond = (int(keep.argmax()), len(keep) - int(keep[::-1].argmax())) if len(keep) else (0, 0)
    return slice(first, beyond) if keep[first:beyond].all() else keep


def _in_window(span: Span, opened_ns: int, closed_ns: int) -> Counted:
    first = max(int(np.searchsorted(span.submit_ns, opened_ns, side="left")), 1)
    beyond = max(int(np.searchsorted(span.submit_ns, closed_ns, side="right")), first)
    return Counted(slice(first, beyond), lead=len(span.submit_ns) - (beyond - first))


def collided(spans: Mapping[str, Span], tenant: str) -> Mask:
    """True for every iteration of ``tenant`` during which a neighbour had one in flight, shape ``(n,)``.

    Neighbours without records are not seen.
    """
    mine = spans[tenant]
    met = np.zeros(len(mine.submit_ns), dtype=np.bool_)
    for other in _neighbours(spans, tenant):
        retires_ns = _rising(other.retire_ns)
        for first in range(0, len(met), PORTION):
            here = slice(first, first + PORTION)
            begun = np.searchsorted(other.submit_ns, mine.retire_ns[here], side="left")
            over = np.searchsorted(retires_ns, mine.submit_ns[here], side="right")
            met[here] |= begun > over
    return met


def _rising(values: Ints) -> Ints:
    return values if np.all(values[1:] >= values[:-1]) else np.sort(values)


def overlapping(span: Span, begin_ns: int, end_ns: int) -> int:
    """How many iterations of ``span`` were in flight at some time between; as `collided` counts them."""
    begun = int(np.searchsorted(span.submit_ns, end_ns, side="left"))
    return int(np.count_nonzero(span.retire_ns[:begun] > begin_ns))


def every(n: int, picks: Callable[[slice], Mask], step: int, start: int = 0) -> Ints:
    """Places of those of ``n`` iterations that ``picks`` picks of each portion: of these each ``step``-th, the first
    one being number ``start``, which is less than ``step``. As ``flatnonzero(...)[start::step]``, in less memory."""
    found, seen = [np.empty(0, np.int64)], 0
    for first in range(0, n, PORTION):
        here = np.flatnonzero(picks(slice(first, first + PORTION)))
        found.append(first + here[(start - seen) % step :: step])
        seen += len(here)
    return np.concatenate(found)


def _neighbours(spans: Mapping[str, Span], tenant: str) -> Iterator[Span]:
    return (span for name, span in spans.items() if name != tenant)
