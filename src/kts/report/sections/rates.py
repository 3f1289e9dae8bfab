"""How many iterations a second each tenant completes, and how many count."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import TenantSummary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report

_KINDS = {"done/wall": "real", "1000/mean": "proxy"}


def section(report: Report) -> Iterator[doc.Element]:
    """Solo, shared and change of both kinds; and how many iterations count."""
    tenants = report.summary.tenants
    count = "kept and dropped: shared iterations that overlap their neighbours, and the others."
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject", short="iterations/s"),
            *(
                doc.Column(f"{kind} solo" if side == "solo" else side, short=f"{first}\n{side}", from_width=width)
                for kind, width in zip(_KINDS, (0, cells.FULL_COLUMNS), strict=True)
                for first, side in ((kind, "solo"), ("", "shared"), ("", "change"))
            ),
            doc.Column("kept", media=doc.FILES),
            doc.Column("dropped", short="no overlap\ndropped"),
        ),
        groups=(tuple((name, *_row(tenant)) for name, tenant in tenants.items()),),
        caption=f"Iterations per second. {count.capitalize()}",
    )
    yield doc.paragraph(f"Iterations per second; {count}", media=doc.MARKDOWN)
    for name, tenant in tenants.items():
        yield doc.Data(name, tuple(_data(tenant)))


def _row(tenant: TenantSummary) -> list[str]:
    solo, shared, row = tenant.throughput.solo, tenant.throughput.shared, []
    for kind in _KINDS.values():
        before, after = getattr(solo, kind), getattr(shared, kind)
        row += [cells.number(before), cells.number(after), cells.change(before, after)]
    return [*row, str(tenant.overlap.kept), str(tenant.overlap.dropped)]


def _data(tenant: TenantSummary) -> Iterator[doc.Datum]:
    for side, rate in (("solo", tenant.throughput.solo), ("shared", tenant.throughput.shared)):
        yield doc.Datum("", side, "throughput", rate.real, "1/s")
        yield doc.Datum("", side, "throughput_1000_over_mean", rate.proxy, "1/s")
    if (good := tenant.goodput) is not None:
        yield cells.datum("response", "solo", "goodput", good.solo, "fraction")
        yield cells.datum("response", "shared", "goodput", good.shared, "fraction")
    yield doc.Datum("", "shared", "overlap_kept", tenant.overlap.kept, "iterations")
    yield doc.Datum("", "shared", "overlap_dropped", tenant.overlap.dropped, "iterations")
    yield doc.Datum("", "", "lead_left_out", tenant.overlap.lead, "iterations")
    if (met := tenant.collided) is not None:
        yield doc.Datum("response", "collided", "n", met.n, "iterations")
        yield doc.Datum("response", "collided", "share", met.share, "fraction")
        for quantile in cells.QUANTILES:
            yield cells.datum("response", "collided", quantile, getattr(met, quantile), "ms")
