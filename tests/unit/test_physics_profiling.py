"""From a recording to a profile: the tracer taken out, the tenant left as it was."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_physics import fingerprint, streams

from kts.arrivals import Closed
from kts.model.plan import Kernel, Slo, Tenant
from kts.model.records import RECORD
from kts.model.run import DeviceInfo
from kts.physics.alone import ends_ms, service_ms
from kts.physics.draws import sharing
from kts.physics.profiling import Times, as_bursts, partners, profile_of_recording, recalibrated, untraced
from kts.physics.simulate import Stream, simulate
from kts.physics.values import Floats, Gpu, Iterations, bursts, make_profile
from kts.wire.recording import Launches, Recording, Stretch, packed

GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="H", label="NVIDIA H", library="torch")
CPU = DeviceInfo(kind="cpu", uuid="cpu:x:1", name="c", label="CPU core 1 (c), not a GPU", library="numpy")
TENANT = Tenant(
    name="chat",
    work=Kernel(workload="decode", size=768),
    arrivals=Closed(think_ms=10),
    slo=Slo(deadline_ms=5.0),
)
LAUNCHES = 20


def eager(rng: np.random.Generator, n: int, slowed: float = 1.0) -> tuple[Times, Iterations]:
    """A host-bound tenant: 20 small kernels over some 1.6 ms of host time with a tail; ``slowed``: its host."""
    host = 1.6 * rng.lognormal(0, 0.2, n)
    offset = slowed * host[:, None] * np.linspace(0.02, 0.95, LAUNCHES)[None, :]
    duration = np.full(offset.shape, 0.003)
    issue = slowed * host
    service = offset[:, -1] + 0.003 + 0.02
    times = Times(service=service, device=service - 0.03, issue=issue)
    return times, Iterations(np.arange(0, LAUNCHES * n + 1, LAUNCHES), offset.ravel(), duration.ravel(), np.zeros(n))


def alone(them: Iterations) -> Floats:
    """Service times of each listed iteration on a GPU of its own, by the simulator."""
    stream = Stream(them, np.arange(them.n), think_ms=np.full(them.n, 100.0))
    return simulate([stream], sharing(fingerprint()), stop_at_first=False).tenants[0].service_ms


@pytest.mark.parametrize("slowed", [1.0, 1.5, 3.0])
def test_a_slower_host_under_the_tracer_is_taken_out(slowed: float) -> None:
    """Otherwise every tenant of small launches is predicted as slow as its trace, 1.5 times too slow."""
    rng = np.random.default_rng(1)
    plain, _ = eager(rng, 4000)
    traced, seen = eager(rng, 400, slowed)
    found = untraced(plain, traced, seen)
    for p in (0.5, 0.9, 0.99):
        assert np.quantile(alone(found), p) == pytest.approx(np.quantile(plain.service, p), rel=0.03)
    last = found.offset_ms[found.first[1:] - 1]
    assert np.median(last) == pytest.approx(0.95 * 1.6, rel=0.02)
    assert np.median(found.retire_ms) == pytest.approx(0.02, rel=0.2)
    np.testing.assert_array_equal(found.duration_ms, seen.duration_ms)


def test_a_graphs_kernels_kept_apart_by_the_tracer_are_put_together_again() -> None:
    """Otherwise a replayed graph is as long as its trace: a tracer of its nodes adds a gap to each."""
    rng = np.random.default_rng(2)
    plain = Times(*(np.full(1000, ms) + rng.uniform(0, 0.001, 1000) for ms in (0.55, 0.50, 0.03)))
    traced = Times(*(np.full(300, ms) + rng.uniform(0, 0.001, 300) for ms in (0.66, 0.60, 0.05)))
    seen = Iterations(np.arange(301), np.full(300, 0.03), np.full(300, 0.57), np.zeros(300))
    found = untraced(plain, traced, seen, queued_ms=0.48)
    assert np.median(found.duration_ms) == pytest.approx(0.48, rel=0.01)
    host_bound = untraced(plain, traced, seen, queued_ms=1.9)
    assert np.array_equal(host_bound.duration_ms, seen.duration_ms)
    assert np.array_equal(untraced(plain, traced, seen, queued_ms=0.0).duration_ms, seen.duration_ms)
    assert np.median(alone(found)) == pytest.approx(0.55, rel=0.01)


def test_a_long_kernels_duration_stays_as_it_was_traced() -> None:
    """Otherwise noise between two stretches would be put into what the GPU does."""
    rng = np.random.default_rng(3)
    spread = rng.normal(0, 0.02, 1500)
    plain = Times(3.66 + spread[:1000], 3.60 + spread[:1000], np.full(1000, 0.03))
    traced = Times(3.69 + spread[1000:], 3.60 + spread[1000:], np.full(500, 0.05))
    seen = Iterations(np.arange(501), np.full(500, 0.04), 3.59 + spread[1000:], np.zeros(500))
    found = untraced(plain, traced, seen)
    np.testing.assert_allclose(found.duration_ms, seen.duration_ms, rtol=0.002)
    assert (found.retire_ms >= 0).all()
    assert np.quantile(alone(found), 0.99) == pytest.approx(np.quantile(plain.service, 0.99), rel=0.005)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    plain_n=st.integers(1, 60),
    counts=st.lists(st.integers(1, 8), min_size=1, max_size=30),
    factor=st.floats(0.2, 5),
)
def test_whatever_was_recorded_launches_stay_in_order_and_never_below_zero(
    seed: int, plain_n: int, counts: list[int], factor: float
) -> None:
    """Otherwise a profile is refused by the very program that made it; a tracer of any speed gives the same one."""
    rng = np.random.default_rng(seed)
    n = len(counts)
    first = np.concatenate([[0], np.cumsum(counts)])
    offset = np.concatenate([np.sort(rng.uniform(0, 2, count)) for count in counts])
    duration, issue = rng.exponential(0.1, first[-1]), rng.uniform(0.01, 3, n)
    service = rng.uniform(0.5, 6, n)
    plain = Times(*(rng.uniform(0.01, 5, plain_n) for _ in range(3)))
    traced = Times(service, np.full(n, 100.0), issue)
    found = untraced(plain, traced, Iterations(first, offset, duration, np.zeros(n)))
    assert min(found.offset_ms.min(), found.retire_ms.min()) >= 0
    inner = np.delete(np.diff(found.offset_ms, prepend=0), first[:-1])
    assert (inner >= 0).all()
    assert (ends_ms(found) + found.retire_ms >= plain.service[partners(plain.service, service)] - 1e-9).all()
    slower = Times(service, np.full(n, 100.0), factor * issue)
    again = untraced(plain, slower, Iterations(first, factor * offset, duration, np.zeros(n)))
    np.testing.assert_allclose(again.offset_ms, found.offset_ms)


@settings(max_examples=50, deadline=None)
@given(plain=st.lists(st.floats(0.1, 10), min_size=1, max_size=50), n=st.integers(1, 50), seed=st.integers(0, 99))
def test_partners_are_at_the_same_quantile(plain: list[float], n: int, seed: int) -> None:
    """Otherwise slow iterations get the times of fast ones, and the tail is gone."""
    traced = np.random.default_rng(seed).uniform(0, 1, n)
    values = np.array(plain)[partners(np.array(plain), traced)]
    assert (np.diff(values[np.argsort(traced)]) >= 0).all()


def test_when_an_iteration_ends_is_as_the_simulator_has_it() -> None:
    """Otherwise retire delays are against another GPU than that of the prediction."""
    rng = np.random.default_rng(5)
    first = np.array([0, 3, 4, 9])
    offset = np.concatenate([np.sort(rng.uniform(0, 1, k)) for k in (3, 1, 5)])
    them = Iterations(first, offset, rng.uniform(0, 0.6, 9), np.zeros(3))
    np.testing.assert_allclose(ends_ms(them), alone(them))


@settings(max_examples=100, deadline=None)
@given(stream=streams(grid=0.0137))
def test_alone_with_waits_copies_and_lanes_is_as_the_simulator_has_it(stream: Stream) -> None:
    """Otherwise rates, phases and retire delays are those of another tenant than the simulated one."""
    them = stream.iterations
    done = simulate(
        [Stream(them, np.arange(them.n), think_ms=np.full(them.n, 100.0))], sharing(fingerprint()), stop_at_first=False
    ).tenants[0]
    np.testing.assert_allclose(service_ms(them), done.service_ms, rtol=0, atol=1e-9)


def test_newer_iterations_move_the_host_between_waits_and_not_what_it_waits_for() -> None:
    """Otherwise a slower host would be taken for a slower GPU, which no neighbour's turn can hide."""
    n = 50
    them = Iterations(
        np.arange(n + 1) * 2,
        np.tile([0.0, 1.0], n),
        np.tile([3.0, 0.1], n),
        np.full(n, 0.0),
        wait_ms=np.tile([0.2, np.nan], n),
        notice_ms=np.tile([0.1, np.nan], n),
    )
    made = make_profile("two", them, Gpu.of(GPU))
    before = service_ms(them)
    np.testing.assert_allclose(before, 3.1 + 0.8 + 0.1)
    found = recalibrated(made, before + 0.6, np.full(n, np.nan)).iterations
    assert found.wait_ms is not None
    np.testing.assert_allclose(service_ms(found), before + 0.6, atol=1e-5)
    host = (4.6 - 2.8) / (4.0 - 2.8)  # of 4 ms the host waits 2.8, from 0.2 to 3
    np.testing.assert_allclose(found.offset_ms[1::2], host * 1.0, atol=1e-5)
    np.testing.assert_array_equal(found.duration_ms, them.duration_ms)


def stretch(service: Floats, device: Floats, issue: Floats | None = None) -> Stretch:
    rows = np.zeros(len(service), RECORD)
    rows["submit_ns"] = rows["due_ns"] = np.arange(len(service)) * 20_000_000
    rows["retire_ns"] = rows["submit_ns"] + np.round(service * 1e6).astype(np.int64)
    rows["device_ms"] = device
    return Stretch(records=rows.tobytes(), issue_ns=packed(np.round(issue * 1e6)) if issue is not None else b"")


def test_a_traced_recording_becomes_a_profile_of_launches() -> None:
    """Otherwise what was measured does not reach the file."""
    rng = np.random.default_rng(6)
    plain, _ = eager(rng, 2000)
    traced, seen = eager(rng, 300, 1.5)
    recording = Recording(
        tenant="chat",
        device=GPU,
        size=768,
        plain=stretch(plain.service, plain.device, plain.issue),
        cold=stretch(np.full(5, 4.0), np.full(5, 3.5), np.full(5, 3.9)),
        traced=stretch(traced.service, traced.device, traced.issue),
        launches=Launches(
            counts=packed(np.diff(seen.first)),
            offset_ns=packed(np.round(seen.offset_ms * 1e6)),
            duration_ns=packed(np.round(seen.duration_ms * 1e6)),
        ),
        note="tracer 1.0",
        held_bytes=2**30,
        sm_clock_mhz=1980.0,
    )
    made = profile_of_recording(recording, TENANT, "0.1")
    assert (made.method, made.size, made.deadline_ms, made.arrivals) == ("launches", 768, 5.0, Closed(think_ms=10))
    assert made.tracer_inflation == pytest.approx(1.5, rel=0.05)
    assert made.host_warm_ms == pytest.approx(1.6, rel=0.05)
    assert (made.host_cold_ms, made.memory_bytes, made.sm_clock_mhz) == (pytest.approx(3.9), 2**30, 1980.0)
    assert (made.iterations.n, made.solo_service.n, made.solo_device.n) == (300, 2000, 2000)
    assert "2000 iterations" in made.how
    assert "tracer 1.0" in made.how


def test_without_a_tracer_each_iteration_is_a_burst_and_says_so() -> None:
    """Otherwise a single burst passes for a trace. Before it lies half of what can lie before it on a GPU; on the CPU
    all is the burst, as the submitting thread never leaves the core; and where nothing tells the device time."""
    service, device, issue = np.full(10, 4.0), np.full(10, 3.0), np.full(10, 0.4)
    plain = Times(service, device, issue)
    on_gpu, on_cpu = as_bursts(plain, GPU), as_bursts(plain, CPU)
    assert (on_gpu.offset_ms[0], on_gpu.duration_ms[0], on_gpu.retire_ms[0]) == pytest.approx((0.2, 3.0, 0.8))
    assert (on_cpu.offset_ms[0], on_cpu.duration_ms[0], on_cpu.retire_ms[0]) == (0.0, 4.0, 0.0)
    blind = as_bursts(Times(service, np.full(10, np.nan), np.empty(0)), GPU)
    assert (blind.duration_ms[0], blind.retire_ms[0]) == (4.0, 0.0)
    recording = Recording(tenant="chat", device=CPU, size=64, plain=stretch(service, device, issue), note="no tracer")
    made = profile_of_recording(recording, msgspec.structs.replace(TENANT, name="chat"))
    assert made.method == "burst"
    assert made.tracer_inflation == 1.0
    assert made.host_warm_ms == pytest.approx(1.0)
    assert "single bursts: no tracer" in made.how


def test_newer_iterations_alone_say_how_fast_the_host_is_now() -> None:
    """Otherwise a profile of a fast hour predicts a slow one, and host-bound tenants come off worst."""
    rng = np.random.default_rng(3)
    then, seen = eager(rng, 400)
    now, _ = eager(rng, 3000, 1.7)
    made = make_profile("chat", untraced(then, then, seen), Gpu.of(GPU), solo_service_ms=then.service)
    found = recalibrated(made, now.service, now.device)
    for p in (0.5, 0.9, 0.99):
        assert np.quantile(alone(found.iterations), p) == pytest.approx(np.quantile(now.service, p), rel=0.03)
    last = found.iterations.offset_ms[found.iterations.first[1:] - 1]
    assert np.median(last) == pytest.approx(1.7 * 0.95 * 1.6, rel=0.03)
    assert found.solo_service.n == 3000
    assert np.array_equal(found.iterations.duration_ms, made.iterations.duration_ms)
    assert recalibrated(made, np.empty(0), np.empty(0)) is made


def test_what_newer_iterations_of_a_gpu_bound_tenant_take_more_lies_after_its_kernel() -> None:
    """Otherwise a slow host would let kernels begin later than it does, and hide waits that are there."""
    made = make_profile("gemm", bursts(np.full(50, 5.0), 0.1, 0.2), Gpu.of(GPU))
    found = recalibrated(made, np.full(80, 5.6), np.full(80, np.nan))
    assert np.allclose(found.iterations.offset_ms, 0.2)
    assert np.allclose(found.iterations.retire_ms, 0.4)
    assert found.solo_device.n == 0


def test_on_a_cpu_newer_iterations_are_the_bursts() -> None:
    """Otherwise a core that is slower now leaves a gap behind each iteration, in which the tenant loses its turn."""
    made = make_profile("gemm", bursts(np.full(50, 5.0), 0.0), Gpu.of(CPU))
    found = recalibrated(made, np.full(80, 5.6), np.full(80, 5.5)).iterations
    assert np.allclose(found.duration_ms, 5.6)
    assert not found.retire_ms.any()


def test_on_a_cpu_a_program_of_the_users_own_says_what_is_work() -> None:
    """Otherwise its pauses count as work of the core, in a profile or in a recalibrated one."""
    plain = Times(np.full(10, 4.0), np.full(10, 3.0), np.empty(0))
    them = as_bursts(plain, CPU, "command")
    assert (them.duration_ms[0], them.retire_ms[0]) == (3.0, 1.0)
    made = make_profile("own", them, Gpu.of(CPU), workload="command")
    found = recalibrated(made, np.full(20, 4.5), np.full(20, 3.0)).iterations
    assert (found.duration_ms[0], found.retire_ms[0]) == pytest.approx((3.0, 1.5))
