"""What `kts selfcheck` says, as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kts.model.provenance import made_by
from kts.report import document as doc
from kts.report import markdown
from kts.units import format_ms

if TYPE_CHECKING:
    from kts.physics.selfcheck import Bar, SelfCheck, TenantCheck
    from kts.stats.instrument import InstrumentCheck, InstrumentPart

NAMES = ("pair", "tenant")
FIGURES = ("met", "rounds", "true", "median", "covered", "first", "verdicts")
MARKS = {"undecided": "~", "failed": "!"}
LEGEND = (
    "met: share of its iterations that a neighbour's overlapped. true, median: DF99, * on a cliff.",
    "first: a block's first iterations among the slowest 1 %, times chance. verdicts: worse / no change.",
    "! outside of its bar, ~ by no more than chance explains.",
)


def as_markdown(result: SelfCheck) -> str:
    """The table as Markdown, and what is outside of its bar as a list."""
    return markdown.render(doc.Document(tuple(selfcheck_elements(result))))


def selfcheck_elements(result: SelfCheck) -> Iterator[doc.Element]:
    """A row per tenant that was judged; in a terminal with the checks that failed, in files with all that are off."""
    yield doc.Table(
        columns=(*(doc.Column(head, "name", fold=0) for head in NAMES), *map(doc.Column, FIGURES)),
        groups=(tuple(rows(result)),),
        gap=2,
    )
    for line in LEGEND:
        yield doc.paragraph(line, "quiet", close=True, media=doc.TERMINAL)
    for line in remarks(result, ("failed",)):
        yield doc.paragraph(line, "undetermined", media=doc.TERMINAL)
    verdict = "Passed: nothing is off by more than chance explains" if result.passed else "Failed"
    yield doc.paragraph(f"{verdict} ({result.repetitions} runs of each pair).", media=doc.TERMINAL)
    seeds = f"{result.repetitions} runs of each pair, seeds from {result.seed}"
    yield doc.paragraph(f"{seeds}; kts {made_by(result.provenance)}.", media=doc.MARKDOWN)
    if off := tuple(map(doc.Item, remarks(result, ("failed", "undecided")))):
        yield doc.Bullets(off, media=doc.MARKDOWN)


def rows(result: SelfCheck) -> Iterator[doc.Row]:
    """Cells of each tenant that has a median. A value outside of its bar is marked."""
    for one in result.tenants:
        if one.median is None:
            continue
        n = one.repetitions
        shares = " / ".join(f"{100 * one.kinds.get(kind, 0) / n:.0f} %" for kind in ("worse", "no-change"))
        yield (
            one.pair,
            one.tenant,
            _share(one.truth.met),
            f"{one.rounds:.0f}",
            f"{one.truth.df99:.3f}{' *' if one.on_cliff else ''}",
            f"{one.median:.3f} ({100 * (one.median / one.truth.df99 - 1):+.1f} %){_mark(one.check('median'))}",
            f"{100 * (one.check('coverage').value or 0.0):.1f} %{_mark(one.check('coverage'))}",
            f"{one.check('first-of-block').value or 0.0:.1f}{_mark(one.check('first-of-block'))}",
            f"{shares}{_mark(one.check('no-change'))}",
        )


def remarks(result: SelfCheck, states: Sequence[str]) -> Iterator[str]:
    """One line per check in one of these states."""
    for one in result.tenants:
        for check in one.checks:
            if check.state in states:
                yield f"{MARKS[check.state]} {one.pair}, {one.tenant}: {_told(one, check)}"


def _told(one: TenantCheck, check: Bar) -> str:
    value, lo, hi = check.value or 0.0, check.lo or 0.0, check.hi or 0.0
    low, high = check.bar
    chance = "no more than chance explains" if check.state == "undecided" else "more than chance explains"
    if check.name == "median":
        what = f"median DF99 {value:.3f} ({lo:.3f}-{hi:.3f}), true is {one.truth.df99:.3f}, bar {low:.3f} to {high:.3f}"
    elif check.name == "first-of-block":
        what = (
            f"a block's first iteration is {value:.1f} ({lo:.1f}-{hi:.1f}) times as often among the slowest 1 % as by"
        )
        what += f" chance, bar {high:g}"
    else:
        names = {
            "coverage": "intervals that hold the truth",
            "no-change": f"no change said of a DF99 of {one.truth.df99:.3f}",
        }
        what = f"{names[check.name]}: {100 * value:.1f} % ({100 * lo:.1f}-{100 * hi:.1f}), "
        what += f"bar {100 * low:g} to {100 * high:g} %"
    return f"{what}: {chance}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value > 0.0995 else f"{100 * value:.2g} %"


def _mark(check: Bar) -> str:
    mark = MARKS.get(check.state, "")
    return f" {mark}" if mark else ""


def instrument_elements(result: InstrumentCheck) -> Iterator[doc.Element]:
    """A row per question, and what is off or was not decided in words."""
    yield doc.paragraph(f"The instrument on {result.device}", "strong")
    yield doc.Table(
        columns=(
            doc.Column("question", "name", fold=0),
            doc.Column("outcome", "word"),
            doc.Column("value"),
            doc.Column("95 %"),
            doc.Column("bar"),
        ),
        groups=(tuple(map(_instrument_row, result.parts)),),
        gap=2,
    )
    told = tuple(doc.Item(f"{part.name}: {part.text}") for part in result.parts if part.state != "passed")
    if told:
        yield doc.Bullets(told, "!")
    undecided = sum(part.state == "undecided" for part in result.parts)
    verdict = "Passed: nothing is off" if result.passed else "Failed"
    open_ = f"; {undecided} undecided: repeat it on a quiet machine" if undecided else ""
    yield doc.paragraph(f"{verdict}{open_} ({result.seconds:.0f} s).")


def _instrument_row(part: InstrumentPart) -> doc.Row:
    value, lo, hi = (_figure(one, part.unit) for one in (part.value, part.lo, part.hi))
    interval = doc.NOTHING if part.lo is None else f"{lo} to {hi}"
    bar = doc.NOTHING if part.bar is None else f"{_figure(part.bar[0], part.unit)} to {_figure(part.bar[1], part.unit)}"
    word = part.state.replace("-", " ")
    return part.name, doc.Cell(word, "worse" if part.state == "failed" else ""), value, interval, bar


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return doc.NOTHING
    if unit == "ratio":
        return f"{value:.3f}"
    if unit == "share":
        return _share(value)
    return "0" if value == 0 else format_ms(value if unit == "ms" else value / 1e6)
