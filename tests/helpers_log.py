"""Framed logs as a worker prints them."""

from __future__ import annotations

import io

from kts.model.run import ClockPair, DeviceInfo
from kts.wire.appline import AppLine
from kts.wire.logframe import Meta
from kts.worker.applog import AppLog
from tests.helpers_worker import MS, FakeClock

T0 = 1_700_000_000_000_000_000
META = Meta(
    kts="0.1.0",
    app="FFT",
    workload="fft",
    size=64,
    device=DeviceInfo(kind="cpu", uuid="cpu:node:1", name="CPU", label="CPU core 1, not a GPU", library="numpy"),
    clock=ClockPair(realtime_ns=T0, monotonic_ns=5_000_000_000, error_ns=100),
    pid=7,
    hostname="pod",
    gpus=("GPU-1",),
)


def framed_log(n: int, echo_s: float = 0.05, period_ms: float = 10.0, meta: Meta | None = META) -> list[str]:
    """The lines of a worker that runs ``n`` iterations, one per ``period_ms``."""
    clock, out = FakeClock(step_ns=0), io.StringIO()
    log = AppLog("FFT", out, framed=True, echo_s=echo_s, now=clock)
    if meta is not None:
        log.begin(meta)
    for i in range(n):
        start_ns = T0 + round(i * period_ms * MS)
        line = AppLine(app="FFT", i=i, start_ns=start_ns, end_ns=start_ns + MS, device_ms=0.5 + i / 1000, phase="solo")
        log.iterations([line])
        clock.push_ms(period_ms)
    log.end(clock.sleep)
    return out.getvalue().splitlines(keepends=True)
