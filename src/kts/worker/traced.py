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
_RECORDS = re.compile(r"cu(da)?EventRecord")
_BY_COPY_ENGINE = re.compile(r"Memcpy (?!DtoD)")
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
    """``called_ns``: the call returned. ``start_ns``: of the first it did on the GPU; None: a recorded event, of which
    a trace holds the call only. ``duration_ns``: until the end of the last. ``apart``: done by a copy engine."""

    called_ns: int
    start_ns: int | None
    duration_ns: int
    apart: bool = False


def launches_of(events: Iterable[Event], issue_ns: Sequence[int]) -> Launches:
    """The launches of the marked iterations, in order, each of which took its host ``issue_ns`` to hand over.

    Offsets count from that long before an iteration's last call returned: the mark itself takes time, too. A
    replayed graph is one launch that lasts from its first kernel's start to its last one's end: its kernels are
    queued together and run one after the other. A recorded event is a launch of no duration: it makes its tenant wait
    for the GPU as a kernel does. Not so behind a copy from or to the host: the copy engine does both, and takes turns
    with nobody, so that such events and an iteration's last copies are left out.

    TraceError where the marks are not as many, where an iteration launched nothing else, or where over 1 % of what the
    GPU did has no launch in any of them.
    """
    marks, calls, did = _sorted(events)
    if len(marks) != len(issue_ns):
        raise TraceError(f"{len(marks)} of {len(issue_ns)} iterations are in the trace")
    found: list[list[_Launch]] = [[] for _ in marks]
    starts = [mark.start_ns for mark in marks]
    seen: set[int] = set()
    for call in calls:
        work = did.get(call.correlation)
        k = bisect_right(starts, call.start_ns) - 1
        if k < 0 or call.start_ns > marks[k].end_ns or call.correlation in seen:
            continue
        seen.add(call.correlation)
        if work:
            begin, end = min(e.start_ns for e in work), max(e.end_ns for e in work)
            copied = all(_BY_COPY_ENGINE.match(e.name) for e in work)
            found[k].append(_Launch(call.end_ns, begin, end - begin, copied))
        elif _RECORDS.match(call.name):
            found[k].append(_Launch(call.end_ns, None, 0))
    _check(marks, found, did, seen)
    return _packed(marks, _followed(found), issue_ns)


def _followed(found: Sequence[Sequence[_Launch]]) -> list[list[_Launch]]:
    """The same with every event where the launch before it went, be it one of the iteration before."""
    apart = next((one.apart for one in reversed(found[-1]) if one.start_ns is not None), False)
    followed = []
    for them in found:
        now = []
        for one in them:
            apart = one.apart if one.start_ns is not None else apart
            now.append(one._replace(apart=apart))
        followed.append(now)
    return followed


def _sorted(events: Iterable[Event]) -> tuple[list[Event], list[Event], dict[int, list[Event]]]:
    """Marks and calls that hand something to the GPU, by time; what it did, by correlation."""
    marks, calls = [], []
    did: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.name == MARK:
            if not event.on_device:
                marks.append(event)
        elif event.on_device and not _WAITS.match(event.name):
            did[event.correlation].append(event)
        elif not event.on_device and (_LAUNCHES.match(event.name) or _RECORDS.match(event.name)):
            calls.append(event)
    marks.sort(key=lambda event: event.start_ns)
    calls.sort(key=lambda event: event.start_ns)
    return marks, calls, did


def _check(
    marks: Sequence[Event], found: Sequence[Sequence[_Launch]], did: dict[int, list[Event]], seen: set[int]
) -> None:
    empty = sum(all(launch.start_ns is None for launch in launches) for launches in found)
    if empty:
        raise TraceError(f"{empty} of {len(found)} iterations have no launch in the trace")
    first, last = marks[0].start_ns, marks[-1].end_ns
    inside = {c: sum(first <= event.start_ns <= last for event in work) for c, work in did.items()}
    total = sum(inside.values())
    lost = sum(n for correlation, n in inside.items() if correlation not in seen)
    if lost > LOST * total:
        raise TraceError(f"{lost} of {total} kernels and copies belong to no launch of an iteration")


def _packed(marks: Sequence[Event], found: Sequence[Sequence[_Launch]], issue_ns: Sequence[int]) -> Launches:
    """When the GPU could have started each: as long after its call as the first kernel of an iteration, that finds it
    idle, usually is; or when it did, if that was earlier."""
    firsts = [next((one.called_ns, one.start_ns) for one in them if one.start_ns is not None) for them in found]
    usual_ns = round(median(start_ns - called_ns for called_ns, start_ns in firsts))
    counts: list[int] = []
    offsets: list[int] = []
    durations: list[int] = []
    for mark, launches, issue in zip(marks, found, issue_ns, strict=True):
        begun_ns = max(launches[-1].called_ns - issue, mark.start_ns)
        kept = _in_turns(launches)
        ready = [
            one.called_ns + usual_ns if one.start_ns is None else min(one.called_ns + usual_ns, one.start_ns)
            for one in kept
        ]
        counts.append(len(kept))
        offsets += np.maximum.accumulate([max(ns - begun_ns, 0) for ns in ready]).tolist()
        durations += [one.duration_ns for one in kept]
    return Launches(
        counts=packed(counts),
        offset_ns=packed(offsets),
        duration_ns=packed(durations),
        stopwatch_waits=not median(launches[0].start_ns is None and launches[0].apart for launches in found),
    )


def _in_turns(launches: Sequence[_Launch]) -> list[_Launch]:
    """Without events that the copy engine records, and the copies at the end. An iteration of copies alone is kept."""
    kept = [one for one in launches if one.start_ns is not None or not one.apart]
    while kept and kept[-1].apart:
        kept.pop()
    return kept or list(launches)
