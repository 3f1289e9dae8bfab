"""Do the readings of telemetry show in the iterations during which they were taken?

Long iterations hold more readings, so those with a reading are no fair sample. They are compared with those that hold
the middle between two readings, which no iteration can tell from a reading but by its cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from kts.model.checks import Check
from kts.model.run import RunInfo
from kts.model.telemetry import SampleSeries
from kts.stats.block import MeasuredBlock, Rows
from kts.stats.checks.told import failed, not_applicable, passed, percent, tail_moves
from kts.stats.sample import LatencySample
from kts.stats.series import SIDES, Side

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "observer"
BETWEEN = frozenset({"schedstat", "host"})
"""Sources that are read by the workers themselves, between iterations."""
FEWEST = 30
"""Iterations with a reading, and with a middle, below which nothing can be told."""
TAIL = 0.01
P_VALUE = 0.01
STEPS = 50
SHOWS = 0.01
"""By so much p99 must be off."""
Floats = NDArray[np.float64]


@dataclass
class Marked:
    """Response times, ms, a piece per block: of iterations that hold a reading and no middle, and the other way."""

    read: list[Floats] = field(default_factory=list)
    middle: list[Floats] = field(default_factory=list)


class SampledIterations:
    """Which iterations had telemetry read beside them, by tenant and side."""

    def __init__(self, series: Sequence[SampleSeries], info: RunInfo) -> None:
        at_ns = [one.t_ns for one in series if one.source not in BETWEEN and len(one.t_ns)]
        self._at_ns = np.unique(np.concatenate(at_ns)) if at_ns else np.zeros(0, dtype=np.int64)
        gaps = np.diff(self._at_ns)
        self._middle_ns = self._at_ns[:-1] + gaps // 2
        self._marked: dict[tuple[str, Side], Marked] = {
            (tenant.name, side): Marked() for tenant in info.plan.tenants for side in SIDES
        }

    @property
    def any(self) -> bool:
        """Whether something was read while iterations ran."""
        return len(self._at_ns) > 1

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        if block.side is None or not self.any:
            return
        for name, row in block.kept.items():
            read, middle = (_holds(row, at_ns) for at_ns in (self._at_ns, self._middle_ns))
            marked = self._marked[name, block.side]
            marked.read.append(row.response[read & ~middle].astype(np.float64))
            marked.middle.append(row.response[middle & ~read].astype(np.float64))

    def of(self, tenant: str, side: Side) -> tuple[Floats, Floats]:
        """Response times of those with a reading alone, and with a middle alone."""
        marked = self._marked[tenant, side]
        return np.concatenate([np.zeros(0), *marked.read]), np.concatenate([np.zeros(0), *marked.middle])


def _holds(row: Rows, at_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    begun = np.searchsorted(at_ns, row.span.submit_ns, side="left")
    over = np.searchsorted(at_ns, row.span.retire_ns, side="right")
    return np.asarray(over > begun)


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By how many of the slowest 1 % hold a reading, against the middle between two (binomial, p < 0.01). p99 may be
    off by what it would be if those with a reading took as long as those with a middle."""
    name = view.name
    if not view.gathered.readings.any:
        yield not_applicable(CODE, f"{name}: nothing was read while its iterations ran.", name)
        return
    told = []
    for side in SIDES:
        sample = view.samples[side]["response"]
        read, middle = view.gathered.readings.of(name, side)
        if sample is None or min(len(read), len(middle)) < FEWEST:
            continue
        limit = sample.quantile(1 - TAIL)
        slow, by_chance = int((read > limit).sum()), int((middle > limit).sum()) * len(read) / len(middle)
        off = _off(sample, read, middle)
        both = slow + int((middle > limit).sum())
        share = len(read) / (len(read) + len(middle))
        seen = slow > 0 and float(bdtrc(slow - 1, both, share)) < P_VALUE and off > SHOWS
        words = f"{slow} of its {side} iterations slower than p99 hold a reading, {by_chance:.3g} by chance"
        told.append((off, f"{slow} against {by_chance:.3g}", words, seen))
    if not told:
        text = f"{name}: under {FEWEST} iterations with a reading, or hardly one without."
        yield not_applicable(CODE, text, name)
        return
    seen_there = [one for one in told if one[3]]
    for off, figure, words, _ in seen_there:
        text = f"{name}: {words}: telemetry is in its tail. --no-telemetry leaves it out."
        yield failed(CODE, "observer", figure, text, name, off=off)
    if not seen_there:
        off, figure, words, _ = max(told)
        yield passed(CODE, figure, f"{name}: {words}; p99 moves by {percent(off)}.", name)


def _off(sample: LatencySample, read: Floats, middle: Floats) -> float:
    """By what share p99 moves once those with a reading are distributed as those with a middle.

    That takes share (S_read(x) - S_middle(x)) from the fraction of all that is slower than x; p99 is where 1 % is left.
    """
    share = len(read) / sample.n
    for fraction in TAIL + np.linspace(0.0, share, STEPS):
        limit = sample.quantile(max(1 - float(fraction), 0.0))
        if fraction - share * float((read > limit).mean() - (middle > limit).mean()) >= TAIL:
            return tail_moves(sample, float(fraction))
    return tail_moves(sample, TAIL + share)
