"""The picture of who was not in one steady state: every iteration's level over time, coloured by its state."""

from __future__ import annotations

import altair as alt
import numpy as np

from kts.model.run import Settled
from kts.report.charts import WIDTH, AnyChart, Drawing, Rows, dashed, of, seconds
from kts.report.charts_series import latency_scale, thin
from kts.report.theme import LIGHT
from kts.stats.series import Stages
from kts.steady import RATIO

STATES = ["left out", "its level", "slower", "faster"]
COLOURS = [LIGHT["muted"], LIGHT["solo"], LIGHT["shared"], LIGHT["wait"]]
POINTS = 1500


def stages(found: dict[str, Stages], before: dict[str, Settled], end_s: float) -> Drawing:
    """Per tenant: iterations against time, in the colour of their state, with a line at each state's level; and those
    before its first block of who was not steady then."""
    panels: list[AnyChart] = []
    data: dict[str, Rows] = {"one": [{"level": 1.0}]}
    cap = max(100, POINTS // max(len(found), 1))
    for k, one in enumerate(found.values()):
        data[f"stages{k}"], data[f"levels{k}"] = _rows(one, cap), _levels(one)
    used = [state for state in STATES if any(row.get("state") == state for rows in data.values() for row in rows)]
    for k, name in enumerate(found):
        panels.append(_panel(name, k, data[f"stages{k}"], end_s, used, last=k == len(found) - 1))
    for k, (name, settled) in enumerate(before.items()):
        data[f"before{k}"] = [{"t": t_s, "ms": ms} for t_s, ms in settled.course]
        panels.append(_before_panel(name, f"before{k}", data[f"before{k}"]))
    return alt.vconcat(*panels, spacing=14).resolve_legend(color="shared"), data


def _rows(one: Stages, cap: int) -> Rows:
    state = np.zeros(len(one.t_s), dtype=np.int64)
    for segment in one.segments:
        state[segment.first : segment.beyond] = STATES.index(_state(segment.level))
    state[: one.first] = STATES.index("left out")
    return [
        {"t": round(float(one.t_s[j]), 4), "level": float(f"{one.level[j]:.4g}"), "state": STATES[int(state[j])]}
        for j in thin(one.t_s, one.level, cap)
    ]


def _state(level: float) -> str:
    return "slower" if level >= RATIO else "faster" if level <= 1 / RATIO else "its level"


def _levels(one: Stages) -> Rows:
    return [{"t": float(one.t_s[s.first]), "end": float(one.t_s[s.beyond - 1]), "level": s.level} for s in one.segments]


def _before_panel(name: str, data: str, rows: Rows) -> AnyChart:
    scale = latency_scale(np.array([row["ms"] for row in rows], dtype=float), log_from=6)
    panel: alt.Chart = (
        of(data)
        .mark_point(filled=True, size=9, opacity=0.75, color=LIGHT["muted"])
        .encode(
            x=alt.X("t:Q", axis=alt.Axis(title="seconds before the first block, since its warm-up", grid=False)),
            y=alt.Y("ms:Q", scale=scale, axis=alt.Axis(title="ms", tickCount=5)),
        )
        .properties(
            width=WIDTH, height=110, title=alt.TitleParams(f"{name}, before its first block", limit=WIDTH, offset=4)
        )
    )
    return panel


def _panel(name: str, k: int, rows: Rows, end_s: float, used: list[str], *, last: bool) -> AnyChart:
    y_scale = latency_scale(np.array([row["level"] for row in rows], dtype=float), log_from=6)
    y = alt.Y("level:Q", scale=y_scale, axis=alt.Axis(title="times its level", tickCount=5))
    points = (
        of(f"stages{k}")
        .mark_point(filled=True, size=9, opacity=0.75)
        .encode(
            x=seconds(end_s, last=last),
            y=y,
            color=alt.Color(
                "state:N",
                scale=alt.Scale(domain=used, range=[COLOURS[STATES.index(one)] for one in used]),
                legend=alt.Legend(title=None),
            ),
        )
    )
    lines = of(f"levels{k}").mark_rule(color=LIGHT["ink"], strokeWidth=2).encode(x="t:Q", x2="end:Q", y="level:Q")
    return alt.layer(dashed("one", y=y), points, lines).properties(
        width=WIDTH, height=150, title=alt.TitleParams(name, limit=WIDTH, offset=4)
    )
