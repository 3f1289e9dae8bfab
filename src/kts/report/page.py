"""One HTML page that needs nothing else: no network, no script, both colour schemes. Pure: text out, no files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from kts.model.provenance import made_by
from kts.model.reading import RunData
from kts.model.summary import Summary
from kts.report import activity, cells, mixes, theme
from kts.report.markdown import measured_rows, reference_rows
from kts.report.terminal import caution_line

if TYPE_CHECKING:
    from kts.report.figures import Figure

_ID = re.compile(r'(\bid="|url\(#|href="#)')


def page(run: RunData, summary: Summary, figures: Sequence[Figure]) -> str:
    """The text of report.html. Everything that comes from the run is escaped."""
    label = cells.device_label(summary)
    template = Template(resources.files("kts.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{summary.experiment} on {label}"),
        heading=escape(f"{summary.experiment}: what sharing cost"),
        device=escape(label),
        device_class="device" if summary.is_gpu else "device not-gpu",
        how=escape(f"Run {summary.run}: {cells.how_measured(summary)}"),
        dark_css=theme.dark_css("figure svg"),
        verdicts=_verdicts(summary),
        tables="\n".join(
            (
                _latency_table(summary),
                _mixes_tables(summary),
                _rate_table(summary),
                _activity_table(summary),
                _reference_table(summary),
            )
        ),
        promises=_bullets(f"{name}: {line}" for name, t in summary.tenants.items() for line in cells.promises(t)),
        pictures="\n".join(map(_picture, figures)) or "<p>None were drawn.</p>",
        lists=_lists(run, summary),
        measured=_measured(run),
        footer=escape(f"Measured with kts {made_by(run.info.provenance, run.info.kts)}; run {summary.run}"),
    )


def _verdicts(summary: Summary) -> str:
    items = [
        f'<li class="{verdict.kind}{" dimmed" if verdict.dimmed else ""}">'
        f'<span class="kind">{cells.verdict_word(verdict)}</span>{escape(verdict.sentence)}</li>'
        for verdict in (tenant.verdict for tenant in summary.tenants.values())
    ]
    return f'<ul class="verdicts">{"".join(items)}</ul>'


def _latency_table(summary: Summary) -> str:
    rows = []
    for name, tenant in summary.tenants.items():
        collided = cells.collided_row(tenant)
        for k, (clock, figures) in enumerate(cells.clocks(tenant)):
            quantiles = [*cells.quantile_cells(figures.solo), *cells.quantile_cells(figures.shared)]
            spanned = 4 if collided else 3
            head = f'<th scope="rowgroup" rowspan="{spanned}">{escape(name)}</th>' if k == 0 else ""
            values = "".join(f"<td>{cell}</td>" for cell in (*quantiles, cells.ratio_with_interval(figures.df.p99)))
            style = ' class="headline"' if clock == summary.headline_clock else ""
            rows.append(f'<tr{style}>{head}<th scope="row">{clock}</th>{values}</tr>')
        if collided:
            rows.append(f'<tr><th scope="row">{collided[0]}</th>{"".join(f"<td>{c}</td>" for c in collided[1:])}</tr>')
    heads = [f"{side} {q}" for side in ("solo", "shared") for q in cells.QUANTILES]
    heads.append(cells.interval_head(summary))
    caption = (
        "Latency in milliseconds per tenant and clock. DF99 = shared p99 / solo p99; the headline clock is "
        f"{summary.headline_clock}. {cells.COLLIDED_NOTE} {cells.device_clock_note(summary)}"
    )
    return _table(caption, ["tenant", "clock"], heads, rows)


def _mixes_tables(summary: Summary) -> str:
    parts = []
    if (table := mixes.grid(summary)) is not None:
        rows = [
            _row(name, (f"{c.text} ({c.interval})" if c.interval else c.text for c in row)) for name, row in table.rows
        ]
        caption = f"Who hurts whom. {mixes.legend(summary)}"
        parts.append(_table(caption, ["suffers, beside"], list(map(escape, table.heads)), rows))
    if others := mixes.other_rows(summary):
        body = [_row(row[0], row[1:]) for row in others]
        parts.append(
            _table("Tenants measured together, each against itself alone.", ["mix"], mixes.OTHER_HEADS[1:], body)
        )
    return "\n".join(parts)


def _rate_table(summary: Summary) -> str:
    rows = []
    for name, tenant in summary.tenants.items():
        rates = tenant.throughput
        row = [
            *cells.rate_pair(rates.solo, rates.shared, "real"),
            *cells.rate_pair(rates.solo, rates.shared, "proxy"),
            str(tenant.overlap.kept),
            str(tenant.overlap.dropped),
        ]
        rows.append(_row(name, row))
    heads = ["done/wall solo", "shared", "change", "1000/mean solo", "shared", "change", "kept", "dropped"]
    caption = (
        "Iterations per second. Kept and dropped: shared iterations that overlap their neighbours, and the others."
    )
    return _table(caption, ["tenant"], heads, rows)


def _activity_table(summary: Summary) -> str:
    rows = [
        f'<tr><th scope="row">{escape(row[0])}</th><td class="text">{escape(row[1])}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[2:])
        + "</tr>"
        for row in activity.rows(summary)
    ]
    caption = f"What the device did. {activity.NOTE}"
    return _table(caption, activity.HEADS[:2], activity.HEADS[2:], rows) if rows else ""


def _reference_table(summary: Summary) -> str:
    rows = [
        _row(row[0], row[1:])
        for name, tenant in summary.tenants.items()
        if tenant.reference is not None
        for row in reference_rows(name, tenant.reference)
    ]
    caption = "The published system's own terms: device time, every sample, throughput as 1000/mean."
    return _table(caption, ["metric"], ["solo", "shared", "change"], rows) if rows else ""


def _row(head: str, values: Iterable[str]) -> str:
    return f'<tr><th scope="row">{escape(head)}</th>{"".join(f"<td>{escape(v)}</td>" for v in values)}</tr>'


def _table(caption: str, text_heads: Sequence[str], heads: Sequence[str], rows: Sequence[str]) -> str:
    cols = [f'<th scope="col" class="text">{h}</th>' for h in text_heads] + [f'<th scope="col">{h}</th>' for h in heads]
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{"".join(cols)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _picture(figure: Figure) -> str:
    """The picture, with ids of its own: several SVGs in one page share one name space."""
    svg = _ID.sub(rf"\g<1>{figure.name}-", figure.svg)
    return f"<figure>{svg}</figure>"


def _lists(run: RunData, summary: Summary) -> str:
    sections = (
        ("refused", "Refused figures", [*cells.refusals(summary), *mixes.refusals(summary)]),
        ("cautions", "Cautions", [caution_line(c.tenant, c.text) for c in summary.warnings]),
        ("telemetry", "Telemetry", activity.sources(summary)),
        ("notes", "Notes", list(summary.notes)),
        ("damage", "What could not be read", list(run.damage)),
    )
    return "\n".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2>{_bullets(lines)}</section>'
        for key, title, lines in sections
        if lines
    )


def _measured(run: RunData) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(value)}</td></tr>'
        for name, value in measured_rows(run)
    ]
    table = _table("Versions, devices and environment, as recorded with the run.", ["what", "value"], [], rows)
    text = run.info.experiment.strip()
    source = f"<details><summary>The experiment file</summary><pre>{escape(text)}</pre></details>" if text else ""
    return table + source


def _bullets(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""
