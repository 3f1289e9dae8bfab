"""One sentence per tenant: what sharing did to its p99, whether that matters, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from kts.model.summary import ClockSummary, Estimate, Verdict, Waiting
from kts.stats.sample import MIN_ROUNDS
from kts.units import format_ms, format_ratio, ratio_texts

DEFAULT_PRECISION = 0.05
"""Where the plan asks for none: the design's default."""

LOOKS = 1.3
"""Critical value of Pocock's (1977) sequential test for ten looks over that for one, at 5 %: 2.555 / 1.960."""

NEEDS_SOLO = ("no-change", "better")
"""Verdicts that hold only against a tenant that was alone: a disturbed baseline hides what sharing costs."""

Kind = Literal["worse", "better", "no-change", "undetermined", "refused"]


def half_width(estimate: Estimate) -> float | None:
    """The interval's longer arm relative to the estimate; None where there is no figure."""
    if not estimate.estimate or estimate.lo is None or estimate.hi is None:
        return None
    return max(estimate.hi / estimate.estimate - 1, 1 - estimate.lo / estimate.estimate)


def judge(df: Estimate, precision: float) -> tuple[Kind, bool]:
    """The kind of verdict, and whether the interval is within the asked precision.

    An equivalence test comes first (two one-sided tests by an interval: Schuirmann 1987): *no-change* where
    the whole interval lies in [1 / (1 + precision), 1 + precision], also if it excludes 1.
    """
    width = half_width(df)
    if width is None or df.lo is None or df.hi is None:
        return "refused", False
    precise = width <= precision
    if 1 / (1 + precision) <= df.lo and df.hi <= 1 + precision:
        return "no-change", precise
    if df.lo > 1:
        return "worse", precise
    if df.hi < 1:
        return "better", precise
    return "undetermined", precise


def relevance(df: Estimate, precision: float) -> bool | None:
    """Is the change larger than the asked precision? True or False where the whole interval says so, else None."""
    if df.lo is None or df.hi is None:
        return None
    if judge(df, precision)[0] == "no-change":
        return False
    return True if df.lo >= 1 + precision or df.hi <= 1 / (1 + precision) else None


def settled(df: Estimate, precision: float) -> bool:
    """Whether a run may stop: its interval is within the asked precision, and its verdict is not undetermined with
    room to spare; or it is within half the precision.

    An interval that is looked at after every round, until it decides, decides wrongly too often. So with its arms
    `LOOKS` times as long (on the log scale) it must still give the same verdict. At half the precision one that
    holds 1 misses no change by a hair.
    """
    kind, precise = judge(df, precision)
    if not precise or df.estimate is None or df.lo is None or df.hi is None:
        return False
    if (half_width(df) or 0.0) <= precision / 2:
        return True
    lo, hi = (df.estimate * (end / df.estimate) ** LOOKS for end in (df.lo, df.hi))
    longer = Estimate(estimate=df.estimate, lo=lo, hi=hi)
    return kind != "undetermined" and judge(longer, precision)[0] == kind


def asked_of(precision: float | None) -> float:
    """The precision that figures are judged by: the plan's, or the design's default."""
    return DEFAULT_PRECISION if precision is None else precision


def dimming(solo_rounds: int, shared_rounds: int) -> str:
    """Why drift cannot be told from sharing; empty where there are rounds enough to be the intervals' units."""
    fewest = min(solo_rounds, shared_rounds)
    if fewest >= MIN_ROUNDS:
        return ""
    return "one block per condition" if fewest < 2 else f"only {fewest} rounds"


def verdict(
    name: str,
    response: ClockSummary,
    device: ClockSummary,
    waiting: Waiting | None,
    *,
    is_gpu: bool,
    side_by_side: bool = False,
    closed: bool = True,
    precision: float | None,
    confidence: float,
    dimmed: str = "",
    disturbed: str = "",
    unfit: str = "",
    unsteady: str = "",
) -> Verdict:
    """The verdict on one tenant, from response DF99 and its interval.

    ``side_by_side``: tenants compute at the same time, and nobody waits for a turn. ``closed``: response is the service
    time. ``dimmed``: why drift cannot be told from sharing (`dimming`).
    ``disturbed``: why its solo figures are no baseline (`kts.stats.alone`). ``unfit``: what held it back
    (`kts.stats.fitness`), ``unsteady``: that there was no steady state (`kts.stats.steadiness`): then no interval
    decides.
    """
    asked = asked_of(precision)
    df = response.df.p99
    kind, precise = judge(df, asked)
    if (unsteady or unfit) and kind != "refused":
        word, why = ("not steady", unsteady) if unsteady else ("undetermined", unfit)
        found = _finding(kind, df, asked, confidence, dimmed, disturbed=bool(disturbed))
        sentence = f"{name}: {word}: {why}. Measured all the same: {found.removeprefix('undetermined: ')}."
        return Verdict(
            kind="not-steady" if unsteady else "undetermined", precise=precise, dimmed=dimmed, sentence=sentence
        )
    if disturbed and kind in NEEDS_SOLO:
        kind = "undetermined"
    if kind == "refused":
        return Verdict(kind=kind, precise=False, sentence=f"{name}: no verdict: {df.refused}.")
    said = _finding(kind, df, asked, confidence, dimmed, disturbed=bool(disturbed))
    parts = [f"{said}: {_times(kind, response)}"]
    if kind == "worse" and (where := _where(waiting, is_gpu, side_by_side, closed)):
        parts.append(where)
    sentence = f"{name}: {_dimming_words(kind, dimmed)}{'; '.join(parts)}."
    alone = f"It was not alone in its solo blocks: {disturbed}." if disturbed else ""
    hidden = _hidden(df, device.df.p99, is_gpu) if kind == "worse" else ""
    lowered = bool(disturbed) and kind == "undetermined"
    settled = "" if lowered else _settled(kind, precise, df, precision, dimmed)
    for more in (hidden, alone, settled):
        sentence += f" {more}" if more else ""
    relevant = None if lowered else relevance(df, asked)
    return Verdict(kind=kind, precise=precise, relevant=relevant, dimmed=dimmed, sentence=sentence)


def _dimming_words(kind: Kind, dimmed: str) -> str:
    return f"{dimmed}: {kind.replace('-', ' ')} here, but drift cannot be told from sharing: " if dimmed else ""


def _finding(kind: Kind, df: Estimate, asked: float, confidence: float, dimmed: str, *, disturbed: bool) -> str:
    """What the interval says, by its position."""
    lo, hi, value = df.lo or 0.0, df.hi or 0.0, df.estimate or 0.0
    ratio, lower_end, upper_end = ratio_texts(value, lo, hi)
    ratio = f"{ratio}x"
    drift = ", no drift in it" if dimmed else ""
    interval = f"{confidence * 100:.10g} % interval {lower_end} to {upper_end}{drift}"
    if kind == "worse":
        return f"p99 {ratio} worse ({interval})"
    if kind == "better":
        return f"p99 better when shared, {ratio} of solo ({interval})"
    if kind == "no-change":
        real = "" if lo <= 1 <= hi else f"; a real difference of {100 * (value - 1):+.2g} %"
        return f"no change of p99 beyond {_asked(asked)}{real} ({ratio}, {interval})"
    if disturbed:
        return f"undetermined: p99 {ratio} ({interval}) of a solo that was not alone"
    lower = f"better by up to {_at_most(1 - lo)}, " if lo < 1 / (1 + asked) else ""
    upper = f"worse by up to {_at_most(hi - 1)}" if hi > 1 + asked else ""
    either = f"{lower}no change, or {upper}" if upper else f"no change, or {lower.removesuffix(', ')}"
    return f"{'' if dimmed else 'undetermined: '}p99 {ratio} ({interval}), so {either}"


def _times(kind: Kind, response: ClockSummary) -> str:
    alone, together = (format_ms(side.p99.estimate or 0.0) for side in (response.solo, response.shared))
    return f"{together} instead of {alone}" if kind in {"worse", "better"} else f"{alone} solo, {together} shared"


def _where(waiting: Waiting | None, is_gpu: bool, side_by_side: bool, closed: bool) -> str:
    """Which part of the tail's added time is on the device's stopwatch, and which is not: an observation.

    On a CPU the stopwatch stands still while others run. A GPU's runs on through the turns of others, or their work
    beside, so what is on it may be either. Known is what is added to service; in an open loop response also grows by
    waiting for earlier iterations.
    """
    if waiting is None or waiting.added_ms <= 0:
        return ""
    share = min(max(waiting.wait_ms / waiting.added_ms, 0.0), 1.0)
    part = "all" if share >= 0.995 else "none" if share < 0.005 else f"{share * 100:.0f} %"
    added = "the added time" if closed else "the time added to service"
    if not is_gpu:
        return f"{part} of {added} is off the core (service less CPU time)"
    stopwatch = "on the device's own stopwatch"
    others = "work of others" if side_by_side else "turns of others"
    if part == "all":
        return f"none of {added} is {stopwatch}"
    if part == "none":
        return f"all of {added} is {stopwatch}, which runs on through {others}"
    return f"{part} of {added} is not {stopwatch}; what is may be {others}"


def _hidden(df: Estimate, device: Estimate, is_gpu: bool) -> str:
    """What the device's stopwatch would have said, where it lies below the whole interval."""
    if device.estimate is None or df.lo is None or device.estimate >= df.lo:
        return ""
    clock = "The device's own stopwatch" if is_gpu else "The thread's CPU time"
    shown = "no slow-down" if device.estimate < 1.02 else f"only {format_ratio(device.estimate)}x"
    return f"{clock} shows {shown}."


def _settled(kind: Kind, precise: bool, df: Estimate, precision: float | None, dimmed: str) -> str:
    """What is certain although the asked precision was not reached, or the size of the change is not known."""
    asked = asked_of(precision)
    missed = ""
    if not precise:
        missed = f"The interval is wider than +-{_asked(asked)}"
        missed = missed if precision is None else f"The asked precision of +-{_asked(asked)} was not reached"
    known = ""
    if kind == "undetermined":
        known = "rounds of the interleaved design would decide" if dimmed else "more rounds would decide"
    elif kind == "no-change":
        known = f"that it is no change beyond {_asked(asked)} is settled" if missed and not dimmed else ""
    elif relevance(df, asked) is None:
        least = (df.lo or 1.0) - 1 if kind == "worse" else 1 - (df.hi or 1.0)
        known = f"{kind} by at least {_at_least(least)}; whether by more than {_asked(asked)} is not settled"
    elif missed:
        bound = (
            f"at least {format_ratio(df.lo or 0.0)}x" if kind == "worse" else f"at most {format_ratio(df.hi or 0.0)}x"
        )
        known = f"{'here it' if dimmed else 'settled'} is {bound}"
    text = "; ".join(part for part in (missed, known) if part)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _asked(precision: float) -> str:
    return f"{precision * 100:.3g} %"


def _at_least(fraction: float) -> str:
    """In percent, two digits, rounded down: what is claimed stays true."""
    return _percent(math.floor, fraction)


def _at_most(fraction: float) -> str:
    """In percent, two digits, rounded up."""
    return _percent(math.ceil, fraction)


def _percent(whole: Callable[[float], int], fraction: float) -> str:
    percent = 100 * fraction
    unit = 10.0 ** (math.floor(math.log10(percent)) - 1) if percent > 0 else 1.0
    steps = round(percent / unit, 6)  # 7.000000000000006 steps are seven
    return f"{whole(steps) * unit:.3g} %"
