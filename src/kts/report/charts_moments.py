"""The pictures of `kts explain`: waterfalls, and per tenant the timelines of its slowest iterations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import altair as alt

from kts.report import cause_words, cells, charts_causes
from kts.report.charts import WIDTH, AnyChart, Drawing, Rows, bare, of
from kts.report.document import Figure
from kts.report.explaining import stretch, tell, words, worst_name
from kts.report.figures import Gallery
from kts.report.theme import LIGHT

if TYPE_CHECKING:
    from kts.physics.explained import Explained, Explanation
    from kts.stats.moments import Moment

LANE = 20
"""Height of a lane, px."""
NAMES = 110
"""Most room for the tenants' names, px,"""
LETTER = 7
"""with so much for a letter."""
LANES = 6
"""Most of a moment: the tenant's own, and those longest in flight."""


def draw(explanation: Explanation) -> list[Figure]:
    """The waterfalls, if there are causes, and a picture per tenant that has slow iterations."""
    return Gallery.of(partial(_draw, explanation))


def _draw(explanation: Explanation, gallery: Gallery) -> None:
    footer = f"{explanation.device} | {explanation.mode} | {explanation.experiment}, run {explanation.run}"
    told = tell(explanation)
    if any(one.causes.of for one in told):
        title, alt_text = cause_words.title(told), cause_words.words(told)
        note = "From alone to with company: bars to the right were added, bars to the left saved; grey is unexplained."
        drawing = partial(charts_causes.waterfalls, told)
        gallery.add("causes", title, f"{title}. {alt_text} {footer}", drawing, [note, footer])
    for number, one in enumerate(explanation.tenants):
        if one.worst:
            usual = cells.number(one.together.p50.estimate)
            title = (
                f"The slowest iterations of {one.tenant}: {cells.number(one.worst[0].response_ms)} ms, usual {usual} ms"
            )
            note = "Milliseconds since it was due. What a neighbour has in flight may have had the device, or waited."
            drawing = partial(timelines, one, on_cpu=explanation.on_cpu)
            gallery.add(worst_name(number), title, f"{title}. {words(one)} {footer}", drawing, [note, footer])


def timelines(one: Explained, *, on_cpu: bool) -> Drawing:
    """A small panel per iteration, two a row: a lane for itself, and one for each neighbour in flight."""
    own = "its CPU time" if on_cpu else "on the device's stopwatch"
    colours = {
        "queued": LIGHT["invalid"],
        "in flight": LIGHT["wait"],
        own: LIGHT["shared"],
        "a neighbour's, in flight": LIGHT["solo"],
    }
    data: dict[str, Rows] = {}
    panels: list[AnyChart] = []
    for number, moment in enumerate(one.worst):
        data[f"moment{number}"] = _rows(one.tenant, moment, list(colours))
    used = [kind for kind in colours if any(row["kind"] == kind for rows in data.values() for row in rows)]
    scale = alt.Scale(domain=used, range=[colours[kind] for kind in used])
    longest = max(len(str(row["name"])) for rows in data.values() for row in rows)
    names_px = min(NAMES, LETTER * longest + 10)
    for number, moment in enumerate(one.worst):
        panels.append(_panel(f"moment{number}", data[f"moment{number}"], moment, scale, names_px))
    chart = alt.concat(*panels, columns=2, spacing=24).resolve_scale(x="independent", y="independent")
    return chart.resolve_legend(color="shared"), data


def _rows(tenant: str, moment: Moment, kinds: list[str]) -> Rows:
    queued, waiting, running, other = kinds
    end = moment.response_ms
    begin = end if moment.device_ms is None else max(moment.queue_ms, end - moment.device_ms)
    pieces = [(0.0, moment.queue_ms, queued), (moment.queue_ms, begin, waiting), (begin, end, running)]
    rows: Rows = [{"lane": 0, "name": tenant, "begin": a, "end": b, "kind": kind} for a, b, kind in pieces if b > a]
    for number, lane in enumerate([lane for lane in moment.lanes if lane.flights][: LANES - 1], start=1):
        name = f"{tenant}, others" if lane.tenant == tenant else lane.tenant
        rows += [{"lane": number, "name": name, "begin": a, "end": b, "kind": other} for a, b in lane.flights]
    return rows


def _panel(data: str, rows: Rows, moment: Moment, colours: alt.Scale, names_px: int) -> AnyChart:
    names = list(dict.fromkeys(str(row["name"]) for row in rows))
    labels = f"[{', '.join(map(repr, names))}][datum.value]"
    begin, end = stretch(moment)
    width = WIDTH // 2 - names_px - 12
    panel: alt.Chart = (
        of(data)
        .mark_bar(height=LANE - 6)
        .encode(
            x=alt.X(
                "begin:Q",
                scale=alt.Scale(domain=[begin, end], nice=False),
                axis=alt.Axis(title=None, tickCount=5),
            ),
            x2="end:Q",
            y=alt.Y("lane:O", axis=bare(labelExpr=labels, labelLimit=names_px, minExtent=names_px)),
            color=alt.Color("kind:N", scale=colours, legend=alt.Legend(title=None)),
        )
        .properties(
            width=width,
            height=LANE * len(names),
            title=alt.TitleParams(
                f"{cells.number(moment.response_ms)} ms at {moment.at_s:.2f} s, round {moment.round}",
                limit=width,
                offset=4,
                fontSize=12,
            ),
        )
    )
    return panel
