"""Quantiles of each tenant on each clock, solo and shared, and what sharing makes of the tail."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import Degradation, Latency, Summary, TenantSummary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report

_COLLIDED = (
    "Shared is what a user of the tenant sees while the neighbours are there, pausing or not; collided are those "
    "iterations of it (as a share) during which a neighbour had one in flight, on the response clock."
)


def section(report: Report) -> Iterator[doc.Element]:
    """A row per tenant and clock; narrow terminals keep to the p99s, wide ones show DF50 and DF95, too."""
    summary = report.summary
    clock, stopwatch = summary.headline_clock, cells.device_clock_note(summary)
    yield doc.Heading("In numbers", "numbers", media=doc.PAGE)
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject", short="ms"),
            doc.Column("clock", "name"),
            *(
                doc.Column(f"{side} {q}", short=f"{side}\n{q}", from_width=0 if q == "p99" else cells.FULL_COLUMNS)
                for side in ("solo", "shared")
                for q in cells.QUANTILES
            ),
            *(doc.Column(f"\n{df}", from_width=cells.WIDE_COLUMNS, media=doc.TERMINAL) for df in ("DF50", "DF95")),
            doc.Column(cells.interval_head(summary), short=f"DF99 ({100 * summary.confidence:g} %)"),
        ),
        groups=tuple(tuple(_rows(name, tenant, clock)) for name, tenant in summary.tenants.items()),
        layout="headed",
        caption="Latency in milliseconds per tenant and clock. DF99 = shared p99 / solo p99; the headline clock is "
        f"{clock}. {_COLLIDED} {stopwatch}",
    )
    if any(tenant.collided is not None for tenant in summary.tenants.values()):
        yield doc.paragraph(_COLLIDED, media=doc.MARKDOWN)
    yield doc.paragraph(
        "Latencies in milliseconds. DF99 = shared p99 / solo p99 on the same clock; the headline is "
        f"{clock}. {stopwatch}",
        media=doc.MARKDOWN,
    )
    for name, tenant in summary.tenants.items():
        yield doc.Data(name, tuple(_data(tenant)))


def _rows(name: str, tenant: TenantSummary, headline: str) -> Iterator[doc.Row]:
    for clock, figures in cells.clocks(tenant):
        df = figures.df
        quantiles = (getattr(side, q).estimate for side in (figures.solo, figures.shared) for q in cells.QUANTILES)
        row = [clock, *map(cells.number, quantiles), cells.ratio(df.p50.estimate), cells.ratio(df.p95.estimate)]
        tail = cells.ratio_with_interval(df.p99)
        if clock == headline:
            yield (name, *row, doc.Cell(tail, "strong"))
        else:
            yield (name, *(doc.Cell(text, "quiet") for text in (*row, tail)))
    if (met := tenant.collided) is not None:
        quantiles = (getattr(met, q).estimate for q in cells.QUANTILES)
        row = [f"collided {cells.percent(met.share)}", *[""] * len(cells.QUANTILES), *map(cells.number, quantiles)]
        yield (name, *(doc.Cell(text, "quiet") for text in (*row, "", "", "")))


def _data(tenant: TenantSummary) -> Iterator[doc.Datum]:
    for clock, figures in cells.clocks(tenant):
        for side, latency in (("solo", figures.solo), ("shared", figures.shared)):
            yield doc.Datum(clock, side, "n", latency.n, "iterations")
            yield doc.Datum(clock, side, "mean", latency.mean, "ms")
            yield from _quantiles(clock, side, latency, "ms")
            yield cells.datum(clock, side, "jitter", latency.jitter, "ratio")
        yield from _quantiles(clock, "df", figures.df, "ratio")


def _quantiles(clock: str, condition: str, of: Latency | Degradation, unit: str) -> Iterator[doc.Datum]:
    for quantile in Degradation.__struct_fields__:
        yield cells.datum(clock, condition, quantile, getattr(of, quantile), unit)


def refusals(summary: Summary) -> list[str]:
    """Why figures of the table are ``-``: one line per tenant and reason."""
    places: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, tenant in summary.tenants.items():
        for clock, figures in cells.clocks(tenant):
            sides = (("solo", figures.solo), ("shared", figures.shared))
            shown = [(f"{side} {q}", getattr(latency, q)) for side, latency in sides for q in cells.QUANTILES]
            for label, figure in [*shown, ("DF99", figures.df.p99)]:
                if figure.estimate is None:
                    reason = figure.refused or "not measured"
                    places.setdefault((name, reason), {}).setdefault(clock, []).append(label)
    return [f"{name}: {reason} ({'; '.join(_said(clocks))})" for (name, reason), clocks in places.items()]


def _said(clocks: dict[str, list[str]]) -> list[str]:
    same: dict[str, list[str]] = {}
    for clock, labels in clocks.items():
        same.setdefault("all" if len(labels) == 7 else ", ".join(labels), []).append(clock)
    return [f"{', '.join(names)}: {labels}" for labels, names in same.items()]
