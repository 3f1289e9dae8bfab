"""The picture of a validated prediction: where the measured figures lie in their predicted bands."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt

from kts.physics.validate import MODEL, Score, TenantScore
from kts.report import cells
from kts.report.charts import WIDTH, AnyChart, Drawing, Rows, bare, dashed, of
from kts.report.document import Figure
from kts.report.figures import Gallery
from kts.report.theme import LIGHT

SHOWN = ("p50", "p95", "p99")
ROW_PX, DENSE_ROW_PX, DENSE_FROM = 34, 22, 13
CROWD_FROM = 41
"""Tenants from which on a row for each would be longer than anybody reads."""
SIGNED = "datum.value > 0 ? '+' + datum.label : datum.label"
PANEL_PX = (WIDTH - 150) // len(SHOWN)


def draw_score(score: Score, device: str, kts_version: str) -> list[Figure]:
    """One picture, with a panel each for p50, p95 and p99 of the response: one row per tenant and mix, or of very many
    one dot each."""
    return Gallery.of(lambda gallery: _draw(score, device, kts_version, gallery))


def _draw(score: Score, device: str, kts_version: str, gallery: Gallery) -> None:
    crowd = len(_responses(score)) >= CROWD_FROM
    panels = CROWD if crowd else {figure: ("response", figure) for figure in SHOWN}
    drawing = _crowd if crowd else _drawing
    note = f"Bar: {100 * score.confidence:g} % band; tick: prediction; dot: measured. Text: predicted and measured, ms."
    if crowd:
        note = f"Bar: {100 * score.confidence:g} % band; dot: measured, orange outside of its band."
    title = _title(score, panels)
    clocks = "response time and its DF" if crowd else "response time"
    footer = f"{device} | run {score.run} | {clocks} | kts {kts_version}"
    gallery.add("prediction", title, f"{title}. {_words(score)} {footer}", lambda: drawing(score), [note, footer])


def _title(score: Score, panels: Mapping[str, tuple[str, str]]) -> str:
    """How far off the tail is, and how many bands of what is drawn hold the measured figure."""
    found = [c for clock, name in panels.values() if (c := score.coverage.get(clock, {}).get(name)) is not None]
    held = f"{sum(c.inside for c in found)} of {sum(c.n for c in found)} in their bands"
    errors = score.errors["response"].get(MODEL, {})
    name = "p99" if "p99" in errors else "p95"
    if name not in errors:
        return f"Predicted against measured: {held}"
    ratio = score.errors.get("df", {}).get(MODEL, {}).get("p99")
    if "DF99" in panels and ratio is not None:
        off = f"{name} {cells.percent(errors[name].median)} off its prediction, DF99 {cells.percent(ratio.median)}"
        return f"{off} (medians); {held}"
    return f"Predicted against measured: {name} off by {cells.percent(errors[name].median)} (median); {held}"


def _responses(score: Score) -> list[TenantScore]:
    return [tenant for tenant in score.tenants if tenant.clock == "response"]


def _drawing(score: Score) -> Drawing:
    tenants = _responses(score)
    rows = {figure: [row for tenant in tenants for row in _rows(tenant, figure)] for figure in SHOWN}
    names = [_label(tenant) for tenant in tenants]
    panels: list[AnyChart] = [
        _panel(figure, names, _domain(rows), first=figure == SHOWN[0]) for figure in SHOWN if rows[figure]
    ]
    return alt.hconcat(*panels, spacing=14), dict(rows)


def _rows(tenant: TenantScore, figure: str) -> Rows:
    return [
        {
            "name": _label(tenant),
            "lo": 100 * ((item.predicted.lo or item.predicted.value) / item.predicted.value - 1),
            "hi": 100 * ((item.predicted.hi or item.predicted.value) / item.predicted.value - 1),
            "measured": 100 * (item.measured / item.predicted.value - 1),
            "predicted": 0.0,
            "text": f"{cells.number(item.predicted.value)}, {cells.number(item.measured)}",
        }
        for item in tenant.figures
        if item.figure == figure and item.predicted.value
    ]


def _domain(rows: dict[str, Rows]) -> list[float]:
    """The same scale for all panels, with room for the text on the right."""
    values = [float(str(row[key])) for panel in rows.values() for row in panel for key in ("lo", "hi", "measured")]
    low, high = min([-1.0, *values]), max([1.0, *values])
    return [low - 0.05 * (high - low), high + 0.75 * (high - low)]


def _panel(figure: str, names: list[str], domain: list[float], *, first: bool) -> AnyChart:
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    axis = alt.Axis(title="off prediction, %", tickCount=5, labelExpr=SIGNED)
    y = alt.Y("name:N", sort=names, axis=bare(labelLimit=240) if first else None)
    base = of(figure).encode(y=y)
    return alt.layer(
        dashed(figure, x=alt.XDatum(0.0, scale=scale)),
        base.mark_bar(height=11, color=LIGHT["solo"]).encode(x=alt.X("lo:Q", scale=scale, axis=axis), x2="hi:Q"),
        base.mark_tick(thickness=2, height=19, color=LIGHT["ink"]).encode(x=alt.X("predicted:Q", scale=scale)),
        base.mark_point(filled=True, size=75, opacity=1, color=LIGHT["shared"]).encode(
            x=alt.X("measured:Q", scale=scale)
        ),
        base.mark_text(align="right", fontSize=11).encode(x=alt.value(PANEL_PX - 2), text="text:N"),
    ).properties(
        width=PANEL_PX, height=(DENSE_ROW_PX if len(names) >= DENSE_FROM else ROW_PX) * len(names), title=figure
    )


CROWD: dict[str, tuple[str, str]] = {
    "p50": ("response", "p50"),
    "p95": ("response", "p95"),
    "p99": ("response", "p99"),
    "DF99": ("df", "p99"),
}
"""Panels of a crowd: clock and figure."""
CROWD_PX = (WIDTH - 210) // len(CROWD)


def _crowd(score: Score) -> Drawing:
    """A dot per tenant and mix: how far off the prediction it was measured, against how long that is. Ratios have an
    axis of their own."""
    data: dict[str, Rows] = {}
    for panel, (clock, figure) in CROWD.items():
        rows = [
            {**row, "ms": item.measured, "side": "in its band" if item.inside else "outside"}
            for tenant in score.tenants
            if tenant.clock == clock
            for item in tenant.figures
            if item.figure == figure
            for row in _rows(tenant, figure)
        ]
        if rows:
            data[panel] = rows
    times = [row for panel, rows in data.items() if CROWD[panel][0] == "response" for row in rows]
    panels: list[AnyChart] = [
        _crowd_panel(panel, *_scales(times if CROWD[panel][0] == "response" else rows), first=k == 0)
        for k, (panel, rows) in enumerate(data.items())
    ]
    return alt.hconcat(*panels, spacing=14), data


def _scales(rows: Rows) -> tuple[alt.Scale, alt.Scale]:
    """Across and up: how long, and how far off."""
    long = [float(str(row["ms"])) for row in rows]
    off = [float(str(row[key])) for row in rows for key in ("lo", "hi", "measured")]
    across = alt.Scale(type="log", domain=[0.8 * min(long), 1.25 * max(long)], nice=False)
    return across, alt.Scale(domain=[min(off) - 4, max(off) + 4], nice=False)


def _crowd_panel(panel: str, times: alt.Scale, scale: alt.Scale, *, first: bool) -> AnyChart:
    ratio = CROWD[panel][0] == "df"
    title = "measured, off prediction, %" if first else None
    y = alt.Y("measured:Q", scale=scale, axis=alt.Axis(title=title, labelExpr=SIGNED, labels=first or ratio))
    ticks = [k * 10.0**power for power in range(-3, 5) for k in (1, 3)]
    across = "measured DF" if ratio else "measured, ms"
    x = alt.X("ms:Q", scale=times, axis=alt.Axis(title=across, values=ticks, grid=False))
    base = of(panel).encode(x=x)
    colour = alt.Color(
        "side:N",
        scale=alt.Scale(domain=["in its band", "outside"], range=[LIGHT["ink"], LIGHT["shared"]]),
        legend=alt.Legend(title=None) if first else None,
    )
    return alt.layer(
        base.mark_rule(strokeWidth=3, color=LIGHT["solo"], opacity=0.45).encode(
            y=alt.Y("lo:Q", scale=scale), y2="hi:Q"
        ),
        dashed(panel, y=alt.YDatum(0.0, scale=scale)),
        base.mark_point(filled=True, size=34, opacity=1).encode(y=y, color=colour),
    ).properties(width=CROWD_PX, height=330, title=panel)


def _label(tenant: TenantScore) -> str:
    return f"{tenant.tenant} in {tenant.mix}"


def _words(score: Score) -> str:
    parts = [
        f"{_label(tenant)}: {item.figure} predicted {cells.number(item.predicted.value)} ms, "
        f"measured {cells.number(item.measured)} ms"
        for tenant in score.tenants
        if tenant.clock == "response"
        for item in tenant.figures
        if item.figure in SHOWN
    ]
    return "; ".join(parts) + "."
