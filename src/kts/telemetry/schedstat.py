"""The kernel's scheduler, as the tenants' heartbeats tell it: tenant-scoped, without a reading of our own.

On the CPU device the wait for a core is what sharing costs; beside a GPU it shows a host thread that is held up.
"""

from __future__ import annotations

from kts.model.telemetry import Sample, SourceState
from kts.telemetry.source import SourceMissingError, samples_at
from kts.wire.messages import Heartbeat

METRICS = ("cpu_run_ratio", "cpu_wait_ratio")


class SchedstatSource:
    """`kts.telemetry.source.Source`, fed by `heartbeat`."""

    name = "schedstat"
    remote = False

    def __init__(self) -> None:
        self._before: dict[str, Heartbeat] = {}
        self._new: list[Sample] = []
        self._silent: set[str] = set()
        self._told: set[str] = set()
        self._closed = False

    def open(self, uuid: str) -> SourceState:
        """See Source. Whether the kernel tells anything shows with the first heartbeats; the device is the same."""
        del uuid
        if self._closed:
            raise SourceMissingError("closed")
        return SourceState(source=self.name, metrics=METRICS)

    def heartbeat(self, tenant: str, beat: Heartbeat) -> None:
        """The share of the time since the tenant's last heartbeat of this block that it ran, and waited for a core."""
        if beat.run_ns is None or beat.wait_ns is None:
            if beat.iterations:
                self._silent.add(tenant)
            self._before.pop(tenant, None)
            return
        self._told.add(tenant)
        before, self._before[tenant] = self._before.get(tenant), beat
        if before is None or before.run_ns is None or before.wait_ns is None:
            return
        span_ns = beat.monotonic_ns - before.monotonic_ns
        ran_ns, waited_ns = beat.run_ns - before.run_ns, beat.wait_ns - before.wait_ns
        if span_ns <= 0 or ran_ns < 0 or waited_ns < 0:
            return
        values = {metric: ns / span_ns for metric, ns in zip(METRICS, (ran_ns, waited_ns), strict=True)}
        self._new += samples_at(
            beat.monotonic_ns, span_ns, source=self.name, scope="tenant", subject=tenant, values=values
        )

    def block_over(self) -> None:
        """The next span begins in the next block: what lies between belongs to none."""
        self._before.clear()

    def sample(self) -> list[Sample]:
        """See Source."""
        new, self._new = self._new, []
        return new

    def state(self) -> SourceState:
        """See Source."""
        silent = ", ".join(sorted(self._silent - self._told))
        if not self._told:
            why = f"the kernel does not tell it of {silent}" if silent else "no tenant told it"
            return SourceState(source=self.name, missing=why)
        return SourceState(source=self.name, metrics=METRICS, note=f"not told by {silent}" if silent else "")

    def close(self) -> None:
        """See Source."""
        self._closed = True
        self._before.clear()
