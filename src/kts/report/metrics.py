"""What watching came to as Prometheus takes it: base units, one family per figure, and a bound on their number."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kts.report.watching import MOST_BLAMED, OTHERS, UNEXPLAINED
from kts.shown import as_text
from kts.units import NS_PER_S
from kts.watch.live import Happened, Watched, WatchNow

MOST_UNITS = 256
"""That have series of their own, 22 each at most: those that wait longest."""
EVENTS = ("new-neighbour", "tail-doubled", "gpu-lost", "left-out", "lost-calls")
LABELS = ("unit", "namespace", "pod", "container", "gpu")


class OfUnit(NamedTuple):
    """A family with a value per unit and GPU. ``value``: None where there is none; then there is no series."""

    name: str
    about: str
    value: Callable[[Watched], float | None]


OF_UNIT = (
    OfUnit("processes", "Processes of the unit that were seen.", lambda one: one.processes),
    OfUnit("response_p50_seconds", "Median response of its iterations.", lambda one: _seconds(one.p50_ms.estimate)),
    OfUnit("response_p99_seconds", "p99 of the response of its iterations.", lambda one: _seconds(one.p99_ms.estimate)),
    OfUnit("iteration_round_trips", "Round trips of an iteration, 1 where none repeat.", lambda one: one.trips_each),
    OfUnit("round_trips_per_second", "Its round trips: work given and waited for.", lambda one: one.trips),
    OfUnit("launches_per_second", "Its launches of kernels and graphs.", lambda one: one.launches),
    OfUnit("in_flight_ratio", "Share of the time with work of its own in flight.", lambda one: one.in_flight),
    OfUnit(
        "degradation_p50_ratio",
        "Median response while a neighbour had work in flight over that while none had.",
        lambda one: one.cost.df50.estimate,
    ),
    OfUnit("degradation_p99_ratio", "The same of the p99: DF99.", lambda one: one.cost.df99.estimate),
    OfUnit("degradation_p99_low_ratio", "Lower end of DF99's 95 % interval.", lambda one: one.cost.df99.lo),
    OfUnit("degradation_p99_high_ratio", "Upper end of DF99's 95 % interval.", lambda one: one.cost.df99.hi),
    OfUnit(
        "degradation_p99_foretold_ratio",
        "DF99 by the model, only where it cannot be measured.",
        lambda one: None if one.cost.foretold_df99 is None else one.cost.foretold_df99.estimate,
    ),
    OfUnit(
        "alone_seconds", "How long it was seen while no neighbour had work in flight.", lambda one: one.cost.alone_s
    ),
    OfUnit(
        "shared_seconds", "How long it was seen while a neighbour had work in flight.", lambda one: one.cost.shared_s
    ),
)


class Board(Collector):
    """What is known now, for whoever asks, in any thread. ``now_s``: the time of day, Unix seconds."""

    def __init__(self, kts_version: str, now_s: Callable[[], float] = time.time) -> None:
        self._version, self._now_s = kts_version, now_s
        self._latest: tuple[WatchNow, float] | None = None
        self._counts: Counter[str] = Counter()
        self._told: dict[Happened, float] = {}

    @property
    def latest(self) -> WatchNow | None:
        """The last that was put; None before the first."""
        return None if self._latest is None else self._latest[0]

    @property
    def age_s(self) -> float | None:
        """How long ago that was."""
        return None if self._latest is None else self._now_s() - self._latest[1]

    def put(self, now: WatchNow) -> list[Happened]:
        """Takes what is known now. Returns what has happened since the last one."""
        at_s = self._now_s()
        new = [one for one in now.happened if one not in self._told]
        times = {one: self._told.get(one, at_s - (now.at_ns - one.at_ns) / NS_PER_S) for one in now.happened}
        self._told = times
        self._counts.update(one.what for one in new)
        self._latest = now, at_s
        return new

    def collect(self) -> Iterator[Metric]:
        """The families of one scrape. Before the first state: that there is an exporter, and no more."""
        info = GaugeMetricFamily("kts_watch_build_info", "Which kts watches.", labels=("node", "version"))
        if self._latest is None:
            info.add_metric(("", self._version), 1)
            yield info
            return
        now, at_s = self._latest
        info.add_metric((now.node, self._version), 1)
        yield info
        ranked = sorted(now.units, key=lambda one: (-one.added_ms, one.unit, one.gpu))
        yield from _of_node(now, at_s, unshown=len(ranked[MOST_UNITS:]))
        yield from self._of_events()
        yield from _of_units(ranked[:MOST_UNITS])

    def _of_events(self) -> Iterator[Metric]:
        told, counts = dict(self._told), Counter(self._counts)
        family = CounterMetricFamily("kts_watch_events", "What happened, by its kind.", labels=("what",))
        for what in sorted({*EVENTS, *counts}):
            family.add_metric((what,), counts[what])
        yield family
        last: dict[tuple[str, str], float] = {}
        for one, at_s in told.items():
            key = one.what, as_text(one.unit)
            last[key] = max(last.get(key, at_s), at_s)
        at = GaugeMetricFamily(
            "kts_watch_last_event_timestamp_seconds", "When it happened to the unit last.", labels=("what", "unit")
        )
        for key, at_s in last.items():
            at.add_metric(key, at_s)
        yield at


def _of_node(now: WatchNow, at_s: float, unshown: int) -> Iterator[Metric]:
    yield CounterMetricFamily("kts_watch_calls", "Calls into the driver's library that were seen.", value=now.calls)
    yield CounterMetricFamily("kts_watch_lost_calls", "Calls that found no room and are in no figure.", value=now.lost)
    for name, about, value in (
        ("unwatched_processes", "Processes left out, so as not to cost more than may be.", now.left_out),
        ("units", "Units that were seen, each counted once per GPU.", len(now.units)),
        ("units_without_series", "Units beyond the bound, which have no series of their own.", unshown),
        ("window_seconds", "The time that figures of units are about.", now.window_s),
        ("last_state_timestamp_seconds", "When the state was made that is exported.", at_s),
    ):
        yield GaugeMetricFamily(f"kts_watch_{name}", about, value=value)


def _of_units(units: list[Watched]) -> Iterator[Metric]:
    labelled = [(tuple(as_text(getattr(one, label)) for label in LABELS), one) for one in units]
    for of in OF_UNIT:
        family = GaugeMetricFamily(f"kts_watch_{of.name}", of.about, labels=LABELS)
        for labels, one in labelled:
            if (value := of.value(one)) is not None:
                family.add_metric(labels, value)
        yield family
    waits = GaugeMetricFamily(
        "kts_watch_added_wait_ratio",
        "Seconds per second that the unit waits longer because of another, of several others, or unexplained.",
        labels=(*LABELS, "because_of"),
    )
    for labels, one in labelled:
        for unit, ms in _blamed(one).items():
            waits.add_metric((*labels, as_text(unit)), ms / 1e3)
    yield waits


def _blamed(one: Watched) -> dict[str, float]:
    """Those it waits for most, the others together, and what nobody explains. It sums to what was added."""
    named = sorted(((ms, unit) for unit, ms in one.waits_for.items() if unit), reverse=True)
    told = {unit: ms for ms, unit in named[:MOST_BLAMED]}
    if rest := named[MOST_BLAMED:]:
        told[OTHERS] = sum(ms for ms, _ in rest)
    told[UNEXPLAINED] = one.waits_for.get("", 0.0)
    return told


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1e3
