"""Finding a size, on fake durations."""

from __future__ import annotations

import pytest
from tests.helpers_worker import FakeClock, FakeDevice

from kts.model.plan import SIZED, Kernel, SizedKernel
from kts.worker import calibrate as module
from kts.worker.calibrate import Bench, calibrate, refine, search
from kts.worker.failures import OutOfMemoryError
from kts.worker.workloads import sized_workload


@pytest.mark.parametrize("kernel", SIZED)
@pytest.mark.parametrize("target_ms", [0.05, 3.6, 20.7, 400.0])
@pytest.mark.parametrize("overhead_ms", [0.0, 0.02])
def test_the_search_ends_within_tolerance_or_between_neighbours(
    kernel: SizedKernel, target_ms: float, overhead_ms: float
) -> None:
    """Otherwise work is not sized to the duration that the user asked for."""
    tried: list[int] = []

    def measure(size: int) -> float:
        tried.append(size)
        return overhead_ms + sized_workload(kernel).cost(size) * 2e-8

    size, ms = search(kernel, target_ms, measure)
    sizes = sized_workload(kernel).candidates()
    at = sizes.index(size)
    assert ms == measure(size)
    neighbours = [sizes[i] for i in (at - 1, at + 1) if 0 <= i < len(sizes)]
    assert abs(ms / target_ms - 1) <= 0.03 or all(
        abs(measure(n) / target_ms - 1) >= abs(ms / target_ms - 1) * 0.9 for n in neighbours
    )
    assert len(tried) < 20


def test_candidates_are_what_the_libraries_like() -> None:
    """Otherwise a size with a large prime factor makes the fft several times slower than its neighbours."""
    assert sized_workload("fft").candidates()[:12] == [16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 192, 224]
    assert sized_workload("gemm").candidates()[:3] == [32, 64, 96]
    assert sized_workload("fft").candidates()[-1] == sized_workload("gemm").candidates()[-1] == 131_072


def test_a_size_without_room_only_matters_if_the_target_needs_it() -> None:
    """Otherwise a too bold step of the search fails a run that is possible, or an impossible one never ends."""

    def measure(size: int) -> float:
        if size > 4000:
            raise OutOfMemoryError(f"gemm of size {size} needs too much", "choose a smaller size")
        return sized_workload("gemm").cost(size) * 1e-9

    size, ms = search("gemm", 40.0, measure)
    assert size < 4000
    assert ms == pytest.approx(40.0, rel=0.03)
    with pytest.raises(OutOfMemoryError, match=r"target_ms 500 is out of reach.*largest that fits, 4000") as caught:
        search("gemm", 500.0, measure)
    assert caught.value.remedy


def test_no_room_at_any_size_is_an_error_and_not_a_loop() -> None:
    """Otherwise a full device hangs calibration."""

    def measure(size: int) -> float:
        raise OutOfMemoryError(f"no room for {size}")

    with pytest.raises(OutOfMemoryError, match="out of reach"):
        search("fft", 3.6, measure)


def test_refinement_moves_where_cold_clocks_change_the_duration() -> None:
    """Otherwise a paced tenant is sized by the duration it has only when busy."""
    paced: list[int] = []

    def burst_ms(size: int) -> float:
        return sized_workload("gemm").cost(size) * 1e-9

    def paced_ms(size: int) -> float:
        paced.append(size)
        return 1.5 * burst_ms(size)

    size, ms = refine("gemm", 20.0, 2720, burst_ms, paced_ms)
    assert ms == pytest.approx(20.0, rel=0.03)
    assert size < 2720
    assert len(paced) == 2  # each costs the user seconds


def test_the_operands_are_freed_before_larger_ones_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise calibration needs twice the memory of the run."""
    alive: list[int] = []

    class Operation:
        def __init__(self, size: int) -> None:
            assert alive == []
            self.size = size
            alive.append(size)

        def __call__(self) -> None:
            pass

        def __del__(self) -> None:
            alive.remove(self.size)

    monkeypatch.setattr(module, "build", lambda _kernel, size, _device, _decoder: Operation(size))
    clock = FakeClock()
    bench = Bench(FakeDevice(clock, lambda _: 1.0), "fft", lambda: None, clock.sleep)
    for size in (256, 512, 256):
        bench.burst_ms(size)


def test_calibration_ends_with_a_warm_operation_of_the_reported_size() -> None:
    """Otherwise blocks run another size than the plan freezes; heartbeats must come all the while."""
    clock, pulses = FakeClock(), []
    bench = Bench(FakeDevice(clock, lambda _: 2.0), "gemm", lambda: pulses.append(1), clock.sleep, now=clock)
    size, ms, found = calibrate(bench, Kernel(workload="gemm", size=64), think_ms=50)
    assert (size, ms) == (64, pytest.approx(1.0, rel=0.01))  # the stopwatch shows half of the time
    assert bench.operation is not None
    assert found.steady
    assert len(pulses) == 5 + found.iterations
    size, ms, _ = calibrate(bench, Kernel(workload="gemm", target_ms=1.0), think_ms=50)
    assert ms == pytest.approx(1.0, rel=0.01)


def test_durations_that_jump_between_neighbouring_sizes_do_not_end_the_search() -> None:
    """FFT libraries jump: an H200 takes 3.05 ms at 13824, over 4 ms at the next size, and 3.63 ms at 16384."""
    cost = sized_workload("fft").cost

    def measure(size: int) -> float:
        slow = size not in (4096, 8192, 13824, 16384)
        return 3.63 * cost(size) / cost(16384) * (1.45 if slow else 1.0 if size == 16384 else 1.19)

    size, ms = search("fft", 3.6, measure)
    assert (size, ms) == (16384, pytest.approx(3.63))


def test_an_allocation_that_the_library_refuses_names_size_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the user reads pages of a library's advice instead of one line."""

    def build(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 8 GiB.\nSee documentation ...")

    monkeypatch.setattr(module, "build", build)
    clock = FakeClock()
    bench = Bench(FakeDevice(clock, lambda _: 2.0), "gemm", lambda: None, clock.sleep)
    with pytest.raises(OutOfMemoryError) as caught:
        bench.prepare(4096)
    assert "4096" in caught.value.what
    assert "201326592 bytes" in caught.value.what
    assert "\n" not in caught.value.what


def test_work_larger_than_memory_is_refused_before_it_is_allocated() -> None:
    """Otherwise the kernel kills the process on the cpu device."""
    clock = FakeClock()
    bench = Bench(FakeDevice(clock, lambda _: 1.0, free_bytes=10**6), "fft", lambda: None, clock.sleep)
    with pytest.raises(OutOfMemoryError, match=r"size 512 needs .*6291456 bytes.*free"):
        bench.prepare(512)
