"""Simpler rules, which a prediction must beat: response times of a mix by what is known of each tenant alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from kts.arrivals import Closed
from kts.physics.draws import cycle_ms
from kts.physics.forecast import FIGURES, Plain
from kts.physics.simulate import Completed, SharingModel, Stream, simulate
from kts.physics.values import Floats, Iterations, Profile, bursts, make_profile
from kts.stats.quantiles import QUANTILES

PROCESSOR_SHARING = "processor-sharing"

MOST = 1000
"""Solo iterations that processor sharing looks at, evenly spaced by rank: enough for its p99.9."""


def as_burst(profile: Profile, how: SharingModel) -> Profile:
    """The profile with every iteration as one launch: as long on the GPU, and as long in all, as it takes alone."""
    them = profile.iterations
    if profile.is_burst:
        return profile
    alone = _one_by_one(them, how)
    made = make_profile(
        profile.tenant,
        bursts(alone.device_ms, alone.service_ms - alone.device_ms),
        profile.gpu,
        arrivals=profile.arrivals,
        deadline_ms=profile.deadline_ms,
    )
    return replace(made, pause=profile.pause, thread=profile.thread, process=profile.process)


def _one_by_one(them: Iterations, how: SharingModel) -> Completed:
    once = Stream(them, np.arange(them.n), think_ms=np.zeros(them.n))
    return simulate([once], how, stop_at_first=False).tenants[0]


@dataclass(frozen=True, eq=False)
class Duty:
    """A tenant as processor sharing sees it: ``busy_ms`` of GPU time per iteration, ``cycle_ms`` from one iteration to
    the next alone, and whether being slowed makes the cycle longer (a closed loop)."""

    busy_ms: float
    cycle_ms: float
    closed: bool

    @classmethod
    def of(cls, profile: Profile) -> Duty:
        """Of a profile, by means."""
        return cls(float(profile.iterations.busy_ms.mean()), cycle_ms(profile), isinstance(profile.arrivals, Closed))

    def present(self, others: float) -> float:
        """The share of the time in which it has work on the GPU beside ``others`` tenants (a mean number)."""
        stay = self.busy_ms * (1 + others)
        return stay / (self.cycle_ms + stay - self.busy_ms) if self.closed else min(stay / self.cycle_ms, 1.0)


def presence(tenants: Sequence[Duty], rounds: int = 500) -> Floats:
    """How often each has work on the GPU, shape ``(n,)``: the fixed point of `Duty.present` for all.

    Mean-field processor sharing (Kleinrock 1976, Queueing Systems 2, ch. 4, for the discipline itself): with k tenants
    present each gets a k-th of the GPU, and every tenant sees the others as independent.
    """
    share = np.array([min(t.busy_ms / t.cycle_ms, 1.0) for t in tenants])
    for _ in range(rounds):
        others = share.sum() - share
        share = 0.5 * share + 0.5 * np.array([t.present(float(k)) for t, k in zip(tenants, others, strict=True)])
    return share


def crowd(shares: Sequence[float]) -> Floats:
    """Probability that 0, 1, ... of independent tenants are present, shape ``(n + 1,)``."""
    found = np.ones(1)
    for share in shares:
        found = np.convolve(found, [1 - share, share])
    return found


def processor_sharing(alone_ms: Sequence[Floats], tenants: Sequence[Duty]) -> list[Plain]:
    """Each tenant's response: an iteration as long as alone, and its GPU time once more for each other one present.

    ``alone_ms``: response alone, a sample per tenant. Quantiles are those of the mixture over how many are present.
    """
    shares = presence(tenants)
    found = []
    for k, (sample, tenant) in enumerate(zip(alone_ms, tenants, strict=True)):
        weights = crowd(np.delete(shares, k).tolist())
        ranks = np.linspace(0, len(sample) - 1, min(len(sample), MOST)).round().astype(np.int64)
        solo = np.sort(sample)[ranks]
        values = (solo[None, :] + tenant.busy_ms * np.arange(len(weights))[:, None]).ravel()
        found.append(_weighted(values, np.repeat(weights / len(solo), len(solo))))
    return found


def _weighted(values: Floats, weights: Floats) -> Plain:
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order] / 2
    figures: dict[str, float | None] = {"mean": float(values @ weights)}
    figures |= {name: float(np.interp(p, below, values[order])) for name, p in QUANTILES.items()}
    return Plain(**{name: figures[name] for name in FIGURES})


def overlaid(profiles: Mapping[str, Profile], alone_ms: Mapping[str, Floats]) -> dict[str, Plain]:
    """Processor sharing for tenants by name."""
    found = processor_sharing([alone_ms[name] for name in profiles], [Duty.of(p) for p in profiles.values()])
    return dict(zip(profiles, found, strict=True))
