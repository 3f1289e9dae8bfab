"""How long a round will take."""

from __future__ import annotations

from collections.abc import Mapping

from kts.arrivals import cycle_ms
from kts.model.plan import Block, Plan
from kts.plan.blocks import blocks_of_round

BLOCK_OVERHEAD_S = 0.3
"""Start barrier, last iterations and sending records, per block."""


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
