"""Finding the size whose solo duration is the wanted one.

Durations are medians by the device's own stopwatch, so that a busy host does not make the work smaller. The search
runs back to back; a refinement then runs at the tenant's own pace (at most 100 ms apart), because a paced tenant
finds the device's clocks lower than a busy one does. Last it runs on, at that pace, until it is steady.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from kts.model.plan import SIZED, Decoder, Kernel, KernelName, SizedKernel
from kts.model.run import Settled
from kts.steady import Settling
from kts.units import NS_PER_MS, NS_PER_S
from kts.worker.devices import Device
from kts.worker.failures import OutOfMemoryError, first_line, kind_of
from kts.worker.iteration import timed
from kts.worker.settled import settled
from kts.worker.workloads import Operation, build, bytes_needed, sized_workload

TOLERANCE = 0.03
FIRST_SIZE = 256
PACE_CAP_MS = 100.0

_PACED_TIMINGS = 7
_FEWEST_TIMINGS, _MOST_TIMINGS, _TIMING_MS = 5, 25, 50.0
_SCANNED = 24  # sizes tried around the target
_MOVES = 2  # of the refinement
_JUMP = 0.1  # of log duration over log work
_COLD_CALLS = 2  # the first calls at a size make plans and load kernels


def search(kernel: SizedKernel, target_ms: float, measure: Callable[[int], float]) -> tuple[int, float]:
    """The size whose duration comes closest to ``target_ms``, and that duration (ms).

    ``measure`` times one size; an OutOfMemoryError of it bounds the search from above, and is raised again only
    if the target lies above what fits. Ends within `TOLERANCE`, or when two neighbouring sizes bracket the target.
    Where these two differ by more than their work does (FFT libraries may jump by a third from one size to the
    next), sizes further away may come closer: then those around the target are tried too.
    """
    sizes = sized_workload(kernel).candidates()
    below, above = -1, len(sizes)
    results: dict[int, float] = {}
    no_room: OutOfMemoryError | None = None
    index = bisect_left(sizes, FIRST_SIZE)
    while below + 1 < above:
        try:
            ms = measure(sizes[index])
        except OutOfMemoryError as error:
            no_room, above = error, index
            index = (below + above) // 2
            continue
        results[sizes[index]] = ms
        if _is_close(ms, target_ms):
            break
        if ms < target_ms:
            below = index
        else:
            above, no_room = index, None
        index = _scaled(kernel, sizes, sizes[index], target_ms / ms)
        index = min(max(index, below + 1), above - 1)
    if no_room is not None and max(results.values(), default=0.0) < target_ms * (1 - TOLERANCE):
        largest = max(results, default=0)
        reached = f"; the largest that fits, {largest}, takes {results[largest]:.3g} ms" if largest else ""
        raise OutOfMemoryError(f"target_ms {target_ms:g} is out of reach: {no_room.what}{reached}", no_room.remedy)
    best = _best(results, target_ms)
    if _is_close(results[best], target_ms) or not _is_jump(kernel, sizes, below, above, results):
        return best, results[best]
    return _scan(kernel, target_ms, results, measure)


def refine(
    kernel: SizedKernel,
    target_ms: float,
    size: int,
    burst_ms: Callable[[int], float],
    paced_ms: Callable[[int], float],
) -> tuple[int, float]:
    """The size whose paced duration comes closest to ``target_ms``, and that duration; ``size`` is close in bursts.

    Pace changes durations by much the same factor at all sizes. So a miss moves the target of another search in
    bursts, which are cheap, instead of trying many sizes at the tenant's own pace, which is not.
    """
    results = {size: paced_ms(size)}
    for _ in range(_MOVES):
        best = _best(results, target_ms)
        if _is_close(results[best], target_ms):
            break
        size, _ = search(kernel, target_ms * burst_ms(best) / results[best], burst_ms)
        if size in results:
            break
        results[size] = paced_ms(size)
    best = _best(results, target_ms)
    return best, results[best]


def _scan(
    kernel: SizedKernel, target_ms: float, results: dict[int, float], measure: Callable[[int], float]
) -> tuple[int, float]:
    """Tries sizes whose cost is nearest to what the best result asks for, until one is within `TOLERANCE`."""
    work, best = sized_workload(kernel), _best(results, target_ms)
    wanted = math.log(work.cost(best) * target_ms / results[best])
    by_cost = sorted(work.candidates(), key=lambda size: abs(math.log(work.cost(size)) - wanted))
    for size in by_cost[:_SCANNED]:
        if _is_close(results[best], target_ms):
            break
        if size not in results:
            try:
                results[size] = measure(size)
            except OutOfMemoryError:
                continue
            best = _best(results, target_ms)
    return best, results[best]


def _is_jump(kernel: SizedKernel, sizes: Sequence[int], below: int, above: int, results: dict[int, float]) -> bool:
    """True where two neighbouring sizes were timed and their durations differ much more than their work."""
    if below < 0 or above == len(sizes) or sizes[above] not in results:
        return False
    low, high = sizes[below], sizes[above]
    cost = sized_workload(kernel).cost
    return math.log(results[high] / results[low]) - math.log(cost(high) / cost(low)) > _JUMP


def _best(results: dict[int, float], target_ms: float) -> int:
    return min(results, key=lambda size: _miss(results[size], target_ms))


def _is_close(ms: float, target_ms: float) -> bool:
    return abs(ms / target_ms - 1) <= TOLERANCE


class Bench:
    """Holds the operands of one size on the device and times them. ``pulse`` is called between iterations."""

    def __init__(
        self,
        device: Device,
        kernel: KernelName,
        pulse: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
        *,
        decoder: Decoder | None = None,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.operation: Operation | None = None
        self._size: int | None = None
        self._device = device
        self._kernel = kernel
        self._decoder = decoder
        self._pulse = pulse
        self._sleep = sleep
        self._now = now

    def prepare(self, size: int, warmup: int = _COLD_CALLS) -> Operation:
        """The operation at ``size``, warm. What was held before is freed first. OutOfMemoryError if it does not fit."""
        if self.operation is not None and size == self._size:
            return self.operation
        self.operation = self._size = None
        self._device.release()
        try:
            operation = build(self._kernel, size, self._device, self._decoder)
            for _ in range(max(warmup, 1)):
                self._time(operation)
        except Exception as error:
            if isinstance(error, OutOfMemoryError) or kind_of(error) != "out-of-memory":
                raise
            needed = bytes_needed(self._kernel, size, self._decoder)
            raise OutOfMemoryError(
                f"{self._kernel} of size {size} ({needed} bytes) is out of memory: {first_line(error)}",
                "choose a smaller size or target_ms, or fewer tenants",
            ) from None  # the library's traceback would keep the operands alive
        self.operation, self._size = operation, size
        return operation

    def burst_ms(self, size: int) -> float:
        """Median duration back to back, of 5 to 25 iterations."""
        operation = self.prepare(size)
        first = self._time(operation)
        timings = round(min(max(_TIMING_MS / max(first, 1e-6), _FEWEST_TIMINGS), _MOST_TIMINGS))
        return statistics.median([self._time(operation) for _ in range(timings)])

    def paced_ms(self, size: int, think_ms: float, timings: int) -> float:
        """Median duration of iterations that are ``think_ms`` apart."""
        operation = self.prepare(size)
        results = []
        for _ in range(timings):
            self._sleep(think_ms / 1000)
            results.append(self._time(operation))
        return statistics.median(results)

    def settle(self, size: int, think_ms: float, settling: Settling) -> float:
        """Feeds ``settling`` with iterations ``think_ms`` apart until it is over; their median duration since then."""
        iterate = timed(self._device, self.prepare(size), self._now)
        results: list[float] = []
        over = False
        while not over:
            if think_ms > 0:
                self._sleep(think_ms / 1000)
            self._pulse()
            submit_ns, retire_ns = iterate()
            results.append(self._device.device_ms())
            over = settling.add(submit_ns / NS_PER_S, (retire_ns - submit_ns) / NS_PER_MS)
        return statistics.median(results[settling.course.first :])

    def _time(self, operation: Operation) -> float:
        self._pulse()
        timed(self._device, operation)()
        return self._device.device_ms()


def calibrate(bench: Bench, work: Kernel, think_ms: float) -> tuple[int, float, Settled]:
    """The size to run, its solo duration (ms), and whether it was steady. ``bench`` is left holding that size, warm."""
    pace_ms = min(think_ms, PACE_CAP_MS)
    size = _size(bench, work, pace_ms) if work.size is None else work.size
    bench.prepare(size, work.warmup)
    settling = Settling(work.settle_seconds)
    solo_ms = bench.settle(size, pace_ms, settling)
    return size, solo_ms, settled(settling, work.settle_seconds)


def _size(bench: Bench, work: Kernel, pace_ms: float) -> int:
    kernel = next((sized for sized in SIZED if sized == work.workload), None)
    if work.target_ms is None or kernel is None:
        raise ValueError("no size, and no target_ms that one can be found for")
    bench.prepare(FIRST_SIZE, work.warmup)
    burst_ms = functools.cache(bench.burst_ms)
    size, _ = search(kernel, work.target_ms, burst_ms)
    if pace_ms > 0:
        size, _ = refine(
            kernel, work.target_ms, size, burst_ms, lambda tried: bench.paced_ms(tried, pace_ms, _PACED_TIMINGS)
        )
    return size


def _scaled(kernel: SizedKernel, sizes: Sequence[int], size: int, factor: float) -> int:
    """Index of the candidate whose cost is closest to ``factor`` times that of ``size``."""
    cost = sized_workload(kernel).cost
    wanted = cost(size) * factor
    upper = min(bisect_left(sizes, wanted, key=cost), len(sizes) - 1)
    lower = max(upper - 1, 0)
    return min(lower, upper, key=lambda index: abs(math.log(cost(sizes[index]) / wanted)))


def _miss(ms: float, target_ms: float) -> float:
    return abs(math.log(max(ms, 1e-9) / target_ms))
