"""The blocks of a round: which conditions, in which order, how much of each, from which seeds, for how long."""

from __future__ import annotations

import random
from collections.abc import Mapping
from hashlib import blake2b

from kts.arrivals import cycle_ms
from kts.model.plan import Block, Condition, Plan, Quota, Tenant

BLOCK_OVERHEAD_S = 0.3
"""Start barrier, last iterations and sending records, per block."""


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


def expected_seconds(plan: Plan, solo_ms: Mapping[str, float | None]) -> float:
    """Estimated seconds of one round. ``solo_ms``: what calibration measured per tenant.

    A tenant of which nothing is known counts with its target, or as instant. Sharing is taken as a
    fair server: alone-time grows by the share of time that each neighbour wants the device,
    its service time over its cycle alone. Good to about 20 %: for a progress bar.
    """
    return sum(_block_s(plan, block, solo_ms) for block in blocks_of_round(plan, 0))


def _block_s(plan: Plan, block: Block, solo_ms: Mapping[str, float | None]) -> float:
    service = {name: _service_ms(plan, name, solo_ms) for name in block.tenants}
    arrivals = {name: plan.tenant(name).arrivals for name in block.tenants}
    wanted = {name: ms / cycle_ms(arrivals[name], ms) if ms > 0 else 0.0 for name, ms in service.items()}
    longest = 0.0
    for name, quota in block.quotas.items():
        if quota.seconds is not None:
            longest = max(longest, quota.seconds)
            continue
        others = sum(share for other, share in wanted.items() if other != name)
        longest = max(longest, (quota.iterations or 0) * cycle_ms(arrivals[name], service[name] * (1 + others)) / 1e3)
    return longest + BLOCK_OVERHEAD_S


def _service_ms(plan: Plan, name: str, solo_ms: Mapping[str, float | None]) -> float:
    measured = solo_ms.get(name)
    return measured if measured is not None else plan.tenant(name).work.target_ms or 0.0
