"""Predictions, answers to what if, and scores as documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import hypot
from typing import TYPE_CHECKING

from kts.model.mode import MPS
from kts.model.plan import PROGRAM
from kts.model.provenance import made_by, made_from
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.beside import company

if TYPE_CHECKING:
    from kts.model.provenance import Provenance
    from kts.physics.forecast import Band, MixForecast, ModelError, Prediction, TenantForecast
    from kts.physics.validate import Score, TenantScore
    from kts.physics.values import Fingerprint
    from kts.physics.whatif import WhatIf


def prediction_elements(prediction: Prediction) -> Iterator[doc.Element]:
    """A row per tenant of every mix: p50, p95, p99 and DF99 with bands, rate, misses; then what the bands hold."""
    yield doc.paragraph(_of_prediction(prediction), "strong")
    yield from _mixes("mix", [(mix.name, mix) for mix in prediction.mixes])
    length = _length([mix.seconds or prediction.seconds for mix in prediction.mixes])
    bands = meaning(prediction.confidence, length, prediction.model_error)
    for text in (*bands, *prediction.notes, *_made_by("Made", prediction.provenance)):
        yield doc.paragraph(text, "quiet")


def company_elements(subject: str, prediction: Prediction) -> Iterator[doc.Element]:
    """Of mixes that hold ``subject``: a row for it alone and one per mix, and a sentence as a run about it has one."""
    own = prediction.mixes[0].tenants[subject]
    yield doc.paragraph(_of_prediction(prediction), "strong")
    rows: list[doc.Row] = []
    costs = []
    for mix in prediction.mixes:
        others = " and ".join(name for name in mix.tenants if name != subject)
        tenant = mix.tenants[subject]
        rows.append((f"beside {others}", *_cells(tenant)[:-1]))
        costs.append((others, "refused" if tenant.df.p99.value is None else f"{cells.ratio(tenant.df.p99.value)}x"))
    alone = [cells.number(value) for value in (own.solo.p50, own.solo.p95, own.solo.p99, own.solo.p999)]
    heads = ("p50 ms", "p95 ms", "p99 ms (band)", "p99.9 ms", "DF99 (band)", "1/s")
    yield doc.Table(
        columns=(doc.Column(subject, "subject", fold=0), *map(doc.Column, heads)),
        groups=((("alone", *alone, "", cells.number(own.solo_rate_hz)), *rows),),
    )
    for text in (
        *meaning(prediction.confidence, _length([prediction.seconds]), prediction.model_error),
        *prediction.notes,
    ):
        yield doc.paragraph(text, "quiet")
    yield doc.paragraph(company(subject, own.solo.p99, costs, "predicted: "), "strong")


def answers_elements(
    answers: Sequence[WhatIf], confidence: float, seconds: float, error: ModelError, without_turns: ModelError | None
) -> Iterator[doc.Element]:
    """A block of rows per question, the first one as it is now."""
    yield from _mixes("what if", [(answer.label, answer.forecast) for answer in answers])
    for text in meaning(confidence, _length([seconds]), error, without_turns):
        yield doc.paragraph(text, "quiet")


def _mixes(head: str, mixes: Sequence[tuple[str, MixForecast]]) -> Iterator[doc.Element]:
    """A table with a group per mix, and who of its tenants cannot keep up."""
    heads = ("p50 ms", "p95 ms", "p99 ms (band)", "p99.9 ms", "DF99 (band)", "1/s", "missed")
    yield doc.Table(
        columns=(
            doc.Column(head, "name", fold=NAME),
            doc.Column("tenant", "subject", fold=NAME),
            *map(doc.Column, heads),
        ),
        groups=tuple(
            tuple((label, name, *_cells(tenant)) for name, tenant in mix.tenants.items()) for label, mix in mixes
        ),
        layout="apart",
        once=1,
    )
    for _, mix in mixes:
        for name, tenant in mix.tenants.items():
            if tenant.overloaded:
                text = f"! {name} in {mix.name} cannot keep up with its arrivals: its times grow as long as one looks"
                yield doc.paragraph(text, "worse")


def score_elements(score: Score) -> Iterator[doc.Element]:
    """Predicted beside measured for every tenant, then the errors of the prediction and of simpler rules."""
    yield doc.Table(
        columns=(
            doc.Column("mix", "name", fold=NAME),
            doc.Column("tenant", "subject", fold=NAME),
            doc.Column("clock", "name", fold=NAME),
            *map(doc.Column, ("figure", "predicted (band)", "measured", "error", "in band")),
        ),
        groups=tuple(tuple(_scored(tenant)) for tenant in score.tenants),
        layout="apart",
        once=3,
    )
    yield _table("absolute error", (head for head, *_ in SHOWN_ERRORS), _errors(score))
    if score.kinds:
        yield _table("kind of tenant", ("p99: median", "90 %", "bands", "DF99: median", "90 %", "bands"), _kinds(score))
    for clock, figures in score.coverage.items():
        if figures:
            held = ", ".join(f"{figure_name(clock, name)} {c.inside}/{c.n}" for name, c in figures.items())
            yield doc.paragraph(f"{100 * score.confidence:g} % bands that hold the measured figure, {clock}: {held}")
    skipped = dict.fromkeys(
        f"{tenant.tenant} in {tenant.mix}, {tenant.clock} {name}: {why}"
        for tenant in score.tenants
        for name, why in tenant.skipped.items()
    )
    for text in (*skipped, *score.notes):
        yield doc.paragraph(f"! {text}", "undetermined")
    for text in (*_made_by("Predicted", score.predicted_by), *_made_by("Measured", score.measured_by)):
        yield doc.paragraph(text, "quiet")
    if score.seal is not None:
        for text in score.seal.remarks:
            yield doc.paragraph(f"Seal: {text}.", "quiet")
        yield doc.paragraph(score.seal.sentence, "better" if score.seal.sealed else "undetermined")


def _scored(tenant: TenantScore) -> Iterator[doc.Row]:
    for item in tenant.figures:
        yield (
            tenant.mix,
            tenant.tenant,
            tenant.clock,
            figure_name(tenant.clock, item.figure),
            band(item.predicted),
            cells.number(item.measured),
            f"{100 * item.error:+.1f} %",
            doc.NOTHING if item.inside is None else "yes" if item.inside else doc.Cell("no", "undetermined"),
        )


def _table(name: str, heads: Iterable[str], rows: Iterable[doc.Row]) -> doc.Table:
    return doc.Table(columns=(doc.Column(name, "name", fold=NAME), *map(doc.Column, heads)), groups=(tuple(rows),))


def figure_name(clock: str, figure: str) -> str:
    """``p99.9``; on the clocks of ratios ``DF99.9``, ``DF of the mean``."""
    quantile = figure.replace("999", "99.9")
    if "df" not in clock:
        return quantile
    return f"DF{quantile[1:]}" if quantile.startswith("p") else f"DF of the {figure}"


def band(figure: Band) -> str:
    """``8.41 (8.29-8.50)``; ``-`` where there is no figure."""
    return cells.number_with_interval(figure.value, figure.lo, figure.hi)


def _made_by(what: str, provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return []
    of = made_from(provenance)
    return [f"{what} by kts {made_by(provenance)}{f', from {of}' if of else ''}."]


def _cells(tenant: TenantForecast) -> list[str]:
    response = tenant.response
    missed = doc.NOTHING if tenant.missed is None else cells.percent(tenant.missed.value)
    return [
        cells.number(response.p50.value),
        cells.number(response.p95.value),
        band(response.p99),
        cells.number(response.p999.value),
        band(tenant.df.p99),
        cells.number(tenant.rate_hz.value),
        missed,
    ]


NAME = 34
"""Names of mixes are long."""
IN_LINE_WORDS = "kernels of all tenants in one line, none interrupted (a first model)"
SIDE_BY_SIDE_WORDS = "kernels of all tenants side by side, slowed by the others there (a first model)"
SHOWN_ERRORS = (
    ("mean: mean", "response", "mean", "mean"),
    ("p50: median", "response", "p50", "median"),
    ("p95: median", "response", "p95", "median"),
    ("p99: median", "response", "p99", "median"),
    ("p99: 90 %", "response", "p99", "p90"),
    ("p99.9: median", "response", "p999", "median"),
    ("DF99: median", "df", "p99", "median"),
    ("DF99: 90 %", "df", "p99", "p90"),
)
"""Column, clock, figure, and what of the absolute errors."""


def _errors(score: Score) -> Iterator[doc.Row]:
    for rule in score.errors["response"]:
        summaries = [score.errors.get(clock, {}).get(rule, {}).get(name) for _, clock, name, _ in SHOWN_ERRORS]
        pairs = zip(summaries, SHOWN_ERRORS, strict=True)
        yield rule, *(cells.percent(None if one is None else getattr(one, what)) for one, (*_, what) in pairs)


def _kinds(score: Score) -> Iterator[doc.Row]:
    """The prediction's own errors by kind of tenant, and how many bands hold."""
    for kind, clocks in score.kinds.items():
        row = [kind]
        for clock in ("response", "df"):
            tail = clocks.get(clock, {}).get("p99")
            bands = [one.bands for one in clocks.get(clock, {}).values() if one.bands is not None]
            row += (
                [doc.NOTHING] * 2 if tail is None else [cells.percent(tail.error.median), cells.percent(tail.error.p90)]
            )
            row.append(f"{sum(c.inside for c in bands)} of {sum(c.n for c in bands)}" if bands else doc.NOTHING)
        yield row


def basis_lines(
    of: Fingerprint, confidence: float, seconds: float, error: ModelError, without_turns: ModelError | None
) -> list[str]:
    """What forecasts of runs of so many seconds are made from, and what their bands hold."""
    return [_sharing(of), *meaning(confidence, _length([seconds]), error, without_turns)]


def _of_prediction(prediction: Prediction) -> str:
    programs = any(used.workload == PROGRAM for used in prediction.profiles.values())
    return _sharing(prediction.fingerprint, without_turns_words(prediction.fingerprint.mode, programs=programs))


def without_turns_words(mode: str, *, programs: bool) -> str:
    """How tenants share in a mode without turns; ``programs``: there are some."""
    return SIDE_BY_SIDE_WORDS if programs and mode == MPS else IN_LINE_WORDS


def _sharing(mark: Fingerprint, without_turns: str = IN_LINE_WORDS) -> str:
    costs = ", ".join(
        f"{name} {cells.number(kind[0].value)}"
        for name, kind in (("preempting", mark.preempt_ms), ("yielding", mark.yield_ms))
    )
    where = mark.gpu.label or mark.gpu.name or "a GPU"
    if mark.in_line:
        return f"{where}, {mark.mode}: {without_turns}"
    return f"{where}, {mark.mode}: slice {cells.number(mark.slice_ms.value)} ms, switches {costs} ms ({mark.source})"


def _length(seconds: Sequence[float]) -> str:
    shortest, longest = (f"{length:.4g}" for length in (min(seconds), max(seconds)))
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"


def meaning(confidence: float, length: str, error: ModelError, without_turns: ModelError | None = None) -> list[str]:
    """What bands hold, and what not; a line each. ``length``: of the run that they are for. ``without_turns``: the
    error of those for modes without turns, where there are some beside others."""
    lines = [f"Response time. Bands: where {100 * confidence:g} % of runs with {length} of each mix should lie."]
    if error.source != "none":
        how = f" {error.how}" if error.how else ""
        lines.append(f"They include a model error of {_relative(error)}, {error.source}{how}.")
        if without_turns not in (None, error):
            lines.append(f"Without turns it is {_relative(without_turns)}, {without_turns.source} {without_turns.how}.")
    else:
        lines.append(
            "Nothing is included for the error of the model itself, which is not calibrated: they may be too narrow."
        )
    return lines


def _relative(error: ModelError) -> str:
    """In words: of times in company by kind of tenant, and of hosts."""
    each = sorted(set(error.kinds.values())) or [error.relative]
    text = " to ".join(f"{100 * value:g}" for value in dict.fromkeys((each[0], each[-1]))) + " %"
    if error.host or error.host_block:
        parts = (error.host, error.host_block)
        text += f" of times and {100 * hypot(*parts):.0f} % of hosts' speed"
        if error.program_host:
            text += f" ({100 * hypot(*parts, error.program_host):.0f} % of programs', which only profiles tell)"
    return text
