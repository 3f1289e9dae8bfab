"""How fast the core was: a loop that always does the same was timed on it beside the tenant's iterations.

Two hardware threads of a core slow each other, and clocks wander; then a host needs longer for the same. By how much is
learnt from the tenant's own blocks: those of one condition differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kts.stats.causes.company import Floats
from kts.stats.causes.kept import KeptRows
from kts.stats.dependence import student
from kts.stats.overlap import Ints

CONFIDENCE = 0.95
COVERED = 0.5
"""Of the blocks, as many must have been looked at."""
LEAST_TOLD = 0.5
"""The least part of what loops differ by, from block to block, that is the core's and not the looking's: with less, how
a host follows is a guess."""


@dataclass(frozen=True)
class Speed:
    """A host takes (``loop`` / ``usual_us``) ** ``slope`` times as long; ``error``: half the slope's 95 % interval.
    ``told``: of what loops differ by from block to block, the part that is the core's and not the looking's: as much of
    it is believed. ``usual_us``: the loop alone, geometric mean of the blocks."""

    slope: float
    error: float
    told: float
    usual_us: float

    def of(self, rows: KeptRows, alone: KeptRows, *, is_cpu: bool) -> Slowed:
        """What that adds to each of ``rows``: by its block, nothing where nobody looked. Where waits are in what is not
        on the stopwatch, to as much as its host takes alone."""
        ms = self._ms(rows, alone, is_cpu=is_cpu)
        by_slope = self._ms(rows, alone, is_cpu=is_cpu, more=self.error) - ms
        level = 0.0 if rows.block[0] == alone.block[0] else np.hypot(self._unsure(rows), self._unsure(alone))
        by_level = self._ms(rows, alone, is_cpu=is_cpu, level=float(level)) - ms
        return Slowed(ms, by_slope, by_level)

    def _ms(self, rows: KeptRows, alone: KeptRows, *, is_cpu: bool, more: float = 0.0, level: float = 0.0) -> Floats:
        """``more``: of the slope; ``level``: of the loops' logarithms."""
        slower = self._slower(rows, more, level)
        own = _own(rows, is_cpu=is_cpu)
        if own is not None:
            return own * (1 - 1 / slower)
        usual = float(np.average(alone.rest / self._slower(alone, more, 0.0), weights=alone.weight))
        return np.minimum(usual * (slower - 1), rows.rest)

    def _slower(self, rows: KeptRows, more: float, level: float) -> Floats:
        factors, blocks = np.ones(rows.n), _blocks(rows)
        if blocks:
            loops = np.log([block.loop_us for block in blocks])
            loops = loops.mean() + self.told * (loops - loops.mean()) - np.log(self.usual_us) + level
            for block, loop in zip(blocks, loops, strict=True):
                factors[block.rows] = np.exp((self.slope + more) * loop)
        return factors

    def _unsure(self, rows: KeptRows) -> float:
        """Half the interval of the mean of the loops' logarithms, by the looks."""
        told = [block for block in _blocks(rows) if block.looks > 1]
        if not told:
            return 0.0
        variance = np.mean([block.spread / block.looks for block in told]) / len(told)
        return student(sum(block.looks - 1 for block in told), CONFIDENCE) * float(np.sqrt(variance))


class Slowed(NamedTuple):
    """Milliseconds of each iteration; less than nothing where the core was faster than alone. ``by_slope``,
    ``by_looks``: half its interval, since the slope is unsure, and since looks are few."""

    ms: Floats
    by_slope: Floats
    by_looks: Floats


def at_usual(rows: KeptRows, slowed_ms: Floats, *, is_cpu: bool) -> KeptRows:
    """As they would be had their core been as fast as it usually is alone."""
    device = rows.device - slowed_ms if is_cpu else rows.device
    return replace(rows, service=rows.service - slowed_ms, device=device)


class _Block(NamedTuple):
    rows: slice
    loop_us: float
    looks: int
    spread: float
    """Variance of the looks' logarithms; NaN of one."""


def follows(alone: KeptRows, others: Sequence[KeptRows], *, is_cpu: bool) -> Speed | None:
    """How the tenant's host follows its core, over all conditions; None where no data show that it does.

    A line through the blocks' logarithms, each condition with a level of its own (analysis of covariance), and its
    slope corrected for loops that are means of few looks (Fuller, Measurement Error Models, 1987, 1.2).
    """
    x, y, noise, sides = [], [], [], 0
    for rows, host in _hosts((alone, *others), is_cpu=is_cpu):
        blocks = _blocks(rows)
        if len(blocks) < max(2, COVERED * len(_first(rows.block))):
            continue
        means = [float(np.average(host[one.rows], weights=rows.weight[one.rows])) for one in blocks]
        if min(means) <= 0:
            continue
        sides += 1
        loops = np.log([one.loop_us for one in blocks])
        x += list(loops - loops.mean())
        y += list(np.log(means) - np.log(means).mean())
        noise += [one.spread / one.looks * (1 - 1 / len(blocks)) for one in blocks if one.looks > 1]
    left = len(x) - sides - 1
    usual = _blocks(alone)
    if left < 1 or not usual or not noise:
        return None
    xs, ys = np.array(x), np.array(y)
    among = float(xs @ xs)
    if among <= 0:
        return None
    slope = float(xs @ ys) / among
    error = student(left, CONFIDENCE) * float(np.sqrt(np.sum((ys - slope * xs) ** 2) / left / among))
    told = 1 - float(np.mean(noise)) * len(xs) / among
    if slope <= error or told < LEAST_TOLD:
        return None
    return Speed(slope / told, error / told, told, float(np.exp(np.mean(np.log([one.loop_us for one in usual])))))


def _hosts(sides: Sequence[KeptRows], *, is_cpu: bool) -> list[tuple[KeptRows, Floats]]:
    """Sides that tell their host's own time, and it; the first is alone, where nothing else is off the stopwatch. Empty
    where some lack what the others have."""
    own = [_own(rows, is_cpu=is_cpu) for rows in sides]
    if all(one is not None for one in own):
        return [(rows, one) for rows, one in zip(sides, own, strict=True) if one is not None]
    told = not any(np.isnan(rows.device).any() for rows in sides)
    return [(sides[0], sides[0].rest)] if told and not is_cpu and own[0] is None else []


def _own(rows: KeptRows, *, is_cpu: bool) -> Floats | None:
    """What is the host's own time, ms: on a core CPU time, of a traced program all that is no wait for the device. None
    where nothing tells it from waits."""
    own = rows.device if is_cpu else rows.service - rows.waited
    return None if np.isnan(own).any() else own


def _blocks(rows: KeptRows) -> list[_Block]:
    """Those in which somebody looked."""
    loops, found = rows.rate("core_loop"), []
    for first, until in pairwise([*_first(rows.block), rows.n]):
        here = slice(first, until)
        looks = np.unique(loops[here][loops[here] > 0])
        if len(looks):
            spread = float(np.log(looks).var(ddof=1)) if len(looks) > 1 else np.nan
            found.append(_Block(here, float(looks.mean()), len(looks), spread))
    return found


def _first(blocks: Ints) -> list[int]:
    """Where each block begins: iterations are in order of time."""
    return [int(at) for at in np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1]))]
