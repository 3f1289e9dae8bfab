"""Whether deadlines and limits of the p99 were kept."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import TenantSummary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """One line per promise; nothing where nobody promised anything."""
    tenants = report.summary.tenants
    items = tuple(doc.Item(f"{name}: {line}") for name, tenant in tenants.items() for line in _lines(tenant))
    if items:
        yield doc.Heading("Promises", media=doc.TERMINAL)
        yield doc.Bullets(items)


def _lines(tenant: TenantSummary) -> Iterator[str]:
    if (good := tenant.goodput) is not None:
        met = f"{cells.percent_with_interval(good.solo)} solo, {cells.percent_with_interval(good.shared)} shared"
        yield f"deadline {cells.number(good.deadline_ms)} ms: met by {met}"
    if (slo := tenant.slo) is not None:
        yield f"p99 limit {cells.number(slo.p99_ms)} ms: {slo.solo} solo, {slo.shared} shared"
