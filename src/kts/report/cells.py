"""How figures are written in every table: three significant digits, units in the header, ``-`` where refused."""

from __future__ import annotations

import math

from kts.model.records import CLOCKS
from kts.model.summary import ClockSummary, Estimate, MixTenant, Summary, TenantSummary, Verdict
from kts.report.document import NOTHING, Datum
from kts.units import ratio_texts

QUANTILES = ("p50", "p95", "p99")
"""The quantiles of the tables; p99.9 is in the CSV and JSON files."""
WIDE_COLUMNS = 100
"""From this width on a terminal has room for what else is of interest."""
FULL_COLUMNS = 80
"""Below this width tables keep to the p99s and to completed iterations, instead of cutting figures short."""


def number(value: float | None) -> str:
    """Three significant digits without a unit: ``3.60``, ``20.7``, ``0.412``, ``1250``; ``-`` for None and NaN."""
    if value is None or math.isnan(value):
        return NOTHING
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
        return NOTHING
    return "-".join(_ratios(figure)[1:])


def ratio_with_interval(figure: Estimate) -> str:
    """``2.16 (2.05-2.30)``."""
    return NOTHING if figure.estimate is None else f"{ratio_of(figure)} ({interval(figure)})"


def verdict_word(verdict: Verdict | MixTenant) -> str:
    """``worse``; ``worse here`` where drift cannot be told from sharing."""
    word = "not steady" if verdict.kind == "not-steady" else verdict.kind
    return f"{word} here" if verdict.dimmed else word


def dimmed(summary: Summary) -> bool:
    """True where drift cannot be told from sharing for some tenant."""
    return any(tenant.verdict.dimmed for tenant in summary.tenants.values())


def interval_head(summary: Summary) -> str:
    """Over a column of DF99."""
    drift = ", no drift in it" if dimmed(summary) else ""
    return f"DF99 ({100 * summary.confidence:g} % interval{drift})"


def percent(fraction: float | None) -> str:
    """``99.9 %``."""
    return NOTHING if fraction is None else f"{100 * fraction:.1f} %"


def percent_with_interval(figure: Estimate) -> str:
    """``87.4 % (85.7-89.7)``."""
    if figure.estimate is None or figure.lo is None or figure.hi is None:
        return percent(figure.estimate)
    return f"{percent(figure.estimate)} ({100 * figure.lo:.1f}-{100 * figure.hi:.1f})"


def number_with_interval(value: float | None, lo: float | None, hi: float | None) -> str:
    """``8.41 (8.29-8.50)``; without an interval the number alone."""
    return (
        number(value) if value is None or lo is None or hi is None else f"{number(value)} ({number(lo)}-{number(hi)})"
    )


def change(before: float | None, after: float | None) -> str:
    """``-7.3 %``: relative change; ``-`` where a side is missing."""
    return f"{100 * (after / before - 1):+.1f} %" if before and after is not None else NOTHING


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


def _ratios(figure: Estimate) -> tuple[str, ...]:
    """Estimate and both ends."""
    if figure.estimate is None or figure.lo is None or figure.hi is None:
        return tuple(ratio(value) for value in (figure.estimate, figure.lo, figure.hi))
    values = (figure.estimate, figure.lo, figure.hi)
    return tuple(
        ratio(value) if value >= 9.995 else text for value, text in zip(values, ratio_texts(*values), strict=True)
    )


def clocks(tenant: TenantSummary) -> list[tuple[str, ClockSummary]]:
    """The clocks by name, headline first."""
    return [(clock, getattr(tenant, clock)) for clock in CLOCKS]


def datum(clock: str, condition: str, figure: str, value: Estimate, unit: str) -> Datum:
    """An estimate with its interval, for programs."""
    return Datum(clock, condition, figure, value.estimate, unit, value.lo, value.hi, value.refused)


def about(tenant: str, text: str) -> str:
    """The text with the tenant it is about, if any, unless it begins with it."""
    return f"{tenant}: {text}" if tenant and not text.startswith(tenant) else text
