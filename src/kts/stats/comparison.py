"""Two runs side by side: which figures differ by more than their intervals explain."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from kts.model.records import CLOCKS, Clock
from kts.model.summary import Estimate, Summary, TenantSummary
from kts.stats.quantiles import refused

Figure = Literal["solo", "shared", "df"]
FIGURES: tuple[Figure, ...] = ("solo", "shared", "df")
QUANTILE_FIELDS = ("p50", "p95", "p99", "p999")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in both runs. ``ratio`` = B / A with its interval, refused where either side is.

    ``change``: whether the interval excludes 1 ("higher", "lower"), holds it ("within-noise"), or is "unknown".
    """

    tenant: str
    clock: Clock
    figure: Figure
    quantile: str
    a: Estimate
    b: Estimate
    ratio: Estimate
    change: Literal["higher", "lower", "within-noise", "unknown"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Run B against run A. ``changes``: per common tenant, clock, figure and quantile, in that order."""

    a: str
    b: str
    changes: tuple[Change, ...]
    only_in_a: tuple[str, ...] = ()
    only_in_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare(a: Summary, b: Summary) -> Comparison:
    """Ratios B / A of every figure of the tenants that both runs have, with intervals.

    The two intervals combine on the log scale by the method of variance estimates recovery (Zou & Donner
    2008): runs are independent, and neither interval needs to be symmetric.
    """
    common = [name for name in a.tenants if name in b.tenants]
    changes = tuple(change for name in common for change in _changes(name, a.tenants[name], b.tenants[name]))
    return Comparison(
        a=a.run,
        b=b.run,
        changes=changes,
        only_in_a=tuple(name for name in a.tenants if name not in b.tenants),
        only_in_b=tuple(name for name in b.tenants if name not in a.tenants),
        notes=tuple(_notes(a, b, common)),
    )


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """B / A with the interval that both intervals imply. Refused where either is refused or not above 0."""
    for side, value in (("A", a), ("B", b)):
        if value.refused or value.estimate is None:
            return refused(f"{side}: {value.refused or 'no figure'}")
        if not (value.lo and value.lo > 0 and value.hi):
            return refused(f"{side}: the interval is not above zero")
    (la, ea, ua), (lb, eb, ub) = _logs(a), _logs(b)
    centre = eb - ea
    return Estimate(
        estimate=math.exp(centre),
        lo=math.exp(centre - math.hypot(eb - lb, ua - ea)),
        hi=math.exp(centre + math.hypot(ub - eb, ea - la)),
    )


def _changes(name: str, a: TenantSummary, b: TenantSummary) -> list[Change]:
    found = []
    for clock in CLOCKS:
        for figure in FIGURES:
            for quantile in QUANTILE_FIELDS:
                ours: Estimate = getattr(getattr(getattr(a, clock), figure), quantile)
                theirs: Estimate = getattr(getattr(getattr(b, clock), figure), quantile)
                both = ratio(ours, theirs)
                found.append(
                    Change(
                        tenant=name,
                        clock=clock,
                        figure=figure,
                        quantile=quantile,
                        a=ours,
                        b=theirs,
                        ratio=both,
                        change=_direction(both),
                    )
                )
    return found


def _direction(both: Estimate) -> Literal["higher", "lower", "within-noise", "unknown"]:
    if both.lo is None or both.hi is None:
        return "unknown"
    return "higher" if both.lo > 1 else "lower" if both.hi < 1 else "within-noise"


def _notes(a: Summary, b: Summary, common: list[str]) -> list[str]:
    """What besides the thing under test differs between the runs."""
    notes = []
    for what in ("device", "mode", "design", "backend", "confidence", "experiment"):
        ours, theirs = getattr(a, what), getattr(b, what)
        if ours != theirs:
            notes.append(f"{what} differs: {ours} against {theirs}")
    for name in common:
        for what in ("workload", "size"):
            ours, theirs = getattr(a.tenants[name], what), getattr(b.tenants[name], what)
            if ours != theirs:
                notes.append(f"{name}: {what} differs: {ours or 'unknown'} against {theirs or 'unknown'}")
    if not common:
        notes.append("the runs have no tenant in common")
    return notes


def _logs(value: Estimate) -> tuple[float, float, float]:
    assert value.lo is not None
    assert value.estimate is not None
    assert value.hi is not None
    return math.log(value.lo), math.log(value.estimate), math.log(value.hi)
