"""How many iterations count, and those that met a neighbour's, for programs."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import TenantSummary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """Figures alone: the tables of rates and latencies have them for people."""
    for name, tenant in report.summary.tenants.items():
        yield doc.Data(name, tuple(_data(tenant)))


def _data(tenant: TenantSummary) -> Iterator[doc.Datum]:
    yield doc.Datum("", "shared", "overlap_kept", tenant.overlap.kept, "iterations")
    yield doc.Datum("", "shared", "overlap_dropped", tenant.overlap.dropped, "iterations")
    yield doc.Datum("", "", "lead_left_out", tenant.overlap.lead, "iterations")
    if (met := tenant.collided) is not None:
        yield doc.Datum("response", "collided", "n", met.n, "iterations")
        yield doc.Datum("response", "collided", "share", met.share, "fraction")
        for quantile in cells.QUANTILES:
            yield cells.datum("response", "collided", quantile, getattr(met, quantile), "ms")
