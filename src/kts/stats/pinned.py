"""What a core of its own takes off a tenant's tail at most: all that its host waited for one. A bound, no model."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from kts.model.reading import RunData
from kts.model.summary import Estimate
from kts.stats.block import gather
from kts.stats.causes.company import Floats
from kts.stats.causes.held import waits, within
from kts.stats.causes.kept import KeptIterations, KeptRows
from kts.stats.quantiles import quantile_estimate
from kts.stats.sample import MIN_ROUNDS, make_sample
from kts.stats.steadiness import since_ns


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """``p99``: the response p99 (ms) had no iteration waited for a core, with its interval; ``waited_ms``: what they
    waited, mean. Less goes away where others are on that core, too, or where the wait hid behind the GPU's work."""

    p99: Estimate
    waited_ms: float


def pinned(run: RunData, condition: str, tenants: Sequence[str], confidence: float) -> dict[str, Pinned]:
    """Of those of ``tenants`` whose wait for a core was measured alone and in company. Reads every record twice."""
    kept = KeptIterations(run, run.telemetry())
    gather(run, [kept], since_ns(run))
    found = {}
    for name in tenants:
        solo = next((one.name for one in run.info.plan.conditions if one.tenants == (name,)), None)
        rows, alone = kept.of(name, condition), None if solo is None else kept.of(name, solo)
        if rows is not None and alone is not None and _told(rows) and _told(alone):
            found[name] = of_rows(rows, alone, confidence)
    return found


def of_rows(rows: KeptRows, alone: KeptRows, confidence: float) -> Pinned:
    """An iteration's wait is what its record tells, else the samples, and at most what it took longer than the median
    alone."""
    over = np.maximum(rows.service - np.median(alone.service), 0.0)
    core, _, _ = within(waits(rows, alone), over)
    times = np.rint(rows.weight).astype(np.int64)
    numbers = np.unique(rows.round)
    blocks = [(int(n), _of(rows.response - core, rows.round == n, times)) for n in numbers]
    sample = make_sample(blocks, split=len(numbers) < MIN_ROUNDS)
    p99 = quantile_estimate(sample, 0.99, confidence, "no iterations")
    return Pinned(p99=p99, waited_ms=float(np.average(core, weights=rows.weight)))


def _told(rows: KeptRows) -> bool:
    return not (np.isnan(rows.core_wait).all() and np.isnan(rows.rate("waiting")).all())


def _of(values: Floats, here: np.ndarray, times: np.ndarray) -> Floats:
    return np.repeat(values[here], times[here])
