"""Who hurts whom: the mixes of a run as a grid, row suffers, column causes; and the mixes that no grid can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kts.model.summary import Mix, MixTenant, Summary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report

FULL_HOUSE = "full house"


def section(report: Report) -> Iterator[doc.Element]:
    """The grid, where a terminal has room for it, and the other mixes; else a row per mix and tenant."""
    summary = report.summary
    every = measured(summary)
    table = grid(summary)
    if every:
        yield doc.Heading("Who hurts whom", media=doc.MARKDOWN)
    if table is not None:
        wide = (
            _grid_table(table, legend(summary)),
            doc.paragraph(legend(summary), "quiet", close=True, media=doc.TERMINAL | doc.MARKDOWN),
        )
        yield doc.Fitting((*wide, *_long_table(others(summary))), tuple(_long_table(every)))
    else:
        yield from _long_table(every)
    for mix in every[:-1]:
        for name, figures in mix.tenants.items():
            yield doc.Data(name, tuple(_data(mix.condition, figures)), several=True)


@dataclass(frozen=True)
class PairCell:
    """DF99 of one tenant in one mix. ``figures`` None: there is ``nothing``, as the text says."""

    figures: MixTenant | None
    nothing: str = doc.NOTHING

    @property
    def text(self) -> str:
        """``1.66``; ``1.03 ?`` where undetermined; ``1.66 *`` where drift is not excluded; ``refused``; ``-`` where
        not measured; empty on the diagonal."""
        if self.figures is None:
            return self.nothing
        if self.figures.df_p99.estimate is None:
            return "refused"
        mark = " ?" if self.figures.kind == "undetermined" else " *" if self.figures.dimmed else ""
        return f"{cells.ratio_of(self.figures.df_p99)}{mark}"

    @property
    def interval(self) -> str:
        """``1.55-1.78``; empty where there is none."""
        if self.figures is None or self.figures.df_p99.lo is None:
            return ""
        return cells.interval(self.figures.df_p99)


@dataclass(frozen=True)
class Grid:
    """``rows``: tenant that suffers and its cells, one per head. ``heads``: tenants that cause, then the full house."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[PairCell, ...]], ...]


def measured(summary: Summary) -> tuple[Mix, ...]:
    """The mixes of a run that measured more than the full house, that one last; else none. Those of a run that is about
    one tenant are told by `kts.report.sections.beside`."""
    return () if summary.subject else summary.mixes or ()


def grid(summary: Summary) -> Grid | None:
    """Row suffers, column causes, from the pairs; the full house is the last column. None without a measured pair."""
    mixes = measured(summary)
    pairs = {frozenset(mix.tenants): mix for mix in mixes if len(mix.tenants) == 2}
    if not pairs:
        return None
    names = tuple(summary.tenants)
    house = mixes[-1].tenants
    rows = []
    for name in names:
        row = [
            PairCell(None, "") if other == name else _cell(name, pairs.get(frozenset((name, other)))) for other in names
        ]
        rows.append((name, (*row, PairCell(house.get(name)))))
    return Grid(heads=(*names, FULL_HOUSE), rows=tuple(rows))


def others(summary: Summary) -> list[Mix]:
    """The mixes that the grid does not show."""
    table = grid(summary)
    return [mix for mix in measured(summary) if table is None or 2 < len(mix.tenants) < len(summary.tenants)]


def legend(summary: Summary) -> str:
    """What a cell of the grid means."""
    reasons = dict.fromkeys(figures.dimmed for mix in measured(summary) for figures in mix.tenants.values())
    dimmed = [reason for reason in reasons if reason]
    star = f" *: {', '.join(dimmed)}, so drift cannot be told from sharing." if dimmed else ""
    return (
        "DF99 of the row's tenant beside the column's: response p99 together / p99 alone, with its "
        f"{100 * summary.confidence:g} % interval. ?: undetermined, whether worse, better or no change.{star}"
    )


def refusals(summary: Summary) -> list[str]:
    """Why cells are ``refused``: one line per tenant and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for mix in measured(summary)[:-1]:
        for name, figures in mix.tenants.items():
            if figures.df_p99.estimate is None:
                found.setdefault((name, figures.df_p99.refused or "not measured"), []).append(_shown(mix))
    return [f"{name}: {reason} (DF99 in {', '.join(mixes)})" for (name, reason), mixes in found.items()]


def worst(summary: Summary) -> tuple[float, str, str] | None:
    """(DF99, who suffers, who causes) of the worst pair that is shown to be worse; None if there is none."""
    found = [
        (figures.df_p99.estimate, name, next(other for other in mix.tenants if other != name))
        for mix in measured(summary)
        if len(mix.tenants) == 2
        for name, figures in mix.tenants.items()
        if figures.kind == "worse" and not figures.dimmed and figures.df_p99.estimate is not None
    ]
    return max(found, default=None)


def without_worst(summary: Summary) -> str:
    """What can be said of pairs of which none is shown to be worse: that of some nothing is known is not that."""
    kinds = [f.kind for mix in measured(summary) if len(mix.tenants) == 2 for f in mix.tenants.values()]
    if all(kind == "refused" for kind in kinds):
        return "too few data for any pair"
    return f"no pair is shown to make a p99 worse{unsettled(kinds)}"


def unsettled(kinds: Sequence[str]) -> str:
    """``; of 6, 2 are refused and 1 is undetermined``; empty where every one is settled."""
    counts = {kind: kinds.count(kind) for kind in ("refused", "undetermined", "not-steady")}
    parts = [f"{n} {'is' if n == 1 else 'are'} {kind.replace('-', ' ')}" for kind, n in counts.items() if n]
    return f"; of {len(kinds)}, {' and '.join(parts)}" if parts else ""


def words(summary: Summary) -> str:
    """Every cell in words, for those who cannot see the picture."""
    table = grid(summary)
    return "; ".join(_spoken(table)) + "." if table else ""


def _spoken(table: Grid) -> Iterator[str]:
    for name, row in table.rows:
        for head, cell in zip(table.heads, row, strict=True):
            if cell.figures is not None:
                where = "in the full house" if head == FULL_HOUSE else f"beside {head}"
                unsettled = cell.figures.dimmed or cell.figures.kind in {"undetermined", "refused"}
                note = f" ({cells.verdict_word(cell.figures)})" if unsettled else ""
                yield f"{name} {where} {cells.ratio_with_interval(cell.figures.df_p99)}{note}"


def _cell(name: str, pair: Mix | None) -> PairCell:
    return PairCell(pair.tenants[name] if pair else None)


def _shown(mix: Mix) -> str:
    return "+".join(mix.tenants)


def _grid_table(table: Grid, legend: str) -> doc.Table:
    first, *heads = table.heads
    return doc.Table(
        columns=(
            doc.Column("suffers, beside", "subject", short="DF99\nsuffers", fold=0),
            doc.Column(first, short=f"beside\n{first}"),
            *(doc.Column(head, short=f"\n{head}") for head in heads),
        ),
        groups=(tuple((name, *(doc.Cell(c.text, _tone(c), c.interval) for c in row)) for name, row in table.rows),),
        caption=f"Who hurts whom. {legend}",
        gap=2,
    )


def _tone(cell: PairCell) -> doc.Tone:
    return "dimmed" if cell.figures is None or cell.figures.dimmed else cell.figures.kind


def _long_table(mixes: Sequence[Mix]) -> Iterator[doc.Table]:
    """A row per mix and tenant; the count, DF50 and device DF99 give way first."""
    if mixes:
        yield doc.Table(
            columns=(
                doc.Column("mix", "name", fold=0),
                doc.Column("tenant", "name", fold=0),
                doc.Column("n", from_width=cells.WIDE_COLUMNS),
                doc.Column("DF99"),
                doc.Column("DF50", from_width=cells.WIDE_COLUMNS),
                doc.Column("device DF99", from_width=cells.WIDE_COLUMNS),
                doc.Column("verdict", "word"),
            ),
            groups=tuple(tuple(_long(mix)) for mix in mixes),
            caption="Tenants measured together, each against itself alone.",
        )


def _long(mix: Mix) -> Iterator[doc.Row]:
    for name, figures in mix.tenants.items():
        yield (
            _shown(mix),
            name,
            str(figures.n),
            cells.ratio_with_interval(figures.df_p99),
            cells.ratio(figures.df_p50.estimate),
            cells.ratio(figures.device_df_p99.estimate),
            cells.verdict_word(figures),
        )


def _data(condition: str, figures: MixTenant) -> Iterator[doc.Datum]:
    yield doc.Datum("response", condition, "n", figures.n, "iterations")
    yield cells.datum("response", condition, "df_p50", figures.df_p50, "ratio")
    yield cells.datum("response", condition, "df_p99", figures.df_p99, "ratio")
    yield cells.datum("device", condition, "df_p99", figures.device_df_p99, "ratio")
