"""The picture of a run in several modes: per tenant DF99 by mode, and how much the device does in each."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt

from kts.model.mode import EXCLUSIVE
from kts.model.modes import ModeResult, ModesSummary
from kts.model.summary import Estimate
from kts.report import cells, charts
from kts.report.document import Figure
from kts.report.figures import Gallery
from kts.report.modes import sentence
from kts.report.theme import LIGHT

WIDTH, ROW = 430, 24


def draw(modes: ModesSummary, kts_version: str) -> list[Figure]:
    """One of dots with intervals, a row per mode; a panel per tenant, and one of the work that the device does."""
    return Gallery.of(lambda gallery: _draw(modes, kts_version, gallery))


def _draw(modes: ModesSummary, kts_version: str, gallery: Gallery) -> None:
    note = f"Dot: estimate; bar: {100 * modes.confidence:g} % interval; dashed: as alone."
    footer = f"{modes.experiment}, run {modes.run} on {modes.device} | kts {kts_version}"
    words = f"{sentence(modes)} {_words(modes)} {footer}"
    best = modes.choice.best
    title = f"{modes.experiment}: best shared as {best}" if best else f"{modes.experiment}: no mode is recommended"
    gallery.add("modes", title, words, lambda: drawing(modes), [note, footer])


def drawing(modes: ModesSummary) -> charts.Drawing:
    """The panels, one below the other, and their rows."""
    tenants = dict.fromkeys(name for one in modes.modes for name in one.tenants)
    data: dict[str, charts.Rows] = {}
    panels = [_tail(modes, number, name, data) for number, name in enumerate(tenants)]
    panels.append(_work(modes, data))
    return alt.vconcat(*panels, spacing=18), data


def _tail(modes: ModesSummary, number: int, tenant: str, data: dict[str, charts.Rows]) -> charts.AnyChart:
    name = f"tails{number}"
    data[name] = rows = [_tail_row(one, one.tenants[tenant].df99) for one in modes.modes]
    y = alt.Y("mode:N", sort=[one.mode.name for one in modes.modes], axis=charts.bare(labelLimit=160))
    base = charts.of(name).encode(y=y)
    told = any(one.mode.kind != EXCLUSIVE and one.tenants[tenant].df99.estimate is not None for one in modes.modes)
    in_words = base.transform_filter("datum.value === null") if told else base
    words = in_words.mark_text(align="left", color=LIGHT["muted"]).encode(x=alt.value(6), text="label:N")
    layers = (*_intervals(name, rows, base), words) if told else (words,)
    heading = alt.TitleParams(tenant, anchor="start")
    return alt.layer(*layers).properties(width=WIDTH, height=ROW * len(rows), title=heading)


def _tail_row(one: ModeResult, df: Estimate) -> dict[str, object]:
    label = f"refused: {df.refused}" if df.estimate is None else cells.ratio_of(df)
    return {"mode": one.mode.name, "value": df.estimate, "lo": df.lo, "hi": df.hi, "label": label}


def _intervals(name: str, rows: charts.Rows, base: alt.Chart) -> Iterator[charts.AnyChart]:
    """Dots and bars of what is known, beside the line of a tenant alone."""
    ends = [float(str(row[end])) for row in rows for end in ("lo", "hi") if row[end] is not None]
    scale = alt.Scale(domain=charts.room([*ends, 1.0]), nice=False, zero=False)
    x = alt.X("lo:Q", scale=scale, axis=alt.Axis(title="DF99: p99 shared / p99 alone", tickCount=5))
    yield charts.dashed(name, x=alt.XDatum(1.0, scale=scale))
    yield base.mark_rule(strokeWidth=3, color=LIGHT["shared"]).encode(x=x, x2="hi:Q")
    yield base.mark_point(filled=True, size=70, opacity=1, color=LIGHT["shared"]).encode(x="value:Q")
    yield base.mark_text(align="left", dx=8).encode(x="hi:Q", text="label:N")


def _work(modes: ModesSummary, data: dict[str, charts.Rows]) -> charts.AnyChart:
    data["work"] = rows = [_work_row(one) for one in modes.modes]
    scale = alt.Scale(domain=[0.0, 1.15 * max(1.0, *(float(str(row["end"])) for row in rows))], nice=False)
    y = alt.Y("mode:N", sort=[one.mode.name for one in modes.modes], axis=charts.bare(labelLimit=160))
    base = charts.of("work").encode(y=y)
    x = alt.X("value:Q", scale=scale, axis=alt.Axis(title="tenants' worth of work that the device does", tickCount=5))
    layers = (
        base.mark_bar(color=LIGHT["solo"], height=ROW * 0.55).encode(x=x),
        base.transform_filter("datum.lo !== null")
        .mark_rule(strokeWidth=3, color=LIGHT["shared"])
        .encode(x="lo:Q", x2="hi:Q"),
        base.mark_text(align="left", dx=6).encode(x="end:Q", text="label:N"),
    )
    heading = alt.TitleParams("work per device", anchor="start")
    return alt.layer(*layers).properties(width=WIDTH, height=ROW * len(data["work"]), title=heading)


def _work_row(one: ModeResult) -> dict[str, object]:
    """``end``: where its label begins."""
    known, value = one.throughput_interval, one.throughput
    lo, hi = (known.lo, known.hi) if known is not None else (None, None)
    end = max(value or 0.0, hi or 0.0)
    return {"mode": one.mode.name, "value": value, "lo": lo, "hi": hi, "end": end, "label": cells.ratio(value)}


def _words(modes: ModesSummary) -> str:
    parts = [
        f"{one.mode.name} {name} DF99 {cells.ratio_with_interval(tenant.df99)}"
        for one in modes.modes
        for name, tenant in one.tenants.items()
    ]
    return "; ".join(parts) + "."
