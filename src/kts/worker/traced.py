"""From a tracer's events to the launches of each iteration. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from kts.wire.recording import Launches, packed

MARK = "kts.iteration"
"""Name of the span that a tracer puts around each iteration."""

LOST = 0.01
_LAUNCHES = re.compile(r"cu(da)?[A-Z]?\w*(Launch|Memcpy|Memset)")
_WAITS = re.compile(r"(Context|Stream|Event) (Sync|Wait)")


class TraceError(Exception):
    """The events are not those of whole iterations."""


class Event(NamedTuple):
    """One event of a trace. ``correlation``: the same for a call of the CUDA API and for what it made the GPU do.

    All that a replayed graph does has the correlation of its one launch.
    """

    name: str
    on_device: bool
    start_ns: int
    end_ns: int
    correlation: int


class _Launch(NamedTuple):
    """``called_ns``: the call returned. ``start_ns``, ``end_ns``: on the GPU, from first to last of what it did."""

    called_ns: int
    start_ns: int
    end_ns: int


def launches_of(events: Iterable[Event], iterations: int) -> Launches:
    """The launches of ``iterations`` marked iterations, in order.

    A replayed graph is one launch that lasts from its first kernel's start to its last one's end: its kernels are
    queued together and run one after the other. TraceError where the marks are not as many, where an iteration
    launched nothing, or where over 1 % of what the GPU did has no launch in any of them.
    """
    marks, calls, did = _sorted(events)
    if len(marks) != iterations:
        raise TraceError(f"{len(marks)} of {iterations} iterations are in the trace")
    found: list[list[_Launch]] = [[] for _ in marks]
    starts = [mark.start_ns for mark in marks]
    seen: set[int] = set()
    for call in calls:
        work = did.get(call.correlation)
        k = bisect_right(starts, call.start_ns) - 1
        if not work or k < 0 or call.start_ns > marks[k].end_ns or call.correlation in seen:
            continue
        seen.add(call.correlation)
        begin, end = min(e.start_ns for e in work), max(e.end_ns for e in work)
        found[k].append(_Launch(call.end_ns, begin, end))
    _check(marks, found, did, seen)
    return _packed(marks, found)


def _sorted(events: Iterable[Event]) -> tuple[list[Event], list[Event], dict[int, list[Event]]]:
    """Marks and calls that launch, by time; what the GPU did, by correlation."""
    marks, calls = [], []
    did: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.name == MARK:
            if not event.on_device:
                marks.append(event)
        elif event.on_device and not _WAITS.match(event.name):
            did[event.correlation].append(event)
        elif not event.on_device and _LAUNCHES.match(event.name):
            calls.append(event)
    marks.sort(key=lambda event: event.start_ns)
    calls.sort(key=lambda event: event.start_ns)
    return marks, calls, did


def _check(
    marks: Sequence[Event], found: Sequence[Sequence[_Launch]], did: dict[int, list[Event]], seen: set[int]
) -> None:
    empty = sum(not launches for launches in found)
    if empty:
        raise TraceError(f"{empty} of {len(found)} iterations have no launch in the trace")
    first, last = marks[0].start_ns, marks[-1].end_ns
    inside = {c: sum(first <= event.start_ns <= last for event in work) for c, work in did.items()}
    total = sum(inside.values())
    lost = sum(n for correlation, n in inside.items() if correlation not in seen)
    if lost > LOST * total:
        raise TraceError(f"{lost} of {total} kernels and copies belong to no launch of an iteration")


def _packed(marks: Sequence[Event], found: Sequence[Sequence[_Launch]]) -> Launches:
    """When the GPU could have started each: as long after its call as the first of an iteration, that finds it idle,
    usually is; or when it did, if that was earlier."""
    usual_ns = round(median(launches[0].start_ns - launches[0].called_ns for launches in found))
    offsets: list[int] = []
    for mark, launches in zip(marks, found, strict=True):
        ready = [min(launch.called_ns + usual_ns, launch.start_ns) for launch in launches]
        offsets += np.maximum.accumulate([max(ns - mark.start_ns, 0) for ns in ready]).tolist()
    return Launches(
        counts=packed([len(launches) for launches in found]),
        offset_ns=packed(offsets),
        duration_ns=packed([launch.end_ns - launch.start_ns for launches in found for launch in launches]),
    )
