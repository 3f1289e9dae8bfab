"""Pictures made from series: the tail, latency over time, and who was on the device when."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import altair as alt
import numpy as np
from numpy.typing import NDArray

from kts.report.charts import (
    WIDTH,
    AnyChart,
    Drawing,
    Rows,
    block_rows,
    dashed,
    of,
    seconds,
    shades,
    side_colour,
)
from kts.report.theme import LIGHT, SIDE_COLOURS
from kts.stats.series import PLACES, SIDES, BlockSpan, OverTime, Strip, TenantSeries

POINTS_PER_PICTURE = 3600
POINTS_PER_TENANT = 1500
STRIP_MS = 400.0
POINTS = ["circle", "diamond", "cross"]
SHARED = PLACES.index("shared")
STRIP_BARS = 60
"""Most bars of one tenant in the strip: more are too thin to see."""


def tail(series: dict[str, TenantSeries]) -> Drawing:
    """Per tenant: fraction of iterations at least as slow as x, response solid and device dashed, p99 marked."""
    panels, data = [], {}
    width = (WIDTH - 110) // 2 if len(series) > 1 else WIDTH
    for k, (name, tenant) in enumerate(series.items()):
        rows = _tail_rows(tenant)
        data[f"tail{k}"] = rows
        panels.append(_tail_panel(name, f"tail{k}", rows, width))
    data["p99"] = [{"fraction": 0.01, "label": "p99"}]
    chart = alt.concat(*panels, columns=2, spacing=30)
    return chart.resolve_legend(color="shared", strokeDash="shared"), data


def over_time(series: dict[str, TenantSeries], spans: Sequence[BlockSpan]) -> Drawing:
    """Per tenant: every kept iteration at its time, shared blocks shaded, invalid blocks grey."""
    shared = shared_blocks(series)
    end_s = max((span.end_s for span in spans), default=1.0)
    data: dict[str, Rows] = {"blocks": block_rows(spans, lambda span: span.block in shared)}
    cap = min(POINTS_PER_TENANT, POINTS_PER_PICTURE // max(1, len(series)))
    panels = []
    for k, (name, tenant) in enumerate(series.items()):
        data[f"time{k}"] = _time_rows(tenant.over_time, cap)
        panels.append(_time_panel(name, f"time{k}", data[f"time{k}"], end_s, last=k == len(series) - 1))
    return alt.vconcat(*panels, spacing=14).resolve_legend(color="shared"), data


def shared_blocks(series: dict[str, TenantSeries]) -> set[int]:
    """Blocks in which somebody had company."""
    return {int(block) for s in series.values() for block in np.unique(s.over_time.block[s.over_time.place == SHARED])}


def timeline(series: dict[str, TenantSeries], *, on_cpu: bool) -> Drawing:
    """One row per tenant: each iteration a bar from submit to retire, its device time in full colour at the end."""
    strips = {name: s.strip for name, s in series.items() if s.strip is not None and len(s.strip.submit_s)}
    start_ms, end_ms = _busiest_stretch(list(strips.values()))
    own = "CPU time" if on_cpu else "device time"
    parts = [f"not {own}", own, "device time unknown"]
    rows = [row for name, strip in strips.items() for row in _strip_rows(name, strip, start_ms, end_ms, parts)]
    colours = [LIGHT["wait"], LIGHT["shared"], LIGHT["solo"]]
    used = [(p, c) for p, c in zip(parts, colours, strict=True) if any(row["part"] == p for row in rows)]
    chart = (
        of("strip")
        .mark_bar(height=26, stroke=LIGHT["background"], strokeWidth=0.7)
        .encode(
            x=alt.X(
                "start:Q",
                scale=alt.Scale(domain=[0, end_ms - start_ms], nice=False),
                axis=alt.Axis(title="milliseconds"),
            ),
            x2="end:Q",
            y=alt.Y(
                "tenant:N",
                sort=list(strips),
                axis=alt.Axis(title=None, ticks=False, domain=False, labelFontSize=13, labelPadding=6),
            ),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=[p for p, _ in used], range=[c for _, c in used]),
                legend=alt.Legend(title=None) if used else None,  # an empty one has no size
            ),
        )
        .properties(width=WIDTH, height=46 * max(1, len(strips)))
    )
    return chart, {"strip": rows}


def _tail_rows(tenant: TenantSeries) -> Rows:
    return [
        {"ms": float(ms), "fraction": float(slower), "side": side, "clock": clock}
        for side in SIDES
        for clock in ("response", "device")
        if (curve := tenant.tails.get(side, {}).get(clock)) is not None
        for ms, slower in zip(curve.ms, curve.fraction_slower, strict=True)
    ]


def _tail_panel(name: str, data: str, rows: Rows, width: int) -> AnyChart:
    x_scale = latency_scale(np.array([row["ms"] for row in rows], dtype=float), log_from=6)
    lowest = min((float(str(row["fraction"])) for row in rows), default=1e-3)
    y = alt.Y(
        "fraction:Q",
        scale=alt.Scale(type="log", domain=[min(lowest, 5e-3), 1.0], nice=False),
        axis=alt.Axis(
            title="iterations at least this slow",
            values=[10.0**-k for k in range(8)],
            labelExpr="format(datum.value * 100, '~g') + ' %'",
        ),
    )
    lines = (
        of(data)
        .mark_line(interpolate="step-before", strokeWidth=2)
        .encode(
            x=alt.X("ms:Q", scale=x_scale, axis=alt.Axis(title="ms", tickCount=6)),
            y=y,
            color=side_colour(),
            strokeDash=alt.StrokeDash(
                "clock:N",
                scale=alt.Scale(domain=["response", "device"], range=[[1, 0], [5, 3]]),
                legend=alt.Legend(title=None, symbolStrokeColor=LIGHT["ink"]),
            ),
        )
    )
    return alt.layer(
        dashed("p99", (2, 3), y="fraction:Q"),
        of("p99")
        .mark_text(align="left", dx=4, color=LIGHT["muted"])
        .encode(y="fraction:Q", x=alt.value(width), text="label:N"),
        lines,
    ).properties(width=width, height=230, title=alt.TitleParams(name, limit=width))


def _time_rows(points: OverTime, cap: int) -> Rows:
    picked = thin(points.t_s, points.service_ms, cap)
    return [
        {
            "t": round(float(points.t_s[j]), 4),
            "ms": float(f"{points.service_ms[j]:.5g}"),
            "side": PLACES[int(points.place[j])],
        }
        for j in picked
    ]


def thin(t_s: NDArray[np.float64], ms: NDArray[np.float64], cap: int) -> NDArray[np.intp]:
    """Indices of at most ``cap`` points: of each stretch of time the slowest, and the first for the bulk."""
    if len(t_s) <= cap:
        return np.arange(len(t_s))
    edges = np.linspace(0, len(t_s), cap // 2 + 1).astype(int)
    order = np.argsort(t_s, kind="stable")
    picked = [j for a, b in pairwise(edges) if b > a for j in (order[a], order[a:b][np.argmax(ms[order[a:b]])])]
    return np.unique(picked)


def _time_panel(name: str, data: str, rows: Rows, end_s: float, *, last: bool) -> AnyChart:
    y_scale = latency_scale(np.array([row["ms"] for row in rows], dtype=float), log_from=20)
    points = (
        of(data)
        .mark_point(filled=True, size=9, opacity=0.75)
        .encode(
            x=seconds(end_s, last=last),
            y=alt.Y("ms:Q", scale=y_scale, axis=alt.Axis(title="service ms", tickCount=5)),
            color=alt.Color(
                "side:N",
                scale=alt.Scale(domain=PLACES, range=[*SIDE_COLOURS, LIGHT["muted"]]),
                legend=alt.Legend(title=None),
            ),
            shape=alt.Shape(
                "side:N", scale=alt.Scale(domain=PLACES, range=["circle", "diamond", "cross"]), legend=None
            ),
        )
    )
    return alt.layer(*shades(), points).properties(
        width=WIDTH, height=130, title=alt.TitleParams(name, limit=WIDTH, offset=4)
    )


def latency_scale(ms: NDArray[np.float64], *, log_from: float) -> alt.Scale:
    """Logarithmic where the slowest is ``log_from`` times the fastest or more, else linear, with a little room."""
    ms = ms[np.isfinite(ms) & (ms > 0)]
    if not len(ms):
        return alt.Scale(zero=False)
    low, high = float(ms.min()), float(ms.max())
    if high / low >= log_from:
        return alt.Scale(type="log", domain=[low * 0.93, high * 1.1], nice=False)
    room = 0.04 * (high - low) or 0.1 * high
    return alt.Scale(domain=[max(0.0, low - room), high + room], nice=False, zero=False)


def _busiest_stretch(strips: list[Strip]) -> tuple[float, float]:
    """Begin and end (ms) of the stretch with most service less device time, short enough to see single iterations."""
    if not strips:
        return 0.0, STRIP_MS
    ends_ms = [float(s.retire_s.max()) * 1e3 for s in strips]
    length_ms = min(STRIP_MS, max(ends_ms))
    for strip in strips:
        rate_per_ms = len(strip.submit_s) / max(1e-9, float(strip.retire_s.max() - strip.submit_s.min()) * 1e3)
        length_ms = min(length_ms, STRIP_BARS / rate_per_ms)
    submit_ms = np.concatenate([s.submit_s for s in strips]) * 1e3
    wait_ms = np.concatenate([(s.retire_s - s.submit_s) * 1e3 - s.device_ms for s in strips])
    wait_ms = np.nan_to_num(wait_ms, nan=0.0)
    starts = np.arange(0.0, max(1e-9, max(ends_ms) - length_ms) + length_ms / 2, length_ms / 2)
    waited = [float(wait_ms[(submit_ms >= a) & (submit_ms < a + length_ms)].sum()) for a in starts]
    start_ms = min(float(starts[int(np.argmax(waited))]), max(0.0, max(ends_ms) - length_ms))
    return start_ms, start_ms + length_ms


def _strip_rows(name: str, strip: Strip, start_ms: float, end_ms: float, parts: Sequence[str]) -> Rows:
    waiting, running, unknown = parts
    rows: Rows = []

    def add(begin: float, end: float, part: str) -> None:
        begin, end = max(begin, start_ms), min(end, end_ms)
        if end > begin:
            rows.append({"tenant": name, "start": begin - start_ms, "end": end - start_ms, "part": part})

    for submit_s, retire_s, device_ms in zip(strip.submit_s, strip.retire_s, strip.device_ms, strict=True):
        submit, retire = float(submit_s) * 1e3, float(retire_s) * 1e3
        if np.isnan(device_ms):
            add(submit, retire, unknown)
            continue
        begin = max(submit, retire - float(device_ms))
        add(submit, begin, waiting)
        add(begin, retire, running)
    return rows
