"""What watching came to as a document: who pays, a row per unit, and whom each waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.summary import Estimate
from kts.report import cells
from kts.report import document as doc
from kts.shown import first_few
from kts.units import NS_PER_S, format_duration
from kts.watch.live import Happened, Watched, WatchNow

MOST_BLAMED = 6
"""Columns of the matrix; what others made a unit wait is summed up."""
MOST_HAPPENED = 10
"""Events that are shown, the latest."""
OTHERS, UNEXPLAINED = "others", "unexplained"
_SHORT_GPU = 12
_LEAST_MS = 1e-3
"""Per second; what is below a microsecond is nothing."""
EXPLAINED = (
    "DF: response while a neighbour had work in flight over response while none had, each unit against itself, with "
    "95 % intervals. Neighbours came and went as they liked: where a unit's own load rises together with theirs, part "
    "of the difference is its own. Foretold: the model's figure from what is seen, where there was too little time "
    "alone; nobody measured it. Times end where the host learns that the GPU is done."
)


def watch_document(now: WatchNow, kts_version: str) -> doc.Document:
    """The page and the files of a watch."""
    return doc.Document(
        elements=(*watch_elements(now), *map(_data, now.units)),
        title=f"{now.node}: who pays for sharing",
        heading=f"{now.node}: who pays for sharing",
        footer=f"Watched with kts {kts_version}; the last {format_duration(now.window_s)}",
    )


def watch_elements(now: WatchNow, most_rows: int | None = None) -> Iterator[doc.Element]:
    """What there is to say, in order. ``most_rows``: so many units at most, those that wait longest."""
    ranked = sorted(now.units, key=lambda one: (-one.added_ms, one.unit, one.gpu))
    seen = f"{len(ranked)} unit{'' if len(ranked) == 1 else 's'}, {now.calls} calls"
    yield doc.Paragraph((doc.Cell(now.node, "strong"), doc.Cell(f"  last {format_duration(now.window_s)}, {seen}")))
    if not ranked:
        yield doc.paragraph("No process calls the driver's library.")
    else:
        yield doc.paragraph(sentence(now), "strong")
        yield _table(ranked[:most_rows])
        if left := len(ranked[most_rows:]) if most_rows is not None else 0:
            yield doc.paragraph(f"{left} more that wait less", "quiet")
        yield doc.paragraph(EXPLAINED, "quiet", media=doc.FILES)
        yield from _blame(ranked)
    latest = sorted(now.happened, key=lambda one: -one.at_ns)[:MOST_HAPPENED]
    yield from doc.listed("What happened", (_ago(one, now.at_ns) for one in latest), "-")
    yield from doc.listed("What limits it", _limits(now), "!")


def explained_elements(now: WatchNow, units: Sequence[Watched]) -> Iterator[doc.Element]:
    """Of each: what sharing costs it, because of whom, and what would settle it; those that wait longest first."""
    yield doc.Paragraph((doc.Cell(now.node, "strong"), doc.Cell(f"  last {format_duration(now.window_s)}")))
    for one in sorted(units, key=lambda one: (-one.added_ms, one.unit, one.gpu)):
        yield doc.Heading(one.unit)
        yield doc.Bullets(tuple(map(doc.Item, _told(one))), "-")
    yield doc.paragraph(EXPLAINED, "quiet")
    yield doc.paragraph("What another GPU or another way to share would change: kts run --modes, kts whatif.", "quiet")
    yield from doc.listed("What limits it", _limits(now), "!")


def _told(one: Watched) -> Iterator[str]:
    p99 = f"p99 {cells.number(one.p99_ms.estimate)} ms"
    seen = f"seen beside others for {format_duration(one.cost.shared_s)}, alone for {format_duration(one.cost.alone_s)}"
    if one.cost.df99.estimate is not None:
        yield f"{p99}, {cells.ratio_with_interval(one.cost.df99)} times what it is alone; {seen}"
    elif one.cost.foretold_df99 is not None and one.cost.foretold_df99.estimate is not None:
        foretold = cells.ratio_with_interval(one.cost.foretold_df99)
        yield f"{p99}, by the model {foretold} times what it would be alone; not measured: {one.cost.df99.refused}"
    else:
        yield f"{p99}; what of it is sharing is not known: {one.cost.df99.refused}"
    if one.added_ms >= _LEAST_MS:
        yield f"waits {_ms(one.added_ms)} ms in each second longer than alone"
        for unit, ms in sorted(one.waits_for.items(), key=lambda item: -item[1]):
            if ms >= _LEAST_MS:
                whom = f"for {unit}, which computes on the same GPU" if unit else "for nobody that was seen"
                yield f"{_ms(ms)} ms of it ({cells.percent(ms / one.added_ms)}) {whom}"


def sentence(now: WatchNow) -> str:
    """Who pays most, or that nobody is seen to."""
    paying = [one for one in now.units if _above_one(one.cost.df99)]
    if not paying:
        known = sum(one.cost.df99.estimate is not None for one in now.units)
        return f"Of {known} with a figure, none is seen to pay." if known else "No figure yet of what sharing costs."
    most = max(paying, key=lambda one: one.cost.df99.estimate or 0.0)
    told = f"{most.unit} pays most: its p99 beside others is {cells.ratio_with_interval(most.cost.df99)} times its own."
    match most.most_for:
        case ():
            return told
        case (first,):
            return f"{told} It waits {_ms(most.waits_for[first])} ms/s for {first}."
        case several:
            return f"{told} For whom most is not told apart: {first_few(several, 3)}."


def _table(units: list[Watched]) -> doc.Table:
    several = len({one.gpu for one in units}) > 1
    return doc.Table(
        columns=(
            doc.Column("unit", "subject"),
            *((doc.Column("GPU", "word", from_width=cells.WIDE_COLUMNS),) if several else ()),
            doc.Column("p50 ms", short="p50\nms", from_width=cells.WIDE_COLUMNS),
            doc.Column("p99 ms", short="p99\nms"),
            doc.Column("round trips/s", short="trips\n/s", from_width=cells.FULL_COLUMNS),
            doc.Column("launches/s", short="launch\n/s", from_width=cells.WIDE_COLUMNS),
            doc.Column("in flight", short="in\nflight", from_width=cells.FULL_COLUMNS),
            doc.Column("DF99 (95 % interval)", short="DF99"),
            doc.Column("waits ms/s", short="waits\nms/s"),
            doc.Column("most for", "name", from_width=cells.FULL_COLUMNS),
        ),
        groups=(tuple(_row(one, several=several) for one in units),),
    )


def _row(one: Watched, *, several: bool) -> doc.Row:
    return (
        one.unit,
        *((one.gpu[:_SHORT_GPU],) if several else ()),
        cells.number(one.p50_ms.estimate),
        cells.number(one.p99_ms.estimate),
        cells.number(one.trips),
        cells.number(one.launches),
        cells.percent(one.in_flight),
        _df(one),
        _ms(one.added_ms),
        " or ".join(one.most_for) or doc.NOTHING,
    )


def _df(one: Watched) -> doc.Cell:
    measured, foretold = one.cost.df99, one.cost.foretold_df99
    if measured.estimate is None and foretold is not None and foretold.estimate is not None:
        return doc.Cell(f"foretold {cells.ratio(foretold.estimate)}", "quiet")
    return doc.Cell(cells.ratio_with_interval(measured), "worse" if _above_one(measured) else "")


def _above_one(figure: Estimate) -> bool:
    return figure.lo is not None and figure.lo > 1


def _ms(value: float) -> str:
    return cells.number(0.0 if abs(value) < _LEAST_MS else value)


def _blame(units: list[Watched]) -> Iterator[doc.Element]:
    """The matrix of who waits for whom; in a narrow terminal a line each."""
    waiting = [one for one in units if one.added_ms >= _LEAST_MS]
    if not waiting:
        return
    total: dict[str, float] = {}
    for one in waiting:
        for unit, ms in one.waits_for.items():
            if unit:
                total[unit] = total.get(unit, 0.0) + ms
    blamed = sorted(total, key=lambda unit: (-total[unit], unit))
    shown, rest = blamed[:MOST_BLAMED], set(blamed[MOST_BLAMED:])
    tails = (*((OTHERS,) if rest else ()), UNEXPLAINED, "sum")
    names = _names(waiting)
    yield doc.Heading("Who waits for whom, in milliseconds per second", "blame")
    matrix = doc.Table(
        columns=(doc.Column("waits", "subject"), *(doc.Column(unit) for unit in (*shown, *tails))),
        groups=(tuple((name, *_in_matrix(one, shown, rest)) for name, one in zip(names, waiting, strict=True)),),
    )
    lines = tuple(
        doc.Item(f"{name} for {unit or UNEXPLAINED}: {_ms(ms)}")
        for name, one in zip(names, waiting, strict=True)
        for unit, ms in sorted(one.waits_for.items(), key=lambda item: -item[1])[:MOST_BLAMED]
        if ms >= _LEAST_MS
    )
    yield doc.Fitting((matrix,), (doc.Bullets(lines, "-"),))


def _names(units: list[Watched]) -> list[str]:
    """Of rows, with the GPU where there are several."""
    several = len({one.gpu for one in units}) > 1
    return [f"{one.unit} on {one.gpu[:_SHORT_GPU]}" if several else one.unit for one in units]


def _in_matrix(one: Watched, shown: list[str], rest: set[str]) -> doc.Row:
    others = (_ms(sum(ms for unit, ms in one.waits_for.items() if unit in rest)),) if rest else ()
    named = (_ms(one.waits_for.get(unit, 0.0)) for unit in shown)
    return (*named, *others, _ms(one.waits_for.get("", 0.0)), _ms(one.added_ms))


def _ago(one: Happened, at_ns: int) -> str:
    return f"{format_duration(max(at_ns - one.at_ns, 0) / NS_PER_S)} ago: {cells.about(one.unit, one.words)}"


def _limits(now: WatchNow) -> Iterator[str]:
    """Why figures are refused, each once with the units; what was not seen; what else to know."""
    refused: dict[str, list[str]] = {}
    for one in now.units:
        if one.cost.df99.refused:
            refused.setdefault(one.cost.df99.refused, []).append(one.unit)
    for why, units in refused.items():
        yield f"DF99 of {first_few(units, 3)}: {why}"
    if now.lost:
        yield f"{now.lost} calls since the start found no room and are in no figure"
    if now.left_out:
        yield f"{now.left_out} processes are not watched, so as not to cost more than may be"
    yield from now.notes


def _data(one: Watched) -> doc.Data:
    """For programs: the condition is the GPU."""
    gpu = one.gpu or "gpu"
    rates = {"trips": (one.trips, "1/s"), "launches": (one.launches, "1/s"), "in_flight": (one.in_flight, "ratio")}
    rates |= {"added": (one.added_ms, "ms/s")}
    rates |= {f"waits_for:{unit or UNEXPLAINED}": (ms, "ms/s") for unit, ms in one.waits_for.items()}
    figures = [("p50", one.p50_ms, "ms"), ("p99", one.p99_ms, "ms")]
    figures += [("df50", one.cost.df50, "ratio"), ("df99", one.cost.df99, "ratio")]
    if one.cost.foretold_df99 is not None:
        figures.append(("foretold_df99", one.cost.foretold_df99, "ratio"))
    data = [cells.datum("response", gpu, figure, value, unit) for figure, value, unit in figures]
    data += [doc.Datum("", gpu, figure, value, unit) for figure, (value, unit) in rates.items()]
    return doc.Data(one.unit, tuple(data))
