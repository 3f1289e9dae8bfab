"""The picture of who hurts whom: a heat map of DF99."""

from __future__ import annotations

import altair as alt

from kts.model.summary import MixTenant, Summary
from kts.report.charts import WIDTH, AnyChart, Drawing, Rows, bare, of
from kts.report.sections import mixes
from kts.report.theme import HEAT, HEAT_STRONG, LIGHT

UNSETTLED = "not settled"
"""Undetermined, refused, or not to be told from drift."""
_EDGES = ((0.8, "below 0.8"), (0.95, "0.8 to 0.95"), (1.05, "about 1"), (1.25, "to 1.25"), (2.0, "to 2"), (4.0, "to 4"))
_ABOVE = "above 4"
BINS = [*(label for _, label in _EDGES), _ABOVE]
"""Steps of DF99 around 1, in order; one colour each, so that both themes show the same."""

INTERVAL_FROM_PX = 52
"""Narrower cells have no room for the interval; the table has it."""
TEXT_FROM_PX = 34
MOST_PX = 150
ROW_PX = 54


def heat_map(summary: Summary) -> Drawing:
    """Row suffers, column causes, last column the full house. Only for a run with `kts.report.sections.mixes.grid`."""
    table = mixes.grid(summary)
    if table is None:
        raise ValueError("no pair was measured")
    rows: Rows = [
        _row(name, head, cell) for name, row in table.rows for head, cell in zip(table.heads, row, strict=True)
    ]
    width = min(MOST_PX, (WIDTH - 110) // len(table.heads))
    height = ROW_PX if width >= INTERVAL_FROM_PX else 34
    filled = [row for row in rows if row["bin"] is not None]
    names = [name for name, _ in table.rows]
    x = alt.X("head:N", sort=list(table.heads), axis=_axis("beside", orient="top", angle=0 if width > 70 else -40))
    y = alt.Y("tenant:N", sort=names, axis=_axis("who suffers"))
    base = of("cells").encode(x=x, y=y)
    colour = alt.Color(
        "bin:N",
        scale=alt.Scale(domain=[*BINS, UNSETTLED], range=[*HEAT, LIGHT["invalid"]]),
        legend=alt.Legend(title="DF99", columns=0, symbolType="square", symbolSize=160, titleOrient="left"),
    )
    boxes = of("filled").mark_rect(stroke=LIGHT["background"], strokeWidth=3).encode(x=x, y=y, color=colour)
    ink = alt.condition(alt.datum.strong, alt.value(LIGHT["background"]), alt.value(LIGHT["ink"]))
    layers: list[AnyChart] = [boxes]
    if width >= TEXT_FROM_PX:
        roomy = width >= INTERVAL_FROM_PX
        size = 15 if roomy else 11
        layers.append(base.mark_text(fontSize=size, dy=-7 if roomy else 0).encode(text="text:N", color=ink))
        if roomy:
            layers.append(base.mark_text(fontSize=10, dy=11).encode(text="interval:N", color=ink))
    return alt.layer(*layers).properties(width=width * len(table.heads), height=height * len(names)), {
        "cells": rows,
        "filled": filled,
    }


def step(figures: MixTenant) -> str:
    """The step of the colour scale, or that nothing is settled."""
    df = figures.df_p99.estimate
    if df is None or figures.dimmed or figures.kind in {"undetermined", "refused"}:
        return UNSETTLED
    return next((label for edge, label in _EDGES if df < edge), _ABOVE)


def _row(name: str, head: str, cell: mixes.PairCell) -> dict[str, object]:
    bin_ = None if cell.figures is None else step(cell.figures)
    return {
        "tenant": name,
        "head": head,
        "text": cell.text,
        "interval": cell.interval,
        "bin": bin_,
        "strong": bin_ in BINS and HEAT[BINS.index(bin_)] in HEAT_STRONG,
    }


def _axis(title: str, *, orient: str = "left", angle: int = 0) -> alt.Axis:
    return bare(
        title,
        orient=orient,
        labelAngle=angle,
        labelAlign="left" if angle else alt.Undefined,
        labelFontSize=13,
        labelLimit=150 if orient == "left" else 112,
    )
