"""A document on a terminal, as wide as that is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Drawn
from rich.text import Text

from kts.report import document as doc

STYLES: dict[doc.Tone, str] = {
    "": "",
    "strong": "bold",
    "quiet": "dim",
    "dimmed": "dim",
    "badge": "bold",
    "warning": "bold yellow",
    "worse": "bold red",
    "better": "bold green",
    "no-change": "green",
    "undetermined": "yellow",
    "refused": "yellow",
    "not-steady": "bold yellow",
}


def render(document: doc.Document, console: Console) -> None:
    """Prints the document."""
    before: doc.Element | None = None
    for element in _that_fit(document.elements, console):
        if before is not None and _apart(before, element):
            console.print()
        before = element
        match element:
            case doc.Heading():
                console.print(Text(element.text, style="bold"))
            case doc.Paragraph():
                console.print(_paragraph(element, console.width))
            case doc.Table():
                console.print(_table(element, console.width))
            case doc.Bullets():
                for item in element.items:
                    console.print(_item(item, element.mark, console.width))


def _that_fit(elements: Iterable[doc.Element], console: Console) -> Iterator[doc.Element]:
    for element in doc.shown(elements, "terminal"):
        if isinstance(element, doc.Fitting):
            fit = all(_width(one, console) <= console.width for one in element.wide if isinstance(one, doc.Table))
            yield from doc.shown(element.wide if fit else element.narrow, "terminal")
        else:
            yield element


def _width(table: doc.Table, console: Console) -> int:
    """With every cell on one line."""
    return Measurement.get(console, console.options.update(max_width=10_000), _table(table, console.width)).maximum


def _apart(before: doc.Element, element: doc.Element) -> bool:
    """Whether an empty line stands between both."""
    if isinstance(element, doc.Paragraph):
        return not (element.close or isinstance(before, doc.Paragraph | doc.Heading))
    return not (isinstance(element, doc.Bullets) and isinstance(before, doc.Heading))


def _paragraph(element: doc.Paragraph, width: int) -> Text:
    *labels, last = element.parts
    text = last.text
    if element.hanging:
        indent = sum(len(label.text) for label in labels)
        text = textwrap.fill(text, max(width - indent, 20), subsequent_indent=" " * indent)
    return Text.assemble(*((part.text, STYLES[part.tone]) for part in labels), (text, STYLES[last.tone]))


def _item(item: doc.Item, mark: str, width: int) -> Text:
    """A label is in capitals, so that colour says nothing alone."""
    if item.label:
        style = STYLES["dimmed" if item.dimmed else item.tone]
        return Text.assemble((item.label.upper(), style), "  ", item.text)
    wrapped = textwrap.fill(item.text, width, initial_indent=f" {mark} ", subsequent_indent="   ")
    return Text(wrapped, no_wrap=True, overflow="ignore")


def _table(table: doc.Table, width: int) -> Drawn:
    columns = table.columns_in("terminal", width)
    headed = table.layout == "headed"
    if headed:
        del columns[1]
    titled = any(column.head for _, column in columns)
    padding = (0, table.gap, 0, 0)
    drawn = Drawn(box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, show_edge=False, show_header=titled)
    for _, column in columns:
        _add_column(drawn, column)
    for group in table.groups:
        if table.layout != "plain":
            drawn.add_section()
        if headed:
            drawn.add_row(Text(str(group[0][0]), style="bold"), *[""] * (len(columns) - 1))
        for number, row in enumerate(group):
            cells = [_text("" if number and k < table.once else row[k], column) for k, column in columns]
            if headed:
                name = _text(row[1], table.columns[1])
                cells[0] = Text(f"  {name.plain}", style=name.style)
            drawn.add_row(*cells)
    return drawn


def _add_column(drawn: Drawn, column: doc.Column) -> None:
    head = column.head if column.short is None else column.short
    if column.kind in {"name", "sentence", "subject"}:
        drawn.add_column(head, overflow="fold", max_width=column.fold or None)
    else:
        drawn.add_column(head, justify="right" if column.kind == "number" else "left", no_wrap=True)


def _text(cell: str | doc.Cell, column: doc.Column) -> Text:
    if isinstance(cell, str):
        return Text(cell, style="bold" if column.kind == "subject" else "")
    text = Text(cell.text, style=STYLES[cell.tone])
    return text if cell.under is None else Text.assemble(text, "\n", (cell.under, "dim"))
