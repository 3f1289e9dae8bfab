"""What a tenant's host adds that no profile foretells: how fast it is on the day, and how late it wakes up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from kts.physics.draws import generator
from kts.physics.fitted import IN_A_RUN, LATE_MS, WANDERS
from kts.physics.forecast import ModelError
from kts.physics.kinds import host_share
from kts.physics.profiling import recalibrated
from kts.physics.simulate import Stream
from kts.physics.values import Profile


@dataclass(frozen=True)
class Host:
    """By what factor the host is slower than in the profile, in the shared blocks and in the solo ones."""

    shared: float
    solo: float


def drawn(error: ModelError, rng: np.random.Generator) -> Host:
    """One host: in part as slow whenever the run looks, in part differently in shared and in solo blocks; lognormal."""
    run, shared, solo = rng.standard_normal(3)
    return Host(
        shared=float(np.exp(error.host * run + error.host_block * shared)),
        solo=float(np.exp(error.host * run + error.host_block * solo)),
    )


def in_a_run(profile: Profile) -> Profile:
    """The profile of a program with its host as hosts are in runs, where processes of other tenants are there and time
    goes by: slower by `IN_A_RUN`, and `WANDERS` between iterations. As it is where nobody measured it alone without a
    tracer."""
    alone_ms = profile.solo_service.ms
    n = len(alone_ms)
    ranks = (generator(0, "in a run", profile.tenant).permutation(n) + 0.5) / max(n, 1)
    slower = IN_A_RUN * np.exp(WANDERS * ndtri(ranks))
    return recalibrated(profile, alone_ms * (1 + host_share(profile) * (slower - 1)), np.full(n, np.nan))


def late(stream: Stream, rng: np.random.Generator) -> Stream:
    """The stream with a host that wakes up after its due times, as hosts do; a closed loop as it is."""
    if stream.due_ms is None:
        return stream
    return replace(stream, late_ms=np.interp(rng.random(len(stream.due_ms)), list(LATE_MS), list(LATE_MS.values())))
