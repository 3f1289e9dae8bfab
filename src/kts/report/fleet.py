"""A fleet as a document: one table, one figure, outliers named, and what was not measured with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.fleet_summary import FEWEST, FleetSummary, Measured, NodeSummary, OverNodes
from kts.report import cells
from kts.report import document as doc

TITLES = {"solo-p99": "solo p99", "df99": "DF99"}
RULE = (
    "Outlier: the figure lies more than 3.5 robust standard deviations (median absolute deviation, on the log scale) "
    "and more than 5 % from the median of the nodes with the same GPU, and its interval does not hold that median. A "
    "rule of thumb, no test: about 1 in 10 fleets of like nodes has a node named. It needs "
    f"{FEWEST} nodes with the figure, and cannot see what more than half of them share."
)


def fleet_document(fleet: FleetSummary, figures: Sequence[doc.Figure] = (), kts_version: str = "") -> doc.Document:
    """The report of a fleet."""
    return doc.Document(
        elements=(*fleet_elements(fleet, figures), *_data(fleet)),
        title=f"{fleet.experiment} on {_count(len(fleet.nodes))}",
        heading=f"{fleet.experiment}: what sharing cost, by node",
        footer=f"Measured with kts {kts_version}; fleet {fleet.id}",
    )


def fleet_elements(fleet: FleetSummary, figures: Sequence[doc.Figure] = ()) -> Iterator[doc.Element]:
    """What there is to say, in order."""
    measured = [one for one in fleet.nodes if one.tenants]
    chosen = f"nodes {fleet.selector!r}" if fleet.selector else "all nodes"
    how = f"{chosen}, {len(measured)} of {len(fleet.nodes)} measured, {fleet.headline_clock} times, "
    how += f"{100 * fleet.confidence:g} % intervals, outcome {fleet.outcome}"
    yield doc.Paragraph((doc.Cell(fleet.id, "strong"), doc.Cell(f"  {fleet.experiment}")), media=doc.TERMINAL)
    yield doc.paragraph(how, "quiet")
    yield _table(fleet)
    yield doc.paragraph(sentence(fleet), "strong")
    yield doc.paragraph(RULE, "quiet", media=doc.FILES)
    yield from doc.listed("Outliers", (_outlier(fleet, node, band) for node, band in fleet.outliers), "!")
    yield from doc.listed("Not judged", _refusals(fleet), "-")
    missing = [_missing(one) for one in fleet.nodes if one.state != "complete" or one.why]
    yield from doc.listed("Not complete", missing, "!")
    yield from doc.listed("What differs", fleet.notes, "!")
    yield from (figure for figure in figures)


def sentence(fleet: FleetSummary) -> str:
    """What it comes to."""
    named = dict.fromkeys(node for node, _ in fleet.outliers)
    if named:
        return f"Unlike the others: {', '.join(named)}."
    if any(not band.refused for band in fleet.bands):
        return "No node is unlike the others."
    return f"No node can be called an outlier: {FEWEST} nodes with the same GPU would be needed."


def _table(fleet: FleetSummary) -> doc.Table:
    interval = f"{100 * fleet.confidence:g} % interval"
    return doc.Table(
        columns=(
            doc.Column("node", "subject", fold=0),
            doc.Column("GPU", "name", from_width=cells.WIDE_COLUMNS, fold=24),
            doc.Column("driver", "word", from_width=cells.WIDE_COLUMNS),
            doc.Column("GPUs", from_width=cells.WIDE_COLUMNS),
            doc.Column("SM MHz", short="SM\nMHz", from_width=cells.WIDE_COLUMNS),
            doc.Column("slice ms", short="slice\nms", from_width=cells.WIDE_COLUMNS),
            doc.Column("tenant", "subject"),
            doc.Column("solo p99 ms", short="solo\np99 ms"),
            doc.Column(f"DF99 ({interval})", short=f"DF99\n({interval})"),
            doc.Column("device DF99", short="device\nDF99", from_width=cells.FULL_COLUMNS),
            doc.Column("", "word"),
        ),
        groups=tuple(tuple(_rows(fleet, one)) for one in fleet.nodes),
        layout="plain",
        once=6,
    )


def _rows(fleet: FleetSummary, one: NodeSummary) -> Iterator[doc.Row]:
    of = one.device
    if of is None or not one.tenants:
        yield (one.node, *[doc.NOTHING] * 9, doc.Cell(one.state, "refused"))
        return
    slice_ms = of.slice_ms.estimate if of.slice_ms is not None else None
    hardware = (of.name, of.driver or doc.NOTHING, str(of.gpus), _mhz(of.sm_mhz), cells.number(slice_ms))
    for row in one.tenants:
        out = [TITLES[band.figure] for node, band in fleet.outliers if (node, band.tenant) == (one.node, row.tenant)]
        state = "" if one.state == "complete" else one.state
        word = doc.Cell(f"outlier: {', '.join(out)}", "worse") if out else doc.Cell(state, "undetermined")
        yield (
            one.node,
            *hardware,
            row.tenant,
            cells.number(row.solo_p99.estimate),
            cells.ratio_with_interval(row.df99),
            cells.ratio_of(row.device_df99),
            word,
        )


def _mhz(value: float | None) -> str:
    return doc.NOTHING if value is None else f"{value:.0f}"


def _outlier(fleet: FleetSummary, node: str, band: OverNodes) -> str:
    row = next(row for one in fleet.nodes if one.node == node for row in one.tenants if row.tenant == band.tenant)
    if band.figure == "df99":
        value, write = cells.ratio_with_interval(row.df99), cells.ratio
    else:
        solo = row.solo_p99
        value, write = f"{cells.number_with_interval(solo.estimate, solo.lo, solo.hi)} ms", cells.number
    others = (
        f"median {write(band.median)}, band {write(band.lo)}-{write(band.hi)}, {_count(band.nodes)} with {band.gpu}"
    )
    return f"{node}: {band.tenant} {TITLES[band.figure]} {value}; {others}"


def _refusals(fleet: FleetSummary) -> Iterator[str]:
    """Why no node is named, once per reason."""
    by_reason: dict[str, list[str]] = {}
    for band in fleet.bands:
        if band.refused:
            by_reason.setdefault(band.refused, []).append(f"{band.tenant} {TITLES[band.figure]} ({band.gpu})")
    return (f"{', '.join(figures)}: {reason}" for reason, figures in by_reason.items())


def _missing(one: NodeSummary) -> str:
    why = "; ".join(text for text in dict.fromkeys((one.reason, one.why)) if text)
    return f"{one.node}: {one.state}{f': {why}' if why else ''}{f' (try: {one.remedy})' if one.remedy else ''}"


def _count(nodes: int) -> str:
    return f"{nodes} node{'' if nodes == 1 else 's'}"


def _data(fleet: FleetSummary) -> Iterator[doc.Element]:
    """For programs: whose is the node's, and the condition the tenant's."""
    for one in fleet.nodes:
        data = [datum for row in one.tenants for datum in _of_tenant(fleet, row)]
        yield doc.Data(one.node, tuple(data))


def _of_tenant(fleet: FleetSummary, row: Measured) -> Iterator[doc.Datum]:
    yield cells.datum(fleet.headline_clock, row.tenant, "solo_p99", row.solo_p99, "ms")
    yield cells.datum(fleet.headline_clock, row.tenant, "df99", row.df99, "ratio")
    yield cells.datum("device", row.tenant, "df99", row.device_df99, "ratio")
