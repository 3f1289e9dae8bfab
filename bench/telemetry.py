"""What sampling costs a tenant: the worker's loop with a sampler beside it and without, side by side.

The sampler runs in a process of its own on other cores, as the conductor does, and polls the GPU's sources ten times a
second (NVML, GPM, utilisation per process; with ``--dcgm`` an exporter, too). Blocks with and without it alternate
(A B B A), back to back, so that drift cancels. There is no bar: the cost is printed with its interval, and belongs to
this GPU, driver and load. Without a GPU there is nothing to poll.

    python -m bench telemetry --size 8192
    python -m bench telemetry --dcgm http://localhost:9400/metrics
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.observer import Arm, bare, cost, extra_us, instrumented
from kts.model.plan import KernelName
from kts.telemetry.choice import polled_sources
from kts.telemetry.sampler import PERIOD_NS, Polling, Tenants
from kts.units import NS_PER_S
from kts.worker.detect import choose, cuda_devices
from kts.worker.devices import open_device
from kts.worker.link import Link
from kts.worker.workloads import build

_DRAIN = (
    "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\nwhile s.recv(1 << 20): pass"
)
LEAST_ITERATIONS = 300


def poll(uuid: str, dcgm: str) -> None:
    """The sampler's process: reads ``on`` and ``off`` from stdin, answers each with a line, polls while on."""
    polling = Polling(polled_sources(Tenants(by_pid=lambda: {os.getppid(): "tenant"}), dcgm), uuid)
    for state in polling.open():
        _tell(f"{state.source}: {state.missing or ', '.join(state.metrics)}")
    _tell("ready")
    on, next_ns = False, time.monotonic_ns()
    while True:
        wait_s = max(0.0, (next_ns - time.monotonic_ns()) / NS_PER_S) if on else None
        if select.select([sys.stdin], [], [], wait_s)[0]:
            line = sys.stdin.readline()
            if not line:
                break
            on, next_ns = line.strip() == "on", time.monotonic_ns()
            _tell("ok")
        elif on:
            polling.poll()
            next_ns += PERIOD_NS
    for state in polling.close():
        _tell(f"{state.source}: {state.polls} polls, mean {state.poll_mean_us:.0f} us, most {state.poll_max_us:.0f} us")


def _tell(line: str) -> None:
    print(line, flush=True)


class Poller:
    """The sampler's process, from outside."""

    def __init__(self, uuid: str, dcgm: str, cores: Sequence[int]) -> None:
        command = [sys.executable, "-m", "bench.telemetry", "--poll", uuid, "--dcgm", dcgm]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self._process.pid, set(cores))
        while (line := self._line()) != "ready":
            print(f"  {line}")

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sampler's process ended")
        return line.strip()

    def switch(self, on: bool) -> None:
        """Returns once it polls, or no longer does."""
        assert self._process.stdin is not None
        self._process.stdin.write("on\n" if on else "off\n")
        self._process.stdin.flush()
        self._line()

    def close(self) -> None:
        """Ends it and prints how long its polls took."""
        out, _ = self._process.communicate()
        print("".join(f"  {line}\n" for line in out.splitlines()), end="")


def main(argv: Sequence[str] = ()) -> None:
    """Prints a table of costs, one row per size and figure."""
    parser = argparse.ArgumentParser(prog="python -m bench telemetry")
    parser.add_argument("--kernel", choices=("fft", "gemm"), default="fft")
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--block-seconds", type=float, default=1.0)
    parser.add_argument("--dcgm", default="")
    parser.add_argument("--poll", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.poll:
        poll(options.poll, options.dcgm)
        return
    gpus = cuda_devices()
    if not gpus:
        print("no GPU: nothing is polled, so there is nothing to measure")
        return
    kernel: KernelName = options.kernel
    cores = sorted(os.sched_getaffinity(0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        drain = subprocess.Popen([sys.executable, "-c", _DRAIN, str(listener.getsockname()[1])])
        link = Link(listener.accept()[0])
    os.sched_setaffinity(drain.pid, set(cores[:-1] or cores))
    os.sched_setaffinity(0, {cores[-1]})
    print(f"sampling cost on {gpus[0].name}; positive: worse with the sampler")
    poller = Poller(gpus[0].uuid, options.dcgm, cores[:-1] or cores)
    try:
        device = open_device(*choose("cuda", "auto"))
        for size in options.size or (1024, 8192):
            operation = build(kernel, size, device)
            warm = Arm()
            bare(device, operation, 0.3, warm)
            seconds = max(options.block_seconds, LEAST_ITERATIONS / warm.rates[0])
            without, beside = Arm(), Arm()
            for pair in range(options.pairs):
                for arm in (without, beside) if pair % 2 == 0 else (beside, without):
                    poller.switch(arm is beside)
                    instrumented(device, operation, seconds, arm, link)
            _print_rows(f"{kernel} {size}", without, beside)
        poller.switch(False)
    finally:
        poller.close()
        os.sched_setaffinity(0, cores)
        link.close()
        drain.wait()


def _print_rows(title: str, without: Arm, beside: Arm) -> None:
    print(f"{title}: {sum(map(len, without.latencies))} and {sum(map(len, beside.latencies))} iterations")
    for name, (estimate, low, high) in cost(without, beside).items():
        print(f"  {name:<10} {estimate:+7.2%}  [{low:+.2%}, {high:+.2%}]")
    extra, low, high = extra_us(without, beside)
    print(f"  {'wall time':<10} {extra:+6.1f} us [{low:+.1f}, {high:+.1f}] per iteration")


if __name__ == "__main__":
    main(sys.argv[1:])
