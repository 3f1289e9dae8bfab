"""A run in several modes as a document: the choice, a row per mode and tenant, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.mode import EXCLUSIVE
from kts.model.modes import InModeTenant, KeptSlo, ModeResult, ModesSummary
from kts.model.provenance import made_by
from kts.model.reading import RunData
from kts.model.summary import Estimate
from kts.report import cells
from kts.report import document as doc
from kts.report.isolation import isolation_elements

_TONES: dict[KeptSlo, doc.Tone] = {"kept": "better", "broken": "worse", "undetermined": "undetermined"}
EXPLAINED = (
    "DF99: p99 in that mode over p99 alone, on the response clock; alone is each tenant in this run's solo blocks, "
    "which all modes share. Work per device: the sum of the tenants' rates over their rates alone (system throughput, "
    "Eyerman and Eeckhout 2008); exclusive needs a device for each tenant, and so does one tenant's work on each."
)
ENERGY = (
    "Energy: what the device drew while the tenants of a mode ran (mean), over the work it did, as joules per second's "
    "work of one tenant alone."
)


WIDEST = 112
"""Terminals with fewer columns leave out the intervals of energy and rates; files have them."""


def modes_document(modes: ModesSummary, run: RunData, figures: Sequence[doc.Figure] = ()) -> doc.Document:
    """The report of a run in several modes."""
    info = run.info
    return doc.Document(
        elements=(*modes_elements(modes, figures), *_data(modes)),
        title=f"{modes.experiment} in {len(modes.modes)} modes on {modes.device}",
        heading=f"{modes.experiment}: which way to share",
        footer=f"Measured with kts {made_by(info.provenance, info.kts)}; run {modes.run}",
    )


def modes_elements(modes: ModesSummary, figures: Sequence[doc.Figure] = ()) -> Iterator[doc.Element]:
    """What there is to say, in order."""
    yield from head(modes)
    yield table(modes)
    yield doc.paragraph(sentence(modes), "strong")
    yield doc.paragraph(explained(modes), "quiet", media=doc.FILES)
    yield from limits(modes)
    yield from figures


def head(modes: ModesSummary) -> Iterator[doc.Element]:
    """What was measured, on what."""
    label = doc.Cell(modes.device, "badge" if modes.is_gpu else "warning")
    yield doc.Paragraph((doc.Cell(modes.run, "strong"), doc.Cell("  on  "), label))
    rounds = "1 round" if modes.rounds == 1 else f"{modes.rounds} rounds"
    how = f"{len(modes.modes)} modes in turns, {rounds}, response clock, "
    yield doc.paragraph(f"{how}{100 * modes.confidence:g} % intervals, outcome {modes.outcome}", "quiet")


def sentence(modes: ModesSummary) -> str:
    """The choice, or why there is none."""
    reason = f"{modes.choice.reason[:1].upper()}{modes.choice.reason[1:]}."
    return f"Best: {modes.choice.best}. {reason}" if modes.choice.best else reason


def limits(modes: ModesSummary) -> Iterator[doc.Element]:
    """What each mode was, and what else to know before one believes it."""
    yield from doc.listed("What each was", [f"{one.mode.name}: {one.shown}" for one in modes.modes], "-")
    yield from doc.listed("What limits it", _doubts(modes), "!")
    if not all(one.predicted for one in modes.modes):
        yield from isolation_elements(modes.machine)
    yield from doc.listed("What else to know", modes.notes, "!")


def explained(modes: ModesSummary) -> str:
    """What the columns mean."""
    return f"{EXPLAINED} {ENERGY}" if _has_energy(modes) else EXPLAINED


def table(modes: ModesSummary) -> doc.Table:
    """A row per mode and tenant."""
    slos, deadlines, energy = _has(modes, "slo"), _has(modes, "goodput"), _has_energy(modes)
    work = any(one.throughput_interval is not None for one in modes.modes)
    confidence = f"{100 * modes.confidence:g} %"
    interval = f"{confidence} interval"
    return doc.Table(
        columns=(
            doc.Column("mode", "subject"),
            doc.Column("work per device", short="work per\ndevice"),
            *((doc.Column(interval, short=confidence, from_width=cells.WIDE_COLUMNS),) if work else ()),
            *((doc.Column("energy J", short="energy\nJ", from_width=cells.FULL_COLUMNS),) if energy else ()),
            *((doc.Column(interval, short=confidence, from_width=WIDEST),) if energy else ()),
            doc.Column("tenant", "subject"),
            doc.Column("p99 alone ms", short="alone\np99 ms", from_width=cells.FULL_COLUMNS),
            doc.Column("p99 ms", short="p99 ms"),
            doc.Column(f"DF99 ({interval})", short="DF99"),
            doc.Column("rate / alone", short="rate/\nalone"),
            *((doc.Column(interval, short=confidence, from_width=WIDEST),) if _has(modes, "progress_interval") else ()),
            *((doc.Column("in time", from_width=cells.FULL_COLUMNS),) if deadlines else ()),
            *((doc.Column("SLO", "word"),) if slos else ()),
        ),
        groups=tuple(tuple(_rows(modes, one)) for one in modes.modes),
        layout="plain",
        once=2 + 2 * energy + work,
    )


def _rows(modes: ModesSummary, one: ModeResult) -> Iterator[doc.Row]:
    """With the columns of `table`."""
    alone, used = one.mode.kind == EXCLUSIVE, one.energy
    of_mode: list[str | doc.Cell] = [one.mode.name, cells.ratio(one.throughput)]
    if any(each.throughput_interval is not None for each in modes.modes):
        of_mode.append(_interval(None if alone else one.throughput_interval))
    if _has_energy(modes):
        of_mode += [cells.number(used.joules if used else None), _numbers(used.interval if used else None)]
    for name, tenant in one.tenants.items():
        row = [
            *of_mode,
            name,
            cells.number(tenant.alone_p99.estimate),
            cells.number(tenant.shared_p99.estimate),
            cells.ratio(1.0) if alone else cells.ratio_with_interval(tenant.df99),
            cells.ratio(tenant.progress),
        ]
        if _has(modes, "progress_interval"):
            row.append(_interval(None if alone else tenant.progress_interval))
        if _has(modes, "goodput"):
            row.append(doc.NOTHING if tenant.goodput is None else cells.percent_with_interval(tenant.goodput))
        if _has(modes, "slo"):
            row.append(doc.NOTHING if tenant.slo is None else doc.Cell(tenant.slo, _TONES[tenant.slo]))
        yield tuple(row)


def _interval(of: Estimate | None) -> str:
    return doc.NOTHING if of is None else cells.interval(of)


def _numbers(of: Estimate | None) -> str:
    return doc.NOTHING if of is None or of.lo is None else f"{cells.number(of.lo)}-{cells.number(of.hi)}"


def _has(modes: ModesSummary, field: str) -> bool:
    return any(getattr(tenant, field) is not None for one in modes.modes for tenant in one.tenants.values())


def _has_energy(modes: ModesSummary) -> bool:
    return any(one.energy is not None for one in modes.modes)


def _doubts(modes: ModesSummary) -> Iterator[str]:
    """Each once, with the modes that have it."""
    by_text: dict[str, list[str]] = {}
    for one in modes.modes:
        for text in (*one.doubts, *_refusals(one)):
            by_text.setdefault(text, []).append(one.mode.name)
    return (f"{', '.join(names)}: {text}" for text, names in by_text.items())


def _refusals(one: ModeResult) -> Iterator[str]:
    """Intervals that the rounds do not give, by why."""
    told = {"work": one.throughput_interval, "energy": one.energy.interval if one.energy is not None else None}
    told |= {f"the rate of {name}": tenant.progress_interval for name, tenant in one.tenants.items()}
    whats: dict[str, list[str]] = {}
    for what, of in told.items():
        if of is not None and of.refused:
            whats.setdefault(of.refused, []).append(what)
    return (f"no interval of {', '.join(what)}: {why}" for why, what in whats.items())


def _data(modes: ModesSummary) -> Iterator[doc.Element]:
    """For programs: whose is the mode's name, and the condition the tenant's."""
    for one in modes.modes:
        data = [datum for name, tenant in one.tenants.items() for datum in _of_tenant(name, tenant)]
        if one.throughput_interval is not None:
            data.append(cells.datum("", "shared", "throughput", one.throughput_interval, "ratio"))
        if one.energy is not None:
            of = one.energy.interval
            ends = (of.lo, of.hi, of.refused) if of is not None else ()
            data.append(doc.Datum("", "shared", "energy", one.energy.joules, "J", *ends))
        yield doc.Data(one.mode.name, tuple(data))


def _of_tenant(name: str, tenant: InModeTenant) -> Iterator[doc.Datum]:
    yield cells.datum("response", name, "alone_p99", tenant.alone_p99, "ms")
    yield cells.datum("response", name, "p99", tenant.shared_p99, "ms")
    yield cells.datum("response", name, "df99", tenant.df99, "ratio")
    if tenant.progress_interval is not None:
        yield cells.datum("", name, "rate_over_alone", tenant.progress_interval, "ratio")
