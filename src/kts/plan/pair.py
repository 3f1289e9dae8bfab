"""Two plans of the same tenants to one that measures both in turns."""

from __future__ import annotations

import msgspec

from kts.errors import UsageError
from kts.model.plan import Condition, DeviceChoice, Pair, Plan, Tenant
from kts.plan.build import DEFAULT_MAX_ROUNDS

DEFAULT_MAX_SECONDS = 600.0
FIRST_ROUNDS = 4
"""Rounds before the comparison is first looked at."""
BLOCKS_IN_ALL = 60
"""About so many blocks fit into the limit of time, half of them A's: many rounds tell how much rounds differ."""
BLOCK_S = (0.5, 10.0)


def pair(a: Plan, b: Plan, *, tolerance: float, max_seconds: float | None = None) -> Plan:
    """A plan whose rounds have two blocks, in random order: all tenants of A together, and all of B.

    What is compared is what users of shared tenants see, so nobody runs alone: time on the device is what a gate costs.
    The tenants of both are there all the time, those of the other version idle, as neighbours are between their blocks.
    Of several mixes the full house is measured. How long it takes is up to the comparison and to ``max_seconds`` (A's
    by default); blocks are as long as that limit needs. UsageError where the two do not have the same tenants, subject
    and device.
    """
    houses = a.full_house, b.full_house
    _check(a, b)
    limit_s = max_seconds or a.max_seconds or DEFAULT_MAX_SECONDS
    seconds = min(max(limit_s / BLOCKS_IN_ALL, BLOCK_S[0]), BLOCK_S[1]) * FIRST_ROUNDS
    names = {name: (f"{name}-a", f"{name}-b") for name in houses[0].tenants}
    tenants = tuple(
        _named(plan.tenant(name), names[name][side], seconds)
        for side, plan in enumerate((a, b))
        for name in houses[0].tenants
    )
    return Plan(
        name=f"pair-{a.name}" if a.name == b.name else f"pair-{a.name}-{b.name}",
        design="interleaved",
        tenants=tenants,
        conditions=tuple(
            Condition(name=f"shared-{side}", tenants=tuple(both[number] for both in names.values()))
            for number, side in enumerate("ab")
        ),
        rounds=FIRST_ROUNDS,
        max_rounds=DEFAULT_MAX_ROUNDS,
        max_seconds=limit_s,
        device=_device(a, b),
        seed=a.seed,
        allow_different_gpus=a.allow_different_gpus or b.allow_different_gpus,
        pair=Pair(a=a.name, b=b.name, tenants=names, asked=_asked(a), tolerance=tolerance),
    )


def _check(a: Plan, b: Plan) -> None:
    """UsageError where one is no version of the other."""
    ours, theirs = a.full_house.tenants, b.full_house.tenants
    if set(ours) != set(theirs):
        raise UsageError(
            f"A and B do not have the same tenants: {', '.join(ours)} against {', '.join(theirs)}",
            "give each tenant the same name in both files: what is compared is a tenant with itself",
        )
    if len(ours) < 2:
        raise UsageError("neither A nor B has tenants that run together", "give experiments with a mix")
    if a.subject != b.subject:
        raise UsageError(
            f"A is about {a.subject or 'all tenants'}, B about {b.subject or 'all tenants'}",
            "give both the same subject, or none",
        )


def _device(a: Plan, b: Plan) -> DeviceChoice:
    """UsageError where both name one, and not the same."""
    if "auto" not in (a.device, b.device) and a.device != b.device:
        raise UsageError(f"A asks for device {a.device}, B for {b.device}", "give both one device (--device)")
    return b.device if a.device == "auto" else a.device


def _asked(plan: Plan) -> tuple[str, ...]:
    return (plan.subject,) if plan.subject else plan.full_house.tenants


def _named(tenant: Tenant, name: str, seconds: float) -> Tenant:
    return msgspec.structs.replace(tenant, name=name, iterations=None, seconds=seconds)
