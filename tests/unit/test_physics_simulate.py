"""The simulator where the answer is known on paper."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.helpers_physics import due_at, free_of_cost, launches, paced, saturating

from kts.physics.simulate import SharingModel, Stream, simulate
from kts.physics.values import Iterations, bursts

Q, C = 2.0, 0.125
COSTS = SharingModel(slice_ms=Q, preempt_ms=(C,), yield_ms=(0.0625,), wake_ms=(0.03125,))


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_equal_saturating_tenants_share_equally(n: int) -> None:
    """Each burst of three slices takes three rounds of the circle: 3 n (q + c). Else long tenants would be wrong."""
    outcome = simulate([saturating(3 * Q, 40) for _ in range(n)], COSTS, stop_at_first=False)
    for done in outcome.tenants:
        rounds = np.diff(done.retire_ms[: 40 - n])
        np.testing.assert_allclose(rounds, 3 * n * (Q + C))
        np.testing.assert_allclose(np.diff(done.begin_ms[: 40 - n]), 3 * n * (Q + C))
    assert outcome.switches[1:] == (n - 1, 0)  # only in the end, when they run out of work


def test_two_saturating_tenants_of_unequal_length() -> None:
    """Both get q of every 2 (q + c), whatever the length of their iterations."""
    outcome = simulate([saturating(0.7, 10**6), saturating(19.0, 10**6)], COSTS, horizon_ms=4000 * 2 * (Q + C))
    short, long = outcome.tenants
    assert short.busy_ms == pytest.approx(4000 * Q, rel=1e-6)
    assert long.busy_ms == pytest.approx(4000 * Q, rel=1e-6)
    assert len(short.retire_ms) == pytest.approx(4000 * Q / 0.7, abs=2)
    assert outcome.switch_ms == pytest.approx(8000 * C, rel=1e-6)


def test_a_light_tenant_waits_for_the_rest_of_one_slice() -> None:
    """Beside one saturating tenant its phase is uniform: response = U(0, q) + c + d. Else tails would be wrong from the
    simplest mix on."""
    d, rng = 0.25, np.random.default_rng(1)
    light = paced(d, rng.uniform(40, 120, 20_000))
    response = simulate([light, saturating(5.0, 10**6)], COSTS).tenants[0].response_ms
    assert response.min() >= C + d
    assert response.max() <= Q + C + d
    p = np.linspace(0.01, 0.99, 99)
    np.testing.assert_allclose(np.quantile(response, p), p * Q + C + d, atol=0.03)


def test_the_stopwatch_starts_after_the_wait() -> None:
    """The device clock of a light tenant shows no sharing at all, as on a GPU."""
    light = paced(0.25, np.random.default_rng(1).uniform(40, 120, 500))
    done = simulate([light, saturating(5.0, 10**5)], COSTS).tenants[0]
    np.testing.assert_allclose(done.device_ms, 0.25)
    assert done.service_ms.mean() > 1.0


def test_a_long_kernel_is_interrupted_and_its_stopwatch_runs_on() -> None:
    """3.5 ms beside a saturating tenant: two turns of its own, one of the other, two switches between."""
    long = paced(3.5, np.random.default_rng(2).uniform(40, 120, 500))
    done = simulate([long, saturating(5.0, 10**5)], COSTS).tenants[0]
    np.testing.assert_allclose(done.device_ms, 3.5 + Q + 2 * C)


def test_a_queue_that_runs_empty_yields_at_the_lesser_cost() -> None:
    """Two short bursts due at once: the second follows after a yield, and no slice is waited for."""
    outcome = simulate([due_at(0.5, [1.0]), due_at(0.25, [1.0])], COSTS, stop_at_first=False)
    first, second = outcome.tenants
    assert first.retire_ms[0] == 1.5
    assert second.retire_ms[0] == 1.5 + 0.0625 + 0.25
    assert outcome.switches == (0, 1, 0)


@pytest.mark.parametrize(
    ("settles", "begins", "late_begins", "steady_begins"),
    [(True, [0.0, 3.1875], 4.25, 1.0625), (False, [0.0, 3.5], 1.0625, 1.375)],
)
def test_a_tenant_that_settles_who_is_next_passes_over_who_comes_later(
    settles: bool, begins: list[float], late_begins: float, steady_begins: float
) -> None:
    """Else a neighbour of replayed graphs would be served a round too early.

    The circle: ours (1 ms, due at 0 and 2), the late one (0.25 ms, due at 0.5), the steady one (always waiting). When
    ours begins at 0 only the steady one waits: it is next, at 1 + 1/16, and keeps its slice of 2 until 3.0625. Ours
    is back at 3.1875, now finds the late one waiting, and hands over to it at 4.1875 + 1/16. Unsettled, the late one
    has 1.0625 to 1.3125, the steady one 1.375 to 3.375, and ours is back at 3.5.
    """
    ours = replace(due_at(1.0, [0.0, 2.0]), settles_next=settles)
    mix = [ours, due_at(0.25, [0.5]), saturating(5.0, 2)]
    done, late, steady = simulate(mix, COSTS, stop_at_first=False).tenants
    np.testing.assert_array_equal(done.begin_ms, begins)
    np.testing.assert_array_equal(done.retire_ms, np.add(begins, 1.0))
    assert late.begin_ms[0] == late_begins
    assert late.retire_ms[0] == late_begins + 0.25
    assert steady.begin_ms[0] == steady_begins


@pytest.mark.parametrize("settles", [True, False])
def test_what_is_settled_holds_only_where_the_queue_runs_empty(settles: bool) -> None:
    """Else a long graph would skip neighbours for no reason known.

    The same three, but ours takes 3 ms: its slice is over at 2, and the circle's next, the late one, has 2.125 to
    2.375; then the steady one from 2.4375 to 4.4375, then ours from 4.5625 for its last ms. In that turn nobody but
    the steady one waits, which is back at 5.5625 + 1/16 for what its 2 ms left of 3.
    """
    ours = replace(due_at(3.0, [0.0]), settles_next=settles)
    mix = [ours, due_at(0.25, [0.5]), saturating(3.0, 1)]
    outcome = simulate(mix, COSTS, stop_at_first=False)
    done, late, steady = outcome.tenants
    assert (done.begin_ms[0], done.retire_ms[0]) == (0.0, 5.5625)
    assert (late.begin_ms[0], late.retire_ms[0]) == (2.125, 2.375)
    assert (steady.begin_ms[0], steady.retire_ms[0]) == (2.4375, 6.625)
    assert outcome.switches == (2, 2, 0)


def test_waking_costs_only_a_tenant_that_was_not_the_last_one() -> None:
    """An idle GPU keeps the last tenant's context."""
    outcome = simulate([due_at(0.5, [0.0, 3.0, 9.0]), due_at(0.5, [6.0])], COSTS, stop_at_first=False)
    np.testing.assert_array_equal(outcome.tenants[0].response_ms, [0.5, 0.5, 0.5 + 0.03125])
    np.testing.assert_array_equal(outcome.tenants[1].response_ms, [0.5 + 0.03125])
    assert outcome.switches == (0, 0, 2)


def test_an_idle_neighbour_costs_nothing() -> None:
    """Only tenants with queued work take part."""
    alone = simulate([saturating(5.0, 100)], COSTS).tenants[0]
    beside = simulate([saturating(5.0, 100), due_at(1.0, [1e6])], COSTS).tenants[0]
    np.testing.assert_array_equal(alone.retire_ms, beside.retire_ms)


def test_costs_follow_the_number_that_waits() -> None:
    """One entry per number of waiting tenants, the last one for more."""
    costs = SharingModel(Q, preempt_ms=(0.125, 0.25), yield_ms=(0.0,), wake_ms=(0.0,))
    for n, cost in ((2, 0.125), (3, 0.25), (5, 0.25)):
        outcome = simulate([saturating(50.0, 100) for _ in range(n)], costs, horizon_ms=600)
        assert outcome.switch_ms == pytest.approx(outcome.switches[0] * cost)


@pytest.mark.parametrize(("at_once", "longest_wait"), [(True, 0.0), (False, Q)])
def test_a_higher_priority_waits_for_no_slice_or_for_one(at_once: bool, longest_wait: float) -> None:
    """Else `priority` would not say what it buys."""
    think = np.random.default_rng(3).uniform(40, 120, 2000)
    sharing = free_of_cost(Q, C, at_once=at_once)
    urgent = simulate([paced(5.0, think, priority=1), saturating(50.0, 10**5), saturating(50.0, 10**5)], sharing)
    response = urgent.tenants[0].response_ms
    most = longest_wait + 2 * C + 5.0  # a switch under way is finished first; then nobody lower interrupts
    assert 0.99 * most < response.max() <= most + 1e-9
    assert response.min() == pytest.approx(C + 5.0, abs=0.01)


def test_a_hundred_small_launches_run_in_one_piece_behind_a_slice() -> None:
    """A host-bound iteration: alone as long as its host, beside a saturating tenant the GPU time back to back, later.
    This is what single bursts get wrong."""
    n = 100
    them = launches([0.016 * k for k in range(n)], [0.003] * n)
    think = np.random.default_rng(4).uniform(20, 60, 2000)
    stream = Stream(them, np.zeros(2000, np.int64), think_ms=think)
    sharing = SharingModel(Q, (C,), (C,), (C,), launch_gap_ms=0.0012)
    alone = simulate([stream], sharing).tenants[0]
    np.testing.assert_allclose(alone.device_ms, 0.016 * 99 + 0.003)
    beside = simulate([stream, saturating(20.0, 10**5)], sharing).tenants[0]
    waited = beside.begin_ms - beside.submit_ms > 0.016 * n
    assert 0.1 < waited.mean() < 0.6
    np.testing.assert_allclose(beside.device_ms[waited], n * 0.003 + 99 * 0.0012)
    assert beside.device_ms.max() > Q  # the others lose the GPU whenever their queue runs empty


def test_a_bounded_queue_holds_the_host_back() -> None:
    """Two launches fit; the third is made when the first has run, and the fourth keeps its distance from the third."""
    them = launches([0.0, 0.1, 0.2, 1.0], [4.0, 0.25, 0.25, 0.25])
    stream = Stream(them, np.zeros(1, np.int64), due_ms=np.zeros(1), queue_depth=2)
    neighbour = due_at(0.125, [4.4])
    done, other = simulate([stream, neighbour], free_of_cost(100.0), stop_at_first=False).tenants
    assert done.retire_ms[0] == pytest.approx(5.05)
    assert other.begin_ms[0] == pytest.approx(4.5)


def test_poisson_arrivals_queue_as_pollaczek_and_khinchine_say() -> None:
    """Response counts from the due time: mean wait of M/D/1 = rho d / (2 (1 - rho))."""
    rng, n, rho = np.random.default_rng(5), 400_000, 0.6
    due = np.cumsum(rng.exponential(1 / rho, n))
    stream = Stream(bursts([1.0], 0.0), np.zeros(n, np.int64), due_ms=due)
    done = simulate([stream], COSTS).tenants[0]
    assert done.response_ms.mean() - 1.0 == pytest.approx(rho / (2 * (1 - rho)), rel=0.03)
    np.testing.assert_allclose(done.service_ms, 1.0)


def test_the_same_streams_give_the_same_outcome_to_the_bit() -> None:
    """Else nobody could repeat a prediction."""
    mix = [paced(0.7, np.random.default_rng(6).uniform(0, 9, 3000)), saturating(3.0, 4000)]
    a, b = (simulate(mix, COSTS) for _ in range(2))
    for one, other in zip(a.tenants, b.tenants, strict=True):
        np.testing.assert_array_equal(one.retire_ms, other.retire_ms)


def test_impossible_streams_and_sharings_are_refused() -> None:
    """Else the compiled loop would read beyond its arrays."""
    with pytest.raises(ValueError, match="pick"):
        Stream(bursts([1.0], 0.0), np.array([1]), think_ms=np.zeros(1))
    with pytest.raises(ValueError, match="either"):
        Stream(bursts([1.0], 0.0), np.array([0]))
    with pytest.raises(ValueError, match="slice"):
        free_of_cost(0.0)
    with pytest.raises(ValueError, match="switch costs"):
        SharingModel(1.0, (), (0.0,), (0.0,))


def test_without_a_place_for_compiled_code_it_is_compiled_anew() -> None:
    """A read-only image without a home directory must predict, too."""
    program = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import numpy as np
from kts.physics.simulate import SharingModel, Stream, simulate
from kts.physics.values import Iterations, bursts
stream = Stream(bursts([1.5], 0.0), np.zeros(4, np.int64), think_ms=np.zeros(4))
print(simulate([stream], SharingModel(1.0, (0.0,), (0.0,), (0.0,))).end_ms)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=400)
    assert done.stdout.strip() == "6.0", done.stderr


def two_trips(n: int, **columns: object) -> Stream:
    """Retrieval: 0.25 ms of the GPU, a wait, 0.5 ms of host, three kernels of 0.125 ms; ``n`` times back to back."""
    nan = np.nan
    them = Iterations(
        np.array([0, 4]),
        np.array([0.0, 0.5, 0.5, 0.5]),
        np.array([0.25, 0.125, 0.125, 0.125]),
        np.array([0.0625]),
        wait_ms=np.array([0.0, nan, nan, nan]),
        notice_ms=np.array([0.03125, nan, nan, nan]),
        **columns,  # type: ignore[arg-type]
    )
    return Stream(them, np.zeros(n, np.int64), think_ms=np.zeros(n))


def test_a_host_that_waits_in_the_middle_goes_on_when_its_queue_is_empty() -> None:
    """Alone: 0.25 + notice, half a millisecond of host, 0.375 and the retire delay. Else waits would cost nothing."""
    done = simulate([two_trips(8)], COSTS).tenants[0]
    np.testing.assert_array_equal(done.service_ms, 0.25 + 0.03125 + 0.5 + 0.375 + 0.0625)
    np.testing.assert_array_equal(done.device_ms, 0.25 + 0.03125 + 0.5 + 0.375)


def test_each_round_trip_beside_a_saturating_neighbour_waits_for_a_slice_of_its_own() -> None:
    """Whenever its queue empties the neighbour gets the GPU, for a whole slice: an iteration of n round trips takes n
    times a yield, a slice and a preempting switch, and its own GPU time. As one burst it would pay once."""
    yielding = COSTS.yield_ms[0]
    done = simulate([two_trips(200), saturating(5.0, 10**5)], COSTS).tenants[0]
    np.testing.assert_allclose(np.diff(done.begin_ms), 2 * (yielding + Q + C) + 0.25 + 0.375)
    burst = Stream(bursts([0.625], 0.0625), np.zeros(200, np.int64), think_ms=np.zeros(200))
    single = simulate([burst, saturating(5.0, 10**5)], COSTS).tenants[0]
    np.testing.assert_allclose(np.diff(single.begin_ms), yielding + Q + C + 0.625)


def test_a_wait_with_nothing_left_to_wait_for_takes_no_longer_than_its_notice() -> None:
    """A host that asks late is not held up by what was over before: the GPU's part is hidden behind its own."""
    them = replace(two_trips(1).iterations, wait_ms=np.array([0.375, np.nan, np.nan, np.nan]))
    done = simulate([Stream(them, np.zeros(1, np.int64), think_ms=np.zeros(1))], COSTS).tenants[0]
    assert done.service_ms[0] == 0.5 + 0.03125 + 0.375 + 0.0625


def test_what_the_host_does_behind_the_last_launch_hides_the_wait_for_it() -> None:
    """A wait at the end: the retire delay counts from when the host asks and all is done, not from the kernel's end."""
    them = replace(launches([0.0], [1.0], 0.25), wait_ms=np.array([3.0]), notice_ms=np.array([0.125]))
    stream = Stream(them, np.zeros(1, np.int64), think_ms=np.zeros(1))
    assert simulate([stream], COSTS).tenants[0].service_ms[0] == 3.0 + 0.125 + 0.25
    held_up = simulate([replace(stream, start_ms=0.5), saturating(2.0, 50)], COSTS).tenants[0]
    assert held_up.end_ms[0] - held_up.submit_ms[0] == 1.5 + C + 1.0
    assert held_up.service_ms[0] == 3.0 + 0.125 + 0.25, "the neighbour's slice costs it nothing"


def test_a_copy_apart_takes_no_turn_and_lets_the_neighbour_run() -> None:
    """A copy of 4 ms between two kernels: beside a saturating tenant it lasts as long as alone, and only the kernels
    wait for slices. As a kernel it would need two turns, and take them from the neighbour."""
    them = replace(launches([0.0, 0.0, 0.0], [0.25, 4.0, 0.25]), apart=np.array([False, True, False]))
    copying = Stream(them, np.zeros(100, np.int64), think_ms=np.zeros(100))
    alone = simulate([copying], COSTS).tenants[0]
    np.testing.assert_array_equal(alone.service_ms, 4.5)
    assert alone.busy_ms == 50.0
    done = simulate([copying, saturating(50.0, 10**4)], COSTS).tenants[0]
    # the copy begins when the neighbour is given the GPU, and is done in its second slice, for whose end the next waits
    np.testing.assert_allclose(np.diff(done.begin_ms)[1:], 0.5 + COSTS.yield_ms[0] + 2 * Q + C)
    assert done.busy_ms == pytest.approx(0.5 * len(done.end_ms), abs=0.5)


def test_a_tenant_of_copies_alone_never_takes_a_turn() -> None:
    """And its neighbour does not notice it."""
    them = replace(launches([0.0, 0.0], [1.0, 2.0]), apart=np.array([True, True]))
    copying = Stream(them, np.zeros(20, np.int64), think_ms=np.zeros(20))
    outcome = simulate([copying, saturating(5.0, 10**4)], COSTS)
    np.testing.assert_array_equal(outcome.tenants[0].service_ms, 3.0)
    assert (outcome.end_ms, outcome.switch_ms, outcome.tenants[1].busy_ms) == (60.0, 0.0, 60.0)


def test_lanes_of_a_process_share_its_turn_and_run_side_by_side() -> None:
    """Two streams of 3 ms each: alone 3 ms, not 6; beside a saturating tenant one switch in, one slice of it, and
    both go on in the same turn. As two tenants they would need turns of their own."""
    them = replace(launches([0.0, 0.0], [3.0, 3.0]), lane=np.array([0, 7]))
    both = Stream(them, np.zeros(50, np.int64), think_ms=np.zeros(50))
    alone = simulate([both], COSTS)
    np.testing.assert_array_equal(alone.tenants[0].service_ms, 3.0)
    assert (alone.tenants[0].busy_ms, alone.kernels) == (150.0, 100)
    paced_both = replace(both, think_ms=np.ones(50))
    beside = simulate([paced_both, saturating(5.0, 10**4)], COSTS).tenants[0]
    np.testing.assert_allclose(np.diff(beside.begin_ms)[1:], 3.0 + (C + Q + C) + (COSTS.yield_ms[0] + Q + C))
    one = replace(them, lane=None)
    assert simulate([replace(both, iterations=one)], COSTS).tenants[0].service_ms[0] == 6.0


def test_a_wait_is_for_all_lanes() -> None:
    """Else a host would go on while another of its streams still runs, which it asked for."""
    them = replace(
        launches([0.0, 0.0, 0.25], [2.0, 0.5, 0.25]),
        lane=np.array([0, 1, 1]),
        wait_ms=np.array([np.nan, 0.0, np.nan]),
        notice_ms=np.zeros(3),
    )
    done = simulate([Stream(them, np.zeros(1, np.int64), think_ms=np.zeros(1))], COSTS).tenants[0]
    assert done.service_ms[0] == 2.0 + 0.25 + 0.25


def test_a_launch_gap_lies_only_before_what_is_queued_behind() -> None:
    """Nothing is queued behind a kernel that the host waits for: its gap would be host time that is counted twice."""
    gaps = replace(COSTS, launch_gap_ms=0.0078125)
    done = simulate([two_trips(1)], gaps).tenants[0]
    assert done.service_ms[0] == 0.25 + 0.03125 + 0.5 + 0.375 + 2 * 0.0078125 + 0.0625


def test_a_bounded_queue_of_several_lanes_is_refused() -> None:
    """Which of them has room is not known."""
    with pytest.raises(ValueError, match="one lane"):
        replace(two_trips(1, lane=np.array([0, 1, 0, 1])), queue_depth=2)


def thread_of(process: str | None, kernel_ms: float, n: int, *, lane: int = 0, retire_ms: float = 0.25) -> Stream:
    """A thread whose iterations are a kernel each, for which it waits."""
    them = replace(launches([0.0], [kernel_ms], retire_ms), lane=np.array([lane]))
    return Stream(them, np.zeros(n, np.int64), think_ms=np.zeros(n), process=process)


def test_threads_that_wait_each_for_itself_wait_for_one_slice_together() -> None:
    """Beside a tenant that always has work, both queue their kernels in its turn and share the next one of their
    process: a round of both is one kernel, a yielding switch, a slice and a switch back. As processes, each would have
    a turn; one host that does both in turn would wait twice."""
    threads = [thread_of("p", 0.5, 60), thread_of("p", 0.5, 60, lane=1)]
    *done, _ = simulate([*threads, saturating(5.0, 10**4)], COSTS).tenants
    for one in done:
        np.testing.assert_allclose(np.diff(one.retire_ms)[2:], 0.5 + COSTS.yield_ms[0] + Q + C)
    apart = [replace(one, process=None) for one in threads]
    *done, _ = simulate([*apart, saturating(5.0, 10**4)], COSTS).tenants
    for one in done:
        np.testing.assert_allclose(np.diff(one.retire_ms)[2:], 2 * (0.5 + COSTS.yield_ms[0]) + Q + C)


def test_threads_alone_run_side_by_side_but_in_one_lane_one_after_the_other() -> None:
    """Else two streams would take the time of both, or one stream would do two things at once. In one lane, who was
    queued first is first: 1 ms of the other's kernel is left when the shorter one is queued again."""
    done = simulate([thread_of("p", 1.0, 50), thread_of("p", 3.0, 50, lane=1)], COSTS).tenants
    np.testing.assert_array_equal(done[0].service_ms, 1.25)
    np.testing.assert_array_equal(done[1].service_ms, 3.25)
    short, long = simulate([thread_of("p", 1.0, 50), thread_of("p", 3.0, 50)], COSTS).tenants
    np.testing.assert_array_equal(short.begin_ms[:3], [0.0, 4.0, 8.0])
    np.testing.assert_array_equal(long.begin_ms[:3], [1.0, 5.0, 9.0])
    assert (short.busy_ms, long.busy_ms) == (49 * 4.0 + 1.0, 0.0), "all of it is with the first thread"


def test_a_thread_goes_on_while_another_one_waits() -> None:
    """A wait of 12 ms in the middle of an iteration stops its own thread only: the other's iterations stay as long as
    alone."""
    them = replace(
        launches([0.0, 0.5], [12.0, 1.0]), lane=np.array([0, 0]), wait_ms=np.array([0.0, np.nan]), notice_ms=np.zeros(2)
    )
    waits = Stream(them, np.zeros(20, np.int64), think_ms=np.zeros(20), process="p")
    long, short = simulate([waits, thread_of("p", 0.25, 10**4, lane=1)], COSTS).tenants
    np.testing.assert_array_equal(long.service_ms, 13.5)
    np.testing.assert_array_equal(short.service_ms, 0.5)
    assert len(short.retire_ms) == pytest.approx(20 * 13.5 / 0.5, abs=2)


def test_threads_that_cannot_share_turns_are_refused() -> None:
    """A process has one slice and one place in the circle."""
    pair = [thread_of("p", 1.0, 5), thread_of("p", 1.0, 5)]
    for other in (replace(pair[1], priority=1), replace(pair[1], slice_ms=1.0), replace(pair[1], settles_next=True)):
        with pytest.raises(ValueError, match="one priority"):
            simulate([pair[0], other], COSTS)
    plain = replace(pair[1], iterations=launches([0.0], [1.0]), queue_depth=1)
    with pytest.raises(ValueError, match="one thread"):
        simulate([pair[0], plain], COSTS)
