"""How many iterations count, and those that met a neighbour's, for programs."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import TenantSummary
from kts.report import cells
from kts.report.document import CSV, Data, Datum, Element
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[Element]:
    """Figures alone: the tables of rates and latencies have them for people."""
    for name, tenant in report.summary.tenants.items():
        yield Data(name, tuple(_data(tenant)), media=CSV)


def _data(tenant: TenantSummary) -> Iterator[Datum]:
    yield Datum("", "shared", "overlap_kept", tenant.overlap.kept, "iterations")
    yield Datum("", "shared", "overlap_dropped", tenant.overlap.dropped, "iterations")
    yield Datum("", "", "lead_left_out", tenant.overlap.lead, "iterations")
    if (met := tenant.collided) is not None:
        yield Datum("response", "collided", "n", met.n, "iterations")
        yield Datum("response", "collided", "share", met.share, "fraction")
        for quantile in cells.QUANTILES:
            yield cells.datum("response", "collided", quantile, getattr(met, quantile), "ms")
