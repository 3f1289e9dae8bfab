"""A plan to one that measures the same mixes in several modes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kts.errors import UsageError
from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MIG, STREAMS, TIGHTEST, TIME_SLICING, Mode
from kts.model.plan import Condition, InMode, Plan

OWN_CONTEXTS = (TIME_SLICING, CPU_SCHEDULER, MIG)
"""Modes in which a tenant's process is as it is alone, so that its solo worker can share in it."""


def in_modes(plan: Plan, modes: Sequence[Mode]) -> Plan:
    """A plan each of whose rounds has every tenant alone, once, and the mixes in every mode, all in random order: so
    drift meets all modes alike, and each is held against the same iterations alone.

    A tenant has a worker for each mode, since a process cannot change how it uses the device; the first mode with
    contexts of its own takes those that run alone; of streams they are threads of one process. All are there all the
    time, idle outside of their blocks.
    UsageError where the plan's blocks are not in turns, where it has no mix, or for modes that cannot be told apart.
    """
    _check(plan, modes)
    modes = [_with_first(plan, mode) if mode.first else mode for mode in modes]
    names = tuple(tenant.name for tenant in plan.tenants)
    reused = next((mode.name for mode in modes if mode.kind in OWN_CONTEXTS), None)
    arms = []
    for mode in modes:
        if mode.kind == EXCLUSIVE:
            arms.append(InMode(mode=mode, tenants={name: name for name in names}, mixes={}))
            continue
        own = mode.name == reused
        arms.append(
            InMode(
                mode=mode,
                tenants={name: name if own else f"{name}@{mode.name}" for name in names},
                mixes={mix.name: mix.name if own else f"{mix.name}@{mode.name}" for mix in plan.mixes},
            )
        )
    return msgspec.structs.replace(
        plan,
        tenants=(
            *plan.tenants,
            *(
                msgspec.structs.replace(plan.tenant(plain), name=name)
                for arm in arms
                for plain, name in arm.tenants.items()
                if plain != name
            ),
        ),
        conditions=(
            *(one for one in plan.conditions if one.is_solo),
            *(
                Condition(name=name, tenants=tuple(arm.tenants[tenant] for tenant in plan.condition(mix).tenants))
                for arm in arms
                for mix, name in arm.mixes.items()
            ),
        ),
        modes=tuple(arms),
    )


def _check(plan: Plan, modes: Sequence[Mode]) -> None:
    if plan.design != "interleaved":
        raise UsageError(
            "--modes: modes are compared in turns, and the classic design has none", "--design interleaved"
        )
    if plan.subject:
        raise UsageError("--modes: not of one program beside ready-made neighbours", "give an experiment with tenants")
    if not plan.mixes:
        raise UsageError("--modes: the experiment has no tenants that run together", "give one with a mix")
    names = [mode.name for mode in modes]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"--modes: {twice} is there twice", "give each a name of its own: a=MODE,b=MODE")
    if all(mode.kind == EXCLUSIVE for mode in modes):
        raise UsageError("--modes: nothing is shared in exclusive alone", "add a mode to hold against it")
    programs = [tenant.name for tenant in plan.tenants if not tenant.work.in_thread]
    if programs and any(mode.kind == STREAMS for mode in modes):
        raise UsageError(
            f"--modes: {STREAMS}: {', '.join(programs)} runs a program, which is a process and no thread of ours",
            f"leave {STREAMS} out, or give it a workload of kts",
        )


def _with_first(plan: Plan, mode: Mode) -> Mode:
    """With the tenant whose stream has priority: the one that is named, or that with the tightest SLO."""
    if mode.first != TIGHTEST:
        if mode.first not in {tenant.name for tenant in plan.tenants}:
            raise UsageError(
                f"--modes: {mode.name}: the experiment has no tenant {mode.first}", "see kts run --dry-run"
            )
        return mode
    bounds_ms = {t.name: min(filter(None, (t.slo.p99_ms, t.slo.deadline_ms)), default=None) for t in plan.tenants}
    promised = {name: bound_ms for name, bound_ms in bounds_ms.items() if bound_ms is not None}
    if not promised:
        raise UsageError(
            f"--modes: {mode.name}: no tenant has an SLO to go by",
            f"{STREAMS}:priority:TENANT names the one to go first",
        )
    return msgspec.structs.replace(mode, first=min(promised, key=lambda name: promised[name]))
