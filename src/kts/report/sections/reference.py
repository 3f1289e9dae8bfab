"""The run in the terms of the published system."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import ReferenceTable
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """Metric, solo, shared, change; nothing where no tenant has device times."""
    of = {name: tenant.reference for name, tenant in report.summary.tenants.items() if tenant.reference is not None}
    if not of:
        return
    yield doc.Heading("In the terms of the published system", media=doc.MARKDOWN)
    yield doc.Table(
        columns=(doc.Column("metric", "name"), doc.Column("solo"), doc.Column("shared"), doc.Column("change")),
        groups=tuple(tuple(_rows(name, table)) for name, table in of.items()),
        caption="The published system's own terms: device time, every sample, throughput as 1000/mean.",
    )
    yield doc.paragraph(
        "Device time, every sample, no intervals, throughput as 1000/mean: comparable with figures published that way, "
        "blind to what is not on the device's stopwatch.",
        media=doc.MARKDOWN,
    )


def _rows(name: str, table: ReferenceTable) -> Iterator[doc.Row]:
    for quantile in cells.QUANTILES:
        df = table.df.get(quantile)
        solo, shared = getattr(table.solo, quantile), getattr(table.shared, quantile)
        yield (
            f"{name} {quantile} ms",
            f"{solo:.3f}",
            f"{shared:.3f}",
            doc.NOTHING if df is None else f"{cells.ratio(df)}x",
        )
    yield f"{name} jitter", cells.ratio(table.solo.jitter), cells.ratio(table.shared.jitter), ""
    solo, shared = table.solo.throughput, table.shared.throughput
    yield f"{name} iterations/s", f"{solo:.1f}", f"{shared:.1f}", cells.change(solo, shared)
