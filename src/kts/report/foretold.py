"""What a run can decide, in words: for who waits, and where it came otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.foretold import FIGURES, Expected, FigureName, Foretold, Otherwise
from kts.model.plan import Plan, Quota
from kts.plan import blocks_of_round
from kts.report import document as doc
from kts.shown import first_few
from kts.units import format_duration

NAMES: dict[FigureName, str] = {"p50": "p50", "p95": "p95", "p99": "p99", "p999": "p99.9", "df99": "DF99"}
LISTED = 2
"""Conditions that are named of each tenant."""


def lines(told: Foretold) -> list[str]:
    """One line where no p99 or DF99 will be refused, or less precise than asked; else also one for each tenant of which
    some will, and what would be enough."""
    basis = _basis(told)
    how_long = _rounds(told) if told.untold else f"{_rounds(told)} in about {format_duration(told.seconds)}"
    wanting = [line for name in dict.fromkeys(one.tenant for one in told.expected) for line in _tenant(told, name)]
    waiting = dict.fromkeys(one.tenant for one in told.expected if {"p50", "p95", "p99"} & set(one.open))
    rounds = "more rounds" if told.after_rounds else "a round"
    later = f"; of {', '.join(waiting)} {rounds} must tell" if waiting else ""
    untold = f"{later}; nobody knows yet how long iterations of {', '.join(told.untold)} take" if told.untold else later
    if not told.expected:
        return [f"foretold: nothing yet{untold}"]
    if not wanting:
        return [f"foretold: no p99 or DF99 will be refused{untold}: {how_long}{_rare(told)}{basis}"]
    head = f"foretold: {how_long}{_why(told)} cannot decide all{untold}{basis}"
    enough = [f"  enough: {'; or '.join(told.enough)}"] if told.enough else []
    return [head, *wanting, *enough]


def planned(plan: Plan, told: Foretold) -> Iterator[doc.Element]:
    """A plan before anything is measured: what a round holds, and what is foretold of the run."""
    rounds = f"{plan.rounds} rounds" if plan.precision is None else f"{plan.rounds} to {plan.max_rounds} rounds"
    limit = "" if plan.max_seconds is None else f", {format_duration(plan.max_seconds)} at most"
    yield doc.paragraph(f"{plan.name}: {plan.design}, {rounds} of {len(plan.conditions)} blocks{limit}", "strong")
    amounts = {block.condition: block.quotas for block in blocks_of_round(plan, 0)}
    yield doc.Table(
        columns=(doc.Column("a block of", "subject"), doc.Column("holds, at least", "name", fold=0)),
        groups=(
            tuple((c.name, ", ".join(_amount(n, q) for n, q in amounts[c.name].items())) for c in plan.conditions),
        ),
    )
    for line in lines(told):
        yield doc.paragraph(line)


def _amount(name: str, quota: Quota) -> str:
    return f"{name} {quota.iterations}" if quota.iterations is not None else f"{name} {quota.seconds or 0:.3g} s"


def otherwise(one: Otherwise) -> str:
    """Where a figure came otherwise."""
    figure, where = NAMES[one.figure], _where(one.condition)
    if one.refused:
        return f"{one.tenant}: {figure} {where} was foretold to come ({one.expected_n} iterations): {one.refused}"
    return f"{one.tenant}: {figure} {where} was foretold to be refused ({one.expected_n} iterations), came of {one.n}"


def _tenant(told: Foretold, name: str) -> Iterator[str]:
    mine = [one for one in told.expected if one.tenant == name]
    refused = [one for one in mine if _scarce(one)]
    if figures := [NAMES[f] for f in FIGURES if f != "p999" and any(f in one.refused for one in mine)]:
        yield f"  {name}: no {_listed(figures)}: {first_few([_count(one) for one in refused], LISTED)}"
    wide = [one for one in mine if told.too_wide(one) and "df99" not in one.refused]
    if wide:
        asked = f"asked for is +-{100 * (told.precision or 0):.3g} %"
        places = [f"+-{100 * (one.width or 0):.2g} % {_where(one.condition)}" for one in wide]
        yield f"  {name}: DF99 less precise than asked: {first_few(places, LISTED)}, {asked}"


def _scarce(one: Expected) -> bool:
    return bool({"p50", "p95", "p99"} & set(one.refused))


def _count(one: Expected) -> str:
    from kts.stats.quantiles import min_samples  # brings scipy, which who only renders need not wait for

    worth = f", worth {int(one.n / one.effect)}" if one.n >= min_samples(0.99) else ""
    return f"{one.n}{worth} of {min_samples(0.99)} iterations {_where(one.condition)}"


def _where(condition: str) -> str:
    return "alone" if condition.startswith("solo-") else f"in {condition}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _rounds(told: Foretold) -> str:
    if told.rounds < 1:
        return "a part of a round"
    return f"{told.rounds:.3g} round{'' if told.rounds == 1 else 's'}"


def _why(told: Foretold) -> str:
    return {"max_seconds": " (the time limit)", "max_rounds": " (`max_rounds`)"}.get(told.bound, "")


def _rare(told: Foretold) -> str:
    """What is said of p99.9, of which most runs have none."""
    none = [one for one in told.expected if "p999" in one.refused]
    if not none:
        return ""
    return (
        "; no p99.9" if len(none) == len(told.expected) else f"; no p99.9 in {len(none)} of {len(told.expected)} places"
    )


def _basis(told: Foretold) -> str:
    """What it stands on."""
    if told.after_rounds:
        return f" (by {told.after_rounds} round{'' if told.after_rounds == 1 else 's'})"
    slowest = max((one.slower for one in told.expected), default=1.0)
    return f" (iterations taken as independent, and up to {slowest:.2g}x as long in company, until a round tells)"
