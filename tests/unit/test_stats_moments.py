"""If these fail, the timelines of slow iterations show what did not happen, or leave out what did."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.model.records import Records, record_dtype
from kts.model.telemetry import SampleSeries, Scope
from kts.stats import analyse
from kts.stats.moments import Moment, moments

HOUSE = "shared-fft+gemm"


def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    """400 iterations of 2 ms; fft's 100th of round 3 is slower by far, most of it off the stopwatch."""
    service = np.full(400, 2.0) + np.random.default_rng([number, len(tenant), len(side)]).uniform(0, 0.1, 400)
    device = service - 0.1
    service[100] += 50.0 * (number == 3 and tenant == "fft")
    return service, device


def slow(run: FakeRun, condition: str = HOUSE, count: int = 10) -> tuple[Moment, ...]:
    """The slowest of fft."""
    return moments(run, "fft", analyse(run).series["fft"].slowest[condition][:count])


def in_flight(records: Records, begin_ns: int, end_ns: int) -> Records:
    """Those at some time between."""
    return records[(records["submit_ns"] < end_ns) & (records["retire_ns"] > begin_ns)]


def test_a_moment_has_the_times_of_its_record_and_of_the_neighbours_meanwhile() -> None:
    run = make_run(make_plan(rounds=5), latencies)
    worst = slow(run)[0]
    record = run.records("fft", worst.block)[100]
    due, retire = int(record["due_ns"]), int(record["retire_ns"])
    assert (worst.i, worst.round) == (100, 3)
    assert worst.response_ms == pytest.approx((retire - due) / 1e6)
    assert worst.device_ms == pytest.approx(float(record["device_ms"]))
    assert worst.at_s == pytest.approx((due - run.blocks[0].start_ns) / 1e9)
    (lane,) = worst.lanes
    theirs = in_flight(run.records("gemm", worst.block), due, retire)
    assert (lane.tenant, lane.iterations) == ("gemm", len(theirs))
    inside = np.minimum(theirs["retire_ns"], retire) - np.maximum(theirs["submit_ns"], due)
    assert lane.ms == pytest.approx(inside.sum() / 1e6)
    for begin, end in lane.flights:
        assert -0.26 * worst.response_ms <= begin < end <= 1.26 * worst.response_ms
    around = in_flight(run.records("gemm", worst.block), due - 13_000_000, retire + 13_000_000)
    assert len(lane.flights) == pytest.approx(len(around), abs=2)


def test_alone_there_are_no_lanes() -> None:
    assert all(not one.lanes for one in slow(make_run(make_plan(rounds=5), latencies), "solo-fft"))


def test_they_come_in_the_order_asked_whichever_blocks_they_are_of() -> None:
    found = slow(make_run(make_plan(rounds=5), latencies), count=20)
    assert len(found) == 20
    assert len({one.block for one in found}) > 1
    assert [one.response_ms for one in found] == sorted((one.response_ms for one in found), reverse=True)


class Portions(FakeRun):
    """The same records in parts of 7."""

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        whole = self.records(tenant, block)
        for first in range(0, len(whole), 7):
            yield whole[first : first + 7]


def test_parts_of_a_block_tell_the_same_as_all_of_it() -> None:
    """Large blocks are read a part at a time."""
    run = make_run(make_plan(rounds=5), latencies)
    parts = Portions(info=run.info, blocks=run.blocks, data=run.data)
    for whole, cut in zip(slow(run), slow(parts), strict=True):
        assert (whole.i, whole.response_ms, whole.queue_ms) == (cut.i, cut.response_ms, cut.queue_ms)
        for one, other in zip(whole.lanes, cut.lanes, strict=True):
            assert (one.tenant, one.iterations) == (other.tenant, other.iterations)
            assert one.ms == pytest.approx(other.ms)


def test_a_neighbour_of_tiny_iterations_is_no_list_of_thousands() -> None:
    """A page would hold all of them, a terminal nothing else."""

    def tiny(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        if tenant == "fft":
            return latencies(tenant, side, number)
        return np.full(40_000, 0.02), np.full(40_000, 0.01)

    run = make_run(make_plan(rounds=4), tiny, think_ms=0.001)
    (lane,) = slow(run, count=1)[0].lanes
    assert lane.iterations > 2000
    assert len(lane.flights) <= 400
    assert lane.ms == pytest.approx(50.0, rel=0.1)


def test_own_iterations_that_overlap_have_a_lane_and_waiting_for_them_is_queued() -> None:
    """An open loop's iteration waits for those before it."""
    run = make_run(make_plan(rounds=5), latencies)
    for (tenant, _), records in run.data.items():
        if tenant == "fft":
            records["due_ns"] -= 3_000_000
    worst = slow(run)[0]
    assert worst.queue_ms == pytest.approx(3.0)
    own, gemm = worst.lanes
    assert (own.tenant, gemm.tenant) == ("fft", "gemm")
    assert own.iterations >= 1
    assert all(end <= worst.queue_ms or begin >= worst.response_ms for begin, end in own.flights)


def test_launches_waits_and_the_host_are_told_where_they_were_recorded() -> None:
    """A tenant in our thread has CPU times, a traced program counts."""
    run = make_run(make_plan(rounds=5), latencies)
    assert slow(run)[0].launches is None
    assert slow(run)[0].core_wait_ms is None
    dtype = record_dtype(("launches", "waits", "cpu_ns", "cpu_wait_ns", "waited_ns"))
    for key, records in run.data.items():
        whole = np.zeros(len(records), dtype)
        for name in records.dtype.names or ():
            whole[name] = records[name]
        whole["launches"], whole["waits"], whole["cpu_ns"], whole["cpu_wait_ns"] = 112, 2, 700_000, -1
        whole["waited_ns"] = 1_500_000
        run.data[key] = whole
    worst = slow(run)[0]
    assert (worst.launches, worst.waits, worst.cpu_ms, worst.core_wait_ms) == (112, 2, 0.7, None)
    assert worst.waited_ms == 1.5


def sampled(run: FakeRun, value: Array, scope: Scope = "device", subject: str = "") -> SampleSeries:
    """A sample each 20 ms over the run."""
    first, last = run.blocks[0].start_ns, run.blocks[-1].end_ns
    t_ns = np.arange(first, last, 20_000_000)
    values = np.resize(value, len(t_ns))
    subject = subject or run.info.workers[0].device.uuid
    return SampleSeries("nvml", "power_w", scope, subject, t_ns, np.full(len(t_ns), 20_000_000), values)


def test_a_sample_stands_out_where_it_is_beyond_nearly_all_of_its_kind() -> None:
    """That a clock fell just then is what a reader looks for; that it was as ever is not."""
    run = make_run(make_plan(rounds=5), latencies)
    worst = slow(run)[0]
    assert worst.stand_out == ()
    steady = sampled(run, np.array([400.0, 402.0]))
    run.samples = [steady]
    assert slow(run)[0].stand_out == ()
    at = run.blocks[0].start_ns + round(worst.at_s * 1e9) + 30_000_000
    steady.value[np.searchsorted(steady.t_ns, at)] = 120.0
    (found,) = slow(run)[0].stand_out
    assert (found.source, found.metric, found.value, found.low) == ("nvml", "power_w", 120.0, True)
    assert found.median in {400.0, 401.0, 402.0}
    assert found.begin_ms < worst.response_ms
    assert found.end_ms > 0
    run.samples = [sampled(run, steady.value, "tenant", "gemm")]
    assert slow(run)[0].stand_out == ()  # another tenant's


def test_few_samples_make_nothing_stand_out() -> None:
    """Of ten samples one is always the highest."""
    run = make_run(make_plan(rounds=5), latencies)
    rare = sampled(run, np.arange(1.0, 3000.0))
    keep = np.arange(0, len(rare.t_ns), 40)
    run.samples = [
        SampleSeries("nvml", "power_w", "device", rare.subject, rare.t_ns[keep], rare.span_ns[keep], rare.value[keep])
    ]
    assert all(one.stand_out == () for one in slow(run))
