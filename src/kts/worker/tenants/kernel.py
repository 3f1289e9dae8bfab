"""A tenant that computes: every workload but the user's own program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kts.arrivals import Arrivals, pause_ms
from kts.model.plan import DeviceChoice, Kernel, Tenant
from kts.model.run import DeviceInfo
from kts.wire.messages import Ready, Start
from kts.worker.calibrate import Bench, calibrate
from kts.worker.clocks import CpuTimes, exact_sleeps
from kts.worker.detect import StreamWish, choose_for
from kts.worker.devices import Device, open_device
from kts.worker.host import Container
from kts.worker.iteration import Watch, timed
from kts.worker.loop import BlockRun, LeftOut, Outlet
from kts.worker.workloads import Operation


class KernelTenant:
    """Implements `kts.worker.tenants.Runner`. ``device`` may be given open; otherwise `open` opens one.

    ``wish``: see `open_device`.
    """

    container: Container | None = None

    def __init__(
        self, tenant: Tenant, choice: DeviceChoice, device: Device | None = None, wish: StreamWish | None = None
    ) -> None:
        assert isinstance(tenant.work, Kernel)
        self._work = tenant.work
        self._tenant = tenant
        self._choice = choice
        self._device = device
        self._wish = wish
        self._operation: Operation | None = None

    def open(self) -> DeviceInfo:
        """Opens the device. SetupError if that cannot be."""
        exact_sleeps()
        if self._device is None:
            self._device = open_device(*choose_for(self._choice, self._work), self._wish)
        return self._device.info()

    def calibrate(self, pulse: Callable[[], None], size: int | None = None) -> Ready:
        """Warms up, settles the size, and runs until it is steady or ``settle_seconds`` are over."""
        work = self._work.sized(size)
        assert self._device is not None
        bench = Bench(self._device, self._work.workload, pulse, decoder=self._work.decoder)
        think_ms = pause_ms(self._tenant.arrivals, self._work.target_ms or 0.0)
        size, solo_ms, settled = calibrate(bench, work, think_ms)
        self._operation = bench.operation
        return Ready(size=size, solo_ms=solo_ms, settled=settled)

    @property
    def device(self) -> Device:
        """Only after `open`."""
        assert self._device is not None
        return self._device

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        """Runs one block; nothing is left out."""
        with contextlib.closing(CpuTimes()) as cpu:
            self.run_watched(start, outlet, cpu=cpu if start.telemetry else None)
        return LeftOut()

    def run_watched(
        self,
        start: Start,
        outlet: Outlet,
        watch: Watch | None = None,
        arrivals: Arrivals | None = None,
        cpu: CpuTimes | None = None,
    ) -> None:
        """The same, watched if asked to, and at another pacing if one is given."""
        assert self._operation is not None
        BlockRun(
            iterate=timed(self.device, self._operation, watch=watch),
            device_ms=self.device.device_ms,
            arrivals=arrivals or self._tenant.arrivals,
            quota=start.quota,
            start_ns=start.start_ns,
            first_ns=start.first_ns,
            seed=start.seed,
            outlet=outlet,
            cpu=cpu,
        ).run()

    def queue_ms(self, iterations: int) -> float:
        """Device time of that many, handed over at once."""
        operation = self._operation
        assert operation is not None

        def queued() -> None:
            for _ in range(iterations):
                operation()

        timed(self.device, queued)()
        return self.device.device_ms()

    def close(self) -> None:
        """Nothing outlives the process."""


make = KernelTenant
