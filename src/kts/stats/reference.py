"""The published system's own analysis, for comparison with its table: device time, every sample, no intervals."""

from __future__ import annotations

from kts.model.summary import ReferenceFigures, ReferenceTable
from kts.stats.sample import LatencySample


def reference_table(solo: list[LatencySample], shared: list[LatencySample]) -> ReferenceTable | None:
    """Figures on the device clock over all iterations, overlapping or not. None where a side has none.

    Percentiles as numpy's default; jitter = p99 / p50; throughput = 1000 / mean; DF = shared / solo.
    """
    alone, together = _figures(solo), _figures(shared)
    if alone is None or together is None:
        return None
    ratios = {name: getattr(together, name) / getattr(alone, name) for name in ("p50", "p95", "p99")}
    return ReferenceTable(solo=alone, shared=together, df=ratios)


def _figures(samples: list[LatencySample]) -> ReferenceFigures | None:
    if not samples:
        return None
    n = sum(sample.n for sample in samples)
    units = tuple(unit for sample in samples for unit in sample.units)
    mean = sum(sample.mean * sample.n for sample in samples) / n
    pool = LatencySample(units=units, labels=tuple(range(len(units))), rounds=False, mean=mean)
    p50, p95, p99 = (pool.quantile(p) for p in (0.5, 0.95, 0.99))
    if not (p50 > 0 and mean > 0):
        return None
    return ReferenceFigures(n=n, p50=p50, p95=p95, p99=p99, jitter=p99 / p50, throughput=1000 / mean)
