"""A fake clock, a fake device that lives on it, and an outlet that remembers, for tests of the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kts.arrivals import Arrivals, Closed
from kts.model.plan import Quota
from kts.model.records import RECORD, Records
from kts.model.run import DeviceInfo
from kts.worker.iteration import timed
from kts.worker.loop import BlockRun

MS = 1_000_000
BACK_TO_BACK = Closed()


class FakeClock:
    """Moves only when it is read (``step_ns``), slept on or pushed."""

    def __init__(self, step_ns: int = 100) -> None:
        self.ns = 10**12
        self.step_ns = step_ns
        self.longest_sleep_s = 0.0

    def __call__(self) -> int:
        self.ns += self.step_ns
        return self.ns

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.longest_sleep_s = max(self.longest_sleep_s, seconds)
        self.ns += round(seconds * 1e9)

    def push_ms(self, ms: float) -> None:
        self.ns += round(ms * MS)


class FakeDevice:
    """``wait`` takes as long as ``service_ms(k)`` says for the k-th wait; the stopwatch shows half of it."""

    xp: Any = np
    stream = None

    def __init__(self, clock: FakeClock, service_ms: Callable[[int], float], free_bytes: int = 2**40) -> None:
        self._clock = clock
        self._service_ms = service_ms
        self._free_bytes = free_bytes
        self._last_ms = 0.0
        self.waits = 0
        self.calls: list[str] = []

    def info(self) -> DeviceInfo:
        return DeviceInfo(kind="other", uuid="fake", name="fake", label="a fake, not a GPU", library="numpy")

    def begin(self) -> None:
        self.calls.append("begin")

    def end(self) -> None:
        self.calls.append("end")

    def wait(self) -> None:
        self.calls.append("wait")
        self._last_ms = self._service_ms(self.waits)
        self.waits += 1
        self._clock.push_ms(self._last_ms)

    def device_ms(self) -> float:
        self.calls.append("device_ms")
        return self._last_ms / 2

    def place(self, host_array: Any) -> Any:
        return np.array(host_array)

    def landing(self, array: Any) -> tuple[Any, Callable[[], object]]:
        host = np.empty_like(array)
        return host, lambda: np.copyto(host, array)

    def capture(self, operation: Callable[[], object]) -> Callable[[], object]:
        return operation

    def free_bytes(self) -> int:
        return self._free_bytes

    def held_bytes(self) -> int | None:
        return 4096

    def tracer(self) -> None:
        return None

    def release(self) -> None:
        pass


class MemoryOutlet:
    """Remembers everything; ``stop_when(self)`` decides when the conductor wants the block to end."""

    def __init__(self, stop_when: Callable[[MemoryOutlet], bool] = lambda _: False) -> None:
        self.chunks: list[Records] = []
        self.heartbeats: list[tuple[int, int]] = []
        self.quotas = 0
        self.closed_ns = 0
        self.listened = 0
        self._stop_when = stop_when

    def records(self, records: Records) -> None:
        self.chunks.append(records.copy())

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        self.heartbeats.append((now_ns, iterations))

    def quota_reached(self, at_ns: int) -> None:
        self.quotas += 1
        self.closed_ns = at_ns

    def stopped(self) -> bool:
        self.listened += 1
        return self._stop_when(self)

    @property
    def all(self) -> Records:
        return np.concatenate([np.empty(0, RECORD), *self.chunks])


def make_block(
    clock: FakeClock,
    outlet: MemoryOutlet,
    *,
    quota: Quota,
    service_ms: Callable[[int], float] = lambda _: 1.0,
    arrivals: Arrivals = BACK_TO_BACK,
    start_in_ms: float = 5.0,
    operation: Callable[[], object] = lambda: None,
    seed: int = 1,
    first_in_ms: float | None = None,
) -> BlockRun:
    device = FakeDevice(clock, service_ms)
    return BlockRun(
        iterate=timed(device, operation, clock),
        device_ms=device.device_ms,
        arrivals=arrivals,
        quota=quota,
        start_ns=clock.ns + round(start_in_ms * MS),
        first_ns=None if first_in_ms is None else clock.ns + round(first_in_ms * MS),
        seed=seed,
        outlet=outlet,
        now=clock,
        sleep=clock.sleep,
    )
