"""What a mode's work takes: the power that telemetry saw its devices draw, over the work they did. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kts.model.modes import Energy
from kts.model.reading import RunData
from kts.model.summary import Activity, ActivityMean, Summary, TenantSummary
from kts.stats.activity import covers
from kts.stats.block import MeasuredBlock
from kts.stats.by_round import add

POWER = "power_w"
"""The metric of telemetry that says what the device draws."""
ONE_DEVICE = 0.1
"""Tenants of one device were told of the same power, but for blocks in which one of them has no iterations."""


def energy(of: Summary, throughput: float | None, *, alone: bool) -> Energy | None:
    """None without a throughput, without power of every tenant's device, and where tenants shared more than one."""
    told = [_power(one, alone=alone) for one in of.tenants.values()]
    known = [(watts, source) for watts, source in told if watts is not None]
    if not throughput or not known or len(known) < len(told):
        return None
    each = [watts for watts, _ in known]
    mean = sum(each) / len(each)
    if not alone and max(each) - min(each) > ONE_DEVICE * mean:
        return None
    return Energy(watts=mean, joules=mean / throughput, source=known[0][1])


class Drawn:
    """A pass: by tenant and condition, per round the watts that its device drew times the nanoseconds that samples of
    them cover, and these."""

    def __init__(self, run: RunData) -> None:
        told = covers([one for one in run.telemetry() if one.metric == POWER], run.info)
        self._covers = {name: min(of, key=lambda one: _not_nvml(one.series.source)) for name, of in told.items() if of}
        self.kept: dict[tuple[str, str], dict[int, tuple[float, float]]] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See `kts.stats.block.Pass`."""
        for name in block.kept.keys() & self._covers.keys():
            begin_ns, end_ns, watts = self._covers[name].inside(block.outcome.start_ns, block.outcome.end_ns)
            if len(watts) and watts.sum() > 0:
                pace = self.kept.setdefault((name, block.outcome.condition), {})
                add(pace, block.outcome.round, float((end_ns - begin_ns) @ watts), int((end_ns - begin_ns).sum()))


def _power(one: TenantSummary, *, alone: bool) -> tuple[float | None, str]:
    """Of the tenant's device, mean over whole blocks (W), and who told. NVML before others."""
    activity: Sequence[Activity] = one.activity or ()
    told = sorted((each for each in activity if each.metric == POWER), key=lambda each: _not_nvml(each.source))
    for each in told:
        mean: ActivityMean = each.solo if alone else each.shared
        if mean.block_mean is not None:
            return mean.block_mean, each.source
    return None, ""


def _not_nvml(source: str) -> bool:
    return source != "nvml"
