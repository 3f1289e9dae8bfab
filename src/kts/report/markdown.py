"""results.md: the report as GitHub Markdown. Pure: text out, no files."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from kts.model.provenance import made_by, made_from
from kts.model.reading import RunData
from kts.model.summary import ReferenceTable, Summary, Verdict
from kts.report import activity, cells, mixes
from kts.report.terminal import caution_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#])")


def results_md(run: RunData, summary: Summary, figures: Sequence[tuple[str, str]], plots: str = "plots") -> str:
    """The text of results.md. ``figures``: file name without suffix and description of each picture in ``plots``."""
    parts = [
        f"# {escape(summary.experiment)} on {escape(cells.device_label(summary))}",
        f"Run {escape(summary.run)}: {escape(cells.how_measured(summary))}.",
        "## What sharing cost",
        "\n".join(_verdict(t.verdict) for t in summary.tenants.values()),
        latency_table(summary),
        f"Latencies in milliseconds. DF99 = shared p99 / solo p99 on the same clock; the headline is "
        f"{escape(summary.headline_clock)}. {cells.device_clock_note(summary)}",
        rate_table(summary),
        _bullets(f"{name}: {line}" for name, tenant in summary.tenants.items() for line in cells.promises(tenant)),
        _section("Who hurts whom", mixes_tables(summary)),
        _section("What the device did", activity_table(summary), activity.NOTE),
        *(_picture(plots, name, words) for name, words in figures),
        _section("In the terms of the published system", reference_table(summary), _REFERENCE_NOTE),
        _section("Refused figures", _bullets([*cells.refusals(summary), *mixes.refusals(summary)])),
        _section("Cautions", _bullets(caution_line(c.tenant, c.text) for c in summary.warnings)),
        _section("Telemetry", _bullets(activity.sources(summary))),
        _section("Notes", _bullets(summary.notes)),
        _section("What could not be read", _bullets(run.damage)),
        _section("How it was measured", measured_table(run)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_REFERENCE_NOTE = (
    "Device time, every sample, no intervals, throughput as 1000/mean: comparable with figures published that way, "
    "blind to what is not on the device's stopwatch."
)


def escape(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def latency_table(summary: Summary) -> str:
    """Per tenant and clock: p50, p95, p99 solo and shared, and DF99."""
    heads = [f"{side} {q}" for side in ("solo", "shared") for q in cells.QUANTILES]
    rows = []
    for name, tenant in summary.tenants.items():
        for clock, figures in cells.clocks(tenant):
            df = cells.ratio_with_interval(figures.df.p99)
            df = f"**{df}**" if clock == summary.headline_clock and figures.df.p99.estimate is not None else df
            quantiles = [*cells.quantile_cells(figures.solo), *cells.quantile_cells(figures.shared)]
            rows.append([escape(name), clock, *quantiles, df])
        if row := cells.collided_row(tenant):
            rows.append([escape(name), *row])
    table = _table(["tenant", "clock", *heads, cells.interval_head(summary)], rows, left=2)
    known = any(tenant.collided is not None for tenant in summary.tenants.values())
    return f"{table}\n\n{cells.COLLIDED_NOTE}" if known else table


def _verdict(verdict: Verdict) -> str:
    """Bold, or in italics where drift cannot be told from sharing."""
    mark = "*" if verdict.dimmed else "**"
    return f"- {mark}{cells.verdict_word(verdict)}{mark}: {escape(verdict.sentence)}"


def rate_table(summary: Summary) -> str:
    """Throughput per tenant, and the shared iterations that were kept and dropped."""
    heads = ["tenant", "done/wall solo", "shared", "change", "1000/mean solo", "shared", "change", "kept", "dropped"]
    rows = [
        [
            escape(name),
            *cells.rate_pair(tenant.throughput.solo, tenant.throughput.shared, "real"),
            *cells.rate_pair(tenant.throughput.solo, tenant.throughput.shared, "proxy"),
            str(tenant.overlap.kept),
            str(tenant.overlap.dropped),
        ]
        for name, tenant in summary.tenants.items()
    ]
    note = "Iterations per second; kept and dropped: shared iterations that overlap their neighbours, and the others."
    return f"{_table(heads, rows)}\n\n{note}"


def mixes_tables(summary: Summary) -> str:
    """Row suffers, column causes, and the mixes that such a grid cannot show. Empty for the full house alone."""
    parts = []
    if (table := mixes.grid(summary)) is not None:
        rows = [[escape(name), *(f"{c.text} {_small(c.interval)}".strip() for c in row)] for name, row in table.rows]
        parts += [_table(["suffers, beside", *map(escape, table.heads)], rows), mixes.legend(summary)]
    if rows := [[escape(cell) for cell in row] for row in mixes.other_rows(summary)]:
        parts.append(_table(mixes.OTHER_HEADS, rows, left=2))
    return "\n\n".join(parts)


def activity_table(summary: Summary) -> str:
    """SM, DRAM and CPU activity per tenant, solo and shared, each marked device or tenant. Empty without telemetry."""
    rows = [[escape(cell) for cell in row] for row in activity.rows(summary)]
    return _table(activity.HEADS, rows, left=2) if rows else ""


def _small(text: str) -> str:
    return f"({text})" if text else ""


def reference_table(summary: Summary) -> str:
    """The published system's table: metric, solo, shared, change. Empty where no tenant has device times."""
    rows = [
        row
        for name, tenant in summary.tenants.items()
        if tenant.reference is not None
        for row in reference_rows(name, tenant.reference)
    ]
    return (
        _table(["metric", "solo", "shared", "change"], [[escape(cell) for cell in row] for row in rows]) if rows else ""
    )


def reference_rows(name: str, table: ReferenceTable) -> list[list[str]]:
    """Metric, solo, shared and change of one tenant, in the published order."""
    rows = []
    for quantile in cells.QUANTILES:
        df = table.df.get(quantile)
        solo, shared = getattr(table.solo, quantile), getattr(table.shared, quantile)
        change = cells.REFUSED if df is None else f"{cells.ratio(df)}x"
        rows.append([f"{name} {quantile} ms", f"{solo:.3f}", f"{shared:.3f}", change])
    rows.append([f"{name} jitter", cells.ratio(table.solo.jitter), cells.ratio(table.shared.jitter), ""])
    solo, shared = table.solo.throughput, table.shared.throughput
    rows.append([f"{name} iterations/s", f"{solo:.1f}", f"{shared:.1f}", cells.change(solo, shared)])
    return rows


def measured_rows(run: RunData) -> list[tuple[str, str]]:
    """What was measured with what, as name and value: outcome, workers, environment."""
    info = run.info
    rows = [
        ("kts", made_by(info.provenance, info.kts)),
        *(("made from", text) for text in (made_from(info.provenance),) if text),
        ("experiment", info.plan.name),
        ("design", f"{info.plan.design}, seed {info.plan.seed}"),
        ("mode", info.mode),
        ("backend", info.backend),
        ("outcome", f"{info.outcome.kind} {info.outcome.reason}".strip()),
    ]
    for worker in info.workers:
        device = worker.device
        library = f"{device.library} {device.library_version}".strip()
        cores = f", cores {', '.join(map(str, worker.cores))}" if worker.cores else ""
        driver = f", driver {device.driver}" if device.driver else ""
        stopwatch = f", stopwatch: {device.stopwatch}" if device.stopwatch else ""
        rows.append((f"tenant {worker.tenant}", f"{device.label}, {library}{driver}{cores}{stopwatch}"))
    return rows + sorted(info.environment.items())


def measured_table(run: RunData) -> str:
    """`measured_rows` as a table."""
    return _table(["what", "value"], [[escape(name), escape(value)] for name, value in measured_rows(run)], left=2)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    marks = ["---" if k < left else "---:" for k in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _section(title: str, body: str, note: str = "") -> str:
    return "\n\n".join(part for part in (f"## {title}", body, note) if part) if body else ""


def _picture(plots: str, name: str, words: str) -> str:
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{plots}/{name}-dark.png">'
        f'<img alt="{html.escape(" ".join(words.split()))}" src="{plots}/{name}.png" width="900"></picture>'
    )
