"""The picture of a fleet: per tenant, by node, the p99 alone and what sharing made of it."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from kts.model.fleet_summary import FleetSummary, Measured, OverNodes
from kts.model.summary import Estimate
from kts.report import cells, charts
from kts.report.document import Figure
from kts.report.figures import Gallery
from kts.report.fleet import TITLES, sentence
from kts.report.theme import LIGHT

FIGURES = (("solo-p99", "solo p99, ms", 250), ("df99", "DF99: shared p99 / solo p99", 330))
ROW = 22


def draw(fleet: FleetSummary, kts_version: str) -> list[Figure]:
    """One of dots with intervals, the band of the others behind them. None where no node has figures."""
    return Gallery.of(lambda gallery: _draw(fleet, kts_version, gallery))


def _draw(fleet: FleetSummary, kts_version: str, gallery: Gallery) -> None:
    tenants = tuple(dict.fromkeys(row.tenant for one in fleet.nodes for row in one.tenants))
    if not tenants:
        return
    note = f"Dot: estimate; bar: {100 * fleet.confidence:g} % interval; line: median of the nodes with that GPU; "
    note += "shaded: their band; orange: outlier."
    footer = f"{fleet.experiment}, fleet {fleet.id} | kts {kts_version}"
    words = f"{sentence(fleet)} {_words(fleet)} {footer}"
    gallery.add("fleet", _title(fleet), words, lambda: _drawing(fleet, tenants), [note, footer])


def _drawing(fleet: FleetSummary, tenants: Sequence[str]) -> charts.Drawing:
    data: dict[str, charts.Rows] = {}
    rows = [alt.hconcat(*_panels(fleet, k, tenant, data), spacing=24) for k, tenant in enumerate(tenants)]
    return alt.vconcat(*rows, spacing=26), data


def _title(fleet: FleetSummary) -> str:
    n = sum(bool(one.tenants) for one in fleet.nodes)
    return (
        f"{fleet.experiment} on {n} of {len(fleet.nodes)} node{'' if len(fleet.nodes) == 1 else 's'}. {sentence(fleet)}"
    )


def _panels(fleet: FleetSummary, k: int, tenant: str, data: dict[str, charts.Rows]) -> list[charts.AnyChart]:
    names = [one.node for one in fleet.nodes]
    panels: list[charts.AnyChart] = []
    for column, (figure, title, width) in enumerate(FIGURES):
        dots, bands = f"dots{k}{column}", f"bands{k}{column}"
        data[dots] = _dots(fleet, tenant, figure)
        data[bands] = _bands(fleet, tenant, figure)
        axis = (
            charts.bare(labelLimit=190)
            if column == 0
            else alt.Axis(labels=False, ticks=False, domain=False, title=None)
        )
        y = alt.Y("node:N", sort=names, scale=alt.Scale(domain=names), axis=axis)
        scale = alt.Scale(domain=_domain(data[dots], data[bands], figure), nice=False, zero=False)
        x = alt.X("lo:Q", scale=scale, axis=alt.Axis(title=title, tickCount=5))
        colour = alt.condition(alt.datum.outlier, alt.value(LIGHT["shared"]), alt.value(LIGHT["solo"]))
        base = charts.of(dots).encode(y=y)
        layers = [
            charts.of(bands)
            .mark_rect(color=LIGHT["shade"], height=alt.RelativeBandSize(1))
            .encode(y=y, x=x, x2="hi:Q"),
            charts.of(bands).mark_tick(color=LIGHT["muted"], thickness=1, height=ROW).encode(y=y, x="median:Q"),
            base.mark_rule(strokeWidth=3).encode(x=x, x2="hi:Q", color=colour),
            base.mark_point(filled=True, size=70, opacity=1).encode(x="value:Q", color=colour),
            base.mark_text(align="left", dx=8).encode(x="at:Q", text="label:N"),
            base.transform_filter("datum.value === null")
            .mark_text(align="left", color=LIGHT["muted"])
            .encode(x=alt.value(6), text="label:N"),
        ]
        if figure == "df99":
            layers.insert(1, charts.dashed(dots, x=alt.XDatum(1.0, scale=scale)))
        heading = alt.TitleParams(f"{tenant}" if column == 0 else "", anchor="start")
        panels.append(alt.layer(*layers).properties(width=width, height=ROW * len(names), title=heading))
    return panels


def _dots(fleet: FleetSummary, tenant: str, figure: str) -> charts.Rows:
    out = {node for node, band in fleet.outliers if (band.tenant, band.figure) == (tenant, figure)}
    rows: charts.Rows = []
    for one in fleet.nodes:
        row = next((row for row in one.tenants if row.tenant == tenant), None)
        value = _value(row, figure) if row is not None else None
        if value is None or value.estimate is None:
            said = one.state if row is None or value is None else "refused"
            rows.append({"node": one.node, "value": None, "lo": None, "hi": None, "at": None, "label": said})
            continue
        lo, hi = (value.estimate if end is None else end for end in (value.lo, value.hi))
        text = cells.ratio_of(value) if figure == "df99" else cells.number(value.estimate)
        rows.append(
            {
                "node": one.node,
                "value": value.estimate,
                "lo": lo,
                "hi": hi,
                "at": hi,
                "label": text,
                "outlier": one.node in out,
            }
        )
    return rows


def _bands(fleet: FleetSummary, tenant: str, figure: str) -> charts.Rows:
    """One row per node that the band is of."""
    by_gpu = {b.gpu: b for b in fleet.bands if (b.tenant, b.figure) == (tenant, figure) and not b.refused}
    there = ((one.node, by_gpu.get(one.device.name)) for one in fleet.nodes if one.device is not None)
    return [{"node": node, **_ends(band)} for node, band in there if band is not None]


def _ends(band: OverNodes) -> dict[str, object]:
    return {"lo": band.lo, "hi": band.hi, "median": band.median}


def _value(row: Measured, figure: str) -> Estimate:
    return row.df99 if figure == "df99" else row.solo_p99


def _domain(dots: charts.Rows, bands: charts.Rows, figure: str) -> list[float]:
    """Holds 1 beside ratios."""
    ends = [float(str(row[end])) for row in [*dots, *bands] for end in ("lo", "hi") if row[end] is not None]
    return charts.room([*ends, 1.0] if figure == "df99" or not ends else ends)


def _words(fleet: FleetSummary) -> str:
    parts = [
        f"{one.node} {row.tenant} {TITLES['df99']} {cells.ratio_with_interval(row.df99)}"
        for one in fleet.nodes
        for row in one.tenants
    ]
    return "; ".join(parts) + "."
