"""Pictures made from the figures alone: degradation per clock, and the four panels of the published report.

Charts are Altair values without data: rows go by name, and `kts.report.figures` joins both for rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from kts.model.summary import Estimate, Summary, TenantSummary
from kts.report import cells
from kts.report.theme import LIGHT, SIDE_COLOURS
from kts.stats.series import BlockSpan

Rows = list[dict[str, object]]
AnyChart = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.VConcatChart | alt.HConcatChart | alt.FacetChart
Drawing = tuple[AnyChart, dict[str, Rows]]
"""A chart, and the rows of its named data."""

WIDTH = 830
"""Of the drawing area; with axes and padding a picture is about 900 px wide."""
SIDES = ["solo", "shared"]
CLOCK_ORDER = ["response", "service", "device"]


def of(data: str) -> alt.Chart:
    """A chart of the named rows."""
    return alt.Chart(alt.NamedData(name=data))


def dashed(data: str, dash: tuple[int, int] = (4, 3), **at: Any) -> AnyChart:
    """A line to compare with."""
    line: alt.Chart = of(data).mark_rule(color=LIGHT["muted"], strokeDash=dash).encode(**at)
    return line


def room(ends: Sequence[float]) -> list[float]:
    """A domain from the least to the greatest of what is drawn, with room for texts beside it."""
    low, high = min(ends), max(ends)
    beside = max(high - low, 0.02 * high)
    return [low - 0.06 * beside, high + 0.22 * beside]


def bare(title: str | None = None, **more: Any) -> alt.Axis:
    """An axis of names, without ticks and line."""
    return alt.Axis(title=title, ticks=False, domain=False, labelPadding=8, **more)


def seconds(end_s: float, *, last: bool, **scale: Any) -> alt.X:
    """Time since the first block; only the last of several panels says so."""
    blank: dict[str, Any] = {} if last else {"labels": False, "ticks": False}
    axis = alt.Axis(title="seconds since the first block" if last else None, grid=False, **blank)
    return alt.X("t:Q", scale=alt.Scale(domain=[0, end_s], nice=False, **scale), axis=axis)


def block_rows(spans: Sequence[BlockSpan], is_shared: Callable[[BlockSpan], bool]) -> Rows:
    """Shared and invalid blocks, for `shades`."""
    kinds = ((s, "shared" if s.valid else "invalid") for s in spans if is_shared(s) or not s.valid)
    return [{"start": s.start_s, "end": s.end_s, "kind": kind} for s, kind in kinds]


def shades() -> list[alt.Chart]:
    """The ground of shared blocks, and of invalid ones, from the rows named ``blocks``."""
    blocks = of("blocks").mark_rect().encode(x="start:Q", x2="end:Q")
    return [
        blocks.transform_filter(alt.datum.kind == kind).encode(color=alt.value(LIGHT[colour]))
        for kind, colour in (("shared", "shade"), ("invalid", "invalid"))
    ]


def side_colour() -> alt.Color:
    """Solo and shared in their colours."""
    return alt.Color("side:N", scale=alt.Scale(domain=SIDES, range=SIDE_COLOURS), legend=alt.Legend(title=None))


def degradation(summary: Summary) -> Drawing:
    """Dot and interval of DF99 per tenant and clock, with a line at 1 (no change)."""
    data = {f"df{k}": _df_rows(tenant, summary.headline_clock) for k, tenant in enumerate(summary.tenants.values())}
    ends = [float(str(row["hi"])) for rows in data.values() for row in rows if row["hi"] is not None]
    starts = [float(str(row["lo"])) for rows in data.values() for row in rows if row["lo"] is not None]
    high, low = max([1.5, *ends]), min([0.9, *starts])
    log = high / max(low, 1e-9) > 12
    domain = [low * 0.9, high**1.3] if log else [low - 0.05, high + 0.28 * (high - low)]
    scale = alt.Scale(type="log" if log else "linear", domain=domain, nice=False, zero=False)
    last = len(data) - 1
    panels = [
        _df_panel(name, f"df{k}", scale, axis=k == last).properties(width=WIDTH - 90, height=72)
        for k, name in enumerate(summary.tenants)
    ]
    return alt.vconcat(*panels, spacing=10), data


def four_panel(summary: Summary) -> Drawing:
    """Per tenant a row: p50, p95, p99 solo against shared with whiskers, and throughput solo against shared."""
    panels: list[AnyChart] = []
    data: dict[str, Rows] = {}
    for k, (name, tenant) in enumerate(summary.tenants.items()):
        data[f"latency{k}"] = _latency_rows(tenant, summary.headline_clock)
        data[f"rate{k}"], rate_title = _rate_rows(name, tenant)
        title = f"{name}: {summary.headline_clock} time"
        note = _df_note(title, tenant, summary.headline_clock)
        panels.append(_bars(f"latency{k}", data[f"latency{k}"], "ms", note, 510))
        panels.append(_bars(f"rate{k}", data[f"rate{k}"], "iterations/s", rate_title, 240))
    chart = alt.concat(*panels, columns=2, spacing=30).resolve_legend(color="shared")
    return chart, data


def _df_rows(tenant: TenantSummary, headline: str) -> Rows:
    return [
        {
            "clock": clock,
            "df": df.estimate,
            **_whisker(df),
            "label": cells.ratio_with_interval(df) if df.estimate is not None else f"refused: {df.refused}"[:90],
            "at": 1.0 if df.estimate is None else _whisker(df)["hi"],
            "headline": clock == headline,
        }
        for clock, df in ((clock, figures.df.p99) for clock, figures in cells.clocks(tenant))
    ]


def _whisker(figure: Estimate) -> dict[str, float | None]:
    """From ``lo`` to ``hi``; without an interval of no length."""
    return {end: figure.estimate if value is None else value for end, value in (("lo", figure.lo), ("hi", figure.hi))}


def _df_panel(name: str, data: str, scale: alt.Scale, *, axis: bool) -> AnyChart:
    y = alt.Y(
        "clock:N",
        sort=CLOCK_ORDER,
        axis=bare(
            name,
            titleAngle=0,
            titleAlign="right",
            titleAnchor="middle",
            titleBaseline="middle",
            titleFontSize=13,
            titleFontWeight="bold",
            titleColor=LIGHT["ink"],
            titleLimit=150,
        ),
    )
    title = "DF99: shared p99 / solo p99, same clock (1 = sharing changes nothing)"
    x_axis = (
        alt.Axis(title=title, tickCount=8) if axis else alt.Axis(labels=False, ticks=False, title=None, domain=False)
    )
    base = of(data).encode(y=y)
    colour = alt.condition(alt.datum.headline, alt.value(LIGHT["shared"]), alt.value(LIGHT["solo"]))
    return alt.layer(
        dashed(data, x=alt.XDatum(1.0, scale=scale)),
        base.mark_rule(strokeWidth=3).encode(x=alt.X("lo:Q", scale=scale, axis=x_axis), x2="hi:Q", color=colour),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x="df:Q",
            color=colour,
            shape=alt.Shape(
                "clock:N", scale=alt.Scale(domain=CLOCK_ORDER, range=["circle", "diamond", "square"]), legend=None
            ),
        ),
        base.mark_text(align="left", dx=9).encode(x="at:Q", text="label:N"),
    )


def _latency_rows(tenant: TenantSummary, clock: str) -> Rows:
    figures = getattr(tenant, clock)
    return [
        _bar_row(quantile, side, getattr(latency, quantile))
        for side, latency in (("solo", figures.solo), ("shared", figures.shared))
        for quantile in cells.QUANTILES
    ]


def _bar_row(figure: str, side: str, value: Estimate) -> dict[str, object]:
    whisker = _whisker(value)
    return {
        "figure": figure,
        "side": side,
        "value": value.estimate,
        **whisker,
        "top": whisker["hi"] or 0.0,
        "label": cells.number(value.estimate) if value.estimate is not None else "refused",
    }


def _rate_rows(name: str, tenant: TenantSummary) -> tuple[Rows, str]:
    rates = tenant.throughput
    kind, how = ("real", "completed / wall") if rates.solo.real is not None else ("proxy", "1000 / mean")
    solo, shared = getattr(rates.solo, kind), getattr(rates.shared, kind)
    rows = [
        _bar_row(side, side, Estimate(estimate=value, lo=None, hi=None))
        for side, value in (("solo", solo), ("shared", shared))
    ]
    note = "" if solo is None or shared is None else f", {cells.change(solo, shared)}"
    return rows, f"{name}: {how}{note}"


def _df_note(title: str, tenant: TenantSummary, clock: str) -> str:
    df = getattr(tenant, clock).df
    ratios = [f"{q} {cells.ratio(getattr(df, q).estimate)}x" for q in ("p50", "p99") if getattr(df, q).estimate]
    return f"{title}, {', '.join(ratios)}" if ratios else title


def _bars(data: str, rows: Rows, y_title: str, title: str, width: int) -> AnyChart:
    latency = len({row["figure"] for row in rows}) > len(SIDES)
    group, order = ("figure", list(cells.QUANTILES)) if latency else ("side", SIDES)
    room = 1.14 * max([float(str(row["top"])) for row in rows]) or 1.0
    x = alt.X(f"{group}:N", sort=order, axis=alt.Axis(title=None, labelAngle=0, ticks=False))
    base = of(data).encode(x=x)
    y = alt.Y("value:Q", axis=alt.Axis(title=y_title, tickCount=5), scale=alt.Scale(domain=[0, room]))
    if latency:
        base = base.encode(xOffset=alt.XOffset("side:N", sort=SIDES))
    return alt.layer(
        base.mark_bar(cornerRadiusTopLeft=2, cornerRadiusTopRight=2).encode(y=y, color=side_colour()),
        base.mark_rule(color=LIGHT["ink"], strokeWidth=1.5).encode(y=alt.Y("lo:Q"), y2="hi:Q"),
        base.mark_text(dy=-8).encode(y=alt.Y("top:Q"), text="label:N"),
    ).properties(width=width, height=190, title=alt.TitleParams(title, limit=width + 40))
