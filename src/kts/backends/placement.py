"""Which CPU cores each tenant and the conductor get. Pure, but for `topology` and `pin_conductor` at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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
    tenants: Sequence[str], kind: Literal["cuda", "cpu"], cores: Sequence[int], siblings: Siblings | None = None
) -> Placement:
    """Cores for ``tenants`` out of the available ``cores`` (at least one).

    On the ``cpu`` device all tenants share the last core, which is the device. Beside a GPU each tenant
    gets a core of its own, a physical one with all its hardware threads where there are enough: one per
    tenant and one for the conductor. Where there are too few, all share all, and the note says so.
    """
    groups = _physical(cores, siblings or {})
    if kind == "cpu":
        return _one_for_all(tenants, groups)
    if len(groups) > len(tenants):
        return _one_each(tenants, groups, "")
    threads = [(core,) for group in groups for core in group]
    if len(threads) > len(tenants):
        return _one_each(tenants, threads, "tenants have hardware threads of their own but share physical CPU cores")
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


def _one_each(tenants: Sequence[str], groups: Sequence[tuple[int, ...]], note: str) -> Placement:
    """The last groups to the tenants, in order; the first to the conductor (core 0 serves most interrupts)."""
    first = len(groups) - len(tenants)
    rest = tuple(core for group in groups[:first] for core in group)
    return Placement(tenants=dict(zip(tenants, groups[first:], strict=True)), conductor=rest, note=note)


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
