"""A document as one HTML page that needs nothing else: no network, no script, both colour schemes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template

from kts.report import document as doc
from kts.report import theme

_ID = re.compile(r'(\bid="|url\(#|href="#)')
_STYLES = {
    "word": ' class="word"',
    "name": ' class="text"',
    "subject": ' class="text"',
    "sentence": ' class="text sentence"',
}
_CLASSES: dict[doc.Tone, str] = {"badge": "device", "warning": "device not-gpu", "quiet": "muted"}


def render(document: doc.Document) -> str:
    """The text of the page. Everything is escaped but pictures."""
    header: list[str] = []
    sections: list[tuple[doc.Heading, list[str]]] = []
    for element in document.shown("page"):
        if isinstance(element, doc.Heading):
            sections.append((element, []))
        else:
            (sections[-1][1] if sections else header).append(_element(element))
    template = Template(resources.files("kts.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(document.title),
        heading=escape(document.heading),
        dark_css=theme.dark_css("figure svg"),
        header="\n".join(header),
        sections="\n".join(_section(heading, parts) for heading, parts in sections),
        footer=escape(document.footer),
    )


def _section(heading: doc.Heading, parts: Iterable[str]) -> str:
    key = heading.key or re.sub(r"\W+", "-", heading.text.lower())
    body = "\n".join(part for part in parts if part)
    title = f'<h2 id="{escape(key)}">{escape(heading.text)}</h2>'
    return f'<section aria-labelledby="{escape(key)}">{title}\n{body}\n</section>'


def _element(element: doc.Element) -> str:
    match element:
        case doc.Paragraph():
            return f"<p>{''.join(map(_part, element.parts))}</p>"
        case doc.Bullets():
            style = ' class="verdicts"' if any(item.label for item in element.items) else ""
            return f"<ul{style}>{''.join(map(_item, element.items))}</ul>"
        case doc.Table():
            return _table(element)
        case doc.Figure():
            return _figure(element)
        case doc.Verbatim() | doc.Details():
            return _text(element)
    return ""


def _text(element: doc.Verbatim | doc.Details) -> str:
    text = f"<pre>{escape(element.text)}</pre>"
    if isinstance(element, doc.Verbatim):
        return text
    return f"<details><summary>{escape(element.title)}</summary>{text}</details>"


def _figure(figure: doc.Figure) -> str:
    if figure.undrawn:
        return f'<p class="muted">{escape(figure.note)}</p>'
    own_ids = _ID.sub(rf"\g<1>{figure.name}-", figure.svg)  # several SVGs in one page share one name space
    return f"<figure>{own_ids}</figure>"


def _part(part: doc.Cell) -> str:
    style = _CLASSES.get(part.tone)
    return f'<span class="{style}">{escape(part.text)}</span>' if style else escape(part.text)


def _item(item: doc.Item) -> str:
    if not item.label:
        return f"<li>{escape(item.text)}</li>"
    style = f"{item.tone} dimmed" if item.dimmed else item.tone
    return f'<li class="{style}"><span class="kind">{escape(item.label)}</span>{escape(item.text)}</li>'


def _table(table: doc.Table) -> str:
    columns = table.columns_in("page")
    styles = {k: _STYLES.get(column.kind, "") for k, column in columns}
    heads = (f'<th scope="col"{styles[k]}>{escape(column.head)}</th>' for k, column in columns)
    rows = []
    for group in table.groups:
        for number, row in enumerate(group):
            cells = [row[k] for k, _ in columns]
            spans = table.layout == "headed"
            style = ' class="headline"' if any(isinstance(c, doc.Cell) and c.tone == "strong" for c in cells) else ""
            head = f'<th scope="rowgroup" rowspan="{len(group)}">{_cell(cells[0])}</th>' if spans and not number else ""
            first, *rest = list(zip(columns, cells, strict=True))[spans:]
            values = "".join(f"<td{styles[k]}>{_cell(cell)}</td>" for (k, _), cell in rest)
            rows.append(f'<tr{style}>{head}<th scope="row">{_cell(first[1])}</th>{values}</tr>')
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    drawn = (
        f'<div class="scroll"><table>{caption}<thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return f"<details><summary>{escape(table.folded)}</summary>{drawn}</details>" if table.folded else drawn


def _cell(cell: str | doc.Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return escape(f"{cell.text} ({cell.under})" if cell.under else cell.text)
