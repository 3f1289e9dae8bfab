"""Do tenants start in step with each other? Then a block shows one phase, however many iterations it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc

from kts.model.plan import Plan
from kts.stats.block import MeasuredBlock

HARMONICS = 8
LOCKED = 0.6
FALSE_ALARM = 0.01
"""Over all harmonics together, for independent phases."""
MOSTLY_BUSY = 0.7
MOST_STARTS = 4000
"""Of a block; more say nothing new."""


@dataclass(frozen=True)
class BlockPhases:
    """Starts of one tenant within a neighbour's cycles, in one block.

    ``n`` starts lie inside a cycle; ``squares[m - 1]``, shape ``(HARMONICS,)``: squared length of the sum of
    exp(2 pi i m phase) over them. ``busy_ns`` of service in ``span_ns`` from first start to last.
    """

    n: int
    squares: NDArray[np.float64]
    busy_ns: float
    span_ns: float


@dataclass(frozen=True)
class PhaseLock:
    """``points`` of the neighbour's cycle to which starts keep; ``strength``: 0 uniform, 1 locked; of ``blocks``."""

    points: int
    strength: float
    blocks: int


class Phases:
    """Of every tenant's starts in each neighbour's cycles, in the full house."""

    def __init__(self, plan: Plan) -> None:
        self._phases: dict[str, dict[str, list[BlockPhases]]] = {tenant.name: {} for tenant in plan.tenants}

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        spans = block.spans if block.side == "shared" else {}
        for name, span in spans.items():
            for other, theirs in spans.items():
                if other != name:
                    phases = block_phases(span.submit_ns, span.retire_ns, theirs.submit_ns)
                    self._phases[name].setdefault(other, []).append(phases)

    def of(self, tenant: str) -> dict[str, list[BlockPhases]]:
        """By neighbour, one per block; empty where the tenant had no neighbour in the full house."""
        return self._phases[tenant]


def block_phases(
    starts_ns: NDArray[np.int64], retires_ns: NDArray[np.int64], others_ns: NDArray[np.int64]
) -> BlockPhases:
    """Phases of ``starts_ns`` in the start-to-start cycles of ``others_ns``, both rising, within one block.

    Starts outside of a whole cycle of the neighbour do not count.
    """
    starts_ns, retires_ns = starts_ns[:MOST_STARTS], retires_ns[:MOST_STARTS]
    cycle = np.searchsorted(others_ns, starts_ns, side="right") - 1
    inside = (cycle >= 0) & (cycle < len(others_ns) - 1)
    begin, end = others_ns[cycle[inside]], others_ns[np.minimum(cycle[inside] + 1, len(others_ns) - 1)]
    phase = (starts_ns[inside] - begin) / np.maximum(end - begin, 1)
    turned = np.exp(2j * np.pi * phase)
    power, squares = np.ones_like(turned), np.zeros(HARMONICS)
    for m in range(HARMONICS):
        power = power * turned
        squares[m] = abs(power.sum()) ** 2
    several = len(starts_ns) > 1
    busy_ns = float((retires_ns - starts_ns)[:-1].sum()) if several else 0.0
    span_ns = float(starts_ns[-1] - starts_ns[0]) if several else 0.0
    return BlockPhases(len(phase), squares, busy_ns, span_ns)


def lock(blocks: Sequence[BlockPhases]) -> PhaseLock | None:
    """The strongest n:m lock within blocks, up to 8:8; None where independent phases explain what is seen.

    A tenant whose starts keep to m points of the neighbour's cycle has a constant m-th harmonic (n:m phase
    synchronisation index of Tass et al. 1998, read at the tenant's own starts). Each block begins at a phase of its
    own, so blocks are pooled by the lengths of their resultants, not by their phases: with n_b starts in block
    b and S_b the sum of their unit vectors, the sum over blocks of |S_b|^2 / n_b has mean 1 and variance 1 - 1 / n_b
    per block if phases are independent. It must be beyond what these do in `FALSE_ALARM` of runs, as a gamma variate
    of that mean and variance, by Bonferroni over the harmonics. Strength is the square root of the mean cosine
    over all pairs of starts within a block, which needs no correction for short blocks (pairwise phase
    consistency: Vinck et al. 2010), and must reach `LOCKED`.

    None, too, for a tenant that is busy over 70 % of the time: it starts when its last iteration ends, so sharing
    itself sets its phase.
    """
    counted = [block for block in blocks if block.n > 1]
    if not counted or mostly_busy(blocks):
        return None
    n = np.array([block.n for block in counted], dtype=np.float64)
    squares = np.array([block.squares for block in counted])
    consistency = (squares - n[:, None]).sum(axis=0) / (n * (n - 1)).sum()
    best = int(np.argmax(consistency))
    variance = float((1 - 1 / n).sum())
    seen = float((squares[:, best] / n).sum())
    by_chance = float(gammaincc(len(n) ** 2 / variance, seen * len(n) / variance))
    strength = float(np.sqrt(max(consistency[best], 0.0)))
    if strength < LOCKED or by_chance > FALSE_ALARM / HARMONICS:
        return None
    return PhaseLock(points=best + 1, strength=min(strength, 1.0), blocks=len(blocks))


def mostly_busy(blocks: Sequence[BlockPhases]) -> bool:
    """Whether the tenant is busy so much of the time that its starts follow its own completions."""
    return sum(block.busy_ns for block in blocks) > MOSTLY_BUSY * sum(block.span_ns for block in blocks)
