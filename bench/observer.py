"""What measuring costs: the worker's loop against a bare loop over the same operation, side by side in one process.

The bare loop submits, waits, and reads the clock at both ends, which p99 cannot do without. The worker's loop also
runs the device's stopwatch, reads the thread's CPU times before and after, makes records and sends them over a loopback
socket to another process. Blocks of both
alternate (A B B A), back to back, so that drift cancels. The bar: at most 1 % of throughput and of p99.

The cost is per iteration and hardly depends on its length, so it is measured by itself first, with an operation that
does nothing: on the CPU it is mostly two readings of the thread's CPU time. Shorter iterations than a hundred times it
lie over the bar (``--size 128`` shows it). Other load on the machine widens the intervals; "undecided" means that the
bar lies within one. Real work on a shared machine varies by more than the cost; ``--spin-ms`` takes an operation that
only waits for the clock instead, whose p99 hardly varies by itself.

    python -m bench observer --device cuda --size 2048
    python -m bench observer --spin-ms 0.7 --spin-ms 3.6
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.arrivals import Closed
from kts.model.plan import KernelName, Quota
from kts.model.records import Records, clock_ms
from kts.units import NS_PER_MS, NS_PER_S, ms_to_ns
from kts.worker.clocks import CpuTimes
from kts.worker.detect import choose
from kts.worker.devices import Device, open_device
from kts.worker.host import HostReader
from kts.worker.iteration import timed
from kts.worker.link import BlockOutlet, Link
from kts.worker.loop import HEARTBEAT_NS, SPIN_NS, BlockRun, exempt_from_collection, no_garbage_collection
from kts.worker.workloads import Operation, build

BAR = 0.01
LEAST_ITERATIONS = 200
"""In a block: the first one after the pause before it is slow in both loops, and must stay out of p99."""
RESAMPLES = 2000
EMPTY_SECONDS = 0.04
_CPU_SIZES = (256, 512)  # about 0.7 and 4 ms
_CUDA_SIZES = (1024, 8192)
_LEAD_NS = 100 * NS_PER_MS  # as a run has it
_DRAIN = (
    "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\nwhile s.recv(1 << 20): pass"
)


Interval = tuple[float, float, float]
"""Estimate, and the ends of its 95 % interval."""

Block = Callable[["Arm"], None]
"""Runs one block, and adds it to an arm."""

_latencies = np.zeros(1_000_000)  # made once: an array made per block would move the operation's own buffers


class Arm(msgspec.Struct):
    """Latencies (ms) and rate (iterations/s) of each block of one loop."""

    latencies: list[NDArray[np.float64]] = []
    rates: list[float] = []

    def add(self, latencies_ms: NDArray[np.float64], wall_ns: int) -> None:
        """One more block."""
        self.latencies.append(latencies_ms)
        self.rates.append(len(latencies_ms) / (wall_ns / NS_PER_S))


class _KeepingOutlet(BlockOutlet):
    """Sends as the worker does, and keeps a copy for p99."""

    def __init__(self, link: Link, block: int) -> None:
        super().__init__(link, block)
        self.kept: list[Records] = []

    def records(self, records: Records) -> None:
        super().records(records)
        self.kept.append(records.copy())


def _nothing() -> None:
    pass


def bare(device: Device, operation: Operation, seconds: float, arm: Arm) -> None:
    """One block of the bare loop."""
    latencies = _latencies
    now = time.monotonic_ns
    on_gpu = device.info().kind != "cpu"
    end, wait = (device.end, device.wait) if on_gpu else (_nothing, _nothing)
    count = 0
    with no_garbage_collection():
        start_ns = now() + _LEAD_NS
        time.sleep((_LEAD_NS - SPIN_NS) / NS_PER_S)  # as the worker does: a pause changes what the scheduler owes us
        while now() < start_ns:
            pass
        first_ns = last_ns = now()
        end_ns = first_ns + round(seconds * NS_PER_S)
        while last_ns < end_ns:
            submit_ns = now()
            operation()
            end()  # what wait() waits for
            wait()
            last_ns = now()
            latencies[count] = last_ns - submit_ns
            count += 1
    arm.add(latencies[:count] / NS_PER_MS, last_ns - first_ns)


def instrumented(
    device: Device, operation: Operation, seconds: float, arm: Arm, link: Link, *, cpu: CpuTimes | None = None
) -> None:
    """One block of the worker's loop, with the thread's CPU times or without."""
    outlet = _KeepingOutlet(link, len(arm.rates))
    start_ns = time.monotonic_ns() + _LEAD_NS
    BlockRun(
        iterate=timed(device, operation),
        device_ms=device.device_ms,
        arrivals=Closed(),
        quota=Quota(seconds=seconds, linger=False),
        start_ns=start_ns,
        seed=0,
        outlet=outlet,
        cpu=cpu,
    ).run()
    records = np.concatenate(outlet.kept)
    arm.add(clock_ms(records, "service"), int(records["retire_ns"][-1] - records["submit_ns"][0]))


def compare(device: Device, operation: Operation, pairs: int, seconds: float, link: Link) -> tuple[Arm, Arm]:
    """Both loops, ``pairs`` blocks each, alternating."""
    with contextlib.closing(CpuTimes()) as cpu:
        return _alternating(
            pairs,
            lambda arm: bare(device, operation, seconds, arm),
            lambda arm: instrumented(device, operation, seconds, arm, link, cpu=cpu),
        )


def cpu_times(device: Device, pairs: int, seconds: float, link: Link) -> tuple[Arm, Arm]:
    """The worker's loop without the thread's CPU times, and with it, around nothing."""
    with contextlib.closing(CpuTimes()) as cpu:
        return _alternating(
            pairs,
            lambda arm: instrumented(device, _nothing, seconds, arm, link),
            lambda arm: instrumented(device, _nothing, seconds, arm, link, cpu=cpu),
        )


def _alternating(pairs: int, first: Block, second: Block) -> tuple[Arm, Arm]:
    arms = Arm(), Arm()
    first(Arm())  # warm
    for pair in range(pairs):
        for block, arm in ((first, arms[0]), (second, arms[1]))[:: 1 if pair % 2 == 0 else -1]:
            block(arm)
    return arms


def cost(plain: Arm, observed: Arm) -> dict[str, Interval]:
    """Per figure the relative cost of observing; positive: worse."""
    return {
        "throughput": over_pairs(1 - np.array(observed.rates) / np.array(plain.rates)),
        "p50": over_pairs(_per_block(observed, 0.5) / _per_block(plain, 0.5) - 1),
        "p99": over_pairs(_per_block(observed, 0.99) / _per_block(plain, 0.99) - 1),
    }


def extra_us(plain: Arm, observed: Arm) -> Interval:
    """What observing adds to one iteration, in microseconds of wall time."""
    return over_pairs(1e6 / np.array(observed.rates) - 1e6 / np.array(plain.rates))


def over_pairs(costs: NDArray[np.float64]) -> Interval:
    """The median over pairs, whose two blocks are neighbours in time, and its interval from resampled pairs."""
    chosen = np.random.default_rng(0).integers(0, len(costs), (RESAMPLES, len(costs)))
    low, high = np.quantile(np.median(costs[chosen], axis=1), [0.025, 0.975])
    return float(np.median(costs)), float(low), float(high)


def _per_block(arm: Arm, level: float) -> NDArray[np.float64]:
    return np.array([np.quantile(latencies, level) for latencies in arm.latencies])


def main(argv: Sequence[str] = ()) -> None:
    """Prints a table of costs, one row per size and figure."""
    parser = argparse.ArgumentParser(prog="python -m bench observer")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--kernel", choices=("fft", "gemm"), default="fft")
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--spin-ms", type=float, action="append", help="wait for the clock instead of working")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--block-seconds", type=float, default=0.12, help="longer where an iteration takes long")
    options = parser.parse_args(argv)
    kernel: KernelName = options.kernel
    cores = sorted(os.sched_getaffinity(0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        drain = subprocess.Popen([sys.executable, "-c", _DRAIN, str(listener.getsockname()[1])])
        link = Link(listener.accept()[0])
    os.sched_setaffinity(drain.pid, set(cores[:-1] or cores))
    os.sched_setaffinity(0, {cores[-1]})
    try:
        device = open_device(*choose(options.device, "auto"))
        usual = _CUDA_SIZES if device.info().kind == "cuda" else _CPU_SIZES
        sizes = options.size or (() if options.spin_ms else usual)
        operations = [(f"{kernel} {size}", partial(build, kernel, size, device)) for size in sizes]
        operations += [(f"spin {ms:g} ms", partial(spin, ms)) for ms in options.spin_ms or ()]
        print(f"observer cost on {device.info().label}; positive: the worker's loop is worse; bar {BAR:.0%}")
        exempt_from_collection()
        arms = compare(device, _nothing, options.pairs, EMPTY_SECONDS, link)
        fixed, low, high = extra_us(*arms)
        share = f"{BAR:.0%} of {fixed / 1e3 / BAR:.2f} ms"
        print(f"empty operation: {fixed:+.1f} us [{low:+.1f}, {high:+.1f}] per iteration, {share}")
        print(f"a heartbeat's look at its host: {look_us():.0f} us, once in {HEARTBEAT_NS / NS_PER_MS:.0f} ms")
        more, low, high = extra_us(*cpu_times(device, options.pairs, EMPTY_SECONDS, link))
        print(f"of that, the thread's CPU times: {more:+.1f} us [{low:+.1f}, {high:+.1f}] per iteration")
        for title, make in operations:
            operation = make()
            exempt_from_collection()
            seconds = max(options.block_seconds, LEAST_ITERATIONS * _iteration_s(device, operation))
            arms = compare(device, operation, options.pairs, seconds, link)
            _print_rows(title, *arms)
    finally:
        os.sched_setaffinity(0, cores)
        link.close()
        drain.wait()


def look_us(looks: int = 200) -> float:
    """How long the worker looks at what the host does with it, between two iterations: the median, microseconds."""
    with contextlib.closing(HostReader(own=True)) as host:
        times_ns = [time.monotonic_ns()]
        for _ in range(looks):
            host.read()
            times_ns.append(time.monotonic_ns())
    return float(np.median(np.diff(times_ns))) / 1e3


def spin(ms: float) -> Operation:
    """An operation that takes ``ms`` by the clock and touches next to no memory."""
    length_ns, now = ms_to_ns(ms), time.monotonic_ns

    def operation() -> None:
        end_ns = now() + length_ns
        while now() < end_ns:
            pass

    return operation


def _iteration_s(device: Device, operation: Operation) -> float:
    arm = Arm()
    bare(device, operation, 0.05, arm)
    return float(np.median(arm.latencies[0])) / 1e3


def _print_rows(title: str, plain: Arm, observed: Arm) -> None:
    pooled = np.concatenate(plain.latencies)
    print(f"{title}: p50 {np.median(pooled):.3f} ms, {len(pooled)} and {sum(map(len, observed.latencies))} iterations")
    for name, (estimate, low, high) in cost(plain, observed).items():
        verdict = "ok" if high <= BAR else "over" if low > BAR else "undecided"
        print(f"  {name:<10} {estimate:+7.2%}  [{low:+.2%}, {high:+.2%}]  {verdict}")
    extra, low, high = extra_us(plain, observed)
    print(f"  {'wall time':<10} {extra:+6.1f} us [{low:+.1f}, {high:+.1f}] per iteration")


if __name__ == "__main__":
    main(sys.argv[1:])
