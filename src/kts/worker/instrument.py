"""What `kts selfcheck` has workers do: ``--timer JSON`` reads clocks, ``--join JSON`` puts delays into iterations.

Nothing here may import numpy: `kts.worker.prepare` must come first.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

from kts.errors import KtsError
from kts.units import NS_PER_MS
from kts.worker.prepare import prepare

if TYPE_CHECKING:
    from kts.worker.devices import Device

PORTIONS, READINGS = 100, 1000
EMPTY = 500
"""Iterations that do nothing: what they take is the instrument's."""
TIMES = 4
"""Operations in a row that are timed against one."""
REPEATS = 25


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """Host time that iterations of ``tenant`` are made to take in the ``blocks`` of these numbers: ``each_ms``, and in
    a share of them, by chance, ``tail_ms`` more."""

    tenant: str
    blocks: tuple[int, ...]
    each_ms: float
    tail_ms: float
    share: float
    seed: int

    def of_block(self, block: int) -> Iterator[int]:
        """Nanoseconds for each iteration of a block, endless."""
        rng = random.Random(f"{self.seed}/{block}")
        while True:
            yield round((self.each_ms + (self.tail_ms if rng.random() < self.share else 0.0)) * NS_PER_MS)


class TimerTask(msgspec.Struct, frozen=True, kw_only=True):
    """Which device to time, with a ``gemm`` that takes ``target_ms``."""

    device: Literal["auto", "cuda", "cpu"]
    target_ms: float


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """``size``, ``solo_ms``: the gemm, as calibrated.

    ``clock_step_ns``, ``clock_cost_ns``: smallest step of the host's clock, and what reading it takes; ``backwards``:
    how often it went back. ``step_ms``: the least by which two readings of the device's ``stopwatch`` differ;
    ``cost_ms``: what starting and stopping it takes the host, median. ``times``: device time of `TIMES` operations in a
    row over that of one, the shortest of each. None: no stopwatch. ``waited``: share of that time in which the thread
    waited for a core; None: not told.
    """

    size: int
    solo_ms: float
    clock_step_ns: int
    clock_cost_ns: float
    backwards: int
    stopwatch: str
    step_ms: float | None
    cost_ms: float
    times: float | None
    waited: float | None = None


def delayed(operation: Callable[[], object], delays_ns: Iterator[int]) -> Callable[[], object]:
    """``operation`` behind its delay: the host is busy with it before anything is handed over. Timed by
    CLOCK_MONOTONIC_RAW, which is not the clock that is checked."""
    clock, raw = time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW

    def late() -> object:
        until_ns = clock(raw) + next(delays_ns)
        while clock(raw) < until_ns:
            pass
        return operation()

    return late


def join_delayed(delays: Delays) -> int:
    """Joins the run as a worker does, and is late where it is told to be."""
    from kts.model.plan import DeviceChoice, Tenant
    from kts.wire.messages import Start
    from kts.worker.loop import LeftOut, Outlet
    from kts.worker.session import join
    from kts.worker.tenants.kernel import KernelTenant

    class Late(KernelTenant):
        """A tenant whose iterations take longer in some blocks."""

        def run(self, start: Start, outlet: Outlet) -> LeftOut:
            punctual = self._operation
            if start.block in delays.blocks and punctual is not None:
                self._operation = delayed(punctual, delays.of_block(start.block))
            try:
                return super().run(start, outlet)
            finally:
                self._operation = punctual

    def made(tenant: Tenant, choice: DeviceChoice) -> KernelTenant:
        return (Late if tenant.name == delays.tenant else KernelTenant)(tenant, choice)

    return join(os.environ, made)


def timers(task: TimerTask) -> Timers:
    """Reads the clocks of this process, and finds the size."""
    from kts.model.plan import Kernel
    from kts.worker.calibrate import Bench, calibrate
    from kts.worker.clocks import scheduled_ns
    from kts.worker.detect import choose_for
    from kts.worker.devices import open_device

    step_ns, cost_ns, backwards = host_clock()
    work = Kernel(workload="gemm", target_ms=task.target_ms, settle_seconds=0.0)
    device = open_device(*choose_for(task.device, work))
    bench = Bench(device, "gemm", lambda: None)
    size, solo_ms, _ = calibrate(bench, work, 0.0)
    operation = bench.operation
    assert operation is not None
    assert size is not None
    empty = [_timed(device, ()) for _ in range(EMPTY)]
    steps = [b - a for a, b in pairwise(sorted({ms for ms, _ in empty if not math.isnan(ms)}))]
    waits_ns, begin_ns = scheduled_ns()[1], time.monotonic_ns()
    one, several = (min(_timed(device, [operation] * n)[0] for _ in range(REPEATS)) for n in (1, TIMES))
    took_ns, waited_ns = time.monotonic_ns() - begin_ns, scheduled_ns()[1]
    return Timers(
        size=size,
        solo_ms=solo_ms,
        clock_step_ns=step_ns,
        clock_cost_ns=cost_ns,
        backwards=backwards,
        stopwatch=device.info().stopwatch,
        step_ms=min(steps, default=None),
        cost_ms=statistics.median(host_ms for _, host_ms in empty),
        times=several / one if one > 0 else None,
        waited=None if waits_ns is None or waited_ns is None else (waited_ns - waits_ns) / took_ns,
    )


def host_clock(now: Callable[[], int] = time.monotonic_ns) -> tuple[int, float, int]:
    """Its smallest step above 0 (ns), what a reading takes (ns) where nobody interrupts, and how often it went back."""
    steps: list[int] = []
    costs = []
    for _ in range(PORTIONS):
        readings = [now() for _ in range(READINGS)]
        steps += (b - a for a, b in pairwise(readings))
        costs.append((readings[-1] - readings[0]) / (READINGS - 1))
    return min((step for step in steps if step > 0), default=0), min(costs), sum(step < 0 for step in steps)


def _timed(device: Device, operations: Sequence[Callable[[], object]]) -> tuple[float, float]:
    """(device time, host time to start and stop the stopwatch) of one iteration, ms."""
    now = time.monotonic_ns
    begin_ns = now()
    device.begin()
    begun_ns = now()
    for operation in operations:
        operation()
    end_ns = now()
    device.end()
    ended_ns = now()
    device.wait()
    return device.device_ms(), (begun_ns - begin_ns + ended_ns - end_ns) / NS_PER_MS


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    what, text = argv
    try:
        prepare(os.environ)
        if what == "--join":
            return join_delayed(msgspec.json.decode(text, type=Delays))
        told = timers(msgspec.json.decode(text, type=TimerTask))
        print(msgspec.json.encode(told).decode(), flush=True)
    except KtsError as error:
        print(f"error: {error.what}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
