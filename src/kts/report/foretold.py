"""What a run can decide, in words: for who waits, and where it came otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.foretold import FIGURES, Expected, ExpectedRatio, FigureName, Foretold, Otherwise
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
    if told.ratios:
        return _of_pair(told, how_long)
    names = dict.fromkeys(one.tenant for one in told.expected)
    modes = list(dict.fromkeys(one.mode for one in told.expected))
    wanting = [line for name in names for line in _tenant(told, name, modes)]
    waiting = dict.fromkeys(one.tenant for one in told.expected if {"p50", "p95", "p99"} & set(one.open))
    rounds = "more rounds" if told.after_rounds else "a round"
    later = f"; of {', '.join(waiting)} {rounds} must tell" if waiting else ""
    untold = f"{later}; nobody knows yet how long iterations of {', '.join(told.untold)} take" if told.untold else later
    if not told.expected:
        return [f"foretold: nothing yet{untold}"]
    if not wanting:
        anywhere = " in any mode" if any(modes) else ""
        return [f"foretold: no p99 or DF99 will be refused{anywhere}{untold}: {how_long}{_rare(told)}{basis}"]
    head = f"foretold: {how_long}{_why(told)} cannot decide all{untold}{basis}"
    enough = [f"  enough: {'; or '.join(told.enough)}"] if told.enough else []
    return [head, *wanting, *_whole_modes(told, modes), *enough]


def _whole_modes(told: Foretold, modes: Sequence[str]) -> Iterator[str]:
    """Modes in which nothing is refused, where there are several and some others."""
    lacking = {one.mode for one in told.expected if "df99" in one.refused or _scarce(one) or told.too_wide(one)}
    if whole := [mode for mode in modes if mode and mode not in lacking]:
        yield f"  every p99 and DF99 in {', '.join(whole)}"


def _of_pair(told: Foretold, how_long: str) -> list[str]:
    """What can be said of the tails of two versions."""
    later = "" if any(one.passes is not None for one in told.ratios) else "; which ratio that decides, rounds must tell"
    if all(one.refused for one in told.ratios):
        later = ""
    basis = _basis(told) if told.after_rounds else " (by how long iterations take alone)"
    head = f"foretold: at most {how_long}{_why(told)}{later}{basis}"
    alike = " for a B like A to pass" if any(one.passes is not None for one in told.ratios) else ""
    enough = [f"  enough{alike}: {way}" for way in told.enough]
    return [head, *map(_ratio, told.ratios), *enough]


def _ratio(one: ExpectedRatio) -> str:
    from kts.stats.quantiles import min_samples  # brings scipy, which who only renders need not wait for

    a, b = one.n
    if one.refused:
        return f"  {one.tenant}: p99 of B over A cannot be decided: {a} and {b} of {min_samples(0.99)} iterations"
    if one.open:
        return f"  {one.tenant}: p99 of B over A of about {a} and {b} iterations, if its program keeps that pace"
    of = f"  {one.tenant}: p99 of B over A of {a} and {b} iterations"
    decided = [f"up to {one.passes:.3g} passes"] if one.passes is not None else []
    decided += [f"from {one.fails:.3g} on fails"] if one.fails is not None else []
    return f"{of}: {', '.join(decided)}" if decided else of


def planned(plan: Plan, told: Foretold) -> Iterator[doc.Element]:
    """A plan before anything is measured: what a round holds, and what is foretold of the run."""
    rounds = f"{plan.rounds} rounds" if not plan.sequential else f"{plan.rounds} to {plan.allowed_rounds} rounds"
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


def _tenant(told: Foretold, name: str, modes: Sequence[str]) -> Iterator[str]:
    """Its lines; those that several modes have in common name all of these."""
    of: dict[str, list[str]] = {}
    for mode in modes:
        for text in _in_mode(told, name, mode):
            of.setdefault(text, []).append(mode)
    for text, where in of.items():
        yield f"  {name} in {_listed(where, 'and')}: {text}" if where[0] else f"  {name}: {text}"


def _in_mode(told: Foretold, name: str, mode: str) -> Iterator[str]:
    """``mode``: empty for what all modes have in common, and for a run without."""
    mine = [one for one in told.expected if one.tenant == name and one.mode == mode]
    refused = [one for one in mine if _scarce(one)]
    figures = [NAMES[f] for f in FIGURES if f != "p999" and any(f in one.refused for one in mine)]
    if not mode and "p99" in figures and any(one.mode for one in told.expected):
        figures.append("DF99 in any mode")
    if figures and refused:
        yield f"no {_listed(figures)}: {first_few([_count(one) for one in refused], LISTED)}"
    wide = [one for one in mine if told.too_wide(one) and "df99" not in one.refused]
    if wide:
        asked = f"asked for is +-{100 * (told.precision or 0):.3g} %"
        places = [f"+-{100 * (one.width or 0):.2g} % {_where(one.condition)}" for one in wide]
        yield f"DF99 less precise than asked: {first_few(places, LISTED)}, {asked}"


def _scarce(one: Expected) -> bool:
    return bool({"p50", "p95", "p99"} & set(one.refused))


def _count(one: Expected) -> str:
    from kts.stats.quantiles import min_samples  # brings scipy, which who only renders need not wait for

    worth = f", worth {int(one.n / one.effect)}" if one.n >= min_samples(0.99) else ""
    return f"{one.n}{worth} of {min_samples(0.99)} iterations {_where(one.condition)}"


def _where(condition: str) -> str:
    return "alone" if condition.startswith("solo-") else f"in {condition}"


def _listed(words: Sequence[str], last: str = "or") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


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
