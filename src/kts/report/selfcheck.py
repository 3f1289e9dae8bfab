"""What `kts selfcheck` found, as a table for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kts.model.provenance import made_by

if TYPE_CHECKING:
    from kts.physics.selfcheck import Check, SelfCheck, TenantCheck

HEADS = ("pair", "tenant", "met", "rounds", "true", "median", "covered", "first", "verdicts")
NAMES = 2
"""Columns that are text."""
MARKS = {"undecided": "~", "failed": "!"}
LEGEND = (
    "met: share of its iterations that a neighbour's overlapped. true, median: DF99, * on a cliff.",
    "first: a block's first iterations among the slowest 1 %, times chance. verdicts: worse / no change.",
    "! outside of its bar, ~ by no more than chance explains.",
)


def print_selfcheck(result: SelfCheck, console: Console) -> None:
    """A row per tenant that was judged, and a line per check that failed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(HEADS):
        table.add_column(head, justify="left" if number < NAMES else "right", no_wrap=True)
    for row in rows(result):
        table.add_row(*row)
    console.print(table)
    for line in LEGEND:
        console.print(Text(line, style="dim"))
    for line in remarks(result, ("failed",)):
        console.print(Text(line, style="yellow"))
    verdict = "Passed: nothing is off by more than chance explains" if result.passed else "Failed"
    console.print(f"{verdict} ({result.repetitions} runs of each pair).")


def markdown(result: SelfCheck) -> str:
    """The table as Markdown, and what is outside of its bar as a list."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * NAMES + "|---:" * (len(HEADS) - NAMES) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(result)]
    lines += [
        "",
        f"{result.repetitions} runs of each pair, seeds from {result.seed}; kts {made_by(result.provenance)}.",
        "",
    ]
    lines += [f"- {line}" for line in remarks(result, ("failed", "undecided"))]
    return "\n".join(lines).rstrip() + "\n"


def rows(result: SelfCheck) -> Iterator[tuple[str, ...]]:
    """Cells of each tenant that has a median. A value outside of its bar is marked."""
    for one in result.tenants:
        if one.median is None:
            continue
        n = one.repetitions
        shares = " / ".join(f"{100 * one.kinds.get(kind, 0) / n:.0f} %" for kind in ("worse", "no-change"))
        yield (
            one.pair,
            one.tenant,
            _share(one.truth.met),
            f"{one.rounds:.0f}",
            f"{one.truth.df99:.3f}{' *' if one.on_cliff else ''}",
            f"{one.median:.3f} ({100 * (one.median / one.truth.df99 - 1):+.1f} %){_mark(one.check('median'))}",
            f"{100 * (one.check('coverage').value or 0.0):.1f} %{_mark(one.check('coverage'))}",
            f"{one.check('first-of-block').value or 0.0:.1f}{_mark(one.check('first-of-block'))}",
            f"{shares}{_mark(one.check('no-change'))}",
        )


def remarks(result: SelfCheck, states: Sequence[str]) -> Iterator[str]:
    """One line per check in one of these states."""
    for one in result.tenants:
        for check in one.checks:
            if check.state in states:
                yield f"{MARKS[check.state]} {one.pair}, {one.tenant}: {_told(one, check)}"


def _told(one: TenantCheck, check: Check) -> str:
    value, lo, hi = check.value or 0.0, check.lo or 0.0, check.hi or 0.0
    low, high = check.bar
    chance = "no more than chance explains" if check.state == "undecided" else "more than chance explains"
    if check.name == "median":
        what = f"median DF99 {value:.3f} ({lo:.3f}-{hi:.3f}), true is {one.truth.df99:.3f}, bar {low:.3f} to {high:.3f}"
    elif check.name == "first-of-block":
        what = (
            f"a block's first iteration is {value:.1f} ({lo:.1f}-{hi:.1f}) times as often among the slowest 1 % as by"
        )
        what += f" chance, bar {high:g}"
    else:
        names = {
            "coverage": "intervals that hold the truth",
            "no-change": f"no change said of a DF99 of {one.truth.df99:.3f}",
        }
        what = f"{names[check.name]}: {100 * value:.1f} % ({100 * lo:.1f}-{100 * hi:.1f}), "
        what += f"bar {100 * low:g} to {100 * high:g} %"
    return f"{what}: {chance}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value > 0.0995 else f"{100 * value:.2g} %"


def _mark(check: Check) -> str:
    mark = MARKS.get(check.state, "")
    return f" {mark}" if mark else ""
