"""The pictures of a report: title, words for those who cannot see them, and rendering to SVG and PNG."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable
from typing import Any

import altair as alt

from kts.model.summary import ClockSummary, Summary, TenantSummary
from kts.report import (
    cause_words,
    cells,
    charts,
    charts_activity,
    charts_causes,
    charts_matrix,
    charts_series,
    charts_steady,
)
from kts.report.document import Figure
from kts.report.renderer import Renderer, UndrawnError
from kts.report.sections import activity, mixes, steady
from kts.report.theme import LIGHT, config, darken
from kts.shown import first_few, one_line
from kts.stats.series import Analysis

TITLE_CHARACTERS = 92
SUBTITLE_CHARACTERS = 128
NAME_CHARACTERS = 24
NAMED = 3
"""Tenants named in a title; the picture shows all."""


class Gallery:
    """Pictures in the order asked for. One that fails is there with the reason: it costs no report."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self.figures: list[Figure] = []

    def add(
        self, name: str, title: str, words: str, drawing: Callable[[], charts.Drawing], subtitle: list[str]
    ) -> None:
        """One drawing, in both themes. ``words`` are for those who cannot see it."""
        try:
            svg = _describe(self._renderer.svg(_spec(drawing(), title, subtitle)), words)
            files = tuple(
                file
                for suffix, drawn in (("", svg), ("-dark", darken(svg)))
                for file in (
                    (f"{name}{suffix}.svg", drawn.encode()),
                    (f"{name}{suffix}.png", self._renderer.png(drawn)),
                )
            )
            self.figures.append(Figure(name=name, title=title, alt=words, svg=svg, files=files))
        except Exception as error:  # whatever it is, the figures are told without it
            self._failed(name, title, words, error)

    def _failed(self, name: str, title: str, words: str, error: Exception) -> None:
        why = str(error) if isinstance(error, UndrawnError) else f"{type(error).__name__}: {error}"
        self.figures.append(Figure(name=name, title=title, alt=words, svg="", undrawn=why))

    @classmethod
    def of(cls, draw: Callable[[Gallery], None]) -> list[Figure]:
        """What ``draw`` has added, to its end or as far as it came."""
        with Renderer() as renderer:
            gallery = cls(renderer)
            try:
                draw(gallery)
            except Exception as error:
                gallery._failed("of the rest", "", "", error)
            return gallery.figures


def draw(analysis: Analysis, kts_version: str) -> list[Figure]:
    """All pictures that the data allow, headline first. Offline: fonts come with the renderer."""
    return Gallery.of(lambda gallery: _draw(analysis, kts_version, gallery))


def _draw(analysis: Analysis, kts_version: str, gallery: Gallery) -> None:
    summary, series = analysis.summary, analysis.series
    footer = (
        f"{cells.device_label(summary)} | {summary.mode} | {summary.experiment}, run {summary.run} | kts {kts_version}"
    )
    drift = ", no drift in it" if cells.dimmed(summary) else ""

    def add(name: str, title: str, note: str, text: str, drawing: Callable[[], charts.Drawing]) -> None:
        gallery.add(name, title, f"{title}. {text} {footer}", drawing, [note, footer])

    add(
        "degradation",
        degradation_title(summary),
        f"Dot: estimate; bar: {100 * summary.confidence:g} % interval{drift}; round dot: headline clock. "
        + cells.device_clock_note(summary),
        _degradation_words(summary),
        lambda: charts.degradation(summary),
    )
    causes = cause_words.told(summary)
    if any(one.causes.of for one in causes):
        add(
            "causes",
            cause_words.title(causes),
            "From alone to with company: bars to the right were added, bars to the left saved; grey is unexplained. "
            f"Whiskers: {100 * summary.confidence:g} % intervals.",
            cause_words.words(causes),
            lambda: charts_causes.waterfalls(causes),
        )
    if mixes.grid(summary) is not None:
        add(
            "matrix",
            _matrix_title(summary),
            mixes.legend(summary),
            mixes.words(summary),
            lambda: charts_matrix.heat_map(summary),
        )
    add(
        "four-panel",
        _four_panel_title(summary),
        f"Bars: estimates; whiskers: {100 * summary.confidence:g} % intervals. Left: latency; right: throughput.",
        "Bars of p50, p95, p99 and throughput per tenant, solo against shared; the table has the numbers.",
        lambda: charts.four_panel(summary),
    )
    if any(s.tails for s in series.values()):
        add(
            "tail",
            _tail_title(summary),
            "How far right a curve reaches at the p99 line is its p99. Solid: response; dashed: device.",
            "Curves of the fraction of iterations at least as slow as x, per tenant, solo and shared.",
            lambda: charts_series.tail(series),
        )
    if any(len(s.over_time.t_s) for s in series.values()):
        add(
            "over-time",
            "Latency over the run",
            "Shaded: shared blocks; grey: invalid blocks, not analysed; crosses: not counted, for want of company or "
            "at a block's edge. Thinned; the slowest of each stretch is kept.",
            "One point per iteration against time, per tenant.",
            lambda: charts_series.over_time(series, analysis.spans),
        )
    if uneven := steady.unsteady(summary):
        stages = {name: s.stages for name, s in series.items() if s.stages is not None}
        before = {name: one.settled for name, one in uneven.items() if one.settled is not None and one.unsettled}
        add(
            "steady-state",
            steady.title(summary),
            "Each iteration's duration over the median of those that count under the same conditions. Lines: states.",
            steady.words(summary),
            lambda: charts_steady.stages(stages, before, max((span.end_s for span in analysis.spans), default=1.0)),
        )
    if any(s.strip is not None and (s.strip.retire_s > s.strip.submit_s).any() for s in series.values()):
        add(
            "timeline",
            "Device time, and the rest of each iteration: a stretch of a shared block",
            _timeline_note(summary),
            "One row per tenant, one bar per iteration, what is not device time pale.",
            lambda: charts_series.timeline(series, on_cpu=cells.on_cpu(summary)),
        )
    if traces := charts_activity.drawn(analysis.activity):
        blocks = charts_series.shared_blocks(series)
        shared = frozenset(span.condition for span in analysis.spans if span.block in blocks)
        add(
            "activity",
            "What the device and the tenants did over the run",
            'Shaded: shared blocks. "device": whoever used it; "tenant": the tenant alone. Means of equal bins.',
            f"Telemetry against time. Over the iterations: {activity.words(summary)}",
            lambda: charts_activity.over_time(traces, analysis.spans, shared),
        )


def degradation_title(summary: Summary) -> str:
    """The finding in plain words, from the verdicts: the tenants shown to be worse, worst first."""
    found = ((_headline(summary, t).df.p99, name) for name, t in summary.tenants.items() if t.verdict.kind == "worse")
    worse = sorted(
        ((df.estimate, name, df) for df, name in found if df.estimate is not None),
        key=lambda row: row[:2],
        reverse=True,
    )
    if not worse:
        open_ = mixes.unsettled([tenant.verdict.kind for tenant in summary.tenants.values()])
        refused = all(tenant.verdict.kind == "refused" for tenant in summary.tenants.values())
        return f"No tenant's p99 is shown to be worse when sharing{open_}" if not refused else "Too few data for a DF99"
    parts = [f"{_short(name)} {cells.ratio_of(df)}x" for _, name, df in worse]
    if cells.dimmed(summary):
        return f"The p99 was worse together, drift not excluded: {first_few(parts, NAMED)}"
    return f"Sharing makes the p99 worse: {first_few(parts, NAMED)}"


def _matrix_title(summary: Summary) -> str:
    """The worst pair shown to be worse."""
    worst = mixes.worst(summary)
    if worst is None:
        return f"Who hurts whom: {mixes.without_worst(summary)}"
    factor, name, cause = worst
    return f"Who hurts whom: worst is {_short(name)} beside {_short(cause)}, {cells.ratio(factor)}x"


def _timeline_note(summary: Summary) -> str:
    full = (
        "Full colour: CPU time, drawn at the end although it came in pieces."
        if cells.on_cpu(summary)
        else "Full colour: the device's own stopwatch, which also runs through the turns of others."
    )
    return f"Bars: iterations, submit to retire, where service less device time is most. {full}"


def _headline(summary: Summary, tenant: TenantSummary) -> ClockSummary:
    return dict(cells.clocks(tenant))[summary.headline_clock]


def _short(name: str) -> str:
    return textwrap.shorten(name, NAME_CHARACTERS, placeholder="...") if " " in name else name[:NAME_CHARACTERS]


def _degradation_words(summary: Summary) -> str:
    parts = [
        f"{name} {clock} DF99 {cells.ratio_with_interval(figures.df.p99)}"
        for name, tenant in summary.tenants.items()
        for clock, figures in cells.clocks(tenant)
    ]
    return "; ".join(parts) + "."


def _four_panel_title(summary: Summary) -> str:
    parts = []
    for name, tenant in summary.tenants.items():
        df = _headline(summary, tenant).df
        if df.p50.estimate is not None and df.p99.estimate is not None:
            parts.append(f"{_short(name)} median {cells.ratio(df.p50.estimate)}x, p99 {cells.ratio(df.p99.estimate)}x")
    return f"Shared against solo: {'; '.join(parts[:NAMED])}" if parts else "Shared against solo"


def _tail_title(summary: Summary) -> str:
    known = []
    for name, tenant in summary.tenants.items():
        figures = _headline(summary, tenant)
        solo, shared, df = figures.solo.p99.estimate, figures.shared.p99.estimate, figures.df.p99.estimate
        if solo is not None and shared is not None and df is not None:
            known.append((df, name, solo, shared))
    if not known:
        return "How often iterations are slow"
    _, name, solo, shared = max(known)
    times = f"{cells.number(solo)} ms solo, {cells.number(shared)} ms shared"
    return f"1 in 100 iterations of {_short(name)} takes at least {times}"


def _spec(drawing: charts.Drawing, title: str, subtitle: list[str]) -> dict[str, Any]:
    chart, rows = drawing
    params = alt.TitleParams(
        textwrap.wrap(one_line(title), TITLE_CHARACTERS),
        subtitle=[line for part in subtitle for line in textwrap.wrap(one_line(part), SUBTITLE_CHARACTERS)],
        fontSize=16,
        color=LIGHT["ink"],
        offset=16,
    )
    spec: dict[str, Any] = chart.properties(title=params).to_dict()
    spec["config"] = config()
    spec["datasets"] = rows
    return spec


def _describe(svg: str, words: str) -> str:
    """Gives the root element a role and a description for those who cannot see it."""
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(one_line(words))}" ', 1)
