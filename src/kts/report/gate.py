"""What `kts check` says, as a document."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.gate import SENSIBLE, Criterion, Gate, Judgement
from kts.model.provenance import made_by
from kts.model.reading import RunData
from kts.model.summary import Summary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report
from kts.report.sections.run import section as how_measured
from kts.units import format_duration

_TONES: dict[Judgement, doc.Tone] = {"pass": "better", "fail": "worse", "inconclusive": "undetermined"}
_MEASURED = {"slo": "measured ms", "against": "new / old", "pair": "B / A"}
_SIDES = {"against": ("old", "new"), "pair": ("A", "B")}


def gate_elements(gate: Gate) -> Iterator[doc.Element]:
    """The judgement, a row per criterion, what would decide the rest, and what limits it."""
    yield doc.Paragraph((doc.Cell(gate.sentence, _TONES[gate.judgement]),))
    sides = gate.question != "slo"
    if sides:
        yield doc.paragraph(f"{', '.join(gate.new)} against {', '.join(gate.old)}", "quiet", close=True)
    ratio = f"{_MEASURED[gate.question]} ({100 * gate.confidence:g} % interval)"
    heads = [*(_SIDES[gate.question] if sides else ()), ratio, "at most"]
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject"),
            doc.Column("figure", "word"),
            *map(doc.Column, heads),
            doc.Column("", "word"),
        ),
        groups=(tuple(tuple(_row(one, sides=sides)) for one in gate.criteria),),
        gap=2,
    )
    for one in gate.criteria if sides else ():
        datum = cells.datum("response", _MEASURED[gate.question], one.figure, one.measured, "ratio")
        yield doc.Data(one.tenant, (datum,))
    yield from doc.listed("Why", tuple(f"{one.tenant}: {one.why}" for one in gate.criteria if one.why), "-")
    if more := decides(gate):
        yield doc.paragraph(more)
    yield from doc.listed("What else to know", gate.notes, "!")


def pair_document(gate: Gate, summary: Summary, run: RunData) -> doc.Document:
    """The report of a run that measured a pair."""
    title = f"{' against '.join((*gate.new, *gate.old))} on {cells.device_label(summary)}"
    return doc.Document(
        elements=(*how_measured(Report(summary, run)), *gate_elements(gate)),
        title=title,
        heading=title,
        footer=f"Measured with kts {made_by(run.info.provenance, run.info.kts)}; run {summary.run}",
    )


def measured(one: Criterion) -> str:
    """The figure with its interval."""
    figure = one.measured
    if one.unit == "ratio":
        return cells.ratio_with_interval(figure)
    return cells.number_with_interval(figure.estimate, figure.lo, figure.hi)


def limit(one: Criterion) -> str:
    """What it may be at most."""
    return f"{one.limit:.4g}"


def decides(gate: Gate) -> str:
    """What would decide what is open; empty where nothing is."""
    if gate.judgement != "inconclusive":
        return ""
    behind = f" (behind this: {seconds(gate.measured_s, gate)})" if gate.measured_s else ""
    if gate.more_s is not None:
        unless = "unless a ratio is at its limit" if gate.tolerance else "if the figures are as they seem"
        return f"About {seconds(gate.more_s, gate)} more decide this, {unless}{behind}."
    if any(one.measured.estimate is None for one in gate.criteria if one.judgement == "inconclusive"):
        return f"Measure longer: how much longer, these data do not tell{behind}."
    return f"More than {SENSIBLE:g} times as long would be needed, if the figures are as they seem{behind}."


def _row(one: Criterion, *, sides: bool) -> Iterator[str | doc.Cell]:
    yield one.tenant
    yield f"{one.figure} ms" if sides and not one.figure.startswith("DF") else one.figure
    if sides:
        write = cells.ratio if one.figure.startswith("DF") else cells.number
        yield from (write(None if side is None else side.estimate) for side in (one.old, one.new))
    yield measured(one)
    yield limit(one)
    yield doc.Cell(one.judgement, _TONES[one.judgement])


def seconds(value: float, gate: Gate) -> str:
    """Measuring time for people, two significant digits."""
    unit = "GPU-seconds" if gate.is_gpu else "seconds of measuring"
    told = f"{float(f'{value:.2g}'):.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
    return told if value < 100 else f"{told} ({format_duration(value)})"
