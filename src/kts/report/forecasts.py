"""Predictions, answers to what if, and scores as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kts.model.provenance import made_by, made_from
from kts.report import cells

if TYPE_CHECKING:
    from kts.model.provenance import Provenance
    from kts.physics.forecast import Band, MixForecast, ModelError, Prediction, TenantForecast
    from kts.physics.validate import Score
    from kts.physics.values import Fingerprint
    from kts.physics.whatif import Answer


def print_prediction(prediction: Prediction, console: Console) -> None:
    """A row per tenant of every mix: p50, p95, p99 and DF99 with bands, rate, misses; then what the bands hold."""
    console.print(Text(_sharing(prediction.fingerprint), style="bold"))
    console.print()
    table = _table("mix", "tenant")
    for head in ("p50 ms", "p95 ms", "p99 ms (band)", "p99.9 ms", "DF99 (band)", "1/s", "missed"):
        table.add_column(head, justify="right", no_wrap=True)
    for mix in prediction.mixes:
        table.add_section()
        _add_mix(table, mix.name, mix)
    console.print(table)
    console.print()
    _print_overloads(prediction.mixes, console)
    length = _length([mix.seconds or prediction.seconds for mix in prediction.mixes])
    meaning = _meaning(prediction.confidence, length, prediction.model_error)
    for text in (*meaning, *prediction.notes, *_made_by("Made", prediction.provenance)):
        console.print(Text(text, style="dim"))


def print_answers(
    answers: Sequence[Answer], confidence: float, seconds: float, error: ModelError, console: Console
) -> None:
    """A block of rows per question, the first one as it is now."""
    table = _table("what if", "tenant")
    for head in ("p50 ms", "p95 ms", "p99 ms (band)", "p99.9 ms", "DF99 (band)", "1/s", "missed"):
        table.add_column(head, justify="right", no_wrap=True)
    for answer in answers:
        table.add_section()
        _add_mix(table, answer.label, answer.forecast)
    console.print(table)
    console.print()
    _print_overloads([answer.forecast for answer in answers], console)
    for text in _meaning(confidence, _length([seconds]), error):
        console.print(Text(text, style="dim"))


def print_score(score: Score, console: Console) -> None:
    """Predicted beside measured for every tenant, then the errors of the prediction and of simpler rules."""
    table = _table("mix", "tenant", "clock")
    for head in ("figure", "predicted (band)", "measured", "error", "in band"):
        table.add_column(head, justify="right", no_wrap=True)
    for tenant in score.tenants:
        table.add_section()
        for row, item in enumerate(tenant.figures):
            names = (tenant.mix, Text(tenant.tenant, style="bold"), tenant.clock) if not row else ("", "", "")
            inside = {True: Text("yes"), False: Text("no", style="yellow"), None: Text("-")}[item.inside]
            table.add_row(
                *names,
                figure_name(tenant.clock, item.figure),
                band(item.predicted),
                cells.number(item.measured),
                f"{100 * item.error:+.1f} %",
                inside,
            )
    console.print(table)
    console.print()
    console.print(_errors(score))
    console.print()
    if score.kinds:
        console.print(_kinds(score))
        console.print()
    for clock, figures in score.coverage.items():
        if figures:
            held = ", ".join(f"{figure_name(clock, name)} {c.inside}/{c.n}" for name, c in figures.items())
            console.print(f"{100 * score.confidence:g} % bands that hold the measured figure, {clock}: {held}")
    skipped = dict.fromkeys(
        f"{tenant.tenant} in {tenant.mix}, {tenant.clock} {name}: {why}"
        for tenant in score.tenants
        for name, why in tenant.skipped.items()
    )
    for text in (*skipped, *score.notes):
        console.print(Text(f"! {text}", style="yellow"))
    for text in (*_made_by("Predicted", score.predicted_by), *_made_by("Measured", score.measured_by)):
        console.print(Text(text, style="dim"))
    if score.seal is not None:
        for text in score.seal.remarks:
            console.print(Text(f"Seal: {text}.", style="dim"))
        console.print(Text(score.seal.sentence, style="bold green" if score.seal.sealed else "yellow"))


def figure_name(clock: str, figure: str) -> str:
    """``p99.9``; on the clocks of ratios ``DF99.9``, ``DF of the mean``."""
    quantile = figure.replace("999", "99.9")
    if "df" not in clock:
        return quantile
    return f"DF{quantile[1:]}" if quantile.startswith("p") else f"DF of the {figure}"


def band(figure: Band) -> str:
    """``8.41 (8.29-8.50)``; ``-`` where there is no figure."""
    if figure.value is None:
        return cells.REFUSED
    if figure.lo is None or figure.hi is None:
        return cells.number(figure.value)
    return f"{cells.number(figure.value)} ({cells.number(figure.lo)}-{cells.number(figure.hi)})"


def _made_by(what: str, provenance: Provenance | None) -> list[str]:
    if provenance is None:
        return []
    of = made_from(provenance)
    return [f"{what} by kts {made_by(provenance)}{f', from {of}' if of else ''}."]


def _print_overloads(mixes: Sequence[MixForecast], console: Console) -> None:
    for mix in mixes:
        for name, tenant in mix.tenants.items():
            if tenant.overloaded:
                text = f"! {name} in {mix.name} cannot keep up with its arrivals: its times grow as long as one looks"
                console.print(Text(text, style="bold red"))


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", max_width=34)
    return table


def _add_mix(table: Table, label: str, mix: MixForecast) -> None:
    for row, (name, tenant) in enumerate(mix.tenants.items()):
        table.add_row(label if not row else "", Text(name, style="bold"), *_cells(tenant))


def _cells(tenant: TenantForecast) -> list[str]:
    response = tenant.response
    missed = cells.REFUSED if tenant.missed is None else cells.percent(tenant.missed.value)
    return [
        cells.number(response.p50.value),
        cells.number(response.p95.value),
        band(response.p99),
        cells.number(response.p999.value),
        band(tenant.df.p99),
        cells.number(tenant.rate_hz.value),
        missed,
    ]


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


def _errors(score: Score) -> Table:
    table = _table("absolute error")
    for head, *_ in SHOWN_ERRORS:
        table.add_column(head, justify="right", no_wrap=True)
    for rule in score.errors["response"]:
        row = []
        for _, clock, name, what in SHOWN_ERRORS:
            found = score.errors.get(clock, {}).get(rule, {}).get(name)
            row.append("-" if found is None else cells.percent(getattr(found, what)))
        table.add_row(rule, *row)
    return table


def _kinds(score: Score) -> Table:
    """The prediction's own errors by kind of tenant, and how many bands hold."""
    table = _table("kind of tenant")
    for head in ("p99: median", "90 %", "bands", "DF99: median", "90 %", "bands"):
        table.add_column(head, justify="right", no_wrap=True)
    for kind, clocks in score.kinds.items():
        row = []
        for clock in ("response", "df"):
            found = clocks.get(clock, {}).get("p99")
            bands = [one.bands for one in clocks.get(clock, {}).values() if one.bands is not None]
            row += ["-", "-"] if found is None else [cells.percent(found.error.median), cells.percent(found.error.p90)]
            row.append(f"{sum(c.inside for c in bands)} of {sum(c.n for c in bands)}" if bands else "-")
        table.add_row(kind, *row)
    return table


def _sharing(mark: Fingerprint) -> str:
    costs = ", ".join(
        f"{name} {cells.number(kind[0].value)}"
        for name, kind in (("preempting", mark.preempt_ms), ("yielding", mark.yield_ms))
    )
    where = mark.gpu.label or mark.gpu.name or "a GPU"
    return f"{where}, {mark.mode}: slice {cells.number(mark.slice_ms.value)} ms, switches {costs} ms ({mark.source})"


def _length(seconds: Sequence[float]) -> str:
    shortest, longest = (f"{length:.4g}" for length in (min(seconds), max(seconds)))
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"


def _meaning(confidence: float, length: str, error: ModelError) -> list[str]:
    lines = [f"Response time. Bands: where {100 * confidence:g} % of runs with {length} of each mix should lie."]
    if error.source != "none":
        how = f" {error.how}" if error.how else ""
        lines.append(f"They include a model error of {_relative(error)}, {error.source}{how}.")
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
        whole = (error.host**2 + error.host_block**2) ** 0.5
        text += f" of times and {100 * whole:.0f} % of hosts' speed"
    return text
