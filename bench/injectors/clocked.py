"""A recorded run, altered as if the GPU's clock had been lower while tenants had company: constructed, not measured.

No GPU that kts may use lets its clocks be set, and those of all recorded runs stood still. So a run is taken as it was
recorded, and in its shared blocks the work of every iteration takes ``slower`` times as long on the device's stopwatch,
it retires later by that, and the SM clock that was sampled is divided by it. What others' turns would then last longer
is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from kts.model.cluster import ClusterFacts
from kts.model.reading import RunData
from kts.model.records import Records
from kts.model.run import BlockOutcome, RunInfo
from kts.model.telemetry import SampleSeries
from kts.units import NS_PER_MS

CLOCK = "sm_clock_mhz"


class Clocked:
    """Implements `kts.model.reading.RunData`. ``work_ms``: of each tenant alone, the mean on the stopwatch."""

    def __init__(self, run: RunData, slower: float) -> None:
        self._run, self._slower = run, slower
        solo = {one.name for one in run.info.plan.conditions if one.is_solo}
        self._shared = {block.index for block in run.blocks if block.condition not in solo}
        self._work_ms: dict[str, float] = {}
        for tenant in run.info.plan.tenants:
            alone = [run.records(tenant.name, block.index) for block in run.blocks if block.condition in solo]
            self._work_ms[tenant.name] = float(np.mean(np.concatenate([records["device_ms"] for records in alone])))

    def added_ms(self, tenant: str) -> float:
        """What the lower clock adds to each of its iterations."""
        return (self._slower - 1) * self._work_ms[tenant]

    @property
    def info(self) -> RunInfo:
        """See RunData."""
        return self._run.info

    @property
    def blocks(self) -> Sequence[BlockOutcome]:
        """See RunData."""
        return self._run.blocks

    @property
    def damage(self) -> Sequence[str]:
        """See RunData."""
        return self._run.damage

    @property
    def cluster(self) -> ClusterFacts | None:
        """See RunData."""
        return self._run.cluster

    def records(self, tenant: str, block: int) -> Records:
        """See RunData."""
        return self._altered(self._run.records(tenant, block), tenant, block)

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        """See RunData."""
        return (self._altered(records, tenant, block) for records in self._run.portions(tenant, block))

    def telemetry(self) -> Sequence[SampleSeries]:
        """See RunData."""
        return [self._lower(series) if series.metric == CLOCK else series for series in self._run.telemetry()]

    def _altered(self, records: Records, tenant: str, block: int) -> Records:
        if block not in self._shared:
            return records
        altered = records.copy()
        altered["device_ms"] += self.added_ms(tenant)
        altered["retire_ns"] += round(self.added_ms(tenant) * NS_PER_MS)
        return altered

    def _lower(self, series: SampleSeries) -> SampleSeries:
        within = np.zeros(len(series.t_ns), dtype=bool)
        for block in self._run.blocks:
            if block.index in self._shared:
                within |= (series.t_ns >= block.start_ns) & (series.t_ns <= block.end_ns)
        return replace(series, value=np.where(within, series.value / self._slower, series.value))
