"""How figures are written in every table: three significant digits, units in the header, ``-`` where refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kts.model.records import CLOCKS
from kts.model.summary import (
    ClockSummary,
    Estimate,
    Goodput,
    Latency,
    MixTenant,
    Rate,
    SloResult,
    Summary,
    TenantSummary,
    Verdict,
)
from kts.units import ratio_texts

QUANTILES = ("p50", "p95", "p99")
"""The quantiles of the tables; p99.9 is in the CSV and JSON files."""
REFUSED = "-"


def number(value: float | None) -> str:
    """Three significant digits without a unit: ``3.60``, ``20.7``, ``0.412``, ``1250``; ``-`` for None and NaN."""
    if value is None or math.isnan(value):
        return REFUSED
    if value == 0 or math.isinf(value):
        return f"{value:.0f}"
    value = float(f"{value:.3g}") if abs(value) < 1000 else value
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def ratio(value: float | None) -> str:
    """A degradation factor: two decimals below 10, three digits from there."""
    return number(value) if value is None or math.isnan(value) or abs(value) >= 9.995 else f"{value:.2f}"


def ratio_of(figure: Estimate) -> str:
    """The estimate of a ratio, told from 1 where its interval excludes 1."""
    return _ratios(figure)[0]


def interval(figure: Estimate) -> str:
    """``2.05-2.30``: the interval of a ratio, told from 1 where it excludes 1; ``-`` where there is none."""
    if figure.lo is None or figure.hi is None:
        return REFUSED
    return "-".join(_ratios(figure)[1:])


def ratio_with_interval(figure: Estimate) -> str:
    """``2.16 (2.05-2.30)``."""
    return REFUSED if figure.estimate is None else f"{ratio_of(figure)} ({interval(figure)})"


def verdict_word(verdict: Verdict | MixTenant) -> str:
    """``worse``; ``worse here`` where drift cannot be told from sharing."""
    return f"{verdict.kind} here" if verdict.dimmed else verdict.kind


def dimmed(summary: Summary) -> bool:
    """True where drift cannot be told from sharing for some tenant."""
    return any(tenant.verdict.dimmed for tenant in summary.tenants.values())


def interval_head(summary: Summary) -> str:
    """Over a column of DF99."""
    drift = ", no drift in it" if dimmed(summary) else ""
    return f"DF99 ({100 * summary.confidence:g} % interval{drift})"


def percent(fraction: float | None) -> str:
    """``99.9 %``."""
    return REFUSED if fraction is None else f"{100 * fraction:.1f} %"


def percent_with_interval(figure: Estimate) -> str:
    """``87.4 % (85.7-89.7)``."""
    if figure.estimate is None or figure.lo is None or figure.hi is None:
        return percent(figure.estimate)
    return f"{percent(figure.estimate)} ({100 * figure.lo:.1f}-{100 * figure.hi:.1f})"


def change(before: float | None, after: float | None) -> str:
    """``-7.3 %``: relative change; ``-`` where a side is missing."""
    return f"{100 * (after / before - 1):+.1f} %" if before and after is not None else REFUSED


def rate_pair(solo: Rate, shared: Rate, kind: str) -> tuple[str, str, str]:
    """Solo, shared and change of one kind of throughput (``real`` or ``proxy``)."""
    before, after = getattr(solo, kind), getattr(shared, kind)
    return number(before), number(after), change(before, after)


def quantile_cells(latency: Latency, quantiles: Sequence[str] = QUANTILES) -> list[str]:
    """The quantiles in milliseconds."""
    return [number(getattr(latency, q).estimate) for q in quantiles]


def work(tenant: TenantSummary) -> str:
    """``fft 16384``: workload and size."""
    return tenant.workload if tenant.size is None else f"{tenant.workload} {tenant.size}"


def on_cpu(summary: Summary) -> bool:
    """True where the device is known to be a CPU (a directory of logs may not say what it was)."""
    return not summary.is_gpu and (summary.device.lower().startswith("cpu") or summary.mode == "cpu-scheduler")


def device_label(summary: Summary) -> str:
    """The honest label: a CPU always says that it is not a GPU."""
    honest = not on_cpu(summary) or "not a gpu" in summary.device.lower()
    return summary.device if honest else f"{summary.device}, not a GPU"


def device_clock_note(summary: Summary) -> str:
    """What the device clock is."""
    if on_cpu(summary):
        return "The device clock is CPU time of the thread alone."
    return "The device clock is the device's own stopwatch alone."


def how_measured(summary: Summary) -> str:
    """One line: design, rounds, mode, backend, headline clock, confidence."""
    drift = " without drift" if dimmed(summary) else ""
    rounds = "1 round" if summary.rounds == 1 else f"{summary.rounds} rounds"
    return (
        f"{summary.design} design, {rounds}, {summary.mode}, backend {summary.backend}, "
        f"headline clock {summary.headline_clock}, {100 * summary.confidence:g} % intervals{drift}, "
        f"outcome {summary.outcome}"
    )


def _ratios(figure: Estimate) -> tuple[str, ...]:
    """Estimate and both ends."""
    if figure.estimate is None or figure.lo is None or figure.hi is None:
        return tuple(ratio(value) for value in (figure.estimate, figure.lo, figure.hi))
    values = (figure.estimate, figure.lo, figure.hi)
    return tuple(
        ratio(value) if value >= 9.995 else text for value, text in zip(values, ratio_texts(*values), strict=True)
    )


def promises(tenant: TenantSummary) -> list[str]:
    """Deadline and p99 limit, one line each; empty where the tenant has neither."""
    lines = []
    if tenant.goodput is not None:
        lines.append(_deadline(tenant.goodput))
    if tenant.slo is not None:
        lines.append(_limit(tenant.slo))
    return lines


def clocks(tenant: TenantSummary) -> list[tuple[str, ClockSummary]]:
    """The clocks by name, headline first."""
    return [(clock, getattr(tenant, clock)) for clock in CLOCKS]


def collided_row(tenant: TenantSummary, quantiles: Sequence[str] = QUANTILES) -> list[str]:
    """Below the response clock: what share of the shared iterations met a neighbour's, and how long these took.

    Label, one blank per solo quantile, the quantiles, a blank for DF99. Empty where that is not known.
    """
    met = tenant.collided
    if met is None:
        return []
    blank = [""] * len(quantiles)
    return [f"collided {percent(met.share)}", *blank, *(number(getattr(met, q).estimate) for q in quantiles), ""]


COLLIDED_NOTE = (
    "Shared is what a user of the tenant sees while the neighbours are there, pausing or not; collided are those "
    "iterations of it (as a share) during which a neighbour had one in flight, on the response clock."
)


def refusals(summary: Summary) -> list[str]:
    """Why figures of the tables are ``-``: one line per tenant and reason."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, tenant in summary.tenants.items():
        for clock, figures in clocks(tenant):
            for label, figure in _table_figures(figures):
                if figure.estimate is None:
                    reason = figure.refused or "not measured"
                    found.setdefault((name, reason), {}).setdefault(clock, []).append(label)
    return [f"{name}: {reason} ({'; '.join(_places(by_clock))})" for (name, reason), by_clock in found.items()]


def _table_figures(figures: ClockSummary) -> list[tuple[str, Estimate]]:
    sides = (("solo", figures.solo), ("shared", figures.shared))
    cells = [(f"{side} {q}", getattr(latency, q)) for side, latency in sides for q in QUANTILES]
    return [*cells, ("DF99", figures.df.p99)]


def _places(by_clock: dict[str, list[str]]) -> list[str]:
    same: dict[str, list[str]] = {}
    for clock, labels in by_clock.items():
        same.setdefault("all" if len(labels) == 7 else ", ".join(labels), []).append(clock)
    return [f"{', '.join(names)}: {labels}" for labels, names in same.items()]


def _deadline(goodput: Goodput) -> str:
    return (
        f"deadline {number(goodput.deadline_ms)} ms: met by {percent_with_interval(goodput.solo)} solo, "
        f"{percent_with_interval(goodput.shared)} shared"
    )


def _limit(slo: SloResult) -> str:
    return f"p99 limit {number(slo.p99_ms)} ms: {slo.solo} solo, {slo.shared} shared"
