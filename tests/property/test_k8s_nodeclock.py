"""Moments of one machine on another's clock, whenever both were booted and whatever their times of day are."""

from __future__ import annotations

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from kts.k8s.follow.nodeclock import NodeClock
from kts.model.run import ClockPair

S = 1_000_000_000
NOW = 1_700_000_000 * S
boots = st.integers(0, 10**17)
readings = st.tuples(st.integers(0, 100_000), st.floats(-1, 1))
"""(error of a pair, how much of it a reading is off)."""


class Machine:
    """``boot_ns``: true time at which its CLOCK_MONOTONIC began; ``skew_ns``: its CLOCK_REALTIME less the true time."""

    def __init__(self, uptime_ns: int, skew_ns: int = 0) -> None:
        self.boot_ns, self.skew_ns = NOW - uptime_ns, skew_ns

    def monotonic(self, true_ns: int) -> int:
        return true_ns - self.boot_ns

    def pair(self, true_ns: int, error_ns: int = 0, off: float = 0.0) -> ClockPair:
        """As `kts.worker.clocks.clock_pair` reads it: at most half of ``error_ns`` off (``off`` in -1..1 of that)."""
        read_ns = self.monotonic(true_ns) + int(off * error_ns / 2)
        return ClockPair(realtime_ns=true_ns + self.skew_ns, monotonic_ns=read_ns, error_ns=error_ns)


@given(boots, boots, st.tuples(readings, readings), st.integers(0, 3600 * S))
def test_a_moment_lands_where_the_node_saw_it(
    here: int, there: int, of: tuple[tuple[int, float], tuple[int, float]], later_ns: int
) -> None:
    """Else samples would be joined to iterations of another moment although both clocks are right."""
    ours, node, clock = Machine(here), Machine(there), NodeClock()
    (ours_ns, off), (node_ns, other) = of
    clock.meet(node.pair(NOW, node_ns, other), ours.pair(NOW + S, ours_ns, off))
    moment_ns = NOW + S + later_ns
    moved_ns = ours.monotonic(moment_ns) + clock.shift_ns(ours.pair(moment_ns, ours_ns, -off))
    assert abs(moved_ns - node.monotonic(moment_ns)) <= 1.5 * (
        ours_ns + node_ns
    )  # two readings, and what may pass as same


@given(boots, st.tuples(readings, readings), st.integers(-(10**15), 10**15), st.integers(0, S))
def test_on_one_machine_nothing_is_moved(
    uptime_ns: int, of: tuple[tuple[int, float], tuple[int, float]], step_ns: int, skew_ns: int
) -> None:
    """Else every reading's error would be added to samples that are right, or a set clock move them."""
    machine, clock = Machine(uptime_ns, skew_ns), NodeClock()
    (ours_ns, off), (node_ns, other) = of
    clock.meet(machine.pair(NOW, node_ns, other), machine.pair(NOW + S, ours_ns, off))
    assert clock.same
    stepped = Machine(uptime_ns, step_ns)
    clock.meet(machine.pair(NOW + S), stepped.pair(NOW + 2 * S))
    assert clock.shift_ns(stepped.pair(NOW + 2 * S)) == 0
    assert clock.how() == clock.apart() == ""


@given(
    boots, boots, st.integers(-(10**13), 10**13), st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)))
)
def test_what_is_said_of_two_times_of_day_is_true(
    here: int, there: int, skew_ns: int, blocks: list[tuple[int, int]]
) -> None:
    """Else a user would trust a join that is seconds off, or set clocks that are right."""
    ours, node, clock = Machine(here), Machine(there, skew_ns), NodeClock()
    for started_ns, delivered_ns in [(10**9, 10**8), *blocks]:
        asked_ns, read_ns = NOW - started_ns, NOW
        clock.meet(node.pair(read_ns), ours.pair(read_ns + delivered_ns), asked_ns)
    assume(not clock.same)
    assert clock.least_ahead_ns is not None
    assert clock.most_ahead_ns is not None
    assert clock.least_ahead_ns <= skew_ns <= clock.most_ahead_ns
    assert ("at least" in clock.apart()) == (clock.least_ahead_ns > 0 or clock.most_ahead_ns < 0)


@given(boots, st.integers(1, 10**16))
def test_a_laptop_that_slept_reads_its_own_clock_anew(uptime_ns: int, slept_ns: int) -> None:
    """Else samples after it would be joined to iterations that were over before."""
    ours, node, clock = Machine(uptime_ns), Machine(uptime_ns + S), NodeClock()
    clock.meet(node.pair(NOW), ours.pair(NOW + 1))
    ours.boot_ns += slept_ns  # CLOCK_MONOTONIC stands still meanwhile
    moment_ns = NOW + slept_ns
    assert ours.monotonic(moment_ns) + clock.shift_ns(ours.pair(moment_ns)) == node.monotonic(moment_ns)


def test_nothing_is_said_or_moved_before_a_header() -> None:
    """Else a note would tell of clocks that nobody read."""
    clock = NodeClock()
    assert (clock.shift_ns(Machine(S).pair(NOW)), clock.how(), clock.apart()) == (0, "", "")


def test_an_unknown_beginning_bounds_one_side_only() -> None:
    """Else after an attach a bound would be made up."""
    clock = NodeClock()
    clock.meet(Machine(S).pair(NOW), Machine(2 * S).pair(NOW + S // 2))
    assert "at most 500 ms behind" in clock.apart()
    assert "ahead" not in clock.apart()
    late = msgspec.structs.replace(Machine(S).pair(NOW), realtime_ns=NOW + 3 * S)
    clock.meet(late, Machine(2 * S).pair(NOW + S))
    assert "at least 2.00 s ahead" in clock.apart()
