"""A stretch of a tenant alone: how long it lasts, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from kts.errors import SetupError
from kts.model.plan import Quota, Tenant
from kts.model.records import RECORD, Records
from kts.units import NS_PER_MS, ms_to_ns, s_to_ns
from kts.wire.messages import Start
from kts.worker.devices.cuda import SmClock

MOST = 20_000
"""Iterations without a tracer: enough for a p99.9 with an interval."""
MOST_TRACED = 400
"""Iterations with one: their launches are what makes a profile large."""
_LEAD_NS = 20 * NS_PER_MS


class KeepingOutlet:
    """A `kts.worker.loop.Outlet` that keeps everything and ends ``seconds`` after the first heartbeat, which comes when
    the block begins. Reads the clock at heartbeats."""

    def __init__(
        self, seconds: float, clock: SmClock | None = None, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.kept: list[Records] = []
        self.clocks_mhz: list[float] = []
        self._clock = clock
        self._now = now
        self._seconds = seconds
        self._end_ns: int | None = None

    def records(self, records: Records) -> None:
        """Keeps a copy of what all records have."""
        self.kept.append(np.array(records[list(RECORD.names or ())], RECORD))

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        """Notes the beginning; reads the clock once iterations are on their way."""
        if self._end_ns is None:
            self._end_ns = now_ns + s_to_ns(self._seconds)
        mhz = self._clock.mhz() if self._clock is not None and iterations else None
        if mhz is not None:
            self.clocks_mhz.append(mhz)

    def quota_reached(self, at_ns: int) -> None:
        """Nobody waits for it."""

    def stopped(self) -> bool:
        """True once the time is over."""
        return self._end_ns is not None and self._now() >= self._end_ns

    @property
    def rows(self) -> Records:
        """All records."""
        return np.concatenate([np.empty(0, RECORD), *self.kept])


class Stretches:
    """The stretches of one tenant, ``seconds`` each."""

    def __init__(self, tenant: Tenant, seconds: float) -> None:
        self.tenant = tenant
        self.seconds = seconds

    def start(self, most: int, number: int) -> Start:
        """Of the stretch of that number, which begins once its tenant has run in; with at most so many iterations."""
        go_ns = time.monotonic_ns() + _LEAD_NS
        start_ns = go_ns + ms_to_ns(self.tenant.work.run_in_ms)
        return Start(
            block=number,
            start_ns=start_ns,
            first_ns=start_ns,
            go_ns=go_ns,
            quota=Quota(iterations=most, linger=False),
            seed=(self.tenant.seed + number) % 2**63,
            telemetry=False,
        )

    def whole(self, outlet: KeepingOutlet) -> Records:
        """What it has kept. SetupError without an iteration."""
        if not len(outlet.rows):
            raise SetupError(
                f"tenant {self.tenant.name} ended no iteration in the time given", "allow more time (--seconds)"
            )
        return outlet.rows
