"""One sentence per tenant: what sharing did to its p99, how sure that is, and why."""

from __future__ import annotations

from typing import Literal

from kts.model.summary import ClockSummary, Estimate, Verdict, Waiting
from kts.units import format_ms

DEFAULT_PRECISION = 0.05
"""Where the plan asks for none: the design's default."""

Kind = Literal["worse", "better", "no-change", "undetermined", "refused"]


def half_width(estimate: Estimate) -> float | None:
    """The interval's longer arm relative to the estimate; None where there is no figure."""
    if not estimate.estimate or estimate.lo is None or estimate.hi is None:
        return None
    return max(estimate.hi / estimate.estimate - 1, 1 - estimate.lo / estimate.estimate)


def judge(df: Estimate, precision: float) -> tuple[Kind, bool]:
    """The kind of verdict, and whether the interval is within the asked precision."""
    width = half_width(df)
    if width is None or df.lo is None or df.hi is None:
        return "refused", False
    precise = width <= precision
    if df.lo > 1:
        return "worse", precise
    if df.hi < 1:
        return "better", precise
    return ("no-change" if precise else "undetermined"), precise


def asked_of(precision: float | None) -> float:
    """The precision that figures are judged by: the plan's, or the design's default."""
    return DEFAULT_PRECISION if precision is None else precision


def verdict(
    name: str,
    response: ClockSummary,
    device: ClockSummary,
    waiting: Waiting | None,
    *,
    is_gpu: bool,
    closed: bool = True,
    precision: float | None,
    confidence: float,
) -> Verdict:
    """The verdict on one tenant, from response DF99 and its interval. ``closed``: response is the service time."""
    asked = asked_of(precision)
    df = response.df.p99
    kind, precise = judge(df, asked)
    if kind == "refused":
        return Verdict(kind=kind, precise=False, sentence=f"{name}: no verdict: {df.refused}.")
    interval = f"{confidence * 100:.10g} % interval {_ratio(df.lo)} to {_ratio(df.hi)}"
    alone, together = response.solo.p99.estimate, response.shared.p99.estimate
    times = f"{format_ms(together or 0.0)} instead of {format_ms(alone or 0.0)}"
    both = f"{format_ms(alone or 0.0)} solo, {format_ms(together or 0.0)} shared"
    if kind == "worse":
        parts = [f"{name}: p99 {_ratio(df.estimate)}x worse ({interval}): {times}"]
        parts += [reason] if (reason := _reason(waiting, is_gpu, closed)) else []
    elif kind == "better":
        parts = [f"{name}: p99 better when shared, {_ratio(df.estimate)}x of solo ({interval}): {times}"]
    elif kind == "no-change":
        parts = [f"{name}: no change of p99 beyond {asked * 100:.3g} % ({_ratio(df.estimate)}x, {interval}): {both}"]
    else:
        parts = [f"{name}: undetermined: p99 {_ratio(df.estimate)}x, but the {interval} holds 1: {both}"]
    sentence = "; ".join(parts) + "."
    for more in (_hidden(df, device.df.p99, is_gpu) if kind == "worse" else "", _settled(kind, precise, df, precision)):
        sentence += f" {more}" if more else ""
    return Verdict(kind=kind, precise=precise, sentence=sentence)


def _reason(waiting: Waiting | None, is_gpu: bool, closed: bool) -> str:
    """Which part of the tail's added time is waiting.

    On a CPU the stopwatch stands still while others run, so all waiting is known. A GPU's runs on through
    the turns of others, so only the wait before the start is, and the rest may be either. Known is what
    is added to service; in an open loop response also grows by waiting for earlier iterations.
    """
    if waiting is None or waiting.added_ms <= 0:
        return ""
    share = min(max(waiting.wait_ms / waiting.added_ms, 0.0), 1.0)
    what = "waiting for its turn" if is_gpu else "waiting for the core"
    part = "all" if share >= 0.995 else "none" if share < 0.005 else f"{share * 100:.0f} %"
    added = "the added time" if closed else "the time added to service"
    if not is_gpu or part == "all":
        return f"{part} of {added} is {what}"
    after = "passes after the start, turns of others in between included"
    if part == "none":
        return f"all of {added} {after}"
    return f"{part} of {added} is {what} to start, the rest {after}"


def _hidden(df: Estimate, device: Estimate, is_gpu: bool) -> str:
    """What the device's stopwatch would have said, where it lies below the whole interval."""
    if device.estimate is None or df.lo is None or device.estimate >= df.lo:
        return ""
    clock = "The device's own stopwatch" if is_gpu else "The thread's CPU time"
    shown = "no slow-down" if device.estimate < 1.02 else f"only {_ratio(device.estimate)}x"
    return f"{clock} shows {shown}."


def _settled(kind: Kind, precise: bool, df: Estimate, precision: float | None) -> str:
    """What is certain although the asked precision was not reached."""
    if precise:
        return ""
    missed = f"The interval is wider than +-{DEFAULT_PRECISION * 100:.3g} %"
    if precision is not None:
        missed = f"The asked precision of +-{precision * 100:.3g} % was not reached"
    if kind == "worse":
        return f"{missed}; settled is at least {_ratio(df.lo)}x."
    if kind == "better":
        return f"{missed}; settled is at most {_ratio(df.hi)}x."
    return f"{missed}; more rounds would decide."


def _ratio(value: float | None) -> str:
    """Two decimals, as in the tables; one from 10 on."""
    return f"{value:.2f}" if (value or 0.0) < 9.995 else f"{value:.1f}"
