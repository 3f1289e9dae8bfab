"""What limits the meaning of the figures, in words. Codes are stable; docs/measuring.md lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from kts.arrivals import Closed
from kts.model.plan import Plan
from kts.model.reading import RunData
from kts.model.summary import Caution, MixTenant, TenantSummary, Verdict
from kts.stats.faults import MOST_GAPS, device_gaps
from kts.stats.latencies import SideData, TenantData
from kts.stats.phase import BlockPhases, lock
from kts.stats.sample import MIN_ROUNDS, LatencySample
from kts.stats.series import SIDES
from kts.stats.verdict import half_width
from kts.stats.view import TenantView
from kts.units import format_ms

DROPPED = 0.05
DRIFT = 0.05
DRIFT_P_VALUE = 0.01
VARIES = 0.10
FASTER = 0.97
FALLS_BEHIND = 0.95
MIXES_NAMED = 4


def of_run(run: RunData) -> Iterator[Caution]:
    """Cautions about the run as a whole."""
    plan = run.info.plan
    cpu = [worker.device.label for worker in run.info.workers if worker.device.kind == "cpu"]
    if cpu:
        text = f"Measured on {cpu[0]}: what shares is a CPU core under the kernel's scheduler, not a GPU."
        yield Caution(code="not-a-gpu", text=text)
    bad = [block for block in (run.info.blocks or run.blocks) if not block.valid]
    if bad:
        reasons = "; ".join(sorted({block.reason for block in bad if block.reason})) or "no reason recorded"
        yield Caution(code="invalid-blocks", text=f"{_count(len(bad), 'block')} left out as invalid: {reasons}.")
    for line in run.damage:
        yield Caution(code="damage", text=f"Not read: {line}.")
    for line in run.info.doubts:
        yield Caution(code="doubt", text=f"In doubt: {line}.")
    rounds = {block.round for block in run.blocks if block.valid}
    if plan.design == "classic" or len(rounds) < 2:
        text = (
            "Each condition was measured in one block: drift between blocks (clocks, temperature, other load) cannot "
            "be told from the effect of sharing, and no interval covers it. The interleaved design can."
        )
        yield Caution(code="classic-one-block", text=text)
    elif len(rounds) < MIN_ROUNDS:
        text = (
            f"Only {len(rounds)} rounds: blocks were cut into segments; drift between rounds is not in the intervals."
        )
        yield Caution(code="few-rounds", text=text)


def notes(plan: Plan, tenants: Mapping[str, TenantSummary]) -> Iterator[str]:
    """What a closed loop leaves out, in one line for all tenants that have one."""
    closed = [
        tenant.name
        for tenant in plan.tenants
        if tenant.name in tenants and isinstance(tenant.arrivals, Closed) and tenants[tenant.name].response.shared.n
    ]
    if closed:
        yield (
            f"{', '.join(closed)}: closed loop: a user who waits does not send the next request. As an open loop "
            "(arrivals: poisson or trace) requests would queue meanwhile, and responses take longer."
        )


def of_tenant(view: TenantView) -> Iterator[Caution]:
    """Cautions about one tenant."""
    name, plan, data, summary = view.name, view.plan, view.data, view.summary
    refusals = {"solo": summary.response.solo.p99.refused, "shared": summary.response.shared.p99.refused}
    texts = [why if side in why else f"{side} {why}" for side, why in refusals.items() if why]
    if texts:
        yield Caution(code="few-samples", tenant=name, text=f"{name}: {'; '.join(texts)}.")
    kept, dropped = summary.overlap.kept, summary.overlap.dropped
    if dropped > DROPPED * (kept + dropped):
        text = (
            f"{name}: {dropped} of {kept + dropped} shared iterations ({100 * dropped / (kept + dropped):.0f} %) "
            "ran while a neighbour was idle and do not count as shared."
        )
        yield Caution(code="overlap-dropped", tenant=name, text=text)
    yield from _locks(name, view.gathered.phases.of(name))
    yield from _faults(name, data)
    yield from _overload(name, {"alone": data.solo, "when shared": data.shared})
    width = half_width(summary.response.df.p99)
    has_records = summary.response.solo.n + summary.response.shared.n > 0
    if has_records and plan.precision is not None and not _decides(summary.verdict):
        known = f"DF99 is known to {_percent(width)}, asked was {_percent(plan.precision)}"
        decides = ", and an interval that decides" if width is not None and width <= plan.precision else ""
        text = f"{name}: {known}{decides}."
        yield Caution(code="precision-not-reached", tenant=name, text=text)
    if (solo := view.samples["solo"]["service"]) is not None:
        yield from _stability(name, solo)
    yield from _faster(name, summary)


def of_mixes(view: TenantView) -> Iterator[Caution]:
    """Cautions about one tenant in the mixes besides the full house."""
    name, plan = view.name, view.plan
    house = plan.full_house.name
    known = {condition: mix for condition, mix in view.mixes.items() if condition != house and mix.n}
    wide = [condition.removeprefix("shared-") for condition, mix in known.items() if not _decides(mix)]
    if wide and plan.precision is not None:
        shown = ", ".join(wide[:MIXES_NAMED]) + (f" and {len(wide) - MIXES_NAMED} more" if wide[MIXES_NAMED:] else "")
        text = (
            f"{name}: in {len(wide)} of {_count(len(known), 'mix', 'mixes')} DF99 is not settled to the asked "
            f"{_percent(plan.precision)}: {shown}."
        )
        yield Caution(code="mix-precision", tenant=name, text=text)


def _locks(name: str, phases: Mapping[str, list[BlockPhases]]) -> Iterator[Caution]:
    for other, blocks in phases.items():
        if found := lock(blocks):
            points = _count(found.points, "fixed point")
            text = (
                f"{name} starts in step with {other}: within a block its starts keep to {points} of {other}'s cycle "
                f"(strength {found.strength:.2f} of 1). Each block is one phase and blocks differ, so the intervals "
                f"know {_count(found.blocks, 'block')} rather than the iterations. Jitter the think times."
            )
            yield Caution(code="phase-lock", tenant=name, text=text)


def _faults(name: str, data: TenantData) -> Iterator[Caution]:
    """Latencies below zero, and device times that are missing here and there."""
    if data.impossible:
        text = (
            f"{name}: left out: {_count(data.impossible, 'iteration')} with a latency below zero, which no clock that "
            "runs on can give."
        )
        yield Caution(code="damage", tenant=name, text=text)
    gaps = {side: device_gaps(data.side(side).device) for side in SIDES}
    if any(missing for missing, _ in gaps.values()) and any(missing < n for missing, n in gaps.values()):
        counts = ", ".join(f"{missing} of {n} {side}" for side, (missing, n) in gaps.items())
        text = (
            f"{name}: iterations without a device time: {counts}. Device figures of a side are refused where over "
            f"{100 * MOST_GAPS:g} % lack it, else they are of the others."
        )
        yield Caution(code="device-clock-gaps", tenant=name, text=text)


def _faster(name: str, summary: TenantSummary) -> Iterator[Caution]:
    """A median that is lower when shared, with the SM clock where it was sampled: what was seen, no cause."""
    for clock in ("service", "device"):
        figures = getattr(summary, clock)
        df = figures.df.p50
        if df.hi is not None and df.hi < 1 and df.estimate < FASTER:
            alone, together = (format_ms(side.p50.estimate or 0.0) for side in (figures.solo, figures.shared))
            text = (
                f"{name}: the median {clock} time is lower when shared: {together} instead of {alone} "
                f"({df.estimate:.2f}x, {df.lo:.2f} to {df.hi:.2f}).{_sm_clock(summary)}"
            )
            yield Caution(code="faster-when-shared", tenant=name, text=text)
            return


def _sm_clock(summary: TenantSummary) -> str:
    for metric in summary.activity or ():
        solo, shared = metric.solo.block_mean, metric.shared.block_mean
        if metric.metric == "sm_clock_mhz" and solo is not None and shared is not None:
            return f" The SM clock was {solo:.0f} MHz in solo blocks and {shared:.0f} MHz in shared ones (means)."
    return ""


def _overload(name: str, sides: Mapping[str, SideData]) -> Iterator[Caution]:
    """An open loop that is served more slowly than it arrives has no stationary response time."""
    for when, side in sides.items():
        if side.due_ns < FALLS_BEHIND * side.cycles_ns:
            due, served = (side.cycles * 1e9 / max(ns, 1) for ns in (side.due_ns, side.cycles_ns))
            text = (
                f"{name}: {when} iterations are due {due:.3g} times a second and served {served:.3g} times: the "
                "backlog grows, and every response time with it, for as long as a block lasts."
            )
            yield Caution(code="overload", tenant=name, text=text)


def _stability(name: str, solo: LatencySample) -> Iterator[Caution]:
    """Drift and spread of the medians of the solo units."""
    medians = np.array([float(np.median(unit)) for unit in solo.units])
    if len(medians) < 5 or not medians.mean() > 0:
        return
    unit = "round" if solo.rounds else "segment"
    change, p_value = trend(medians)
    if abs(change) > DRIFT and p_value < DRIFT_P_VALUE:
        text = f"{name}: the solo median drifts by {100 * change:+.0f} % from the first {unit} to the last."
        yield Caution(code="drift", tenant=name, text=text)
    spread = float(medians.std(ddof=1) / medians.mean())
    if spread > VARIES:
        text = f"{name}: the solo median differs from {unit} to {unit} by {spread * 100:.0f} % (standard deviation)."
        yield Caution(code="solo-varies", tenant=name, text=text)


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


def _decides(verdict: Verdict | MixTenant) -> bool:
    """Within the asked precision, and an answer."""
    return verdict.precise and verdict.kind not in {"undetermined", "not-steady"}


def _percent(width: float | None) -> str:
    return "no interval at all" if width is None else f"+-{100 * width:.3g} %"


def _count(n: int, word: str, words: str = "") -> str:
    return f"{n} {word}" if n == 1 else f"{n} {words or word + 's'}"
