"""What else a reader should know of the figures, in words: what was seen and is no check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kts.arrivals import Closed
from kts.model.plan import Plan
from kts.model.summary import Caution, TenantSummary
from kts.units import format_ms

FASTER = 0.97


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


def faster(name: str, summary: TenantSummary) -> Iterator[Caution]:
    """A median that is lower when shared, with the SM clock where it was sampled: what was seen, no cause."""
    for clock in ("service", "device"):
        figures = getattr(summary, clock)
        df = figures.df.p50
        if df.hi is not None and df.hi < 1 and df.estimate < FASTER:
            alone, together = (format_ms(side.p50.estimate or 0.0) for side in (figures.solo, figures.shared))
            text = (
                f"{name}: the median {clock} time is lower when shared: {together} instead of {alone} "
                f"({df.estimate:.2f}x, {df.lo:.2f} to {df.hi:.2f}).{_sm_clock(summary)}"
            )
            yield Caution(code="faster-when-shared", tenant=name, text=text)
            return


def _sm_clock(summary: TenantSummary) -> str:
    for metric in summary.activity or ():
        solo, shared = metric.solo.block_mean, metric.shared.block_mean
        if metric.metric == "sm_clock_mhz" and solo is not None and shared is not None:
            return f" The SM clock was {solo:.0f} MHz in solo blocks and {shared:.0f} MHz in shared ones (means)."
    return ""
