"""Do the times add up? Device time is part of the service time, and a CPU core gives out no more time than passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.model.run import RunInfo
from kts.stats.block import MeasuredBlock
from kts.stats.checks.told import failed, not_applicable, passed, percent
from kts.stats.overlap import PORTION
from kts.stats.sample import FloatArray

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered
    from kts.stats.view import TenantView

CODE = "conservation"
HELD = 0.01
"""Of a service time, or of a block, that may be too much; what the readings of two clocks differ by."""
HELD_MS = 0.01
MOST = 0.001
"""Iterations of which this share have a longer device time than service time: more move p99."""


@dataclass
class DeviceTimes:
    """``told`` iterations have a device time; of ``over`` it is longer than their service time, by ``excess`` at most
    (a share)."""

    told: int = 0
    over: int = 0
    excess: float = 0.0

    def add(self, service: FloatArray, device: FloatArray) -> None:
        """Of some more iterations."""
        self.told += int(np.count_nonzero(~np.isnan(device)))
        over = np.flatnonzero(device > service * (1 + HELD) + HELD_MS)
        if len(over):
            self.over += len(over)
            shares = device[over] / np.maximum(service[over], HELD_MS) - 1
            self.excess = max(self.excess, float(shares.max()))


class Conserved:
    """What adds up: device time within each iteration, and on a CPU core that of all tenants within each block."""

    def __init__(self, info: RunInfo) -> None:
        self._kept = {tenant.name: DeviceTimes() for tenant in info.plan.tenants}
        self._cores = {worker.tenant: worker.cores for worker in info.workers if worker.device.kind == "cpu"}
        self._fullest: float | None = None

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        spent_ms: dict[tuple[int, ...], float] = {}
        for name, row in block.rows.items():
            for first in range(0, len(row.service), PORTION):
                here = slice(first, first + PORTION)
                self._kept[name].add(row.service[here], row.device[here])
            if cores := self._cores.get(name):
                spent_ms[cores] = spent_ms.get(cores, 0.0) + float(np.nansum(row.device, dtype=np.float64))
        length_ms = (block.outcome.end_ns - block.outcome.start_ns) / 1e6
        if length_ms > 0:
            shares_of_cores = (ms / (length_ms * len(cores)) for cores, ms in spent_ms.items())
            self._fullest = (
                max(shares_of_cores, default=0.0)
                if self._fullest is None
                else max(self._fullest, *shares_of_cores, 0.0)
            )

    def of(self, tenant: str) -> DeviceTimes:
        """Of one tenant."""
        return self._kept[tenant]

    @property
    def fullest(self) -> float | None:
        """CPU time of all tenants on the same cores over what these have, in the block where that is most; None where
        no tenant's device is a CPU core."""
        return self._fullest if self._cores else None


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """CPU time that tenants used, against what passed."""
    del run
    share = gathered.conserved.fullest
    if share is not None and share > 1 + HELD:
        text = (
            f"The tenants used {percent(share)} of the time that their CPU core has in a block: a stopwatch is wrong, "
            "or the tenants were not on the cores that are recorded."
        )
        yield failed(CODE, "times-do-not-add-up", percent(share), text, off=share - 1)


def of_tenant(view: TenantView) -> Iterator[Check]:
    """Device times longer than the service time that they are part of: figures of the device clock may be off by what
    they are too long."""
    name, kept = view.name, view.gathered.conserved.of(view.name)
    if not kept.told:
        yield not_applicable(CODE, f"{name}: it has no device stopwatch.", name)
        return
    figure = f"{kept.over} of {kept.told}"
    if kept.over > MOST * kept.told:
        text = (
            f"{name}: {figure} iterations have a device time that is longer than their service time, by up to "
            f"{percent(kept.excess)}: the stopwatch measures something else."
        )
        yield failed(CODE, "times-do-not-add-up", figure, text, name, off=kept.excess)
        return
    core = view.gathered.conserved.fullest
    full = "" if core is None else f"; all tenants used at most {percent(core)} of their core in a block"
    text = f"{name}: {figure} iterations have a device time longer than their service time{full}."
    yield passed(CODE, figure, text, name)
