"""The picture of causes: a waterfall per tenant, from the time alone to the time with company."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from kts.model.causes import Decomposition
from kts.report import cause_words, cells
from kts.report.charts import WIDTH, AnyChart, Drawing, Rows, bare, of
from kts.report.theme import LIGHT

ROW = 22
"""Height of a bar with its gap, px."""
KINDS = {"added": LIGHT["shared"], "saved": LIGHT["solo"], "unexplained": LIGHT["muted"]}
NAMES = 170
"""Room for the causes' names, px."""
LABEL = 40
"""Longest label beside a bar; what is longer is cut."""


def waterfalls(found: Sequence[cause_words.Told]) -> Drawing:
    """A panel per tenant (and condition) that has parts, at least one; each on an axis of its own."""
    panels: list[AnyChart] = []
    data: dict[str, Rows] = {}
    for one in found:
        head = cause_words.headline(one.causes)
        if head is None:
            continue
        steps = cause_words.steps(head)
        name = f"waterfall{len(panels)}"
        data[name] = _rows(head, steps)
        panels.append(_panel(name, data[name], f"{one.name}: {head.statistic} of the response, ms"))
    return alt.vconcat(*panels, spacing=18).resolve_scale(x="independent", y="independent"), data


def _rows(head: Decomposition, steps: Sequence[cause_words.Step]) -> Rows:
    digits = cause_words.decimals(head)
    rows: Rows = []
    for number, step in enumerate(steps):
        part = step.part
        row: dict[str, object] = {"row": number, "cause": step.label, "begin": step.begin, "end": step.end}
        if part is None:
            row |= {"kind": "side", "label": f"{cells.number(step.end)} ms"}
        else:
            kind = "unexplained" if part.cause == "unexplained" else "added" if part.ms >= 0 else "saved"
            by = cause_words.whose(part, digits)
            sign = "+" if part.ms > 0 else ""
            row |= {
                "kind": kind,
                "label": f"{sign}{cause_words.milliseconds(part.ms, digits)}{f' ({by})' if by else ''}",
            }
            if part.lo is not None and part.hi is not None:
                row |= {"lo": step.begin + part.lo, "hi": step.begin + part.hi}
        row["label"] = _cut(str(row["label"]))
        row["at"] = max(float(str(row.get(key, step.end))) for key in ("begin", "end", "hi"))
        rows.append(row)
    return rows


def _cut(text: str) -> str:
    return text if len(text) <= LABEL else f"{text[: LABEL - 3]}..."


def _panel(data: str, rows: Rows, title: str) -> AnyChart:
    ends = [float(str(row[key])) for row in rows for key in ("begin", "end", "lo", "hi") if key in row]
    low, high = min(ends), max(ends)
    room = (high - low) or max(abs(high), 1.0)
    scale = alt.Scale(domain=[low - 0.03 * room, high + 0.42 * room], nice=False, zero=False)
    x = alt.X("begin:Q", scale=scale, axis=alt.Axis(title=None, tickCount=6))
    y = alt.Y("row:O", axis=bare(labelExpr=_names(rows), labelLimit=NAMES, minExtent=NAMES))
    base = of(data).encode(y=y)
    colours = alt.Scale(domain=list(KINDS), range=list(KINDS.values()))
    bars = (
        base.transform_filter(alt.datum.kind != "side")
        .mark_bar(height=ROW - 8, strokeWidth=1.5)
        .encode(
            x=x,
            x2="end:Q",
            fill=alt.Fill("kind:N", scale=colours, legend=None),
            stroke=alt.Stroke("kind:N", scale=colours, legend=None),  # so that the thinnest is seen, too
        )
    )
    return alt.layer(
        bars,
        base.transform_filter(alt.datum.kind == "side")
        .mark_tick(thickness=3, size=ROW - 6, color=LIGHT["ink"], opacity=1)
        .encode(x=x),
        base.mark_rule(color=LIGHT["ink"], strokeWidth=1.5).encode(x=alt.X("lo:Q", scale=scale), x2="hi:Q"),
        base.mark_text(align="left", dx=8).encode(x=alt.X("at:Q", scale=scale), text="label:N"),
    ).properties(width=WIDTH - NAMES, height=ROW * len(rows), title=alt.TitleParams(title, limit=WIDTH, offset=6))


def _names(rows: Rows) -> str:
    """An expression for the axis: two causes never share a row, whatever they are called."""
    names = ", ".join(repr(str(row["cause"])) for row in rows)
    return f"[{names}][datum.value]"
