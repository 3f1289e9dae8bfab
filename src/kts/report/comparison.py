"""Two sides beside each other, and runs pooled, as tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kts.report import cells
from kts.report.terminal import print_section

if TYPE_CHECKING:
    from kts.stats.comparison import Change, Comparison, Pool, PooledFigure

_STYLE = {
    "higher": "bold red",
    "lower": "bold green",
    "same": "green",
    "undetermined": "yellow",
    "unknown": "yellow",
    "not-judged": "dim",
}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints side B against side A: the judged figures with their ratios, what they come to, and what else differs."""
    from kts.stats.comparison import FAMILY

    _print_runs("A", comparison.a, console)
    _print_runs("B", comparison.b, console)
    shown = [change for change in comparison.changes if (change.clock, change.figure, change.quantile) in FAMILY]
    console.print()
    console.print(_comparison_table(shown))
    console.print()
    console.print(Text(comparison.sentence, style="bold"))
    for text in _meaning(comparison, shown):
        console.print(Text(textwrap.fill(text, console.width), style="dim"))
    unknown = dict.fromkeys(f"{c.tenant} {_place(c)}: {c.ratio.refused}" for c in shown if c.change == "unknown")
    print_section(console, "Refused (-)", unknown, "-")
    missing = [f"only in A: {name}" for name in comparison.only_in_a]
    missing += [f"only in B: {name}" for name in comparison.only_in_b]
    print_section(console, "What else differs", [*missing, *comparison.notes], "!")


def print_pool(pool: Pool, console: Console) -> None:
    """Prints the figures over all runs, each with an interval for their mean and how much runs differ."""
    _print_runs("runs", pool.runs, console)
    table = _table("tenant", "figure")
    for label in (f"mean ({100 * pool.confidence:g} % interval)", "between runs", "runs"):
        table.add_column(label, justify="right", no_wrap=True)
    before = ""
    for one in pool.figures:
        if before and one.tenant != before:
            table.add_section()
        name, before = (one.tenant if one.tenant != before else ""), one.tenant
        found = one.pooled
        table.add_row(Text(name, style="bold"), _place(one), _figure(one), percent(found.between), str(found.runs))
    console.print()
    console.print(table)
    console.print()
    meaning = (
        "Random effects: the interval is for the mean of runs like these, and holds how much they differ. "
        "Between runs: standard deviation, as a share of the figure."
    )
    console.print(Text(textwrap.fill(meaning, console.width), style="dim"))
    refused = dict.fromkeys(
        f"{one.tenant} {_place(one)}: {one.pooled.estimate.refused}"
        for one in pool.figures
        if one.pooled.estimate.refused
    )
    print_section(console, "Refused (-)", refused, "-")
    print_section(console, "What differs", pool.notes, "!")


def percent(fraction: float | None) -> str:
    """``1.3 %``; ``-`` where nobody can tell."""
    return cells.REFUSED if fraction is None else f"{100 * fraction:.1f} %"


def _print_runs(label: str, runs: Sequence[str], console: Console) -> None:
    indent = len(label) + 2
    text = textwrap.fill(", ".join(runs), max(console.width - indent, 20), subsequent_indent=" " * indent)
    console.print(Text.assemble((f"{label}  ", "bold"), text))


def _meaning(comparison: Comparison, shown: Sequence[Change]) -> list[str]:
    limit = f"{100 * comparison.threshold:g} %"
    lines = [
        f"Higher, lower: by more than {limit}, judged together with the {comparison.family} figures that are judged "
        f"(Holm, {100 * comparison.confidence:g} %). Same: the whole interval lies within {limit}."
    ]
    if not comparison.replicated:
        return [
            *lines,
            "One run a side: these do not tell how much two runs of one experiment differ, and the intervals do not "
            "hold it. More runs a side do: kts compare A1 A2 --with B1 B2.",
        ]
    between = [change.between for change in shown if change.between is not None]
    if between:
        lines.append(
            f"Runs of a side differ by {percent(min(between))} to {percent(max(between))} (standard deviation), which "
            "the intervals hold."
        )
    return lines


def _place(one: Change | PooledFigure) -> str:
    figure = f"DF{one.quantile[1:]}" if one.figure == "df" else f"{one.figure} {one.quantile} ms"
    return f"{one.clock} {figure}"


def _comparison_table(shown: Iterable[Change]) -> Table:
    table = _table("tenant", "figure")
    for label in ("A", "B", "B/A (interval)"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    before = ""
    for change in shown:
        if before and change.tenant != before:
            table.add_section()
        write = cells.ratio if change.figure == "df" else cells.number
        table.add_row(
            Text(change.tenant if change.tenant != before else "", style="bold"),
            _place(change),
            write(change.a.estimate),
            write(change.b.estimate),
            cells.ratio_with_interval(change.ratio),
            Text(change.change.replace("-", " "), style=_STYLE[change.change]),
        )
        before = change.tenant
    return table


def _figure(one: PooledFigure) -> str:
    found = one.pooled.estimate
    if one.figure == "df" or found.estimate is None:
        return cells.ratio_with_interval(found)
    return f"{cells.number(found.estimate)} ({cells.number(found.lo)}-{cells.number(found.hi)})"


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(names[0], overflow="fold", max_width=30)
    for name in names[1:]:
        table.add_column(name, no_wrap=True)
    return table
