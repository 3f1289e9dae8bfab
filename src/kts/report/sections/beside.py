"""One tenant alone and in each company: the report of a run that is about a subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kts.arrivals import Closed
from kts.model.plan import Kernel, Program, Tenant
from kts.model.summary import Latency, Mix, MixTenant, Summary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report
from kts.units import format_ms


def section(report: Report) -> Iterator[doc.Element]:
    """A row alone and one per mix, who the neighbours are, and what company costs in a sentence."""
    summary = report.summary
    if not (subject := asked(summary)):
        return
    mixes = summary.mixes or ()
    sentence = company(subject, summary.tenants[subject].response.solo.p99.estimate, _costs(subject, mixes))
    yield doc.Heading("What company costs", "company", media=doc.FILES)
    yield doc.paragraph(sentence, "strong", media=doc.FILES)
    yield doc.Table(
        columns=(
            doc.Column(subject, "subject", fold=0),
            *(doc.Column(f"{quantile} ms") for quantile in cells.QUANTILES),
            doc.Column(cells.interval_head(summary), short=f"DF99 ({100 * summary.confidence:g} %)"),
            doc.Column("iterations/s", short="1/s"),
            doc.Column("n", from_width=cells.FULL_COLUMNS),
            doc.Column("verdict", "word"),
        ),
        groups=(tuple(_rows(summary, subject, mixes)),),
        caption="Response times. DF99: p99 in this company / p99 alone.",
    )
    if report.run is not None:
        there = {name for mix in mixes for name in mix.beside}
        words = [f"{one.name}: {_words(one)}" for one in report.run.info.plan.tenants if one.name in there]
        yield doc.paragraph("; ".join(words), "quiet", close=True)
    yield doc.paragraph(sentence, "strong", media=doc.TERMINAL)
    for mix in mixes:
        yield doc.Data(subject, tuple(_data(mix.condition, mix.tenants[subject])), several=True)


def asked(summary: Summary) -> str:
    """The tenant that the run is about; empty where it is about all."""
    return summary.subject or ""


def company(subject: str, alone_ms: float | None, costs: Iterable[tuple[str, str]], verb: str = "") -> str:
    """The sentence. ``alone_ms``: its p99; ``costs``: neighbours, and what these make of it; ``verb``: before them."""
    time = "has no p99" if alone_ms is None else f"has a p99 of {format_ms(alone_ms)}"
    told = ", ".join(f"beside {names} {cost}" for names, cost in costs)
    return f"{subject} {time} alone; {verb}{told}."


def _costs(subject: str, mixes: tuple[Mix, ...]) -> Iterator[tuple[str, str]]:
    for mix in mixes:
        figures = mix.tenants[subject]
        word = cells.verdict_word(figures)
        factor = "" if figures.df_p99.estimate is None else f"{cells.ratio_of(figures.df_p99)}x"
        yield " and ".join(mix.beside), f"{factor} ({word})" if factor else word


def _rows(summary: Summary, subject: str, mixes: tuple[Mix, ...]) -> Iterator[doc.Row]:
    own = summary.tenants[subject]
    yield "alone", *_times(own.response.solo), "", cells.number(own.throughput.solo.real), str(own.response.solo.n), ""
    for mix in mixes:
        figures = mix.tenants[subject]
        times = [doc.NOTHING] * len(cells.QUANTILES) if figures.response is None else _times(figures.response)
        word = doc.Cell(cells.verdict_word(figures), "dimmed" if figures.dimmed else figures.kind)
        df = doc.Cell(cells.ratio_with_interval(figures.df_p99), "strong")
        yield f"beside {' and '.join(mix.beside)}", *times, df, cells.number(figures.rate_hz), str(figures.n), word


def _times(latency: Latency) -> list[str]:
    return [cells.number(getattr(latency, quantile).estimate) for quantile in cells.QUANTILES]


def _words(tenant: Tenant) -> str:
    """What a neighbour does, as the plan has it."""
    match tenant.work:
        case Program(command=command):
            work = " ".join(command)
        case Kernel(workload=workload, size=size, target_ms=target_ms):
            work = f"{workload} {size}" + (f", about {target_ms:g} ms" if target_ms else "")
    if isinstance(tenant.arrivals, Closed) and isinstance(tenant.work, Kernel):
        think_ms = tenant.arrivals.think_ms
        return f"{work}, {f'pauses of {think_ms:g} ms' if think_ms else 'without a pause'}"
    return work


def _data(condition: str, figures: MixTenant) -> Iterator[doc.Datum]:
    yield doc.Datum("response", condition, "n", figures.n, "iterations")
    if figures.response is not None:
        for quantile in (*cells.QUANTILES, "p999"):
            yield cells.datum("response", condition, quantile, getattr(figures.response, quantile), "ms")
    yield cells.datum("response", condition, "df_p50", figures.df_p50, "ratio")
    yield cells.datum("response", condition, "df_p99", figures.df_p99, "ratio")
    yield doc.Datum("", condition, "throughput", figures.rate_hz, "1/s")
