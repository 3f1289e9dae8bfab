"""The timed loop, on a fake clock."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from tests.helpers_worker import MS, FakeClock, FakeDevice, MemoryOutlet, make_block

from kts.arrivals import Closed, Poisson, Trace
from kts.model.plan import Quota
from kts.model.records import CPU_TIMES, clock_ms, optional_columns
from kts.wire.framing import CHUNK_RECORDS
from kts.worker.clocks import CpuTimes
from kts.worker.iteration import timed
from kts.worker.loop import BlockRun


def test_a_known_delay_every_50th_iteration_is_reported_as_it_is() -> None:
    """Otherwise the loop smears, hides or adds to the tail."""
    clock, outlet = FakeClock(), MemoryOutlet()
    make_block(
        clock, outlet, quota=Quota(iterations=5000, linger=False), service_ms=lambda k: 6.0 if k % 50 == 0 else 1.0
    ).run()
    for clock_name in ("response", "service"):
        p50, p99 = np.percentile(clock_ms(outlet.all, clock_name), [50, 99])
        assert p99 - p50 == pytest.approx(5.0, rel=0.05)
    assert np.ptp(clock_ms(outlet.all, "device")) == pytest.approx(2.5)


def test_the_stopwatch_is_read_after_the_completion_is_clocked() -> None:
    """Otherwise reading device time is charged to the iteration."""
    clock = FakeClock()
    device = FakeDevice(clock, lambda _: 1.0)
    operation = lambda: device.calls.append("operation")  # noqa: E731
    now = lambda: device.calls.append("now") or clock()  # noqa: E731
    block = BlockRun(
        iterate=timed(device, operation, now),
        device_ms=device.device_ms,
        arrivals=Closed(),
        quota=Quota(iterations=1, linger=False),
        start_ns=clock.ns,
        seed=0,
        outlet=MemoryOutlet(),
        now=now,
        sleep=clock.sleep,
    )
    block.run()
    calls = device.calls[device.calls.index("begin") - 1 :]
    assert calls[:7] == ["now", "begin", "operation", "end", "wait", "now", "device_ms"]


class _CpuTimes(CpuTimes):
    """Of a thread that uses 3 ns and waits 2 ns for a core with each of the ``calls`` so far."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self._calls = calls

    def read(self) -> tuple[int, int]:
        return 3 * len(self._calls), 2 * len(self._calls)

    def begin(self) -> None:
        self._calls.append("begin of CPU times")
        self._begin = self.read()

    def spent(self, within_ns: int) -> tuple[int, int]:
        assert within_ns > 1000
        cpu_ns, wait_ns = self.read()
        self._calls.append("end of CPU times")
        return cpu_ns - self._begin[0], wait_ns - self._begin[1]


def test_cpu_times_are_read_just_outside_of_what_is_clocked() -> None:
    """Otherwise reading them is charged to the iteration, or what is done between iterations is taken for its own."""
    clock, outlet = FakeClock(), MemoryOutlet()
    device = FakeDevice(clock, lambda _: 1.0)
    now = lambda: device.calls.append("now") or clock()  # noqa: E731
    BlockRun(
        iterate=timed(device, lambda: None, now),
        device_ms=device.device_ms,
        arrivals=Closed(),
        quota=Quota(iterations=2, linger=False),
        start_ns=clock.ns,
        seed=0,
        outlet=outlet,
        cpu=_CpuTimes(device.calls),
        now=now,
        sleep=clock.sleep,
    ).run()
    calls = device.calls[device.calls.index("begin of CPU times") :]
    timed_part = ["now", "begin", "end", "wait", "now"]
    assert calls[:8] == ["begin of CPU times", *timed_part, "end of CPU times", "device_ms"]
    records = np.concatenate(outlet.chunks)
    assert optional_columns(records.dtype) == CPU_TIMES
    assert records["cpu_ns"].tolist() == [3 * len(timed_part)] * 2
    assert records["cpu_wait_ns"].tolist() == [2 * len(timed_part)] * 2


def test_the_first_iteration_is_submitted_at_the_start_and_not_before() -> None:
    """Otherwise the phase that was drawn for the tenant is not the one in which it enters the block."""
    clock, outlet = FakeClock(), MemoryOutlet()
    start_ns = clock.ns + 700 * MS
    make_block(clock, outlet, quota=Quota(iterations=1, linger=False), start_in_ms=700).run()
    assert 0 <= outlet.all["submit_ns"][0] - start_ns < 1000


def test_closed_loop_records_are_due_when_submitted_and_numbered_from_zero() -> None:
    """Otherwise response differs from service where there is no arrival process, or losses go unseen."""
    clock, outlet = FakeClock(), MemoryOutlet()
    make_block(clock, outlet, quota=Quota(iterations=20, linger=False), arrivals=Closed(think_ms=3)).run()
    records = outlet.all
    assert np.array_equal(records["i"], np.arange(20))
    assert np.array_equal(records["due_ns"], records["submit_ns"])
    assert (records["retire_ns"] > records["submit_ns"]).all()


def test_without_linger_the_block_ends_at_exactly_its_count() -> None:
    """Otherwise the classic design runs more than the user asked for."""
    outlet = MemoryOutlet()
    assert make_block(FakeClock(), outlet, quota=Quota(iterations=7, linger=False)).run() == 7
    assert len(outlet.all) == 7
    assert outlet.quotas == 0


def test_with_linger_the_tenant_goes_on_until_it_is_stopped() -> None:
    """Otherwise neighbours run alone at the end of a shared block."""
    outlet = MemoryOutlet(stop_when=lambda o: o.quotas == 1 and o.listened > 30)
    make_block(FakeClock(), outlet, quota=Quota(iterations=7), arrivals=Closed(think_ms=10)).run()
    assert outlet.quotas == 1
    assert len(outlet.all) > 7


def test_a_block_by_time_ends_at_its_time_measured_from_the_start() -> None:
    """Otherwise a block of so many seconds depends on when the worker woke up."""
    clock, outlet = FakeClock(), MemoryOutlet()
    make_block(clock, outlet, quota=Quota(seconds=0.1, linger=False), start_in_ms=300).run()
    assert len(outlet.all) == pytest.approx(100, abs=1)
    clock, outlet = FakeClock(), MemoryOutlet()
    start_ns = clock.ns
    make_block(
        clock,
        outlet,
        quota=Quota(seconds=0.1, linger=False),
        arrivals=Closed(think_ms=75, jitter=0),
        start_in_ms=0,
    ).run()
    assert len(outlet.all) == 2
    assert clock.ns - start_ns == pytest.approx(100 * MS, rel=0.01), "ends in the think time, not after it"


def test_by_time_with_linger_says_so_once_and_goes_on() -> None:
    """Otherwise blocks by time never end for all at once."""
    outlet = MemoryOutlet(stop_when=lambda o: o.quotas >= 1 and o.listened > 40)
    make_block(FakeClock(), outlet, quota=Quota(seconds=0.1)).run()
    assert outlet.quotas == 1
    assert len(outlet.all) > 101


def test_stop_before_the_start_ends_the_block_with_nothing() -> None:
    """Otherwise a block that the conductor gave up still runs."""
    outlet = MemoryOutlet(stop_when=lambda o: o.listened > 3)
    clock = FakeClock()
    assert make_block(clock, outlet, quota=Quota(iterations=5), start_in_ms=60_000).run() == 0
    assert outlet.chunks == []
    assert clock.ns < 10**12 + 1000 * MS


def test_stop_in_a_long_think_time_is_obeyed_in_time() -> None:
    """Otherwise a lingering tenant with long pauses holds up every block."""
    clock = FakeClock()
    begin_ns = clock.ns
    outlet = MemoryOutlet(stop_when=lambda _: clock.ns > begin_ns + 100 * MS)
    make_block(clock, outlet, quota=Quota(iterations=1), arrivals=Closed(think_ms=60_000, jitter=0)).run()
    assert len(outlet.all) == 1
    assert clock.ns - begin_ns < 300 * MS


def test_back_to_back_iterations_listen_at_most_every_10_ms() -> None:
    """Otherwise a saturated loop pays for a system call in every iteration."""
    outlet = MemoryOutlet()
    make_block(FakeClock(), outlet, quota=Quota(iterations=1000, linger=False), service_ms=lambda _: 0.1).run()
    assert 5 <= outlet.listened <= 15


def test_chunks_are_full_and_records_continue_across_them() -> None:
    """Otherwise an unbounded block overruns its memory, or loses records where a chunk ends."""
    outlet = MemoryOutlet()
    count = 2 * CHUNK_RECORDS + 10
    quota = Quota(iterations=count, linger=False)
    make_block(FakeClock(), outlet, quota=quota, service_ms=lambda _: 0.01).run()
    assert [len(chunk) for chunk in outlet.chunks] == [CHUNK_RECORDS, CHUNK_RECORDS, 10]
    assert np.array_equal(outlet.all["i"], np.arange(count))


def test_slow_tenants_send_what_they_have_about_once_a_second() -> None:
    """Otherwise a killed run loses everything a slow tenant measured."""
    outlet = MemoryOutlet()
    make_block(FakeClock(), outlet, quota=Quota(iterations=100, linger=False), arrivals=Closed(think_ms=100)).run()
    assert 8 <= len(outlet.chunks) <= 13


def test_heartbeats_stand_at_both_ends_of_the_block_and_inside_no_iteration() -> None:
    """Otherwise what the scheduler says of a block leaves out its ends, or costs an iteration."""
    clock, outlet = FakeClock(), MemoryOutlet()
    begin_ns = clock.ns + 700 * MS
    make_block(clock, outlet, quota=Quota(iterations=5, linger=False), start_in_ms=700).run()
    records, beats = outlet.all, outlet.heartbeats
    assert (beats[-1][0] >= records["retire_ns"][-1], beats[-1][1]) == (True, 5)
    assert [count for at, count in beats if begin_ns - 2 * MS < at <= begin_ns] == [0]
    for at, _ in beats:
        assert not np.any((records["submit_ns"] < at) & (at < records["retire_ns"]))


def test_heartbeats_come_through_waiting_thinking_and_working() -> None:
    """Otherwise a healthy tenant looks hung."""
    clock, outlet = FakeClock(), MemoryOutlet()
    make_block(
        clock,
        outlet,
        quota=Quota(iterations=4, linger=False),
        arrivals=Closed(think_ms=3000),
        start_in_ms=2000,
        service_ms=lambda _: 20.0,
    ).run()
    times = [at for at, _ in outlet.heartbeats]
    gaps_ms = np.diff([10**12, *times, clock.ns]) / MS
    assert gaps_ms.max() <= 350
    at_the_ends = 4  # before and after the heartbeat of the start, and that of the end
    assert np.sort(gaps_ms)[at_the_ends:].min() >= 250
    assert {count for _, count in outlet.heartbeats} == {0, 1, 2, 3, 4}
    assert clock.longest_sleep_s <= 0.25


def test_what_was_measured_is_sent_before_a_failure_is_passed_on() -> None:
    """Otherwise the records up to an out-of-memory or a lost device are gone."""
    outlet = MemoryOutlet()
    calls = []

    def operation() -> None:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("CUDA error: unspecified launch failure")

    with pytest.raises(RuntimeError, match="launch failure"):
        make_block(FakeClock(), outlet, quota=Quota(iterations=50), operation=operation).run()
    assert len(outlet.all) == 5
    assert gc.isenabled()


def test_garbage_collection_is_off_in_the_block_and_on_after_it() -> None:
    """Otherwise collections show up as tail latency, or the worker leaks between blocks."""
    seen: list[bool] = []
    frozen = gc.get_freeze_count()
    operation = lambda: seen.append(gc.isenabled())  # noqa: E731
    make_block(FakeClock(), MemoryOutlet(), quota=Quota(iterations=3, linger=False), operation=operation).run()
    assert seen == [False] * 3
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen


def test_an_open_loop_works_off_its_backlog_in_order_and_knows_when_each_was_due() -> None:
    """Otherwise a late iteration's wait is lost, and the figures are a closed loop's."""
    clock, outlet = FakeClock(), MemoryOutlet()
    start_ns = clock.ns + 5 * MS
    trace = Trace(due_ms=(0.0, 1.0, 1.0, 30.0), period_ms=100.0)
    quota = Quota(iterations=6, linger=False)
    make_block(clock, outlet, quota=quota, arrivals=trace, service_ms=lambda _: 10.0).run()
    records = outlet.all
    due_ms = (records["due_ns"] - start_ns) / MS
    free_ms = 0.0
    for row, due in zip(records, due_ms, strict=True):
        submit_ms = (row["submit_ns"] - start_ns) / MS
        assert submit_ms == pytest.approx(max(due, free_ms), abs=0.01)
        free_ms = submit_ms + 10.0
    gaps = [1.0, 0.0, 29.0, 70.0] * 3
    assert any(np.diff(due_ms).tolist() == pytest.approx(gaps[k : k + 5]) for k in range(4))
    late = clock_ms(records, "response") - clock_ms(records, "service")
    assert late.max() == pytest.approx(19.0, abs=0.01), "the wait behind two earlier ones"


def test_an_open_loop_that_is_never_idle_still_hears_stop() -> None:
    """Otherwise an overloaded tenant holds up every block."""
    outlet = MemoryOutlet(stop_when=lambda o: o.quotas == 1 and o.listened > 20)
    rate = Poisson(rate_hz=10_000)
    make_block(FakeClock(), outlet, quota=Quota(iterations=5), arrivals=rate, service_ms=lambda _: 1.0).run()
    assert 5 < len(outlet.all) < 1000


def lingering(
    quota: Quota, arrivals: Closed, *, first_in_ms: float, service_ms: float = 1.0
) -> tuple[int, MemoryOutlet]:
    """A block whose window opens in 100 ms, stopped once its quota is reached: the opening, and what came."""
    clock, outlet = FakeClock(), MemoryOutlet(stop_when=lambda o: o.quotas == 1)
    opened_ns = clock.ns + 100 * MS
    make_block(
        clock,
        outlet,
        quota=quota,
        arrivals=arrivals,
        service_ms=lambda _: service_ms,
        start_in_ms=100,
        first_in_ms=first_in_ms,
    ).run()
    return opened_ns, outlet


@pytest.mark.parametrize(("first_in_ms", "leading"), [(95.0, 1), (103.0, 1), (60.0, 4)])
def test_the_first_iteration_and_those_before_the_window_are_not_part_of_the_quota(
    first_in_ms: float, leading: int
) -> None:
    """Otherwise fewer iterations count than were asked for, since these are never counted."""
    arrivals = Closed(think_ms=9, jitter=0)
    opened_ns, outlet = lingering(Quota(iterations=5), arrivals, first_in_ms=first_in_ms, service_ms=1.0)
    submitted = outlet.all["submit_ns"]
    assert submitted[0] == pytest.approx(opened_ns + (first_in_ms - 100) * MS, abs=1000)
    inside = (submitted >= opened_ns) & (submitted <= outlet.closed_ns)
    inside[0] = False
    assert inside.sum() == 5
    assert inside[leading:].all() or not inside[leading + 5 :].any()


def test_the_window_closes_half_a_cycle_after_the_last_submission_whenever_that_is() -> None:
    """Otherwise m iterations are seen in m - 1/2 cycles, and a tenant with few of them looks busier than it is."""
    for think_ms, service_ms in ((9.0, 1.0), (0.0, 10.0)):
        _, outlet = lingering(
            Quota(iterations=3), Closed(think_ms=think_ms, jitter=0), first_in_ms=100, service_ms=service_ms
        )
        assert outlet.closed_ns - outlet.all["submit_ns"][3] == pytest.approx(5 * MS, rel=0.01)
