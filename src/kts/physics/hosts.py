"""What a tenant's host adds that no profile foretells: how fast it is on the day, and how late it wakes up."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kts.physics.fitted import LATE_MS
from kts.physics.forecast import ModelError
from kts.physics.simulate import Stream


@dataclass(frozen=True)
class Host:
    """By what factor the host is slower than in the profile, in the shared blocks and in the solo ones."""

    shared: float
    solo: float


def drawn(error: ModelError, rng: np.random.Generator, all_programs: float = 0.0) -> Host:
    """One host: in part as slow whenever the run looks, in part differently in shared and in solo blocks; lognormal.
    ``all_programs``: of a program, how much slower those of all are, in deviations."""
    run, shared, solo = rng.standard_normal(3)
    always = error.host * run + error.program_host * all_programs
    return Host(
        shared=float(np.exp(always + error.host_block * shared)),
        solo=float(np.exp(always + error.host_block * solo)),
    )


def late(stream: Stream, rng: np.random.Generator) -> Stream:
    """The stream with a host that wakes up after its due times, as hosts do; a closed loop as it is."""
    if stream.due_ms is None:
        return stream
    return replace(stream, late_ms=np.interp(rng.random(len(stream.due_ms)), list(LATE_MS), list(LATE_MS.values())))
