"""What `kts explain` says, as a document: why, the slowest iterations, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kts.model.mode import EXCLUSIVE
from kts.report import cells, markdown
from kts.report import document as doc
from kts.report.cause_words import Told
from kts.report.forecasts import band, meaning
from kts.report.sections.causes import told_elements

if TYPE_CHECKING:
    from kts.physics.explained import Basis, Explained, Explanation
    from kts.stats.moments import Lane, Moment, StandOut

BAR = 32
"""Characters of a timeline in a terminal."""
NARROW = 64
"""Below this width a terminal has no room for one."""
QUEUED, WAITING, RUNNING, UNTIMED, OTHER = "·", "░", "█", "▒", "▓"
SHOWS = 0.001
"""Of the time: threads that waited for less for a core are not named."""
SHOWN = 3
"""Neighbours that have a lane of their own in a terminal: those longest in flight."""


def explanation_elements(of: Explanation, figures: Sequence[doc.Figure] = ()) -> Iterator[doc.Element]:
    """All three parts. Pictures stand behind what they show."""
    by_name = {figure.name: figure for figure in figures}
    yield doc.Paragraph(
        (
            doc.Cell(of.experiment, "strong"),
            doc.Cell("  on  "),
            doc.Cell(of.device, "warning" if of.on_cpu else "badge"),
        )
    )
    yield doc.paragraph(f"run {of.run}, {of.mode}, {of.condition} against each tenant alone", "quiet", close=True)
    yield doc.Heading("Why", "causes")
    told = tell(of)
    yield from told_elements(told, bars=True)
    if lines := tuple(doc.Item(line) for one in of.tenants if (line := _threads(one))):
        yield doc.Bullets(lines)
    if missing := [one.tenant for one in of.tenants if one.causes is None]:
        yield doc.paragraph(f"{', '.join(missing)}: this run has no causes", "undetermined")
    if "causes" in by_name:
        yield by_name["causes"]
    for number, one in enumerate(of.tenants):
        if one.worst:
            yield from _worst(one, on_cpu=of.on_cpu)
        if (name := worst_name(number)) in by_name:
            yield by_name[name]
    yield from _changes(of)


def tell(of: Explanation) -> list[Told]:
    """Its causes, as reports tell them."""
    return [Told(one.tenant, one.tenant, one.causes) for one in of.tenants if one.causes is not None]


def worst_name(number: int) -> str:
    """Of the picture of a tenant's slowest iterations."""
    return f"worst-{number + 1}"


def explanation_document(of: Explanation, figures: Sequence[doc.Figure] = ()) -> doc.Document:
    """For files."""
    return doc.Document(
        elements=tuple(explanation_elements(of, figures)),
        title=f"{of.experiment} on {of.device}: why",
        heading=f"{of.experiment}: why sharing cost what it did",
        footer=f"Explained by kts explain; run {of.run}, {of.condition}",
    )


def explanation_md(of: Explanation) -> str:
    """As GitHub Markdown, without pictures."""
    return markdown.render(explanation_document(of))


def _threads(of: Explained) -> str:
    """Which of its threads had no core, and for how much of the time; empty where none waited for `SHOWS` of it."""
    told = [
        f"{one.name} ({'main thread, ' if one.main else ''}{one.tid}) {cells.percent(one.together)}, "
        f"alone {cells.percent(one.alone)}"
        for one in of.threads
        if one.together >= SHOWS
    ]
    return f"{of.tenant}'s threads that waited for a core, of the time: {'; '.join(told)}" if told else ""


def _worst(of: Explained, *, on_cpu: bool) -> Iterator[doc.Element]:
    """The slowest iterations of a tenant: a timeline each in a terminal, a row each in files."""
    usual = cells.number(of.together.p50.estimate)
    title = f"{of.tenant}: its {len(of.worst)} slowest iterations"
    yield doc.Heading(title, _key(of.tenant))
    own = "CPU time (it came in pieces; drawn at the end)" if on_cpu else "on the device's stopwatch (drawn at the end)"
    yield doc.paragraph(
        f"Response time; usual is {usual} ms. What a neighbour has in flight may have had the device or waited for it.",
        media=doc.FILES,
    )
    marks = [(QUEUED, "queued"), (WAITING, "in flight"), (RUNNING, own), (OTHER, "a neighbour's in flight")]
    if any(moment.device_ms is None for moment in of.worst):
        marks.append((UNTIMED, "in flight, no stopwatch"))
    legend = ", ".join(f"{mark} {what}" for mark, what in marks)
    yield doc.paragraph(f"Usual is {usual} ms. {legend}.", "quiet", media=doc.TERMINAL)
    wide = _timelines(of, notes=True)
    narrow = (_timelines(of, notes=False), doc.Bullets(tuple(doc.Item(_in_words(m)) for m in of.worst)))
    yield doc.Fitting((wide,), narrow, media=doc.TERMINAL)
    yield _rows_in_files(of, on_cpu=on_cpu)


def _key(tenant: str) -> str:
    """Of a page's section: two tenants of like names have different ones."""
    return f"worst-{''.join(char if char.isalnum() else '-' for char in tenant)}-{len(tenant)}"


def _timelines(of: Explained, *, notes: bool) -> doc.Table:
    columns = [doc.Column("at s"), doc.Column("ms"), doc.Column("", "name"), doc.Column("", "word", from_width=NARROW)]
    columns += [doc.Column("", "name", fold=0)] if notes else []
    groups = tuple(tuple(row if notes else row[:-1] for row in _lanes(of.tenant, moment)) for moment in of.worst)
    return doc.Table(tuple(columns), groups, gap=2, once=2)


def _lanes(tenant: str, of: Moment) -> Iterator[tuple[str, ...]]:
    head = (f"{of.at_s:.2f}", cells.number(of.response_ms))
    yield (*head, tenant, _own_bar(of), _own_note(of))
    others = [lane for lane in of.lanes if lane.iterations]
    for lane in others[:SHOWN]:
        name = f"{tenant}, others" if lane.tenant == tenant else lane.tenant
        yield (*head, name, _bar(of, lane), _lane_note(lane))
    if len(others) > SHOWN:
        yield (*head, f"{len(others) - SHOWN} more", "", "")
    for one in of.stand_out:
        yield (*head, "", "", _stand_out(one))


def _own_bar(of: Moment) -> str:
    begin = 0.0 if of.device_ms is None else max(of.queue_ms, of.response_ms - of.device_ms)
    bar = [" "] * BAR
    pieces = [(0.0, of.queue_ms, QUEUED)]
    if of.device_ms is None:
        pieces.append((of.queue_ms, of.response_ms, UNTIMED))
    else:
        pieces += [(of.queue_ms, begin, WAITING), (begin, of.response_ms, RUNNING)]
    for first, last, mark in pieces:
        if last > first:
            _fill(bar, of, first, last, mark)
    return "".join(bar).rstrip()


def _bar(of: Moment, lane: Lane) -> str:
    bar = [" "] * BAR
    for first, last in lane.flights:
        _fill(bar, of, first, last, OTHER)
    return "".join(bar).rstrip()


def _fill(bar: list[str], of: Moment, first_ms: float, last_ms: float, mark: str) -> None:
    """At least one character, within the stretch that is shown."""
    begin_ms, end_ms = stretch(of)
    scale = BAR / max(end_ms - begin_ms, 1e-12)
    first = min(max(int((first_ms - begin_ms) * scale), 0), BAR - 1)
    last = min(max(round((last_ms - begin_ms) * scale), first + 1), BAR)
    bar[first:last] = mark * (last - first)


def stretch(of: Moment) -> tuple[float, float]:
    """Begin and end of what is shown, ms since it was due."""
    around = of.response_ms / 4
    return -around, of.response_ms + around


def _own_note(of: Moment) -> str:
    parts = [f"queued {cells.number(of.queue_ms)} ms"] if of.queue_ms > 0 else []
    if of.device_ms is not None:
        parts.append(f"{cells.number(of.device_ms)} of {cells.number(of.service_ms)} ms on the stopwatch")
    return ", ".join((*parts, *_counts(of)))


def _counts(of: Moment) -> Iterator[str]:
    if of.launches is not None:
        yield f"{of.launches} launch{'es' if of.launches > 1 else ''}"
    if of.waits is not None:
        yield f"{of.waits} wait{'s' if of.waits > 1 else ''}"
    if of.waited_ms is not None:
        yield f"host waited {cells.number(of.waited_ms)} ms"
    if of.core_wait_ms is not None:
        yield f"{cells.number(of.core_wait_ms)} ms without a core"


def _lane_note(lane: Lane) -> str:
    several = "s" if lane.iterations > 1 else ""
    return f"{lane.iterations} iteration{several}, in flight for {cells.number(lane.ms)} ms"


def _stand_out(of: StandOut) -> str:
    """``nvml power_w 640, high (median 420)``, and whose it is."""
    where = "low" if of.low else "high"
    whose = "device's" if of.scope == "device" else "its"
    return f"{whose} {of.source} {of.metric} {cells.number(of.value)}, {where} (median {cells.number(of.median)})"


def _in_words(of: Moment) -> str:
    others = [f"{lane.tenant}: {_lane_note(lane)}" for lane in of.lanes if lane.iterations]
    notes = [note for note in (_own_note(of), *others, *map(_stand_out, of.stand_out)) if note]
    return f"at {of.at_s:.2f} s, {cells.number(of.response_ms)} ms: {'; '.join(notes) or 'nothing else was recorded'}"


def words(of: Explained) -> str:
    """The slowest iterations for those who cannot see the picture."""
    return f"{of.tenant}: {'. '.join(map(_in_words, of.worst))}."


def _rows_in_files(of: Explained, *, on_cpu: bool) -> doc.Table:
    rows = []
    for moment in of.worst:
        beside = "; ".join(f"{lane.tenant}: {_lane_note(lane)}" for lane in moment.lanes if lane.iterations)
        more = "; ".join((*_counts(moment), *map(_stand_out, moment.stand_out)))
        rows.append(
            (
                f"{moment.at_s:.2f}",
                str(moment.round),
                cells.number(moment.response_ms),
                cells.number(moment.queue_ms),
                cells.number(moment.device_ms),
                beside or doc.NOTHING,
                more,
            )
        )
    return doc.Table(
        columns=(
            doc.Column("at s"),
            doc.Column("round"),
            doc.Column("response ms"),
            doc.Column("queued ms"),
            doc.Column("CPU ms" if on_cpu else "device ms"),
            doc.Column("neighbours", "name"),
            doc.Column("what else", "name"),
        ),
        groups=(tuple(rows),),
        caption=f"The slowest iterations of {of.tenant}. At: seconds since the run's first block.",
        media=doc.FILES,
    )


def _changes(of: Explanation) -> Iterator[doc.Element]:
    """Predictions and bounds, and why there are none."""
    yield doc.Heading("What would change it: predicted, not measured", "changes")
    rows = {one.tenant: tuple(_foreseen(one, exclusive=EXCLUSIVE in of.mode)) for one in of.tenants}
    told = [one for one in of.tenants if len(rows[one.tenant]) > 1]
    if told:
        yield doc.Table(
            columns=(
                doc.Column("tenant", "subject"),
                doc.Column("change", "name", fold=40),
                doc.Column("p99 ms"),
                doc.Column("", "word"),
                doc.Column("change of p99", short="change"),
            ),
            groups=tuple(rows[one.tenant] for one in told),
            caption="Response p99 of each tenant: as measured, and as the model predicts it. "
            "A bound: all waits of the host for a core are taken out; pinning takes out that at most.",
            layout="apart",
            once=1,
        )
    if of.basis is not None and any(one.foreseen for one in told):
        for line in _basis(of.basis):
            yield doc.paragraph(line, "quiet")
    lines = [f"{one.tenant}: not predicted: {one.unforeseen}" for one in of.tenants if one.unforeseen]
    if lines or of.unforeseen:
        yield doc.Bullets(tuple(map(doc.Item, (*lines, *of.unforeseen))))


def _foreseen(of: Explained, *, exclusive: bool) -> Iterator[doc.Row]:
    """What was measured, with company and alone; what pinning changes at most; what the model says. ``exclusive``: it
    is alone on the device as it is."""
    p99, alone = of.together.p99, of.alone.p99
    measured = cells.number_with_interval(p99.estimate, p99.lo, p99.hi)
    yield of.tenant, "no change", doc.Cell(measured, "strong"), "measured", ""
    if alone.estimate is not None and not exclusive:
        solo = cells.number_with_interval(alone.estimate, alone.lo, alone.hi)
        yield (
            of.tenant,
            "alone on the device (mode exclusive)",
            solo,
            "measured",
            cells.change(p99.estimate, alone.estimate),
        )
    if of.pinned is not None and of.pinned.p99.estimate is not None:
        least = of.pinned.p99
        without = cells.number_with_interval(least.estimate, least.lo, least.hi)
        change = cells.change(p99.estimate, least.estimate)
        yield of.tenant, "a core for each thread (pinned): at most", without, "bound", change
    if not of.foreseen:
        return
    now, *changes = of.foreseen
    yield of.tenant, "no change", band(now.p99), "predicted", ""
    for one in changes:
        yield of.tenant, one.change, band(one.p99), "predicted", cells.change(now.p99.value, one.p99.value)


def _basis(of: Basis) -> Iterator[str]:
    yield f"Predicted from {of.made_from}."
    yield from meaning(of.confidence, f"{of.seconds:.4g} s", of.model_error, of.without_turns)
    yield "The change is against what the model says of no change, with the same draws."
