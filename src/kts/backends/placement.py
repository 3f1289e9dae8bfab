"""Which CPU cores each tenant and the conductor get. Pure, but for `topology` and `pin_conductor` at the end."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Literal

import msgspec

Siblings = Mapping[int, int]
"""Logical core to physical core. Cores that are missing count as physical cores of their own."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Cores by tenant, and the conductor's. ``note``: what a reader must know of it; empty if nothing."""

    tenants: dict[str, tuple[int, ...]]
    conductor: tuple[int, ...]
    note: str = ""


def place(
    tenants: Sequence[str],
    kind: Literal["cuda", "cpu"],
    cores: Sequence[int],
    siblings: Siblings | None = None,
    programs: Collection[str] = (),
) -> Placement:
    """Cores for ``tenants`` out of the available ``cores`` (at least one).

    On the ``cpu`` device all tenants share the last core, which is the device. Beside a GPU each tenant
    gets a core of its own, a physical one with all its hardware threads where there are enough: one per
    tenant and one for the conductor. Where there are too few, all share all, and the note says so. A program may
    have threads of its own, which would wait for each other on one core and nowhere else: what is left is shared out
    equally among ``programs``, but for half a core of each, on which its worker reads what it does.
    """
    groups = _physical(cores, siblings or {})
    if kind == "cpu":
        return _one_for_all(tenants, groups)
    if len(groups) > len(tenants):
        spare = len(groups) - len(tenants) - 1 - ceil(len(programs) / 2)
        more = max(spare, 0) // len(programs) if programs else 0
        return _some_each({name: 1 + more * (name in programs) for name in tenants}, groups, "")
    threads = [(core,) for group in groups for core in group]
    if len(threads) > len(tenants):
        note = "tenants have hardware threads of their own but share physical CPU cores"
        return _some_each(dict.fromkeys(tenants, 1), threads, note)
    everything = tuple(sorted(cores))
    note = f"{len(tenants)} tenants and the conductor share {len(everything)} CPU cores: host times include that"
    return Placement(tenants=dict.fromkeys(tenants, everything), conductor=everything, note=note)


def _physical(cores: Sequence[int], siblings: Siblings) -> list[tuple[int, ...]]:
    groups: dict[tuple[bool, int], list[int]] = {}
    for core in sorted(cores):
        known = core in siblings
        groups.setdefault((known, siblings[core] if known else core), []).append(core)
    return [tuple(group) for group in sorted(groups.values())]


def _one_for_all(tenants: Sequence[str], groups: Sequence[tuple[int, ...]]) -> Placement:
    device = groups[-1][-1]
    rest = tuple(core for group in groups[:-1] for core in group)
    note = ""
    if not rest:
        rest = groups[-1][:-1] or (device,)
        where = "hardware thread's core" if len(groups[-1]) > 1 else "core"
        note = f"the conductor runs on the tenants' {where}: there is no other"
    return Placement(tenants=dict.fromkeys(tenants, (device,)), conductor=rest, note=note)


def _some_each(wanted: Mapping[str, int], groups: Sequence[tuple[int, ...]], note: str) -> Placement:
    """So many of the last groups to each tenant, in order; the first to the conductor: core 0 serves interrupts."""
    first = at = len(groups) - sum(wanted.values())
    given = {}
    for name, count in wanted.items():
        given[name] = tuple(core for group in groups[at : at + count] for core in group)
        at += count
    rest = tuple(core for group in groups[:first] for core in group)
    return Placement(tenants=given, conductor=rest, note=note)


def topology(cores: Sequence[int], root: Path = Path("/sys/devices/system/cpu")) -> dict[int, int]:
    """Physical core of each of ``cores``: the first of its hardware threads. Cores that cannot be looked up are left
    out."""
    found = {}
    for core in cores:
        try:
            text = (root / f"cpu{core}" / "topology" / "thread_siblings_list").read_text()
            found[core] = int(text.replace("-", ",").split(",")[0])
        except (OSError, ValueError):
            continue
    return found


def pin_conductor(cores: Sequence[int]) -> tuple[int, ...]:
    """Moves this thread to ``cores``; the cores it was allowed before, to be put back by another call."""
    former = tuple(sorted(os.sched_getaffinity(0)))
    os.sched_setaffinity(0, cores)
    return former
