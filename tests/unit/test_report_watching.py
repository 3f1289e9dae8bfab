"""What watching came to, as people and spreadsheets get it."""

from __future__ import annotations

import csv
import io

import pytest
from msgspec.structs import replace
from rich.console import Console
from tests.helpers_watch import AT_NS, TOO_SHORT, estimate, refused, state, three, watched

from kts.report import page, sheet, terminal
from kts.report.document import Document
from kts.report.watching import sentence, watch_document, watch_elements
from kts.watch.live import Happened, WatchNow


def shown(now: WatchNow, width: int = 120, most_rows: int | None = None) -> str:
    """As a terminal of that width has it."""
    out = io.StringIO()
    document = Document(tuple(watch_elements(now, most_rows)))
    terminal.render(document, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 50, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Else names of pods would wrap the table into something nobody can read."""
    long = "a-deployment-with-a-very-long-name-7c9d8b6f5-x2x4z"
    units = [
        watched(f"{long}-{k}", df99=estimate(1.5), waits_for={f"{long}-{j}": 3.0 for j in range(9)}) for k in (0, 1)
    ]
    assert max(map(len, shown(state(*units), width).splitlines())) <= width


def test_who_pays_most_comes_first_and_is_told_with_whom_it_waits_for() -> None:
    """Else who is called at night has to read a table to learn what the matter is."""
    assert sentence(three()).startswith("shop/api/main pays most: its p99 beside others is 2.50 (2.25-2.75)")
    assert sentence(three()).endswith("It waits 120 ms/s for shop/train/main.")
    rows = [line.split()[0] for line in shown(three()).splitlines() if line.startswith("shop/")]
    assert rows[1:4] == ["shop/api/main", "shop/train/main", "shop/web/main"]


def test_an_interval_that_holds_one_is_nobody_s_cost() -> None:
    """Else noise would be told as what sharing costs."""
    assert (
        sentence(state(watched("a", df99=estimate(1.05), waits_for={}))) == "Of 1 with a figure, none is seen to pay."
    )
    assert sentence(state(watched("a", df99=refused(), waits_for={}))) == "No figure yet of what sharing costs."


def test_what_is_refused_has_its_reason_and_what_is_foretold_its_name() -> None:
    """Else a prediction would pass for a measurement."""
    told = shown(three())
    assert "foretold 1.90" in told
    assert f"DF99 of shop/web/main: {TOO_SHORT}" in told
    found = {(row["tenant"], row["figure"]): row for row in csv.DictReader(io.StringIO(sheet.render(_document())))}
    assert found["shop/web/main", "df99"]["refused"] == TOO_SHORT
    assert float(found["shop/web/main", "foretold_df99"]["estimate"]) == pytest.approx(1.9)


def _document() -> Document:
    return watch_document(three(), "0")


def test_a_row_of_the_matrix_sums_to_what_was_added() -> None:
    """Else some of the blame would be nobody's, also where there are more than it has columns."""
    blamed = {f"shop/n{k}/main": 10.0 + k for k in range(20)} | {"": 7.0}
    lines = shown(state(watched("api", df99=estimate(2.0), waits_for=blamed)), 250).splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("waits"))
    figures = [float(text) for text in lines[head + 2].split()[1:]]
    assert "others" in lines[head]
    assert sum(figures[:-1]) == pytest.approx(figures[-1], abs=1)


def test_neighbours_that_are_not_told_apart_are_all_named() -> None:
    """Else one would be blamed alone for what may be another's."""
    api = watched("api", df99=estimate(2.0), waits_for={"shop/train/main": 31.0, "shop/batch/main": 29.0})
    told = shown(state(replace(api, most_for=("shop/train/main", "shop/batch/main"))), 250)
    assert "shop/train/main or" in told
    assert "For whom most is not told apart: shop/train/main, shop/batch/main." in told


def test_what_was_not_seen_is_said() -> None:
    """Else a node that is watched in part would look watched as a whole."""
    told = shown(state(lost=12, left_out=3))
    assert "12 calls since the start found no room" in told
    assert "3 processes are not watched" in told


def test_many_units_and_events_leave_room_on_a_screen() -> None:
    """Else the first line of a node with 64 pods scrolls away."""
    events = tuple(Happened(at_ns=AT_NS - k * 10**9, what="new-neighbour", unit=f"u{k}", words="w") for k in range(99))
    units = [watched(f"p{k}", df99=estimate(1.0), waits_for={}) for k in range(64)]
    told = shown(state(*units, happened=events), most_rows=10)
    assert "54 more that wait less" in told
    assert (told.count("shop/p"), told.count(" ago: ")) == (10, 10)
    assert " - 0 s ago: u0: w" in told


def test_a_process_s_name_commands_no_terminal_and_no_page() -> None:
    """Else who names a process could write on the screen of who watches the node."""
    evil = replace(watched("api", df99=refused("no"), waits_for={}), unit="\x1b[2J<script>alert(1)</script> (7)")
    assert "\x1b" not in shown(state(evil))
    assert "<script" not in page.render(watch_document(state(evil), "0"))


def test_a_unit_on_two_gpus_is_two_rows_that_can_be_told_apart() -> None:
    """Else one of both would seem a mistake."""
    one, other = (watched("api", df99=estimate(2.0), waits_for={"x": 5.0}, gpu=f"GPU-{k}{k}") for k in (1, 2))
    told = shown(state(one, other))
    assert "shop/api/main on GPU-11" in told
    assert "shop/api/main on GPU-22" in told
