"""What `kts check` says, as a document."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.gate import Criterion, Gate, Judgement
from kts.report import cells
from kts.report import document as doc
from kts.units import format_duration

_TONES: dict[Judgement, doc.Tone] = {"pass": "better", "fail": "worse", "inconclusive": "undetermined"}
_MEASURED = {"slo": "measured ms", "against": "new / old", "pair": "B / A"}


def gate_elements(gate: Gate) -> Iterator[doc.Element]:
    """The judgement, a row per criterion, what would decide the rest, and what limits it."""
    yield doc.Paragraph((doc.Cell(gate.sentence, _TONES[gate.judgement]),))
    if gate.old:
        yield doc.paragraph(f"new: {', '.join(gate.new)}; old: {', '.join(gate.old)}", "quiet", close=True)
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject"),
            doc.Column("figure", "word"),
            doc.Column(f"{_MEASURED[gate.question]} ({100 * gate.confidence:g} % interval)"),
            doc.Column("at most"),
            doc.Column("", "word"),
        ),
        groups=(tuple(map(_row, gate.criteria)),),
        gap=2,
    )
    yield from doc.listed("Why", tuple(f"{one.tenant}: {one.why}" for one in gate.criteria if one.why), "-")
    if more := decides(gate):
        yield doc.paragraph(more)
    yield from doc.listed("What else to know", gate.notes, "!")


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
        return f"About {seconds(gate.more_s, gate)} more would decide this, if the figures are as they seem{behind}."
    if any(one.measured.estimate is None for one in gate.criteria if one.judgement == "inconclusive"):
        return f"Measure longer: how much longer, these data do not tell{behind}."
    return f"So near its limit, no sensible time decides this, if the figures are as they seem{behind}."


def _row(one: Criterion) -> doc.Row:
    return one.tenant, one.figure, measured(one), limit(one), doc.Cell(one.judgement, _TONES[one.judgement])


def seconds(value: float, gate: Gate) -> str:
    """Measuring time for people, two significant digits."""
    unit = "GPU-seconds" if gate.is_gpu else "seconds of measuring"
    told = f"{float(f'{value:.2g}'):.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
    return told if value < 100 else f"{told} ({format_duration(value)})"
