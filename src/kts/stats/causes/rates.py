"""What went on at the time of an iteration, by samples: of the tenant's own processes, its cores, its GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kts.model.run import RunInfo
from kts.model.telemetry import SampleSeries
from kts.stats.activity import Cover
from kts.stats.causes.company import Floats
from kts.stats.overlap import Ints

SAMPLED = {
    "running": ("running_threads",),
    "waiting": ("waiting_threads",),
    "throttled": ("throttled_cores",),
    "blocked": ("blocked_threads",),
    "io_pressure": ("cgroup_io_pressure_ratio",),
    "machine_io": ("machine_io_pressure_ratio",),
    "others": ("others_cores",),
    "sibling": ("sibling_busy_cores",),
    "core_clock": ("core_clock_mhz",),
    "core_loop": ("core_loop_us",),
    "sm_clock": ("sm_clock_mhz",),
    "limited": ("limited_power_ratio",),
    "heated": ("limited_thermal_ratio",),
    "hw_heated": ("limited_hw_thermal_ratio",),
    "braked": ("limited_power_brake_ratio",),
    "dram": ("dram_active_ratio",),
    "others_sm": ("others_sm_ratio",),
}
"""Name -> metrics, the best first."""

RATES = (*SAMPLED, "neighbours", "strangers", "xid")
"""``neighbours``: CPU time of those of its neighbours that may use its cores, in and between their iterations;
``strangers``: of others there that are no tenants; in cores. ``xid``: the number of an error that the GPU told while
the iteration ran; NaN for none."""
XID = "xid_code"
OF_THIS_BLOCK = frozenset({"core_loop"})
"""Of others a look just before the block tells of its begin, too; where blocks are compared each has its own."""


class Rates:
    """Samples by tenant."""

    def __init__(self, info: RunInfo, telemetry: Sequence[SampleSeries]) -> None:
        devices = {worker.tenant: worker.device.uuid for worker in info.workers}
        self._cores = {worker.tenant: frozenset(worker.cores) for worker in info.workers}
        self._covers: dict[tuple[str, str], Cover] = {}
        self._xids: dict[str, SampleSeries] = {}
        for tenant in (one.name for one in info.plan.tenants):
            mine = _of(tenant, devices.get(tenant, ""), telemetry)
            if XID in mine:
                self._xids[tenant] = mine[XID]
            for name, metrics in SAMPLED.items():
                best = next((mine[metric] for metric in metrics if metric in mine), None)
                if best is not None:
                    self._covers[tenant, name] = Cover.of(best)

    def at(self, tenant: str, neighbours: Sequence[str], submit_ns: Ints, retire_ns: Ints, start_ns: int) -> Floats:
        """A row for each of `RATES`, shape ``(len(RATES), n)``; NaN where no sample covers an iteration's middle.
        ``start_ns``: their block's."""
        t_ns = (submit_ns + retire_ns) // 2
        rows = [self._one(tenant, name, t_ns, start_ns if name in OF_THIS_BLOCK else 0) for name in SAMPLED]
        cores = self._cores.get(tenant, frozenset())
        theirs = [self._one(one, "running", t_ns) for one in neighbours if self._cores.get(one, frozenset()) & cores]
        ran = np.sum(theirs, axis=0) if theirs else np.zeros(len(t_ns))
        strangers = np.maximum(rows[list(SAMPLED).index("others")] - ran, 0.0)
        return np.array([*rows, ran, strangers, self._met(tenant, submit_ns, retire_ns)])

    def _met(self, tenant: str, submit_ns: Ints, retire_ns: Ints) -> Floats:
        """The first error that may have happened in each iteration: between two looks that it overlaps."""
        told = self._xids.get(tenant)
        if told is None:
            return np.full(len(submit_ns), np.nan)
        at = np.minimum(told.t_ns.searchsorted(submit_ns, "left"), len(told.t_ns) - 1)
        met = (submit_ns <= told.t_ns[at]) & (told.t_ns[at] - told.span_ns[at] <= retire_ns)
        return np.asarray(np.where(met, told.value[at], np.nan))

    def _one(self, tenant: str, name: str, t_ns: Ints, since_ns: int = 0) -> Floats:
        cover = self._covers.get((tenant, name))
        if cover is None:
            return np.full(len(t_ns), np.nan)
        at = np.minimum(cover.end_ns.searchsorted(t_ns, "left"), len(cover.end_ns) - 1)
        inside = (cover.begin_ns[at] <= t_ns) & (t_ns <= cover.end_ns[at]) & (cover.series.t_ns[at] >= since_ns)
        return np.asarray(np.where(inside, cover.series.value[at], np.nan))


def _of(tenant: str, device: str, telemetry: Sequence[SampleSeries]) -> Mapping[str, SampleSeries]:
    """Of the tenant or of its device, by metric."""
    return {
        one.metric: one
        for one in telemetry
        if len(one.t_ns) and one.subject == (device if one.scope == "device" else tenant)
    }
