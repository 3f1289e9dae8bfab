"""Two sides of one or several runs each: which figures differ by more than asked, and by more than runs do anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from kts.errors import RefusalError
from kts.model.provenance import Provenance
from kts.model.records import CLOCKS, Clock
from kts.model.summary import Estimate, Summary, TenantSummary
from kts.stats.quantiles import refused
from kts.stats.replicates import Difference, Pooled, difference, pooled

Figure = Literal["solo", "shared", "df"]
FIGURES: tuple[Figure, ...] = ("solo", "shared", "df")
QUANTILE_FIELDS = ("p50", "p95", "p99", "p999")
FAMILY: tuple[tuple[Clock, Figure, str], ...] = (
    ("response", "solo", "p50"),
    ("response", "solo", "p99"),
    ("response", "shared", "p50"),
    ("response", "shared", "p99"),
    ("response", "df", "p99"),
    ("device", "df", "p99"),
)
"""Of every tenant: the figures that are judged, all together. The others are told and not judged."""
THRESHOLD = 0.05

Judgement = Literal["higher", "lower", "same", "undetermined", "unknown", "not-judged"]


class ComparedFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure on both sides. ``a``, ``b``: of the run, or pooled over the runs of the side; ``ratio``: B / A.

    ``change``: higher or lower: by more than the threshold, sure among the whole family. same: the whole interval lies
    within the threshold. undetermined: neither. unknown: refused. not-judged: not of the family, or of other work.
    ``p``: adjusted (Holm). ``between``: standard deviation from run to run, relative; None where nobody can tell.
    """

    tenant: str
    clock: Clock
    figure: Figure
    quantile: str
    a: Estimate
    b: Estimate
    ratio: Estimate
    change: Judgement
    p: float | None = None
    between: float | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Side B against side A. ``changes``: per common tenant, clock, figure and quantile, in that order.

    ``family``: how many figures were judged together. ``replicated``: the runs tell how much runs differ.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    threshold: float
    confidence: float
    family: int
    replicated: bool
    changes: tuple[ComparedFigure, ...]
    only_in_a: tuple[str, ...] = ()
    only_in_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What it comes to."""
        counts = {kind: sum(c.change == kind for c in self.changes) for kind in ("higher", "lower", "same")}
        differ, same = counts["higher"] + counts["lower"], counts["same"]
        left, percent = self.family - differ - same, f"{100 * self.threshold:g} %"
        if same == self.family:
            return f"All {same} figures agree within {percent}."
        rest = [f"{same} agree within that"] if same else []
        rest += [f"{left} {'is' if left == 1 else 'are'} undetermined"] if left else []
        said = f"{differ or 'None'} of {self.family} figures differ{'s' if differ < 2 else ''} by more than {percent}"
        return f"{said}{'; ' if rest else ''}{', '.join(rest)}."


class PooledFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one tenant over all runs."""

    tenant: str
    clock: Clock
    figure: Figure
    quantile: str
    pooled: Pooled


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one experiment together, per tenant the figures of `FAMILY`."""

    runs: tuple[str, ...]
    confidence: float
    figures: tuple[PooledFigure, ...]
    notes: tuple[str, ...] = ()


def compare(a: Sequence[Summary], b: Sequence[Summary], threshold: float = THRESHOLD) -> Comparison:
    """Ratios B / A of every figure of the tenants that all runs have.

    A figure differs if its p for a difference of at most ``threshold`` is below 1 - confidence after Holm's (1979)
    adjustment over the family: `FAMILY` of every tenant, as far as both sides have it. RefusalError if that is empty.
    """
    runs = [*a, *b]
    names = [name for name in a[0].tenants if all(name in run.tenants for run in runs)]
    if not names:
        raise RefusalError(
            f"nothing was compared: no tenant is in all runs (A: {_names(a)}; B: {_names(b)})",
            "give runs of one experiment, or experiments whose tenants have the same names",
        )
    confidence = min(run.confidence for run in runs)
    compared = [one for name in names for one in _compared(name, a, b, confidence)]
    judged = _judged(compared, threshold, confidence)
    if not judged:
        why = next((change.ratio.refused for change, _ in compared if change.ratio.refused), "")
        raise RefusalError(f"nothing was compared: no figure can be judged ({why})", "measure longer")
    return Comparison(
        a=tuple(run.run for run in a),
        b=tuple(run.run for run in b),
        threshold=threshold,
        confidence=confidence,
        family=len(judged),
        replicated=len(runs) > 2,
        changes=tuple(judged.get(number, change) for number, (change, _) in enumerate(compared)),
        only_in_a=tuple(name for name in a[0].tenants if name not in names),
        only_in_b=tuple(name for name in b[0].tenants if name not in names),
        notes=tuple(differences(a, b, names)),
    )


def pool(runs: Sequence[Summary]) -> Pool:
    """Each figure of `FAMILY` over all runs, of the tenants that all have. RefusalError if there is no such tenant."""
    names = [name for name in runs[0].tenants if all(name in run.tenants for run in runs)]
    if not names:
        raise RefusalError(
            f"nothing was pooled: no tenant is in all runs ({_names(runs)})", "give runs of one experiment"
        )
    confidence = min(run.confidence for run in runs)
    figures = []
    for name in names:
        tenants = [run.tenants[name] for run in runs]
        for clock, figure, quantile in FAMILY:
            found = pooled([_estimate(one, clock, figure, quantile) for one in tenants], confidence)
            if figure != "df" and (why := other_work(tenants)):
                found = Pooled(estimate=refused(why), between=None, runs=found.runs)
            figures.append(PooledFigure(tenant=name, clock=clock, figure=figure, quantile=quantile, pooled=found))
    return Pool(
        runs=tuple(run.run for run in runs),
        confidence=confidence,
        figures=tuple(figures),
        notes=tuple(differences(runs, runs, names)),
    )


def _compared(
    name: str, a: Sequence[Summary], b: Sequence[Summary], confidence: float
) -> Iterator[tuple[ComparedFigure, Difference | str]]:
    """Every figure of a tenant, not judged yet, and what it is judged by: a difference, or why it is not."""
    ours, theirs = ([run.tenants[name] for run in side] for side in (a, b))
    other = other_work([*ours, *theirs])
    for clock in CLOCKS:
        for figure in FIGURES:
            for quantile in QUANTILE_FIELDS:
                sides = [[_estimate(one, clock, figure, quantile) for one in side] for side in (ours, theirs)]
                found = difference(sides[0], sides[1], confidence)
                told = isinstance(found, str)
                change = ComparedFigure(
                    tenant=name,
                    clock=clock,
                    figure=figure,
                    quantile=quantile,
                    a=pooled(sides[0], confidence).estimate if isinstance(found, str) else found.a,
                    b=pooled(sides[1], confidence).estimate if isinstance(found, str) else found.b,
                    ratio=refused(found) if isinstance(found, str) else found.ratio,
                    change="unknown" if told else "not-judged",
                    between=None if isinstance(found, str) else found.between,
                )
                yield change, other if other and figure != "df" else found


def _judged(
    compared: Sequence[tuple[ComparedFigure, Difference | str]], threshold: float, confidence: float
) -> dict[int, ComparedFigure]:
    """The family, by place: each with its adjusted p and what that says."""
    family = {
        number: found
        for number, (change, found) in enumerate(compared)
        if (change.clock, change.figure, change.quantile) in FAMILY and not isinstance(found, str)
    }
    adjusted = holm([found.p_beyond(threshold) for found in family.values()])
    judged = {}
    for (number, found), p in zip(family.items(), adjusted, strict=True):
        kind: Judgement = "same" if found.within(threshold) else "undetermined"
        if p < 1 - confidence:
            kind = "higher" if found.centre > 0 else "lower"
        judged[number] = msgspec.structs.replace(compared[number][0], change=kind, p=p)
    return judged


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p, in the order given: below alpha, all together, each of true hypotheses is with probability alpha."""
    adjusted, before = [0.0] * len(p), 0.0
    for rank, number in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        before = max(before, min(1.0, (len(p) - rank) * p[number]))
        adjusted[number] = before
    return adjusted


def _estimate(tenant: TenantSummary, clock: Clock, figure: Figure, quantile: str) -> Estimate:
    found: Estimate = getattr(getattr(getattr(tenant, clock), figure), quantile)
    return found


def other_work(tenants: Sequence[TenantSummary]) -> str:
    """Why milliseconds cannot be compared; empty if they can. A ratio of shared to solo can."""
    work = dict.fromkeys((one.workload, one.size) for one in tenants)
    if len(work) < 2:
        return ""
    return f"other work ({', '.join(f'{name} of size {size}' for name, size in work)})"


def _names(runs: Sequence[Summary]) -> str:
    return " | ".join(dict.fromkeys(", ".join(run.tenants) or "none" for run in runs))


def differences(a: Sequence[Summary], b: Sequence[Summary], names: Sequence[str]) -> Iterator[str]:
    """What besides the thing under test differs between the runs."""
    for what in ("device", "mode", "design", "backend", "confidence", "experiment"):
        yield from _differs(what, *([str(getattr(run, what)) for run in side] for side in (a, b)))
    yield from _differs("kts", *([_kts(run) for run in side] for side in (a, b)))
    for name in names:
        works = ([_work(run.tenants[name]) for run in side] for side in (a, b))
        for line in _differs(f"{name}: work", *works):
            yield f"{line}; milliseconds are not judged, ratios are"


def _work(tenant: TenantSummary) -> str:
    return f"{tenant.workload} {tenant.size or 'of unknown size'}"


def _kts(run: Summary) -> str:
    if not isinstance(run.provenance, Provenance):
        return "commit not recorded"
    return f"commit {(run.provenance.commit or 'unknown')[:12]}{'' if run.provenance.clean else ', modified'}"


def _differs(what: str, a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
    ours, theirs = (", ".join(dict.fromkeys(side)) for side in (a, b))
    if ours != theirs:
        yield f"{what} differs: {ours} against {theirs}"
    elif len(set(a)) > 1:
        yield f"{what} differs between the runs of a side: {ours}"
