"""Is a tail within its limit? SLOs of one run, and new runs against old ones. Pure.

A criterion passes where the whole interval lies within its limit. All must pass, so no adjustment for their number is
due (intersection-union test: Berger 1982). It fails where the interval of a higher confidence lies beyond: the gate
fails falsely in `FALSE_FAIL` of cases at most, all criteria together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from kts.errors import UsageError
from kts.model.gate import SENSIBLE, TOLERANCE, Criterion, Gate, Judgement, Question, judgement_of, sentence_of
from kts.model.summary import Estimate, Latency, Summary, TenantSummary
from kts.stats import comparison
from kts.stats.quantiles import QUANTILES, min_samples, refused
from kts.stats.replicates import difference, pooled

FALSE_FAIL = 0.01
TOLD = frozenset(
    {"different-gpus", "doubt", "clocks-apart", "neighbour", "not-as-asked", "cpu-limit", "invalid-blocks"}
)
TOLD |= frozenset({"damage", "trace-lost", "overload", "cores-shared", "not-a-gpu"})
"""Codes of cautions that are about response times in company, and not about what they are compared with."""
IN_COMPANY = frozenset({"same-gpu", "clock-alignment", "no-neighbour", "overlap", "block-starts", "phase-lock"})
IN_COMPANY |= frozenset({"keeps-up", "cores", "observer"})
"""Checks whose failure may move response times in company; the others are about what these are compared with."""
QUANTILE_FIELDS = {"p50": "p50", "p95": "p95", "p99": "p99", "p99.9": "p999"}
"""Figure of a limit -> field of `Latency`."""

Limits = Mapping[tuple[str, str], float]
"""(tenant, quantile) -> milliseconds at most."""


def against_slos(run: Summary, at: Callable[[float], Summary], limits: Limits, measured_s: float | None = None) -> Gate:
    """Whether the shared response keeps its limits. ``at``: the figures of the run at another confidence.

    UsageError where a limit is of no tenant that the run asks about.
    """
    for name, quantile in limits:
        if name not in run.tenants:
            raise UsageError(
                f"--slo {name}.{quantile}: no figures of such a tenant", f"there are: {', '.join(run.tenants)}"
            )
    strict = 1 - FALSE_FAIL / len(limits)
    surer: list[Summary] = []
    criteria = []
    for (name, quantile), limit_ms in limits.items():
        tenant, figure = run.tenants[name], _shared(run, name, quantile)
        judged, why = _within(figure, limit_ms)
        deciding, confidence = figure, run.confidence
        if judged == "fail":
            if not surer:
                surer.append(at(strict))
            deciding, confidence = _shared(surer[0], name, quantile), strict
            judged, why = _surely(deciding, limit_ms, strict)
        if shaky := doubt(run, name, figure, limit_ms):
            judged, why = "inconclusive", shaky
        criteria.append(
            Criterion(
                tenant=name,
                figure=f"shared {quantile}",
                measured=figure,
                unit="ms",
                limit=limit_ms,
                judgement=judged,
                why=why or _alone_too(tenant, quantile, limit_ms, judged),
                more_s=None
                if judged != "inconclusive" or shaky
                else more_s(deciding, limit_ms, measured_s, needed=_needed(tenant, quantile, confidence)),
            )
        )
    return gate_of(
        "slo",
        criteria,
        new=(run.run,),
        confidence=run.confidence,
        measured_s=measured_s,
        is_gpu=run.is_gpu,
        notes=told_of(run),
    )


def against_old(
    new: Sequence[Summary], old: Sequence[Summary], tolerance: float = TOLERANCE, measured_s: float | None = None
) -> Gate:
    """Whether each tenant's shared response p99 is worse than before by more than ``tolerance``.

    Where the work differs in size, milliseconds of two sizes say nothing, and DF99 is judged. Tests and intervals are
    those of `kts compare`. UsageError where the runs are not of the same tenants.
    """
    names = list(new[0].tenants)
    for run in [*new, *old]:
        if set(run.tenants) != set(names):
            raise UsageError(
                f"{new[0].run} and {run.run} are not of the same tenants: {', '.join(names)} against "
                f"{', '.join(run.tenants)}",
                "give runs of one experiment, or experiments whose tenants have the same names",
            )
    confidence = min(run.confidence for run in [*new, *old])
    criteria, tests = [], {}
    for name in names:
        sides = [[run.tenants[name] for run in side] for side in (old, new)]
        other = comparison.other_work([*sides[0], *sides[1]])
        figures = [[_tail(one, df=bool(other)) for one in side] for side in sides]
        found = difference(figures[0], figures[1], confidence, ("old", "new"))
        ratio = refused(found) if isinstance(found, str) else found.ratio
        if not isinstance(found, str):
            tests[name] = found.p_beyond(tolerance) if found.centre > 0 else 1.0
        judged, why = _within(ratio, 1 + tolerance)
        doubts = (doubt(run, name, ratio, 1 + tolerance) for run in [*old, *new])
        if shaky := next(filter(None, doubts), ""):
            judged, why = "inconclusive", shaky
        criteria.append(
            Criterion(
                tenant=name,
                figure="DF99" if other else "shared p99",
                measured=ratio,
                unit="ratio",
                limit=1 + tolerance,
                judgement=judged,
                why=why or other,
                more_s=None if shaky else more_s(ratio, 1 + tolerance, measured_s, clear=math.log1p(tolerance)),
                old=pooled(figures[0], confidence).estimate,
                new=pooled(figures[1], confidence).estimate,
            )
        )
    return gate_of(
        "against",
        list(_sure_ones(criteria, tests)),
        new=tuple(run.run for run in new),
        old=tuple(run.run for run in old),
        confidence=confidence,
        tolerance=tolerance,
        measured_s=measured_s,
        is_gpu=all(run.is_gpu for run in [*new, *old]),
        notes=_of_two_sides(new, old, names),
    )


def gate_of(
    question: Question,
    criteria: Sequence[Criterion],
    *,
    new: tuple[str, ...],
    old: tuple[str, ...] = (),
    confidence: float,
    tolerance: float | None = None,
    measured_s: float | None,
    is_gpu: bool,
    notes: Iterable[str],
) -> Gate:
    """What the criteria come to, all together."""
    wanted = [one.more_s for one in criteria if one.judgement == "inconclusive"]
    known = [seconds for seconds in wanted if seconds is not None]
    return Gate(
        judgement=judgement_of(criteria),
        sentence=sentence_of(question, criteria),
        more_s=max(known) if known and len(known) == len(wanted) else None,
        question=question,
        new=new,
        old=old,
        confidence=confidence,
        false_fail=FALSE_FAIL,
        tolerance=tolerance,
        criteria=tuple(criteria),
        measured_s=measured_s,
        is_gpu=is_gpu,
        notes=tuple(notes),
    )


def more_s(
    figure: Estimate, limit: float, measured_s: float | None, *, needed: float = 0.0, clear: float = 0.0
) -> float | None:
    """How many more seconds bring the limit out of the interval if the figure is as it seems.

    An interval is as wide as one over the square root of the time. ``needed``: times as many iterations as there are
    is the least for any interval. ``clear``: the true figure is taken to be at least so far from its limit
    (logarithms), until intervals are narrower than that.
    None: nobody can tell, or longer than `SENSIBLE`.
    """
    if measured_s is None:
        return None
    times = needed
    if figure.estimate and figure.lo and figure.hi is not None:
        away = abs(math.log(limit / figure.estimate))
        arm = math.log(figure.hi / figure.estimate if figure.estimate < limit else figure.estimate / figure.lo)
        away = away if arm < clear else max(away, clear)
        times = max(times, (arm / away) ** 2 if away > 0 else math.inf)
    return measured_s * (times - 1) if 1 < times < SENSIBLE else None


def _needed(tenant: TenantSummary, quantile: str, confidence: float) -> float:
    have = tenant.response.shared.n
    return min_samples(QUANTILES[QUANTILE_FIELDS[quantile]], confidence) / have if have else 0.0


def _within(figure: Estimate, limit: float) -> tuple[Judgement, str]:
    """What the interval says of the limit, and why it does not decide."""
    if figure.lo is None or figure.hi is None:
        return "inconclusive", figure.refused
    if figure.hi <= limit:
        return "pass", ""
    return ("fail", "") if figure.lo > limit else ("inconclusive", "the interval holds the limit")


def _surely(figure: Estimate, limit: float, confidence: float) -> tuple[Judgement, str]:
    """Whether a figure is beyond its limit at the confidence that a fail needs."""
    if figure.lo is not None and figure.lo > limit:
        return "fail", ""
    return "inconclusive", figure.refused or f"beyond its limit, but not at {100 * confidence:.4g} %"


def _sure_ones(criteria: Sequence[Criterion], p: Mapping[str, float]) -> Iterator[Criterion]:
    """Those beyond the limit fail only where their p, adjusted for all of them (Holm 1979), is below `FALSE_FAIL`."""
    adjusted = dict(zip(p, comparison.holm(list(p.values())), strict=True))
    for one in criteria:
        if one.judgement == "fail" and adjusted[one.tenant] >= FALSE_FAIL:
            yield replace(one, judgement="inconclusive", why=f"beyond the limit, but p is {adjusted[one.tenant]:.2g}")
        else:
            yield one if one.judgement == "inconclusive" else replace(one, more_s=None)


def _shared(run: Summary, name: str, quantile: str) -> Estimate:
    latency: Latency = run.tenants[name].response.shared
    found: Estimate = getattr(latency, QUANTILE_FIELDS[quantile])
    return found


def _tail(tenant: TenantSummary, *, df: bool) -> Estimate:
    return tenant.response.df.p99 if df else tenant.response.shared.p99


def doubt(run: Summary, name: str, figure: Estimate, limit: float, lowering: Collection[str] = ()) -> str:
    """Why no figure of a tenant can decide: a check failed that takes every verdict with it, or the figure may be off
    by more than lies between its interval and the limit. Empty where one can. ``lowering``: checks besides `IN_COMPANY`
    that take it with them where they lower a verdict."""
    if run.tenants[name].verdict.kind == "not-steady":
        return run.tenants[name].verdict.sentence
    margin = math.inf
    if figure.lo and figure.hi:
        margin = math.log(limit / figure.hi) if figure.hi <= limit else math.log(figure.lo / limit)
    for one in run.checks or ():
        if one.outcome == "failed" and one.tenant in ("", name):
            if one.lowers and (one.code in IN_COMPANY or one.code in lowering):
                return one.text
            if one.code not in IN_COMPANY:
                continue
            if one.off is not None and math.log1p(one.off) > margin > 0:
                return f"{one.text} The figure may be off by {100 * one.off:.0f} %, more than it is from its limit"
    return ""


def _alone_too(tenant: TenantSummary, quantile: str, limit_ms: float, judged: Judgement) -> str:
    alone: Estimate = getattr(tenant.response.solo, QUANTILE_FIELDS[quantile])
    beyond = judged == "fail" and alone.lo is not None and alone.lo > limit_ms
    return "alone, too: it is not sharing that breaks it" if beyond else ""


def told_of(run: Summary) -> Iterator[str]:
    """What limits the figures of a run, one line each."""
    if run.outcome not in ("complete", "undetermined"):
        yield f"{run.run} is {run.outcome}: judged by what was measured"
    dimmed = next((one.verdict.dimmed for one in run.tenants.values() if one.verdict.dimmed), "")
    if dimmed:
        yield f"{run.run}: {dimmed}: the intervals do not hold what changes from block to block"
    told = (one for one in run.warnings if one.code in TOLD)
    yield from (f"{run.run}: {one.tenant}{': ' if one.tenant else ''}{one.text}" for one in told)


def _of_two_sides(new: Sequence[Summary], old: Sequence[Summary], names: Sequence[str]) -> Iterator[str]:
    for run in [*old, *new]:
        yield from told_of(run)
    yield from comparison.differences(old, new, names)
    if len(new) + len(old) < 3:
        yield (
            "one run a side does not tell how much two runs of one experiment differ, and the intervals do not hold "
            "it: give several (--against more than once), or measure both in one run (--pair)"
        )
