"""Tables for a terminal: all figures from 80 columns, the p99s below that."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kts.model.provenance import Provenance, made_by
from kts.model.summary import Summary, TenantSummary, Verdict
from kts.report import activity, cells, mixes

WIDE_COLUMNS = 100
"""From this width on the table also shows DF50 and DF95."""
FULL_COLUMNS = 80
"""Below this width the tables keep to the p99s and to completed iterations, instead of cutting figures short."""

_VERDICT_STYLE = {
    "worse": "bold red",
    "better": "bold green",
    "no-change": "green",
    "undetermined": "yellow",
    "refused": "yellow",
}

_DIMMED_STYLE = "dim"


def print_summary(summary: Summary, console: Console) -> None:
    """Prints device and run, latency and rate tables, verdicts, refusals and cautions."""
    _print_title(console, summary.run, cells.device_label(summary), is_gpu=summary.is_gpu)
    console.print(Text(cells.how_measured(summary), style="dim"))
    if isinstance(summary.provenance, Provenance):
        console.print(Text(f"kts {made_by(summary.provenance)}", style="dim"))
    console.print()
    console.print(_latency_table(summary, console.width))
    console.print()
    console.print(_rate_table(summary, console.width))
    _print_mixes(summary, console)
    if rows := activity.rows(summary):
        console.print()
        console.print(_activity_table(rows, console.width))
    promises = [f"{name}: {line}" for name, tenant in summary.tenants.items() for line in cells.promises(tenant)]
    print_section(console, "Promises", promises, "*")
    console.print()
    for name, tenant in summary.tenants.items():
        console.print(verdict_text(name, tenant.verdict))
    print_section(console, "Refused (-)", [*cells.refusals(summary), *mixes.refusals(summary)], "-")
    print_section(console, "Cautions", (caution_line(c.tenant, c.text) for c in summary.warnings), "!")
    print_section(console, "Telemetry", activity.sources(summary), "*")
    print_section(console, "Notes", summary.notes, "*")


def verdict_text(tenant: str, verdict: Verdict) -> Text:
    """``WORSE  fft: p99 ...``: kind and sentence, so that colour says nothing alone. Dim where the verdict is."""
    sentence = verdict.sentence if verdict.sentence.startswith(tenant) else f"{tenant}: {verdict.sentence}"
    style = _DIMMED_STYLE if verdict.dimmed else _VERDICT_STYLE[verdict.kind]
    return Text.assemble((cells.verdict_word(verdict).upper(), style), "  ", sentence)


def caution_line(tenant: str, text: str) -> str:
    """The caution with the tenant it is about, if any."""
    return f"{tenant}: {text}" if tenant and not text.startswith(tenant) else text


def _print_title(console: Console, run: str, label: str, *, is_gpu: bool) -> None:
    console.print(Text.assemble((run, "bold"), "  on  ", (label, "bold" if is_gpu else "bold yellow")))


def _latency_table(summary: Summary, width: int) -> Table:
    quantiles = cells.QUANTILES if width >= FULL_COLUMNS else cells.QUANTILES[-1:]
    wide = width >= WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("ms", no_wrap=False, overflow="fold", max_width=30)
    for side in ("solo", "shared"):
        for quantile in quantiles:
            table.add_column(f"{side}\n{quantile}", justify="right", no_wrap=True)
    for label in ("DF50", "DF95") if wide else ():
        table.add_column(f"\n{label}", justify="right", no_wrap=True)
    table.add_column(f"DF99 ({100 * summary.confidence:g} %)", justify="right", no_wrap=True)
    for name, tenant in summary.tenants.items():
        table.add_section()
        table.add_row(Text(name, style="bold"), *_spread_blank(table))
        for row in _clock_rows(summary, tenant, quantiles, wide=wide):
            table.add_row(*row)
    return table


def _clock_rows(
    summary: Summary, tenant: TenantSummary, quantiles: Sequence[str], *, wide: bool
) -> Iterable[list[Text]]:
    for clock, figures in cells.clocks(tenant):
        headline = clock == summary.headline_clock
        sides = (figures.solo, figures.shared)
        row = [f"  {clock}", *(cell for side in sides for cell in cells.quantile_cells(side, quantiles))]
        if wide:
            row += [cells.ratio(figures.df.p50.estimate), cells.ratio(figures.df.p95.estimate)]
        row.append(cells.ratio_with_interval(figures.df.p99))
        styled = [Text(cell, style="" if headline else "dim") for cell in row]
        if headline:
            styled[-1].stylize("bold")
        yield styled
    if row := cells.collided_row(tenant, quantiles):
        blank = ["", ""] if wide else []
        yield [Text(cell, style="dim") for cell in (f"  {row[0]}", *row[1:-1], *blank, "")]


def _spread_blank(table: Table) -> list[str]:
    return [""] * (len(table.columns) - 1)


def _rate_table(summary: Summary, width: int) -> Table:
    kinds = {"done/wall": "real", "1000/mean": "proxy"} if width >= FULL_COLUMNS else {"done/wall": "real"}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("iterations/s", overflow="fold", max_width=30)
    for label in (label for kind in kinds for label in (f"{kind}\nsolo", "\nshared", "\nchange")):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("no overlap\ndropped", justify="right", no_wrap=True)
    for name, tenant in summary.tenants.items():
        rates = tenant.throughput
        table.add_row(
            Text(name, style="bold"),
            *(cell for kind in kinds.values() for cell in cells.rate_pair(rates.solo, rates.shared, kind)),
            str(tenant.overlap.dropped),
        )
    return table


def _print_mixes(summary: Summary, console: Console) -> None:
    """Who hurts whom: the grid where it fits, else a row per mix and tenant."""
    grid = mixes.grid(summary)
    fits = grid is not None and _grid_width(grid) <= console.width
    if grid is not None and fits:
        console.print()
        console.print(_grid_table(grid))
        console.print(Text(mixes.legend(summary), style="dim"))
    if rows := mixes.other_rows(summary) if fits else mixes.all_rows(summary):
        console.print()
        console.print(_long_table(rows, console.width))


def _grid_width(grid: mixes.Grid) -> int:
    columns = [
        max(len(head), *(len(line) for _, row in grid.rows for line in (row[k].text, row[k].interval)))
        for k, head in enumerate(grid.heads)
    ]
    return max(len("suffers"), *(len(name) for name, _ in grid.rows)) + sum(2 + width for width in columns)


def _grid_table(grid: mixes.Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("DF99\nsuffers", no_wrap=True)
    for k, head in enumerate(grid.heads):
        table.add_column(f"{'beside' if k == 0 else ''}\n{head}", justify="right", no_wrap=True)
    for name, row in grid.rows:
        lines = (Text.assemble((c.text, _cell_style(c)), "\n", (c.interval, "dim")) for c in row)
        table.add_row(Text(name, style="bold"), *lines)
    return table


def _cell_style(cell: mixes.Cell) -> str:
    if cell.figures is None or cell.figures.dimmed:
        return _DIMMED_STYLE
    return _VERDICT_STYLE[cell.figures.kind]


def _long_table(rows: Sequence[Sequence[str]], width: int) -> Table:
    """DF50, device DF99 and the count give way first."""
    kept = range(len(mixes.OTHER_HEADS)) if width >= WIDE_COLUMNS else (0, 1, 3, 6)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for k in kept:
        right = 2 <= k <= 5
        table.add_column(mixes.OTHER_HEADS[k], justify="right" if right else "left", no_wrap=k >= 2, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[k]) for k in kept))
    return table


def _activity_table(rows: Sequence[Sequence[str]], width: int) -> Table:
    """Source and coverage give way first."""
    kept = range(6) if width >= FULL_COLUMNS else range(5)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for k in kept:
        table.add_column(activity.HEADS[k], justify="right" if k in (2, 3) else "left", overflow="fold")
    before = ""
    for row in rows:
        head = Text(row[0] if row[0] != before else "", style="bold")
        before = row[0]
        table.add_row(head, *(Text(row[k]) for k in kept[1:]))
    return table


def print_section(console: Console, title: str, lines: Iterable[str], mark: str) -> None:
    lines = list(lines)
    if lines:
        console.print()
        console.print(Text(title, style="bold"))
        _print_bullets(console, lines, mark)


def _print_bullets(console: Console, lines: Iterable[str], mark: str) -> None:
    for line in lines:
        wrapped = textwrap.fill(line, console.width, initial_indent=f" {mark} ", subsequent_indent="   ")
        console.print(Text(wrapped, no_wrap=True, overflow="ignore"))
