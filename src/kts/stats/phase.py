"""Do tenants start in step with each other? Then the tail is that of one phase, not of sharing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HARMONICS = 4
LOCKED = 0.6
FEWEST_STARTS = 50
MOST_STARTS = 4000
MOSTLY_BUSY = 0.7


def lock_strength(starts_ns: NDArray[np.int64], retires_ns: NDArray[np.int64], others_ns: NDArray[np.int64]) -> float:
    """How strongly starts keep to fixed phases of the neighbour's start-to-start cycle: 0 uniform, 1 locked.

    The largest mean resultant length (Rayleigh; Mardia & Jupp 2000) of the phase's first four harmonics:
    periods in a ratio of small whole numbers lock to several phases, which the first one alone misses.
    0 where there are under 50 starts to judge, and for a tenant that is busy over 70 % of the time: it
    starts when its last iteration ends, so sharing itself sets its phase.
    """
    starts, retires = starts_ns[:MOST_STARTS], retires_ns[:MOST_STARTS]
    if len(starts) < FEWEST_STARTS or len(others_ns) < 3:
        return 0.0
    if float((retires - starts).mean()) > MOSTLY_BUSY * float(starts[-1] - starts[0]) / (len(starts) - 1):
        return 0.0
    cycle = np.searchsorted(others_ns, starts, side="right") - 1
    inside = (cycle >= 0) & (cycle < len(others_ns) - 1)
    if int(inside.sum()) < FEWEST_STARTS:
        return 0.0
    begin, end = others_ns[cycle[inside]], others_ns[cycle[inside] + 1]
    phase = (starts[inside] - begin) / np.maximum(end - begin, 1)
    return max(float(np.abs(np.exp(2j * np.pi * m * phase).mean())) for m in range(1, HARMONICS + 1))
