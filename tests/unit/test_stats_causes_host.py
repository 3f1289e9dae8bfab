"""What is said of a host that held its tenant up, and of what held clocks down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kts.stats.causes.allocation import ComponentMeans, at_mean
from kts.stats.causes.components import _at_clock
from kts.stats.causes.decompose import _Shift
from kts.stats.causes.facts import Change
from kts.stats.causes.host import by_samples, core, disk
from kts.stats.causes.rates import SAMPLED
from kts.stats.causes.slower import LIMITS, clocks, memory


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        (True, "ready and without a core 2.00 ms, alone 500 us (means; turns of neighbours apart)"),
        (False, "threads ready and without a core, mean number 0.9, alone 0.7 (samples); that is 2.00 ms more"),
    ],
)
def test_a_wait_for_a_core_that_only_samples_tell_is_not_said_to_be_none_alone(recorded: bool, said: str) -> None:
    """Otherwise a program whose own threads share a core reads as one that never waits until it has company."""
    core_wait = np.array([2.0 if recorded else np.nan])
    facts: Any = SimpleNamespace(
        rates=lambda name: (0.7, 0.9) if name == "waiting" else None,
        means=lambda _: (0.5 if recorded else 0.0, 2.0),
        after=SimpleNamespace(rows=SimpleNamespace(core_wait=core_wait)),
    )
    told = core(facts, SimpleNamespace())  # type: ignore[arg-type]
    assert told is not None
    assert said in told[1]


@pytest.mark.parametrize(("limit", "words"), LIMITS.items())
def test_whatever_held_the_clock_down_is_named(limit: str, words: str) -> None:
    """Otherwise a GPU that its hardware slows down for heat or power reads as one whose clock fell for no reason."""
    (metric,) = SAMPLED[limit]
    assert metric.startswith("limited_")
    rates = {"sm_clock": (1980.0, 1500.0), limit: (0.0, 0.6)}
    facts: Any = SimpleNamespace(rates=rates.get, is_cpu=False)
    told = clocks(facts, SimpleNamespace(ms=1.0, at_mean=1.0))  # type: ignore[arg-type]
    assert told is not None
    assert told[1].endswith(f"; {words} held them down in 60 % of the samples, alone 0 %")
    rates = {"sm_clock": (1818.0, 1960.0), limit: (0.9, 0.1)}
    facts = SimpleNamespace(rates=rates.get, is_cpu=False)
    told = clocks(facts, SimpleNamespace(ms=-0.1, at_mean=-0.1))  # type: ignore[arg-type]
    assert told is not None
    assert told[1].endswith(f"1960 MHz, alone 1818 (means); {words} held them down in 10 % of the samples, alone 90 %")


@pytest.mark.parametrize(
    ("clocks_alone", "work", "most"),
    [((1800.0, 1980.0), 1.0, 1.0 * 1.1 * 1890 / 1980), ((1800.0, 1800.0), 1.1 * 1800 / 1980, 1.1)],
)
def test_work_follows_the_clock_as_those_alone_show_that_had_it(
    clocks_alone: tuple[float, float], work: float, most: float
) -> None:
    """Otherwise work that waits for memory is said to be as much faster as the clock is. Here one half alone takes 1.2
    ms and the other 1.0, at these clocks; in company the clock is 1980 MHz, and the shortest take 0.9 ms."""

    def side(mhz: tuple[float, float], ms: tuple[float, float], *, met: bool) -> Any:
        clock = np.repeat(mhz, 100)
        return SimpleNamespace(
            rate=lambda _: clock, weight=np.ones(200), device=np.repeat(ms, 100), met=np.full(200, met)
        )

    found = _at_clock(side((1980.0, 1980.0), (0.9, 1.1), met=True), side(clocks_alone, (1.2, 1.0), met=False))
    assert np.average(found.work, weights=found.weight) == pytest.approx(work)
    assert found.other == pytest.approx(most)


def test_waits_that_dwarf_those_alone_are_shown_however_much_they_differ_between_rounds() -> None:
    """Otherwise a program that waits 3 to 7 ms where it waited for nothing alone is told no cause, since its company
    was slow in one round and fast in the next."""

    def level(*rounds_ms: float) -> ComponentMeans:
        columns = np.repeat(rounds_ms, 50)[:, None]
        return at_mean(columns, np.ones(200), np.repeat(np.arange(4), 50))

    def shift(before: ComponentMeans) -> _Shift:
        return _Shift(("whole",), before, level(3.2, 7.3, 5.2, 5.7), np.zeros((1, 1)), paired=True)

    quiet, restless = shift(level(0.02, 0.03, 0.02, 0.02)), shift(level(0.5, 4.0, 2.0, 1.0))
    assert [one.grew({"whole"}, 36) for one in (quiet, restless)] == [False, False]
    assert [one.exceeds_alone({"whole"}, 36) for one in (quiet, restless)] == [True, False]


@pytest.mark.parametrize(("concurrent", "busy", "named"), [(True, 0.4, True), (True, 0.25, False), (False, 0.4, False)])
def test_memory_is_slower_only_beside_somebody_and_where_it_was_busier(
    concurrent: bool, busy: float, named: bool
) -> None:
    """Otherwise whatever makes a tenant slower beside others is put down to memory that nobody used."""
    facts: Any = SimpleNamespace(rates={"dram": (0.2, busy)}.get, concurrent=concurrent)
    told = memory(facts, Change(place="work", ms=1.0, is_mean=True, at_mean=1.0))
    assert (told is not None) == named


@pytest.mark.parametrize(
    ("blocked", "pressure", "named"),
    [
        ((0.1, 0.7), {"machine_io": (0.05, 0.8)}, True),
        ((0.1, 0.7), {"machine_io": (0.0, 0.04)}, True),  # of 16 cores, all busy
        ((0.1, 0.7), {"io_pressure": (0.0, 0.0), "machine_io": (0.95, 0.95)}, True),  # no room to rise
        ((0.1, 0.7), {}, True),  # a kernel without pressure
        ((0.1, 0.7), {"io_pressure": (0.0, 0.0), "machine_io": (0.05, 0.05)}, False),  # another wait in the kernel
        ((0.7, 0.7), {"machine_io": (0.05, 0.9)}, False),  # others wait for a disk
    ],
)
def test_threads_that_cannot_be_woken_wait_for_a_disk_only_where_somebody_does(
    blocked: tuple[float, float], pressure: dict[str, tuple[float, float]], named: bool
) -> None:
    """Otherwise a lock in a driver is called a disk, or a disk that others keep busy is called nothing."""
    facts: Any = SimpleNamespace(rates={"blocked": blocked, **pressure}.get)
    told = disk(facts, Change(place="disk", ms=4.0, is_mean=True, at_mean=4.0))
    assert (told is not None) == named


def test_what_grew_most_and_is_no_cause_hides_none_that_is() -> None:
    """Otherwise threads in another wait of the kernel's keep a wait for the core from being named."""
    rates = {"blocked": (0.0, 0.9), "machine_io": (0.0, 0.0), "waiting": (0.0, 0.6)}
    facts: Any = SimpleNamespace(
        rates=rates.get,
        held=lambda name: 10 * rates[name][1] if name in rates else None,
        is_cpu=False,
        means=lambda _: (0.0, 6.0),
        after=SimpleNamespace(rows=SimpleNamespace(core_wait=np.array([np.nan]))),
    )
    told = by_samples(facts, Change(place="whole", ms=10.0, is_mean=True, at_mean=10.0))
    assert told is not None
    assert told[0] == "core"
