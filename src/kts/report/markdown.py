"""A document as GitHub Markdown. Pure: text out, no files."""

from __future__ import annotations

import html
import re

from kts.report import document as doc

PLOTS = "plots"
"""Folder of the pictures."""
_SPECIAL = re.compile(r"(?<!\S)~(?!\S)|(?<=\s)\*(?!\S)|([\\`*_{}\[\]|~#])")
"""All but a tilde or star that stands alone."""


def render(document: doc.Document) -> str:
    """The text of the file, ending in a newline."""
    parts = [f"# {escape(document.title)}"] if document.title else []
    parts += [_element(element) for element in document.shown("markdown")]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return _SPECIAL.sub(lambda found: f"\\{found[1]}" if found[1] else found[0], one_line)


def _element(element: doc.Element) -> str:
    match element:
        case doc.Heading():
            return f"## {escape(element.text)}"
        case doc.Paragraph():
            return escape("".join(part.text for part in element.parts))
        case doc.Bullets():
            return "\n".join(f"- {_item(item)}" for item in element.items)
        case doc.Figure():
            return escape(element.note) if element.undrawn else _picture(element)
        case doc.Table() | doc.Verbatim():
            return _block(element)
    return ""


def _block(element: doc.Table | doc.Verbatim) -> str:
    if isinstance(element, doc.Table):
        return _table(element)
    return "\n".join(f"    {line}" for line in element.text.splitlines())


def _picture(figure: doc.Figure) -> str:
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{PLOTS}/{figure.name}-dark.png">'
        f'<img alt="{html.escape(" ".join(figure.alt.split()))}" src="{PLOTS}/{figure.name}.png" width="900">'
        "</picture>"
    )


def _item(item: doc.Item) -> str:
    """A label is bold, or in italics where it is dimmed."""
    mark = "*" if item.dimmed else "**"
    return f"{mark}{escape(item.label)}{mark}: {escape(item.text)}" if item.label else escape(item.text)


def _table(table: doc.Table) -> str:
    columns = table.columns_in("markdown")
    names = [column.kind in {"name", "sentence", "subject"} for _, column in columns]
    left = names.index(False) if False in names else len(names)
    marks = ["---" if k < left or column.kind == "sentence" else "---:" for k, (_, column) in enumerate(columns)]
    rows = [[_cell(row[k]) for k, _ in columns] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([escape(c.head) for _, c in columns], marks, *rows))


def _cell(cell: str | doc.Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text = escape(cell.text)
    if cell.tone == "strong" and cell.text != doc.NOTHING:
        text = f"**{text}**"
    return f"{text} ({escape(cell.under)})" if cell.under else text
