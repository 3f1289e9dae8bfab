"""How the causes of added time are told: names, sentences, and the steps of a waterfall. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec import UNSET

from kts.model.causes import CauseName, Causes, Decomposition, Part, Statistic
from kts.model.summary import Summary, TenantSummary
from kts.report import cells

PREFERRED: tuple[Statistic, ...] = ("p99", "p95", "p50", "mean")
"""The headline is the first of these that a tenant has."""
SHORT: dict[CauseName, str] = {
    "queue": "own earlier iterations",
    "first-turn": "before its first turn",
    "turns": "turns in between",
    "contended": "turns of others",
    "beside": "others' work beside",
    "limited": "its part of the device",
    "slower-memory": "slower: memory",
    "slower-clocks": "slower: clocks",
    "slower": "slower execution",
    "core": "wait for a core",
    "quota": "CPU quota",
    "sibling": "sibling thread busy",
    "slow-core": "slower CPU core",
    "launch": "launch path",
    "between": "between iterations",
    "disk": "disk",
    "uninvited": "uninvited process",
    "xid": "error of the GPU",
    "hidden": "hidden host time",
    "back-to-back": "ran back to back",
    "own": "other iterations",
    "unexplained": "unexplained",
}
"""In tables and pictures."""
_PHRASES: dict[CauseName, str] = {
    "queue": "wait for its own earlier iterations",
    "first-turn": "wait before its first turn",
    "turns": "turns of others in between",
    "contended": "turns of others, before its first or in between",
    "beside": "work of others on the device at the same time",
    "limited": "only a part of the device, and others beside it",
    "slower-memory": "slower execution: caches or memory",
    "slower-clocks": "slower execution: clocks or power",
    "slower": "slower execution",
    "core": "wait for a CPU core",
    "quota": "held back by its CPU quota",
    "sibling": "host slowed by the sibling thread of its core",
    "slow-core": "host slowed by a slower CPU core",
    "launch": "slower launch path",
    "between": "later start of its iterations",
    "disk": "wait for a disk",
    "uninvited": "turns of a process that is no tenant",
    "xid": "errors that the GPU told (Xid)",
    "hidden": "host time hidden behind the wait",
    "back-to-back": "launches that queued and ran back to back",
    "own": "other iterations at this quantile than alone",
    "unexplained": "unexplained",
}
_MOST = 0.95
"""From this share on a part is said to be one neighbour's."""
_TOLD = 5
"""Parts in a sentence, the unexplained one besides."""
_NAMED = 1
"""Tenants in a title: the picture shows all."""


def of_tenant(tenant: TenantSummary) -> tuple[Causes, ...]:
    """By shared condition, the full house last; none in a summary of an older kts."""
    return () if tenant.causes is UNSET else tenant.causes


@dataclass(frozen=True)
class Told:
    """Causes of a tenant under one condition. ``name``: the tenant, with the condition where that tells two apart."""

    tenant: str
    name: str
    causes: Causes


def told(summary: Summary) -> list[Told]:
    """Of every tenant in the full house; where the run is about one tenant, of that one in every mix. None where the
    summary has no causes."""
    found = []
    for name, tenant in summary.tenants.items():
        every = of_tenant(tenant)
        shown = every if summary.subject else every[-1:]
        found += [Told(name, f"{name}, {one.condition}" if len(shown) > 1 else name, one) for one in shown]
    return [one for one in found if one.causes.of or one.causes.refused]


def title(found: Sequence[Told]) -> str:
    """What was added, and most of what it is: the largest change first."""
    heads = [(one.name, of) for one in found if (of := headline(one.causes)) is not None]
    if not heads:
        return "Why sharing cost what it did: refused"
    heads.sort(key=lambda head: (not changed(head[1]), -abs(head[1].added_ms) / max(head[1].alone_ms, 1e-9)))
    return f"Why: {'; '.join(_most(name, of) for name, of in heads[:_NAMED])}"


def words(found: Sequence[Told]) -> str:
    """The sentences, for those who cannot see the picture."""
    return " ".join(f"{sentence(one.name, one.causes)}." for one in found)


def headline(causes: Causes) -> Decomposition | None:
    """Of p99, or of what comes nearest to it, where that is shown to change; where none is, whether or not. None where
    all are refused."""
    by = {one.statistic: one for one in causes.of}
    there = [by[name] for name in PREFERRED if name in by]
    return next((one for one in there if changed(one)), there[0] if there else None)


def changed(of: Decomposition | Part) -> bool:
    """True where its interval excludes 0, or there is none."""
    return of.lo is None or of.hi is None or of.lo > 0 or of.hi < 0


def ordered(of: Decomposition) -> tuple[Part, ...]:
    """What makes most of the change first, what goes against it behind; the unexplained one last."""
    sign = 1 if of.added_ms >= 0 else -1
    return tuple(sorted(of.parts, key=lambda part: (part.cause == "unexplained", -sign * part.ms)))


def decimals(of: Decomposition) -> int:
    """With so many the larger of both sides has three significant digits, and all parts are comparable."""
    largest = max(abs(of.alone_ms), abs(of.alone_ms + of.added_ms))
    return next((d for d in range(5) if largest >= 99.95 / 10**d), 5)


def milliseconds(ms: float, digits: int) -> str:
    """``1.87``, ``-0.20``; never a negative zero."""
    return f"{ms:.{digits}f}" if round(ms, digits) else f"{0:.{digits}f}"


def interval(lo: float | None, hi: float | None, digits: int) -> str:
    """``1.70 to 2.04``; empty where there is none."""
    return "" if lo is None or hi is None else f"{milliseconds(lo, digits)} to {milliseconds(hi, digits)}"


def whose(part: Part, digits: int) -> str:
    """``gemm``: all of it, as good as; ``gemm 1.20, bert 0.50``; empty where that is not told."""
    if sole := _sole(part):
        return sole
    by_size = sorted(part.by.items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {milliseconds(ms, digits)}" for name, ms in by_size if round(ms, digits))


def sentence(tenant: str, causes: Causes) -> str:
    """What was added to the headline figure, and of what it is made; or why that is not told.

    A part is told as a cause where its interval excludes 0; what the others come to is told once. Of what is not shown
    to change no part is.
    """
    of = headline(causes)
    if of is None:
        return f"{tenant}: no causes: {causes.refused or 'none was looked for'}"
    if not changed(of):
        return f"{tenant}'s {_open(of)}"
    digits = decimals(of)
    named = [part for part in ordered(of) if part.cause != "unexplained"]
    shown = [part for part in named if changed(part) and round(part.ms, digits)][:_TOLD]
    unsure = [part for part in named if not changed(part)]
    smaller = sum(part.ms for part in named if part not in shown and part not in unsure)
    texts = [_told(part, digits) for part in shown]
    if round(smaller, digits):
        texts.append(f"{milliseconds(smaller, digits)} ms in smaller parts")
    if round(sum(part.ms for part in unsure), digits):
        texts.append(_unsure(unsure, digits))
    texts += [_told(part, digits) for part in of.parts if part.cause == "unexplained"]
    told = f"{tenant}'s {_growth(of, digits)}{': ' if texts else ''}{', '.join(texts)}"
    tail = next((one for one in causes.of if one.statistic == PREFERRED[0]), of)
    return told if tail is of else f"{told}; its {_open(tail)}"


@dataclass(frozen=True)
class Step:
    """A bar of a waterfall, from ``begin`` to ``end`` (ms); both sides of the comparison are steps without length."""

    label: str
    begin: float
    end: float
    part: Part | None = None


def steps(of: Decomposition) -> tuple[Step, ...]:
    """From alone to with company, part by part: what is added goes right, what is saved left."""
    parts = ordered(of)
    edges = [of.alone_ms]
    for part in parts:
        edges.append(edges[-1] + part.ms)
    bars = (
        Step(SHORT[part.cause], begin, end, part) for part, (begin, end) in zip(parts, pairwise(edges), strict=True)
    )
    together = of.alone_ms + of.added_ms
    return (
        Step("alone", of.alone_ms, of.alone_ms),
        *bars,
        Step("with company", together, together),
    )


def _open(of: Decomposition) -> str:
    """``p99 is not shown to change: 4.00 ms alone, 4.10 ms with company, difference 0.10 ms (-0.20 to 0.40)``."""
    digits = decimals(of)
    sides = f"{cells.number(of.alone_ms)} ms alone, {cells.number(of.alone_ms + of.added_ms)} ms with company"
    more = f"{milliseconds(of.added_ms, digits)} ms ({interval(of.lo, of.hi, digits)})"
    return f"{of.statistic} is not shown to change: {sides}, difference {more}"


def _growth(of: Decomposition, digits: int) -> str:
    """``p99 grew by 4.44 ms, from 4.09 to 8.53 ms``."""
    word = "fell" if of.added_ms < 0 else "grew"
    sides = f"from {cells.number(of.alone_ms)} to {cells.number(of.alone_ms + of.added_ms)} ms"
    return f"{of.statistic} {word} by {milliseconds(abs(of.added_ms), digits)} ms, {sides}"


def _most(name: str, of: Decomposition) -> str:
    """``fft +4.44 ms at p99, most of it wait before its first turn``."""
    digits = decimals(of)
    added = f"{name} {'+' if of.added_ms > 0 else ''}{milliseconds(of.added_ms, digits)} ms at {of.statistic}"
    if not changed(of):
        return f"{name} not shown to change at {of.statistic}"
    largest = max((part for part in of.parts if changed(part)), key=lambda part: abs(part.ms), default=None)
    if largest is None or abs(largest.ms) < abs(of.added_ms) / 2:
        return added
    return f"{added}, most of it {_PHRASES[largest.cause]}"


def _told(part: Part, digits: int) -> str:
    text = f"{milliseconds(part.ms, digits)} ms {_PHRASES[part.cause]}"
    if part.cause == "unexplained":
        span = interval(part.lo, part.hi, digits)
        return f"{text} ({span})" if span else text
    name = _sole(part)
    told = f"all of it {name}'s" if name else whose(part, digits)
    return f"{text} ({told})" if told else text


def _unsure(parts: Sequence[Part], digits: int) -> str:
    """What parts come to that may be 0, and which is most of it."""
    total = sum(part.ms for part in parts)
    most = max(parts, key=lambda part: abs(part.ms))
    text = f"{milliseconds(total, digits)} ms not told from 0"
    if abs(most.ms) < abs(total) / 2:
        return text
    span = interval(most.lo, most.hi, digits)
    return f"{text} (most of it: {_PHRASES[most.cause]}, {milliseconds(most.ms, digits)} ms, {span})"


def _sole(part: Part) -> str:
    """The neighbour that has all of it, as good as; empty where none has."""
    return next((name for name, ms in part.by.items() if part.ms and ms / part.ms >= _MOST), "")
