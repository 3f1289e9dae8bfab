"""DF99 of a watched unit by the model, where nothing measures it: from what calls tell of it and of its neighbours.

What is not seen is how long its round trips would take alone. So that is what is fitted: the simulator's round trips,
alone and beside the neighbours that were seen, must come out in company as they were seen in company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kts.model.summary import Estimate
from kts.physics.simulate import SharingModel, Stream, simulate
from kts.physics.values import Floats, Iterations
from kts.stats.natural import SeenUnit

HOST_BEFORE_MS, HOST_AFTER_MS = 0.03, 0.02
FEWEST = 400
"""Round trips in company, below which their p99 is nothing to fit to."""
QUIET = 100
"""Round trips that met nobody, from which these stand for what it does alone."""
MOST_NEIGHBOURS = 7
ROUNDS = 8
"""Of fitting."""
LENGTH_MS = 20_000.0
DRAWN = 512
"""Different round trips of a tenant in the simulation."""
MOST_LAUNCHES = 16
"""Of one in the simulation; more are put together."""
HANDINGS = (1 / 9, 1 / 3, 1.0)
"""What of the time in which its host hands work over one by one a unit may need of the GPU. Nothing tells, so the band
holds all."""
WIDER = 0.25
"""Relative, what the band is wider on each side: the model's own error."""
NEAR = 0.15
"""Relative, how near simulated must come to what was seen; else the model does not hold here, and nothing is told."""
_Z99 = 2.326


@dataclass
class _Fitted:
    """A unit as the model has it: alone its round trips take ``ms`` times a lognormal of ``spread``."""

    seen: SeenUnit
    p50_ms: float  # in company, as seen
    p99_ms: float
    ms: float
    spread: float
    known: bool  # both are seen
    near: float = np.inf

    @classmethod
    def of(cls, seen: SeenUnit) -> _Fitted | None:
        """Before the first round. None where too little is seen."""
        if len(seen.shared) < FEWEST or not seen.trips > 0:
            return None
        company = seen.shared["ms"].astype(np.float64)
        p50, p99 = (float(np.quantile(company, p)) for p in (0.5, 0.99))
        quiet = company[seen.shared["beside"] == 0]
        alone = quiet if len(quiet) >= QUIET else seen.alone["ms"].astype(np.float64)
        if len(alone) < QUIET:
            return cls(seen, p50, p99, float(np.quantile(company, 0.05)), 0.05, known=False)
        ms, slow = (max(float(np.quantile(alone, p)), 1e-9) for p in (0.5, 0.99))
        return cls(seen, p50, p99, min(ms, p50), float(np.log(slow / ms)) / _Z99, known=True)

    def nearer(self, response_ms: Floats) -> None:
        """A step towards what was seen, from what was simulated."""
        if len(response_ms) < 50:
            return
        p50, p99 = (max(float(np.quantile(response_ms, p)), 1e-9) for p in (0.5, 0.99))
        off, tail = np.log(self.p50_ms / p50), np.log(self.p99_ms / self.p50_ms) - np.log(p99 / p50)
        self.near = abs(off) if self.known else max(abs(off), abs(np.log(self.p99_ms / p99)))
        if not self.known:
            self.ms = float(np.clip(self.ms * np.exp(0.7 * off), 1e-3 * self.p50_ms, self.p50_ms))
            self.spread = float(np.clip(self.spread + 0.5 * tail / _Z99, 0.0, 1.5))

    @property
    def alone_p99_ms(self) -> float:
        """By the model."""
        return self.ms * float(np.exp(_Z99 * self.spread))


def foretold(own: SeenUnit, others: Sequence[SeenUnit], turns: SharingModel) -> Estimate | None:
    """DF99 of ``own`` beside ``others``, who share a GPU by ``turns``: its p99 in company, as seen, over that alone, by
    the model; with a band. None where too little is seen, or where the model does not come out as it was seen."""
    others = sorted(others, key=lambda one: -one.in_flight)[:MOST_NEIGHBOURS]
    found = [_df99(own, others, turns, handing) for handing in HANDINGS]
    figures = [figure for figure in found if figure is not None]
    if found[1] is None or not others:
        return None
    low, high = min(figures) / (1 + WIDER), max(figures) * (1 + WIDER)
    return Estimate(estimate=found[1], lo=min(max(low, 1.0), found[1]), hi=high)


def _df99(own: SeenUnit, others: Sequence[SeenUnit], turns: SharingModel, handing: float) -> float | None:
    mine = _Fitted.of(own)
    if mine is None:
        return None
    tenants = [mine, *(fitted for one in others if (fitted := _Fitted.of(one)) is not None)]
    if len(tenants) < 2:
        return None
    for _ in range(ROUNDS):
        for tenant, response_ms in zip(tenants, _responses(tenants, turns, handing), strict=True):
            tenant.nearer(response_ms)
    return max(mine.p99_ms / mine.alone_p99_ms, 1.0) if mine.near < NEAR else None


def _responses(tenants: Sequence[_Fitted], turns: SharingModel, handing: float) -> list[Floats]:
    """Of each beside all others, by the simulator, as they were seen to come."""
    streams = []
    for number, tenant in enumerate(tenants):
        rng = np.random.default_rng(number)
        them = _iterations(tenant, handing, rng)
        gap_ms = max(1e3 * (1 - tenant.seen.in_flight) / tenant.seen.trips, 0.01)
        n = min(int(2 * LENGTH_MS / (gap_ms + tenant.ms)) + 50, 200_000)
        streams.append(
            Stream(
                them,
                rng.integers(0, them.n, n),
                think_ms=gap_ms * rng.uniform(0.5, 1.5, n),
                start_ms=float(rng.uniform(0, gap_ms + tenant.ms)),
            )
        )
    done = simulate(streams, turns, horizon_ms=LENGTH_MS, stop_at_first=False)
    return [one.retire_ms - one.submit_ms - HOST_BEFORE_MS for one in done.tenants]


def _iterations(tenant: _Fitted, handing: float, rng: np.random.Generator) -> Iterations:
    ms = tenant.ms * rng.lognormal(0, tenant.spread, DRAWN) if tenant.spread else np.full(DRAWN, tenant.ms)
    rows = tenant.seen.shared
    issue_ms = np.minimum(max(float(np.median(rows["issue"])), 0.0), 0.98 * ms)
    count = int(np.clip(np.median(rows["size"]), 1, MOST_LAUNCHES)) if issue_ms.mean() > 0.05 else 1
    steps = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    duration = np.repeat((handing * issue_ms / count)[:, None], count, axis=1) if count > 1 else np.zeros((DRAWN, 1))
    duration[:, -1] += ms - (issue_ms + handing * issue_ms / count if count > 1 else 0.0) - HOST_AFTER_MS
    return Iterations(
        first=np.arange(DRAWN + 1, dtype=np.int64) * count,
        offset_ms=(HOST_BEFORE_MS + issue_ms[:, None] * steps).ravel(),
        duration_ms=np.maximum(duration, 1e-3).ravel(),
        retire_ms=np.full(DRAWN, HOST_AFTER_MS),
    )
