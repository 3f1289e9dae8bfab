"""A trace as torch's profiler exports it (Chrome trace events), and a device whose tracer makes one up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kts.worker.devices.cpu import Cpu
from kts.worker.traced import MARK, Event

_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation")

# Two eager iterations of three launches each, then one that replays a graph of three kernels and copies a token back.
# Times in us; categories and fields as in an export. The operator's id 901 is also a call's correlation.
EXPORTED: list[dict[str, Any]] = [
    {"cat": "user_annotation", "name": MARK, "ts": 1000.0, "dur": 300.0, "args": {"External id": 1}},
    {"cat": "gpu_user_annotation", "name": MARK, "ts": 1032.0, "dur": 130.0, "args": {"External id": 1}},
    {"cat": "cpu_op", "name": "aten::mm", "ts": 1010.0, "dur": 30.0, "args": {"External id": 901}},
    {"cat": "cuda_runtime", "name": "cudaEventRecord", "ts": 1005.0, "dur": 2.0, "args": {"correlation": 899}},
    {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 1020.0, "dur": 8.0, "args": {"correlation": 900}},
    {"cat": "kernel", "name": "gemv2T_kernel_val", "ts": 1032.0, "dur": 10.0, "args": {"correlation": 900}},
    {"cat": "cuda_runtime", "name": "cudaMemsetAsync", "ts": 1060.0, "dur": 4.0, "args": {"correlation": 901}},
    {"cat": "gpu_memset", "name": "Memset (Device)", "ts": 1068.0, "dur": 50.0, "args": {"correlation": 901}},
    {"cat": "cuda_driver", "name": "cuLaunchKernelEx", "ts": 1070.0, "dur": 5.0, "args": {"correlation": 902}},
    {"cat": "kernel", "name": "nvjet_sm90", "ts": 1119.0, "dur": 40.0, "args": {"correlation": 902}},
    {"cat": "cuda_runtime", "name": "cudaEventSynchronize", "ts": 1100.0, "dur": 190.0, "args": {"correlation": 903}},
    {"cat": "user_annotation", "name": MARK, "ts": 2000.0, "dur": 200.0, "args": {"External id": 2}},
    {"cat": "cuda_runtime", "name": "cudaLaunchKernelExC", "ts": 2010.0, "dur": 6.0, "args": {"correlation": 910}},
    {"cat": "kernel", "name": "k1", "ts": 2020.0, "dur": 5.0, "args": {"correlation": 910}},
    {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 2030.0, "dur": 6.0, "args": {"correlation": 911}},
    {"cat": "kernel", "name": "k2", "ts": 2040.0, "dur": 5.0, "args": {"correlation": 911}},
    {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 2050.0, "dur": 6.0, "args": {"correlation": 912}},
    {"cat": "kernel", "name": "k3", "ts": 2060.0, "dur": 5.0, "args": {"correlation": 912}},
    {"cat": "user_annotation", "name": MARK, "ts": 3000.0, "dur": 200.0, "args": {"External id": 3}},
    {"cat": "cuda_runtime", "name": "cudaGraphLaunch", "ts": 3010.0, "dur": 20.0, "args": {"correlation": 920}},
    {"cat": "kernel", "name": "g1", "ts": 3034.0, "dur": 30.0, "args": {"correlation": 920, "graph node id": 1}},
    {"cat": "kernel", "name": "g2", "ts": 3066.0, "dur": 20.0, "args": {"correlation": 920, "graph node id": 2}},
    {"cat": "kernel", "name": "g3", "ts": 3088.0, "dur": 12.0, "args": {"correlation": 920, "graph node id": 3}},
    {"cat": "cuda_runtime", "name": "cudaMemcpyAsync", "ts": 3040.0, "dur": 5.0, "args": {"correlation": 921}},
    {
        "cat": "gpu_memcpy",
        "name": "Memcpy DtoH (Device -> Pinned)",
        "ts": 3101.0,
        "dur": 2.0,
        "args": {"correlation": 921},
    },
    {"cat": "overhead", "name": "Activity Buffer Request", "ts": 990.0, "dur": 5.0, "args": {}},
]
ISSUE_NS = [75_000, 56_000, 45_000]
"""Of `EXPORTED`, as if each iteration had begun with its mark: from there to the end of its last call."""


def events(exported: list[dict[str, Any]]) -> list[Event]:
    """As Kineto hands them out in memory: the same fields, in nanoseconds, operators' ids in the same place."""
    found = []
    for event in exported:
        begin, end = (round(1000 * us) for us in (event["ts"], event["ts"] + event["dur"]))
        ids = event["args"]
        correlation = ids.get("correlation", ids.get("External id", 0))
        found.append(Event(event["name"], event["cat"] in _ON_DEVICE, begin, end, correlation))
    return found


Step = tuple[str, float] | tuple[str, float, str, float, float]


def iterations(n: int, *steps: Step) -> list[Event]:
    """``n`` marked iterations of 300 us, one per ms. A step (us from its mark): a call and when it returned, and where
    it did something on the GPU, what, from when and for how long."""
    found = []
    for k in range(n):
        mark_ns = 1_000_000 * (k + 1)
        found.append(Event(MARK, False, mark_ns, mark_ns + 300_000, k))
        for number, (call, returned, *work) in enumerate(steps):
            correlation = 100 * (k + 1) + number
            end = mark_ns + round(1000 * returned)
            found.append(Event(call, False, end - 2000, end, correlation))
            if work:
                what, start, duration = work
                begin = mark_ns + round(1000 * start)
                found.append(Event(what, True, begin, begin + round(1000 * duration), correlation))
    return found


class FakeTracer:
    """Slows every iteration, and notes two launches in each, the second of which is lost where ``loses``."""

    name = "fake tracer"

    def __init__(self, *, loses: bool = False) -> None:
        self._spans: list[tuple[int, int]] = []
        self._loses = loses

    def __enter__(self) -> FakeTracer:
        self._spans.clear()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def mark(self) -> Iterator[None]:
        begin = time.monotonic_ns()
        yield
        self._spans.append((begin, time.monotonic_ns()))

    def events(self) -> list[Event]:
        found = []
        for k, (begin, end) in enumerate(self._spans):
            found.append(Event(MARK, False, begin, end, k))
            for part, at in enumerate((begin + (end - begin) // 10, begin + (end - begin) // 2)):
                correlation = 10 * k + part
                if not (part and self._loses):
                    found.append(Event("cudaLaunchKernel", False, at, at + 10, correlation))
                found.append(Event("kernel", True, at + 20, at + (end - begin) // 5, correlation))
        return found


class TracedCpu(Cpu):
    """The CPU device with a tracer."""

    def __init__(self, *, loses: bool = False) -> None:
        super().__init__()
        self._loses = loses

    def tracer(self) -> FakeTracer:  # type: ignore[override]
        return FakeTracer(loses=self._loses)
