"""The picture of more and more tenants of one kind at once: DF99, goodput and memory against how many, by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from kts.model.summary import Estimate
from kts.report import cells, charts
from kts.report.document import Figure
from kts.report.figures import Gallery
from kts.report.theme import LIGHT
from kts.stats.crowd import ALONE, CrowdFigures

WIDTH, HEIGHT = 560, 170
COLOURS = [LIGHT[role] for role in ("solo", "shared", "worse", "ink", "muted")]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross"]
GIB = 2**30

Memory = Mapping[str, Mapping[int, int]]
"""By mode and number of tenants, bytes of the device's memory."""


def draw(crowds: Sequence[CrowdFigures], memory: Memory, deadline_ms: float, footer: str) -> list[Figure]:
    """One of three panels; of memory none where nobody tells of it."""
    modes = list(dict.fromkeys(one.mode for one in crowds if one.mode != ALONE))
    most = max(one.tenants for one in crowds)
    title = f"From one tenant to {most}: {_ends(crowds, modes, most)}"
    words = "; ".join(f"{one.mode} {one.tenants}: DF99 {cells.ratio_with_interval(one.df99)}" for one in crowds)
    note = "Dot: estimate; bar: 95 % interval; dashed: as alone. A refused figure has no dot."
    return Gallery.of(
        lambda gallery: gallery.add(
            "crowd", title, f"{words}. {footer}", lambda: _drawing(crowds, memory, modes, deadline_ms), [note, footer]
        )
    )


def _ends(crowds: Sequence[CrowdFigures], modes: Sequence[str], most: int) -> str:
    told = [
        f"DF99 {cells.ratio_of(one.df99)} in {one.mode}"
        for one in crowds
        if one.tenants == most and one.mode in modes and one.df99.estimate is not None
    ]
    return ", ".join(told) or "no DF99 at most tenants"


def _drawing(
    crowds: Sequence[CrowdFigures], memory: Memory, modes: Sequence[str], deadline_ms: float
) -> charts.Drawing:
    data: dict[str, charts.Rows] = {
        "df99": [row for one in crowds if one.mode in modes for row in _row(one.mode, one.tenants, one.df99)],
        "goodput": [row for one in crowds if one.mode in modes for row in _row(one.mode, one.tenants, one.goodput)],
        "memory": [
            {"mode": mode, "n": n, "value": size / GIB, "lo": size / GIB, "hi": size / GIB}
            for mode, sizes in memory.items()
            for n, size in sizes.items()
        ],
    }
    counts = sorted({one.tenants for one in crowds if one.mode in modes})
    panels = [_panel("df99", "DF99: p99 / p99 alone", modes, counts, scale=alt.Scale(type="log", nice=True), at=1.0)]
    panels.append(_panel("goodput", f"within {deadline_ms:g} ms", modes, counts, scale=alt.Scale(domain=[0, 1])))
    if data["memory"]:
        panels.append(_panel("memory", "device memory (GiB)", modes, counts, scale=alt.Scale(zero=True)))
    return alt.vconcat(*panels, spacing=18), data


def _row(mode: str, n: int, figure: Estimate) -> charts.Rows:
    if figure.estimate is None:
        return []
    return [{"mode": mode, "n": n, "value": figure.estimate, "lo": figure.lo, "hi": figure.hi}]


def _panel(
    name: str, title: str, modes: Sequence[str], counts: Sequence[int], *, scale: alt.Scale, at: float | None = None
) -> charts.AnyChart:
    axis = alt.Axis(title="tenants at once", grid=False, values=list(counts), format="d")
    x = alt.X("n:Q", scale=alt.Scale(type="log", base=2, nice=False), axis=axis)
    colour = alt.Color("mode:N", scale=alt.Scale(domain=list(modes), range=COLOURS), legend=alt.Legend(title=None))
    shape = alt.Shape("mode:N", scale=alt.Scale(domain=list(modes), range=SHAPES), legend=alt.Legend(title=None))
    base = charts.of(name).encode(x=x, color=colour)
    y = alt.Y("value:Q", scale=scale, axis=alt.Axis(title=title, tickCount=5))
    layers: list[charts.AnyChart] = [] if at is None else [charts.dashed(name, y=alt.YDatum(at, scale=scale))]
    layers += [
        base.mark_line(strokeWidth=1.5).encode(y=y),
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("lo:Q", scale=scale), y2="hi:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y, shape=shape),
    ]
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)
