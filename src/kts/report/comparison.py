"""Two sides beside each other, and runs pooled, as documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from kts.report import cells
from kts.report import document as doc
from kts.stats.comparison import FAMILY, ComparedFigure, Comparison, Pool, PooledFigure

_TONES: dict[str, doc.Tone] = {
    "higher": "worse",
    "lower": "better",
    "same": "no-change",
    "undetermined": "undetermined",
    "unknown": "refused",
    "not-judged": "quiet",
}


def comparison_elements(comparison: Comparison) -> Iterator[doc.Element]:
    """Side B against side A: the judged figures with their ratios, what they come to, and what else differs."""
    shown = [change for change in comparison.changes if (change.clock, change.figure, change.quantile) in FAMILY]
    yield _runs("A", comparison.a)
    yield _runs("B", comparison.b)
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject"),
            doc.Column("figure", "word"),
            doc.Column("A"),
            doc.Column("B"),
            doc.Column("B/A (interval)"),
            doc.Column("B is", "word"),
        ),
        groups=tuple(tuple(map(_changed, of)) for _, of in groupby(shown, lambda change: change.tenant)),
        layout="apart",
        once=1,
    )
    yield doc.paragraph(comparison.sentence, "strong")
    for text in _meaning(comparison, shown):
        yield doc.paragraph(text, "quiet")
    unknown = dict.fromkeys(f"{c.tenant} {_place(c)}: {c.ratio.refused}" for c in shown if c.change == "unknown")
    yield from doc.listed("Refused (-)", unknown, "-")
    missing = [f"only in A: {name}" for name in comparison.only_in_a]
    missing += [f"only in B: {name}" for name in comparison.only_in_b]
    yield from doc.listed("What else differs", [*missing, *comparison.notes], "!")


def pool_elements(pool: Pool) -> Iterator[doc.Element]:
    """The figures over all runs, each with an interval for their mean and how much runs differ."""
    yield _runs("runs", pool.runs)
    mean = f"mean ({100 * pool.confidence:g} % interval)"
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject"),
            doc.Column("figure", "word"),
            doc.Column(mean),
            doc.Column("between runs"),
            doc.Column("runs"),
        ),
        groups=tuple(tuple(map(_pooled, of)) for _, of in groupby(pool.figures, lambda one: one.tenant)),
        layout="apart",
        once=1,
    )
    yield doc.paragraph(
        "Random effects: the interval is for the mean of runs like these, and holds how much they differ. "
        "Between runs: standard deviation, as a share of the figure.",
        "quiet",
    )
    refusals = ((one, one.pooled.estimate.refused) for one in pool.figures)
    refused = dict.fromkeys(f"{one.tenant} {_place(one)}: {why}" for one, why in refusals if why)
    yield from doc.listed("Refused (-)", refused, "-")
    yield from doc.listed("What differs", pool.notes, "!")


def _runs(label: str, runs: Sequence[str]) -> doc.Paragraph:
    return doc.Paragraph((doc.Cell(f"{label}  ", "strong"), doc.Cell(", ".join(runs))), hanging=True)


def _changed(change: ComparedFigure) -> tuple[str | doc.Cell, ...]:
    write = cells.ratio if change.figure == "df" else cells.number
    return (
        change.tenant,
        _place(change),
        write(change.a.estimate),
        write(change.b.estimate),
        cells.ratio_with_interval(change.ratio),
        doc.Cell(change.change.replace("-", " "), _TONES[change.change]),
    )


def _pooled(one: PooledFigure) -> tuple[str, ...]:
    pooled, mean = one.pooled, one.pooled.estimate
    if one.figure == "df":
        text = cells.ratio_with_interval(mean)
    else:
        text = cells.number_with_interval(mean.estimate, mean.lo, mean.hi)
    return one.tenant, _place(one), text, cells.percent(pooled.between), str(pooled.runs)


def _meaning(comparison: Comparison, shown: Iterable[ComparedFigure]) -> Iterator[str]:
    limit = f"{100 * comparison.threshold:g} %"
    yield (
        f"Higher, lower: by more than {limit}, judged together with the {comparison.family} figures that are judged "
        f"(Holm, {100 * comparison.confidence:g} %). Same: the whole interval lies within {limit}."
    )
    if not comparison.replicated:
        yield (
            "One run a side: these do not tell how much two runs of one experiment differ, and the intervals do not "
            "hold it. More runs a side do: kts compare A1 A2 --with B1 B2."
        )
    elif between := [change.between for change in shown if change.between is not None]:
        yield (
            f"Runs of a side differ by {cells.percent(min(between))} to {cells.percent(max(between))} (standard "
            "deviation), which the intervals hold."
        )


def _place(one: ComparedFigure | PooledFigure) -> str:
    figure = f"DF{one.quantile[1:]}" if one.figure == "df" else f"{one.figure} {one.quantile} ms"
    return f"{one.clock} {figure}"
