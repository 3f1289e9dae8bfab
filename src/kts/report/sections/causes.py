"""Why a tenant took longer: the added time in words, and each part with its interval and the data that show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.causes import STATISTICS, Causes, Decomposition, Part
from kts.report import cause_words, cells
from kts.report import document as doc
from kts.report.sections.report import Report

BAR = 24
"""Characters of a terminal's waterfall."""
NARROW = 60
"""Below this width a terminal has no room for it."""
ADDED, SAVED, UNEXPLAINED, SIDE = "█", "░", "▒", "|"
_NOTE = (
    "What company adds to a figure of the response time, in parts that add up to it; below 0: time that it saves. A "
    "part has a name only where its data show it; the rest is unexplained. See docs/attribution.md."
)


def section(report: Report) -> Iterator[doc.Element]:
    """A sentence and a waterfall per tenant; nothing where the summary has no cause_words."""
    summary = report.summary
    if told := cause_words.told(summary):
        yield doc.Heading("Why", "causes")
        yield from told_elements(told)
    for name, tenant in summary.tenants.items():
        every = cause_words.of_tenant(tenant)
        for one in every:
            house = one is every[-1]
            yield doc.Data(name, tuple(_data(one, house=house)), several=not house)


def told_elements(told: Sequence[cause_words.Told], *, bars: bool = False) -> Iterator[doc.Element]:
    """Sentences, then a table of the parts of each. ``bars``: in a terminal a waterfall of each, too."""
    yield doc.Bullets(tuple(doc.Item(f"{cause_words.sentence(one.name, one.causes)}.") for one in told))
    shown = [(one, of) for one in told if (of := cause_words.headline(one.causes)) is not None and of.parts]
    for one, of in shown:
        if bars:
            yield doc.paragraph(f"{one.name}: {of.statistic} of the response", "strong", media=doc.TERMINAL)
            narrow = (_waterfall(of, data=False), _shown_by(of))
            yield doc.Fitting((_waterfall(of, data=True),), narrow, media=doc.TERMINAL)
        yield _table(one.name, one.causes)
        yield _evidence_of_all(one.causes)
    if shown:
        yield doc.paragraph(_NOTE, media=doc.FILES)


def _waterfall(of: Decomposition, *, data: bool) -> doc.Table:
    digits = cause_words.decimals(of)
    steps = cause_words.steps(of)
    low, high = min(min(s.begin, s.end) for s in steps), max(max(s.begin, s.end) for s in steps)
    columns = [
        doc.Column("", "word"),
        doc.Column("ms"),
        doc.Column("95 %", from_width=NARROW + BAR),
        doc.Column("", "word", from_width=NARROW),
    ]
    columns += [doc.Column("of whom", "name"), doc.Column("shown by", "name", fold=0)] if data else []
    rows: list[doc.Row] = []
    for step in steps:
        bar = _bar(step, low, high)
        if step.part is None:
            rows.append((step.label, cells.number(step.begin), "", bar, *([""] * 2 * data)))
            continue
        part = step.part
        ms = f"{'+' if part.ms > 0 else ''}{cause_words.milliseconds(part.ms, digits)}"
        whose = (cause_words.whose(part, digits), part.data) if data else ()
        rows.append((step.label, ms, cause_words.interval(part.lo, part.hi, digits), bar, *whose))
    return doc.Table(tuple(columns), (tuple(rows),), gap=2)


def _bar(step: cause_words.Step, low: float, high: float) -> str:
    """From the lower to the higher end, at least one character wide, blanks before it."""
    scale = (BAR - 1) / (high - low) if high > low else 0.0
    first, last = sorted((round((step.begin - low) * scale), round((step.end - low) * scale)))
    if step.part is None:
        return " " * first + SIDE
    mark = UNEXPLAINED if step.part.cause == "unexplained" else ADDED if step.part.ms >= 0 else SAVED
    return " " * first + mark * max(last - first, 1)


def _shown_by(of: Decomposition) -> doc.Bullets:
    return doc.Bullets(
        tuple(
            doc.Item(f"{cause_words.SHORT[part.cause]}: {_evidence(part, of)}")
            for part in cause_words.ordered(of)
            if part.data
        )
    )


def _evidence(part: Part, of: Decomposition) -> str:
    name = cause_words.whose(part, cause_words.decimals(of))
    return f"{name}; {part.data}" if name else part.data


def _table(title: str, one: Causes) -> doc.Table:
    """In files: a row per cause, a column per statistic."""
    by = {of.statistic: of for of in one.of}
    head = cause_words.headline(one)
    assert head is not None
    order = [part.cause for part in cause_words.ordered(head)]
    order[-1:-1] = [c for c in dict.fromkeys(p.cause for of in one.of for p in of.parts) if c not in order]
    statistics = [name for name in STATISTICS if name in by]
    rows: list[doc.Row] = [("alone", *(cells.number(by[name].alone_ms) for name in statistics))]
    rows += [(cause_words.SHORT[cause], *(_cell(by[name], cause) for name in statistics)) for cause in order]
    rows.append(("with company", *(cells.number(by[name].alone_ms + by[name].added_ms) for name in statistics)))
    return doc.Table(
        columns=(doc.Column(title, "name"), *(doc.Column(f"{name} ms") for name in statistics)),
        groups=(tuple(rows),),
        caption=f"What company adds to the response time of {title}, by cause.",
        media=doc.FILES,
    )


def _evidence_of_all(one: Causes) -> doc.Bullets:
    """What shows each part; of the headline where it is there."""
    head = cause_words.headline(one)
    told = {part.cause: (part, of) for of in (*one.of, *((head,) if head else ())) for part in of.parts if part.data}
    items = (f"{cause_words.SHORT[cause]}: {_evidence(part, of)}" for cause, (part, of) in told.items())
    return doc.Bullets(tuple(map(doc.Item, items)), media=doc.FILES)


def _cell(of: Decomposition, cause: str) -> doc.Cell:
    part = next((part for part in of.parts if part.cause == cause), None)
    if part is None:
        return doc.Cell(doc.NOTHING)
    digits = cause_words.decimals(of)
    text = cause_words.milliseconds(part.ms, digits)
    return doc.Cell(text, under=cause_words.interval(part.lo, part.hi, digits) or None)


def _data(one: Causes, *, house: bool) -> Iterator[doc.Datum]:
    condition = "added" if house else f"added {one.condition}"
    for of in one.of:
        yield doc.Datum("response", condition, of.statistic, of.added_ms, "ms", of.lo, of.hi)
        for part in of.parts:
            yield doc.Datum("response", condition, f"{of.statistic}:{part.cause}", part.ms, "ms", part.lo, part.hi)
