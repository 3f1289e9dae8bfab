"""What the host did with each tenant's processes, as its worker tells it with its heartbeats: tenant-scoped.

The workers look, since nobody else sees the processes of a pod. How much of the tenant's cores went to others is what
`kts.telemetry.cores` saw of them in the same time, less the tenant's own.
"""

from __future__ import annotations

from collections.abc import Callable

from kts.model.telemetry import Sample, SourceState
from kts.telemetry.source import SourceMissingError, by_tenant, samples_at
from kts.units import NS_PER_MS, NS_PER_S
from kts.wire.messages import Heartbeat, HostCounters

RUNNING, OTHERS = "running_threads", "others_cores"
METRICS = (
    RUNNING,
    "waiting_threads",
    "blocked_threads",
    "throttled_cores",
    "cgroup_cpu_pressure_ratio",
    "cgroup_io_pressure_ratio",
    "cgroup_memory_pressure_ratio",
    "read_bytes_per_s",
    "written_bytes_per_s",
    "core_loop_us",
    OTHERS,
)
LEAST_OTHERS_NS = 200 * NS_PER_MS
"""The kernel tells of a core in steps of 10 ms: a share of less time would be of one step or none."""

MOST_AWAITED = 32
"""Spans of which it is not known yet what the cores did; of older ones it never will be."""

BusyCores = Callable[[str, int, int], float | None]
"""(tenant, begin, end): the mean number of the tenant's cores that ran something in that time; None if not known."""


def _nobody_knows(tenant: str, begin_ns: int, end_ns: int) -> float | None:
    del tenant, begin_ns, end_ns
    return None


class HostSource:
    """`kts.telemetry.source.Source`, fed by `heartbeat`."""

    name = "host"
    remote = False

    def __init__(self, busy_cores: BusyCores = _nobody_knows) -> None:
        self._busy_cores = busy_cores
        self._before: dict[str, HostCounters] = {}
        self._others_since: dict[str, HostCounters] = {}
        self._awaited: list[tuple[str, HostCounters, HostCounters]] = []
        self._new: list[Sample] = []
        self._metrics: set[str] = set()
        self._untold: dict[str, set[str]] = {}  # why: of which tenants
        self._tenants: set[str] = set()
        self._closed = False

    def open(self, uuid: str) -> SourceState:
        """See Source. What there is shows with the heartbeats; the device is the same."""
        del uuid
        if self._closed:
            raise SourceMissingError("closed")
        return SourceState(source=self.name, metrics=METRICS)

    def heartbeat(self, tenant: str, beat: Heartbeat) -> None:
        """What happened since the tenant's last reading of this block, and what is so now."""
        if (host := beat.host) is None:
            return
        self._tenants.add(tenant)
        for why in host.untold.values():
            self._untold.setdefault(why, set()).add(tenant)
        before, self._before[tenant] = self._before.get(tenant), host
        self._add(tenant, host.monotonic_ns, 0, host.moments)
        if before is None or host.monotonic_ns <= before.monotonic_ns:
            self._others_since[tenant] = host
            return
        span_ns = host.monotonic_ns - before.monotonic_ns
        values = {
            metric: grown / span_ns * (NS_PER_S if metric.endswith("_per_s") else 1)
            for metric, counter in host.counters.items()
            if metric in before.counters and (grown := counter - before.counters[metric]) >= 0
        }
        self._add(tenant, host.monotonic_ns, span_ns, values)
        since = self._others_since[tenant]
        if host.monotonic_ns - since.monotonic_ns >= LEAST_OTHERS_NS:
            self._awaited.append((tenant, since, host))
            self._others_since[tenant] = host

    def block_over(self) -> None:
        """The next span begins in the next block: what lies between belongs to none."""
        self._before.clear()
        self._others_since.clear()

    def sample(self) -> list[Sample]:
        """See Source."""
        awaited, self._awaited = self._awaited[-MOST_AWAITED:], []
        for tenant, since, host in awaited:
            self._add_others(tenant, since, host)
        new, self._new = self._new, []
        return new

    def state(self) -> SourceState:
        """See Source."""
        if not self._metrics:
            return SourceState(source=self.name, missing=self._words() or "no tenant told it")
        metrics = tuple(metric for metric in METRICS if metric in self._metrics)
        return SourceState(source=self.name, metrics=metrics, note=self._words())

    def close(self) -> None:
        """See Source."""
        self._closed = True
        self.block_over()

    def _add_others(self, tenant: str, since: HostCounters, host: HostCounters) -> None:
        """Once it is known what the cores did until then."""
        if RUNNING not in since.counters.keys() & host.counters.keys():
            return
        span_ns = host.monotonic_ns - since.monotonic_ns
        busy = self._busy_cores(tenant, since.monotonic_ns, host.monotonic_ns)
        if busy is None:
            self._awaited.append((tenant, since, host))
            return
        own = (host.counters[RUNNING] - since.counters[RUNNING]) / span_ns
        self._add(tenant, host.monotonic_ns, span_ns, {OTHERS: max(0.0, busy - own)})

    def _add(self, tenant: str, t_ns: int, span_ns: int, values: dict[str, float]) -> None:
        told = {metric: value for metric, value in values.items() if metric in METRICS}
        new = samples_at(t_ns, span_ns, source=self.name, scope="tenant", subject=tenant, values=told)
        self._metrics |= {sample.metric for sample in new}
        self._new += new

    def _words(self) -> str:
        return by_tenant(self._untold, self._tenants)
