"""The times of logs against each other: what cannot be true is left out or doubted, with its reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kts.model.records import Records, clock_ms
from kts.stats.overlap import Span, collided
from kts.store.loglines import Contents, Execution, without
from kts.units import NS_PER_MS, NS_PER_S, format_ms
from kts.wire.appline import device_unit, longest_device_ms, unlike_epoch_ns

CONTENDED = 0.05
"""More of a solo execution's iterations than this beside another log's: it was not alone. Fewer: these are left out."""

TINY = 0.1
"""Logs without labels that overlap by less than this of the shorter one: perhaps meant to be apart."""


def check(contents: Contents) -> None:
    """Replaces the stretches by what can be believed of them, and says what is not and why."""
    _once(contents)
    contents.stretches = [_own_times(stretch, contents) for stretch in contents.stretches]


def _once(contents: Contents) -> None:
    """Iterations that two logs hold count once: the later log's are dropped."""
    kept: dict[str, list[int]] = {}
    stretches = contents.stretches
    for n, stretch in enumerate(stretches):
        for m in kept.setdefault(stretch.app, []):
            before = stretches[m]
            if stretches[n].start_ns > before.end_ns or before.start_ns > stretches[n].end_ns:
                continue
            twice = _holds(before.records, stretches[n].records)
            count = int(twice.sum())
            if not count:
                continue
            where = f"{stretch.place}: {count} iteration{'s' if count > 1 else ''} of {stretch.app}"
            contents.damage.append(f"{where} dropped: {before.place} has the same")
            if before.label != stretch.label:
                contents.doubts.append(
                    f"{before.place} and {stretch.place} say different conditions of the same iterations: time decides"
                )
                stretches[m] = replace(before, label="")
            stretches[n] = without(stretches[n], twice)
            if not len(stretches[n].records):
                break
        if len(stretches[n].records):
            kept[stretch.app].append(n)
    contents.stretches = [stretch for stretch in stretches if len(stretch.records)]


def _holds(records: Records, others: Records) -> NDArray[np.bool_]:
    """Which of ``others`` are among ``records``: the same number, start and end."""
    fields = ["i", "submit_ns", "retire_ns"]
    mine, theirs = records[fields], others[fields]
    order = np.argsort(mine["submit_ns"], kind="stable")
    at = np.searchsorted(mine["submit_ns"][order], theirs["submit_ns"]).clip(0, len(mine) - 1)
    near = mine[order[at]]
    same = np.ones(len(theirs), bool)
    for name in fields:
        same &= near[name] == theirs[name]
    return same


def _own_times(stretch: Execution, contents: Contents) -> Execution:
    """Its clock and its device times against what they can be."""
    records = stretch.records
    tick_ns = _tick_ns(records)
    service_ms = clock_ms(records, "service")
    middle = int(np.median(records["submit_ns"]))
    like = unlike_epoch_ns(middle)
    if "since 1970" in like and not _is_uptime(service_ms, records["device_ms"]):
        return replace(stretch, untimed=f"{stretch.place}: start_ns and end_ns look like {like} ({middle})")
    if tick_ns == NS_PER_S:
        return replace(stretch, untimed=f"{stretch.place}: start_ns and end_ns come in whole seconds")
    if like:
        contents.doubts.append(
            f"{stretch.place}: start_ns and end_ns of {stretch.app} do not count from 1970 ({middle}): logs of several "
            "machines, or from before and after a boot, cannot be put side by side"
        )
    longest_ms = longest_device_ms(service_ms) + tick_ns / NS_PER_MS
    longer = np.asarray(records["device_ms"] > longest_ms)
    return _without_device(stretch, longer, service_ms, contents) if longer.any() else stretch


def _tick_ns(records: Records) -> int:
    """In which steps its clock counts, where that is a second or a millisecond; else 0."""
    times = np.concatenate([records["submit_ns"], records["retire_ns"]])
    ticks = (tick for tick in (NS_PER_S, NS_PER_MS) if len(records) > 2 and not (times % tick).any())
    return next(ticks, 0)


def _is_uptime(service_ms: NDArray[np.float64], device_ms: NDArray[np.float64]) -> bool:
    """True where device times fit durations in nanoseconds: then what looks like another unit is a machine's uptime."""
    told = device_ms > 0
    return bool(told.any()) and bool(np.median(device_ms[told] / np.maximum(service_ms[told], 1e-9)) <= 1)


def _without_device(
    stretch: Execution, longer: NDArray[np.bool_], service_ms: NDArray[np.float64], contents: Contents
) -> Execution:
    """Without device times that are longer than their iteration; without any, where that is so of every second one."""
    records = stretch.records.copy()
    count, n = int(longer.sum()), int(longer.argmax())
    most = 2 * count >= len(records)
    unit = device_unit(float(np.median(records["device_ms"][longer])), float(np.median(service_ms[longer])))
    contents.damage.append(
        f"{stretch.place}: {count} of {len(records)} device times of {stretch.app}, longer than the iteration they are "
        f"part of ({records['device_ms'][n]:.6g} in {format_ms(float(service_ms[n]))}, iteration {records['i'][n]})"
        + (f": {unit}" if most and unit else "")
    )
    records["device_ms"][slice(None) if most else longer] = np.nan
    return replace(stretch, records=records)


def company(stretch: Execution, stretches: Sequence[Execution]) -> tuple[NDArray[np.bool_], list[Execution]]:
    """Which of its iterations ran beside one of another log, and which logs these are."""
    mine = Span(stretch.records["submit_ns"], stretch.records["retire_ns"])
    beside = np.zeros(len(stretch.records), bool)
    others = []
    for other in stretches:
        if other is stretch or other.untimed or not overlap_ns(stretch, other):
            continue
        theirs = Span(np.sort(other.records["submit_ns"]), other.records["retire_ns"])
        met = collided({"mine": mine, "theirs": theirs}, "mine")
        if met.any():
            beside |= met
            others.append(other)
    return beside, others


def overlap_ns(one: Execution, other: Execution) -> int:
    """For how long both ran, from their first to their last iteration; 0 where one ended before the other began."""
    return max(min(one.end_ns, other.end_ns) - max(one.start_ns, other.start_ns), 0)


def tiny_overlap(one: Execution, other: Execution) -> str:
    """What is odd about two logs that ran side by side for a moment; empty if it was longer."""
    both = overlap_ns(one, other)
    shorter = min(one.end_ns - one.start_ns, other.end_ns - other.start_ns)
    if not 0 < both < TINY * shorter:
        return ""
    times = [format_ms(ns / NS_PER_MS) for ns in (both, shorter)]
    return (
        f"{one.place} overlaps {other.place} by {times[0]} of {times[1]}: taken as shared; if they are not, name the "
        "files solo or shared, or give the lines a phase"
    )
