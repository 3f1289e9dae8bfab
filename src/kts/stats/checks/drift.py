"""Does the tenant's level drift, or differ from round to round?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.stats.checks.told import failed, not_applicable, passed, percent
from kts.stats.sample import MIN_ROUNDS, LatencySample
from kts.stats.series import SIDES, Side
from kts.units import format_ms

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered
    from kts.stats.view import TenantView

CODE = "drift"
DRIFT = 0.05
DRIFT_P_VALUE = 0.01
VARIES = 0.10
FEWEST_UNITS = 5
TAIL, MOST = 0.01, 0.5
"""Which iterations are the slowest, and how many of them one round may have."""


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """Without rounds enough drift cannot be told from sharing, and the verdicts are dimmed."""
    del gathered
    rounds = {block.round for block in run.blocks if block.valid}
    if run.info.plan.design == "classic" or len(rounds) < 2:
        text = (
            "Each condition was measured in one block: drift between blocks (clocks, temperature, other load) cannot "
            "be told from the effect of sharing, and no interval covers it. The interleaved design can."
        )
        yield failed(CODE, "classic-one-block", "1 round", text, lowers=True)
    elif len(rounds) < MIN_ROUNDS:
        text = (
            f"Only {len(rounds)} rounds: blocks were cut into segments; drift between rounds is not in the intervals."
        )
        yield failed(CODE, "few-rounds", f"{len(rounds)} rounds", text, lowers=True)


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By drift and spread of the medians of its solo units, and by whether one round makes the tail of a side."""
    name, solo = view.name, view.samples["solo"]["service"]
    one_round = [check for side in SIDES for check in _of_one_round(view, side)]
    yield from one_round
    medians = np.array([float(np.median(unit)) for unit in solo.units]) if solo is not None else np.zeros(0)
    if solo is None or len(medians) < MIN_ROUNDS or not medians.mean() > 0:
        if not one_round:
            yield not_applicable(CODE, f"{name}: under {MIN_ROUNDS} solo rounds to compare.", name)
        return
    unit = "round" if solo.rounds else "segment"
    change, p_value = trend(medians)
    spread = float(medians.std(ddof=1) / medians.mean())
    drifts = len(medians) >= FEWEST_UNITS and abs(change) > DRIFT and p_value < DRIFT_P_VALUE
    varies = spread > VARIES
    if drifts:
        text = f"{name}: the solo median drifts by {100 * change:+.0f} % from the first {unit} to the last."
        yield failed(CODE, "drift", f"{100 * change:+.0f} %", text, name, off=abs(change))
    if varies:
        text = f"{name}: the solo median differs from {unit} to {unit} by {spread * 100:.0f} % (standard deviation)."
        yield failed(CODE, "solo-varies", f"{spread * 100:.0f} %", text, name, off=spread)
    if not drifts and not varies and not one_round:
        text = (
            f"{name}: the solo median moves by {100 * change:+.1f} % from the first {unit} to the last, and differs by "
            f"{100 * spread:.1f} % from {unit} to {unit} (standard deviation)."
        )
        yield passed(CODE, f"{100 * change:+.1f} %", text, name)


def _of_one_round(view: TenantView, side: Side) -> Iterator[Check]:
    """A round, or segment, in which something else was going on makes a tail that is nobody's."""
    name, sample = view.name, view.samples[side]["response"]
    if sample is None or len(sample.units) < FEWEST_UNITS:
        return
    p99 = sample.quantile(1 - TAIL)
    slow = sample.above(p99)
    most = int(np.argmax(slow))
    share = float(slow[most] / max(slow.sum(), 1))
    without = _without(sample, most).quantile(1 - TAIL)
    if share > MOST and p99 > (1 + VARIES) * without:
        where, unit = ("alone" if side == "solo" else "in company"), "round" if sample.rounds else "segment"
        text = (
            f"{name}: {percent(share)} of its slowest {100 * TAIL:g} % {where} are of one of {len(slow)} {unit}s (the "
            f"{sample.labels[most] + 1}.): without it p99 {where} is {format_ms(without)} instead of {format_ms(p99)}. "
            "Something else went on then, or many of its requests came together."
        )
        yield failed(CODE, "tail-of-one-round", percent(share), text, name, off=p99 / without - 1)


def _without(sample: LatencySample, at: int) -> LatencySample:
    units, labels = sample.units, sample.labels
    return replace(sample, units=units[:at] + units[at + 1 :], labels=labels[:at] + labels[at + 1 :])


def trend(values: NDArray[np.float64]) -> tuple[float, float]:
    """Relative change from first to last value, and how likely chance alone orders them so.

    Theil-Sen slope (Sen 1968) over the median; two-sided Mann-Kendall p-value (Kendall 1975), normal
    approximation with continuity correction. Needs two values or more.
    """
    k = len(values)
    first, second = np.triu_indices(k, 1)
    slope = float(np.median((values[second] - values[first]) / (second - first)))
    score = abs(float(np.sign(values[second] - values[first]).sum()))
    deviation = np.sqrt(k * (k - 1) * (2 * k + 5) / 18)
    return slope * (k - 1) / float(np.median(values)), float(2 * ndtr(-max(score - 1, 0) / deviation))
