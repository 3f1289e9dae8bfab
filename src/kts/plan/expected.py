"""What a plan is expected to take and to hold, from how long iterations take alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kts.arrivals import Closed, cycle_ms
from kts.model.plan import Block, Condition, Plan
from kts.plan.blocks import blocks_of_round
from kts.units import whole

BLOCK_OVERHEAD_S = 0.3
"""Start barrier, last iterations and sending records, per block."""
MIN_ROUNDS = 2
"""Fewer do not tell whether rounds differ, so a time limit alone does not end a run before."""
HARD_LIMIT = 1.5
"""Times ``max_seconds``: then even the running block is stopped."""


@dataclass(frozen=True)
class ExpectedBlock:
    """One block of ``condition``: how long it takes, overhead included; by tenant how many iterations count, and how
    many times as long these take as alone. Tenants of which nothing is known are in neither."""

    condition: Condition
    seconds: float
    iterations: dict[str, float]
    slower: dict[str, float]


def expected_seconds(plan: Plan, solo_ms: Mapping[str, float | None]) -> float:
    """Estimated seconds of one round. ``solo_ms``: what calibration measured per tenant. See `expected_block`."""
    return sum(expected_block(plan, block, solo_ms).seconds for block in blocks_of_round(plan, 0))


def expected_block(
    plan: Plan, block: Block, solo_ms: Mapping[str, float | None], cycles_ms: Mapping[str, float | None] | None = None
) -> ExpectedBlock:
    """One block, from what calibration measured per tenant. ``cycles_ms``: from one submission to the next, of tenants
    that pace themselves.

    A tenant of which nothing is known counts with its target, or as instant. Sharing is taken as a fair server:
    alone-time grows by the share of time that each neighbour wants the device, its service time over its cycle alone;
    N tenants without pauses make each other N times as slow. Good to about 20 %: for a progress bar, and for what can
    be told before the first round.
    """
    service = {name: _service_ms(plan, name, solo_ms) for name in block.tenants}
    cycles = {name: _cycle_ms(plan, name, ms, (cycles_ms or {}).get(name)) for name, ms in service.items()}
    wanted = {name: ms / cycles[name] if ms > 0 else 0.0 for name, ms in service.items()}
    slower = {name: 1 + sum(wanted.values()) - share for name, share in wanted.items()}
    paced = {name: _paced_ms(plan, name, ms * slower[name], cycles[name] - ms) for name, ms in service.items()}
    wants_s = {name: _wants_s(block, name, paced[name]) for name in block.tenants}
    together_s = (max if plan.design == "interleaved" else min)(wants_s.values())
    known = [name for name, ms in service.items() if ms > 0]
    return ExpectedBlock(
        condition=plan.condition(block.condition),
        seconds=max(wants_s.values()) + _overhead_s(plan, block),
        iterations={
            name: _iterations(block, name, together_s, service[name] * slower[name], paced[name]) for name in known
        },
        slower={name: slower[name] for name in known},
    )


def most_rounds(plan: Plan, round_s: float) -> float:
    """How many rounds of ``round_s`` the plan's limits allow: whole ones, but where time is over in the first."""
    if plan.max_seconds is None or round_s <= 0:
        return plan.allowed_rounds
    least = min(MIN_ROUNDS, plan.rounds)
    if least * round_s > HARD_LIMIT * plan.max_seconds:
        return HARD_LIMIT * plan.max_seconds / round_s
    return min(plan.allowed_rounds, max(least, whole(plan.max_seconds / round_s)))


def _overhead_s(plan: Plan, block: Block) -> float:
    return BLOCK_OVERHEAD_S + max(plan.tenant(name).work.run_in_ms for name in block.tenants) / 1e3


def _wants_s(block: Block, name: str, cycle: float) -> float:
    quota = block.quotas[name]
    return quota.seconds if quota.seconds is not None else (quota.iterations or 0) * cycle / 1e3


def _iterations(block: Block, name: str, together_s: float, service: float, cycle: float) -> float:
    """Those submitted while all are there. One that begins in its pause loses its first, which does not count."""
    quota = block.quotas[name]
    count = max(0.0, 1e3 * together_s / cycle - (cycle - service) / cycle) if quota.linger else 1e3 * together_s / cycle
    return max(count, quota.iterations or 0) if quota.linger else min(count, quota.iterations or count)


def _service_ms(plan: Plan, name: str, solo_ms: Mapping[str, float | None]) -> float:
    measured = solo_ms.get(name)
    return measured if measured is not None else plan.tenant(name).work.target_ms or 0.0


def _cycle_ms(plan: Plan, name: str, service: float, own: float | None) -> float:
    return max(own or 0.0, cycle_ms(plan.tenant(name).arrivals, service))


def _paced_ms(plan: Plan, name: str, service: float, pause: float) -> float:
    """Its cycle in company: a closed loop keeps its pauses, an open one its rate while it can."""
    arrivals = plan.tenant(name).arrivals
    return max(cycle_ms(arrivals, service), service + pause if isinstance(arrivals, Closed) else 0.0)
