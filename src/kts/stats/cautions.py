"""What else a reader should know of the figures, in words: what is no check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kts.arrivals import Closed
from kts.model.plan import Plan
from kts.model.summary import TenantSummary


def notes(plan: Plan, tenants: Mapping[str, TenantSummary]) -> Iterator[str]:
    """What a closed loop leaves out, in one line for all tenants that have one."""
    closed = [
        tenant.name
        for tenant in plan.tenants
        if tenant.name in tenants and isinstance(tenant.arrivals, Closed) and tenants[tenant.name].response.shared.n
    ]
    if closed:
        yield (
            f"{', '.join(closed)}: closed loop: a user who waits does not send the next request. As an open loop "
            "(arrivals: poisson or trace) requests would queue meanwhile, and responses take longer."
        )
