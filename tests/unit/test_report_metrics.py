"""What Prometheus gets of a watch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

import pytest
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.helpers_watch import AT_NS, estimate, state, three, watched

from kts.report.metrics import MOST_UNITS, OF_UNIT, Board
from kts.report.watching import MOST_BLAMED
from kts.watch.live import Happened, WatchNow

PROMTOOL = shutil.which("promtool")


class Day:
    """The time of day, as the test sets it."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def text(*states: WatchNow) -> str:
    board = Board("0.1", Day())
    for one in states:
        board.put(one)
    return generate_latest(board).decode()


def samples(*states: WatchNow) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text(*states)) for sample in family.samples]


def values(found: Iterable[Sample], name: str) -> dict[str, float]:
    """By unit."""
    return {one.labels.get("unit", ""): one.value for one in found if one.name == f"kts_watch_{name}"}


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (Debian: prometheus)")
@pytest.mark.parametrize("now", [None, state(), three()], ids=["nothing", "nobody", "three"])
def test_prometheus_s_own_tool_has_no_complaint(now: WatchNow | None) -> None:
    """Else names or units would be other than Prometheus's conventions have them."""
    given = text() if now is None else text(now)
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_figures_are_in_base_units() -> None:
    """Else a dashboard would show milliseconds as seconds."""
    found = samples(three())
    assert values(found, "response_p99_seconds")["shop/api/main"] == pytest.approx(0.0125)
    assert values(found, "degradation_p99_ratio")["shop/api/main"] == pytest.approx(2.5)
    waits = {
        one.labels["because_of"]: one.value
        for one in found
        if one.labels.get("pod") == "api" and "because_of" in one.labels
    }
    assert waits == pytest.approx({"shop/train/main": 0.12, "shop/web/main": 0.015, "unexplained": 0.005})


def test_a_figure_that_is_refused_has_no_series() -> None:
    """Else an alert would fire, or be silent, on a figure that nobody knows."""
    found = samples(three())
    assert "shop/web/main" not in values(found, "degradation_p99_ratio")
    assert values(found, "degradation_p99_foretold_ratio") == pytest.approx({"shop/web/main": 1.9})


def test_the_number_of_series_has_a_bound_and_what_is_left_out_is_counted() -> None:
    """Else a node with many short-lived processes would fill Prometheus."""
    everyone = {f"shop/p{k}/main": 1.0 for k in range(1000)}
    units = [watched(f"p{k}", df99=estimate(1.0), waits_for=everyone) for k in range(MOST_UNITS + 44)]
    found = samples(state(*units))
    assert values(found, "units_without_series") == {"": 44}
    assert len(found) <= MOST_UNITS * (len(OF_UNIT) + MOST_BLAMED + 2) + 20
    waits = [one for one in found if one.name == "kts_watch_added_wait_ratio" and one.labels["pod"] == "p0"]
    assert len(waits) == MOST_BLAMED + 2
    assert sum(one.value for one in waits) == pytest.approx(1.0)


def test_an_event_counts_once_and_keeps_its_time() -> None:
    """Else it would be news at every look, and its alert would never end."""
    came = Happened(at_ns=AT_NS - 7_000_000_000, what="new-neighbour", unit="shop/train/main", words="w")
    day = Day()
    board = Board("0.1", day)
    first = state(happened=(came,))
    assert board.put(first) == [came]
    day.now_s += 5.5
    assert board.put(replace(first, at_ns=AT_NS + 5_000_000_000)) == []
    found = [
        one for family in text_string_to_metric_families(generate_latest(board).decode()) for one in family.samples
    ]
    counts = {one.labels["what"]: one.value for one in found if one.name == "kts_watch_events_total"}
    assert counts == {"new-neighbour": 1, "tail-doubled": 0, "gpu-lost": 0, "left-out": 0, "lost-calls": 0}
    assert values(found, "last_event_timestamp_seconds") == {"shop/train/main": 1_000_000 - 7}


def test_any_name_of_a_process_is_a_label() -> None:
    """Else one process could end every scrape of its node."""
    evil = 'a"b\\c\nd\udcff (7)'
    found = samples(state(replace(watched("api", df99=estimate(1.0), waits_for={evil: 1.0}), unit=evil)))
    assert values(found, "processes") == {'a"b\\c\nd\ufffd (7)': 2}
