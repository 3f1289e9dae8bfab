"""summary.csv, summary.json and its JSON Schema. Pure: text out, no files."""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Iterator
from typing import Any

import msgspec

from kts.model.summary import Activity, Degradation, Estimate, Latency, Summary, TenantSummary
from kts.report import cells, mixes

COLUMNS = ("tenant", "clock", "condition", "figure", "estimate", "lo", "hi", "unit", "refused")
Where = tuple[str, str, str]
"""Tenant, clock, condition."""
Row = tuple[str, str, str, str, float | None, float | None, float | None, str, str]
_ALL_QUANTILES = Degradation.__struct_fields__


def summary_json(summary: Summary) -> str:
    """The text of summary.json, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2).decode() + "\n"


def summary_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of summary.json; descriptions are the docstrings of `kts.model.summary`."""
    schema = msgspec.json.schema(Summary)
    for described in schema["$defs"].values():
        if "description" in described:  # Python 3.13 strips the indentation of docstrings, older ones keep it
            described["description"] = inspect.cleandoc(described["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "summary.json of kts", **schema}


def summary_csv(summary: Summary) -> str:
    """The text of summary.csv: one figure per line, columns `COLUMNS`.

    ``condition`` is solo, shared, df or collided, or the name of a mix besides the full house; figures that belong to
    no clock have an empty ``clock``. Telemetry is ``source:scope:metric``, a mean over the tenant's iterations; with
    ``:block_mean`` over whole blocks; ``:covered`` is the share of the iterations' time that samples cover. Of what
    has a role there is a line per block, whose condition ends in its number.
    Refused figures have empty cells and the reason in ``refused``.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, tenant in summary.tenants.items():
        for row in _tenant_rows(name, tenant):
            writer.writerow(_short(cell) for cell in row)
    for row in _mix_rows(summary):
        writer.writerow(_short(cell) for cell in row)
    return out.getvalue()


def _tenant_rows(name: str, tenant: TenantSummary) -> Iterator[Row]:
    for clock, figures in cells.clocks(tenant):
        for side, latency in (("solo", figures.solo), ("shared", figures.shared)):
            yield from _latency_rows(name, clock, side, latency)
        for quantile in _ALL_QUANTILES:
            yield _row((name, clock, "df"), quantile, getattr(figures.df, quantile), "ratio")
    for side, rate in (("solo", tenant.throughput.solo), ("shared", tenant.throughput.shared)):
        yield _plain((name, "", side), "throughput", rate.real, "1/s")
        yield _plain((name, "", side), "throughput_1000_over_mean", rate.proxy, "1/s")
    if tenant.goodput is not None:
        yield _row((name, "response", "solo"), "goodput", tenant.goodput.solo, "fraction")
        yield _row((name, "response", "shared"), "goodput", tenant.goodput.shared, "fraction")
    yield _plain((name, "", "shared"), "overlap_kept", tenant.overlap.kept, "iterations")
    yield _plain((name, "", "shared"), "overlap_dropped", tenant.overlap.dropped, "iterations")
    yield _plain((name, "", ""), "lead_left_out", tenant.overlap.lead, "iterations")
    if tenant.collided is not None:
        where = (name, "response", "collided")
        yield _plain(where, "n", tenant.collided.n, "iterations")
        yield _plain(where, "share", tenant.collided.share, "fraction")
        for quantile in ("p50", "p95", "p99"):
            yield _row(where, quantile, getattr(tenant.collided, quantile), "ms")
    for activity in tenant.activity or ():
        yield from _activity_rows(name, activity)


def _activity_rows(name: str, activity: Activity) -> Iterator[Row]:
    figure = f"{activity.source}:{activity.scope}:{activity.metric}"
    for side, mean in (("solo", activity.solo), ("shared", activity.shared)):
        yield _sampled((name, "", side), figure, mean.mean, activity.unit)
        yield _sampled((name, "", side), f"{figure}:block_mean", mean.block_mean, activity.unit)
        yield _plain((name, "", side), f"{figure}:covered", mean.covered, "fraction")
    for block in activity.blocks:
        yield _sampled((name, "", f"{block.condition} block {block.block}"), figure, block.mean, activity.unit)


def _sampled(where: Where, figure: str, value: float | None, unit: str) -> Row:
    return (*where, figure, value, None, None, unit, "no sample covers it" if value is None else "")


def _mix_rows(summary: Summary) -> Iterator[Row]:
    for mix in mixes.measured(summary)[:-1]:
        for name, figures in mix.tenants.items():
            yield _plain((name, "response", mix.condition), "n", figures.n, "iterations")
            yield _row((name, "response", mix.condition), "df_p50", figures.df_p50, "ratio")
            yield _row((name, "response", mix.condition), "df_p99", figures.df_p99, "ratio")
            yield _row((name, "device", mix.condition), "df_p99", figures.device_df_p99, "ratio")


def _latency_rows(name: str, clock: str, side: str, latency: Latency) -> Iterator[Row]:
    yield _plain((name, clock, side), "n", latency.n, "iterations")
    yield _plain((name, clock, side), "mean", latency.mean, "ms")
    for quantile in _ALL_QUANTILES:
        yield _row((name, clock, side), quantile, getattr(latency, quantile), "ms")
    yield _row((name, clock, side), "jitter", latency.jitter, "ratio")


def _row(where: Where, figure: str, value: Estimate, unit: str) -> Row:
    return (*where, figure, value.estimate, value.lo, value.hi, unit, value.refused)


def _plain(where: Where, figure: str, value: float | None, unit: str) -> Row:
    return (*where, figure, value, None, None, unit, "")


def _short(cell: str | float | None) -> str:
    """Nine digits: below a nanosecond in a second, and the same on every machine."""
    return "" if cell is None else f"{cell:.9g}" if isinstance(cell, float) else str(cell)
