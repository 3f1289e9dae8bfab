"""The blocks of a round: which conditions, in which order, how much of each, from which seeds, for how long."""

from __future__ import annotations

import random
from hashlib import blake2b

from kts.model.plan import Block, Condition, Plan, Quota, Tenant


def derive(*parts: str | int) -> int:
    """A seed in [0, 2**63) from ``parts``: the same parts give the same one on every machine and Python."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def blocks_of_round(plan: Plan, round: int) -> tuple[Block, ...]:  # noqa: A002 - the field's name
    """Every condition of the plan exactly once, each as a block.

    Interleaved: in an order drawn anew for each round from the plan's seed, so that no condition
    always follows the same one. Classic: in the plan's order. Deterministic; ``index`` is unique
    within the run and grows with time. ValueError for a round below 0.
    """
    if round < 0:
        raise ValueError(f"round {round} is below 0")
    order = list(plan.conditions)
    if plan.design == "interleaved":
        random.Random(derive(plan.seed, "round", round)).shuffle(order)
    first = round * len(order)
    return tuple(
        Block(index=first + position, round=round, condition=condition.name, quotas=_quotas(plan, condition))
        for position, condition in enumerate(order)
    )


def block_seed(plan: Plan, block: Block, tenant: str) -> int:
    """Seed of the think times of ``tenant`` in ``block``: in [0, 2**63), different for each pair."""
    return derive(plan.seed, "block", block.index, plan.tenant(tenant).seed, tenant)


def _quotas(plan: Plan, condition: Condition) -> dict[str, Quota]:
    return {name: _quota(plan, plan.tenant(name)) for name in condition.tenants}


def _quota(plan: Plan, tenant: Tenant) -> Quota:
    linger = plan.design == "interleaved"
    if tenant.seconds is not None:
        return Quota(seconds=tenant.seconds / plan.rounds, linger=linger)
    if tenant.iterations is None:
        raise ValueError(f"tenant {tenant.name!r} has neither iterations nor seconds")
    return Quota(iterations=-(-tenant.iterations // plan.rounds), linger=linger)
