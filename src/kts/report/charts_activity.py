"""The picture of telemetry over the run: one panel per figure, shared blocks shaded."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from kts.report.charts import WIDTH, AnyChart, Drawing, Rows, block_rows, of, seconds, shades, side_colour
from kts.report.sections import activity
from kts.report.theme import LIGHT
from kts.stats.series import ActivityTrace, BlockSpan

PANELS = 8
"""Most panels: a page is not taller."""
DRAWN = ("sm", "dram", "process-sm", "cpu-wait")


def drawn(traces: Sequence[ActivityTrace]) -> list[ActivityTrace]:
    """Those that get a panel; time on a CPU core is little else than the wait seen from the other side."""
    return [trace for trace in traces if trace.role in DRAWN and len(trace.t_s)][:PANELS]


def over_time(traces: Sequence[ActivityTrace], spans: Sequence[BlockSpan], shared: frozenset[str]) -> Drawing:
    """Per trace a line over the run, its points in the colour of the block they are in. ``shared``: conditions."""
    end_s = max((span.end_s for span in spans), default=1.0)
    data: dict[str, Rows] = {"blocks": block_rows(spans, lambda span: span.condition in shared)}
    panels = []
    for k, trace in enumerate(traces):
        data[f"activity{k}"] = _rows(trace, spans, shared)
        panels.append(_panel(trace, f"activity{k}", end_s, last=k == len(traces) - 1))
    return alt.vconcat(*panels, spacing=12).resolve_legend(color="shared"), data


def _rows(trace: ActivityTrace, spans: Sequence[BlockSpan], shared: frozenset[str]) -> Rows:
    """A gap of more than five bins breaks the line: ``run`` numbers its pieces."""
    starts = np.array([span.start_s for span in spans])
    step = float(np.median(np.diff(trace.t_s))) if len(trace.t_s) > 1 else 1.0
    rows: Rows = []
    run, before = 0, float("-inf")
    for t, value in zip(trace.t_s.tolist(), trace.value.tolist(), strict=True):
        run += t - before > 5 * step
        before = t
        place = int(np.searchsorted(starts, t, side="right")) - 1
        inside = place >= 0 and t <= spans[place].end_s
        side = ("shared" if spans[place].condition in shared else "solo") if inside else "between"
        rows.append({"t": round(t, 4), "value": float(f"{value:.5g}"), "side": side, "run": run})
    return rows


def _panel(trace: ActivityTrace, data: str, end_s: float, *, last: bool) -> AnyChart:
    top = max(1.0, float(trace.value.max()))
    y = alt.Y(
        "value:Q", scale=alt.Scale(domain=[0, top], nice=False), axis=alt.Axis(title=None, format="%", tickCount=4)
    )
    base = of(data).encode(x=seconds(end_s, last=last, clamp=True), y=y)
    line = base.mark_line(color=LIGHT["muted"], strokeWidth=0.8, opacity=0.6).encode(detail="run:N")
    points = (
        base.transform_filter(alt.datum.side != "between")
        .mark_point(filled=True, size=11, opacity=0.85)
        .encode(color=side_colour())
    )
    name = activity.title(trace.role, trace.source, trace.scope, trace.subject)
    return alt.layer(*shades(), line, points).properties(
        width=WIDTH, height=100, title=alt.TitleParams(name, limit=WIDTH, offset=4)
    )
