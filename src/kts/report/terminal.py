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


NAMES = frozenset({"name", "sentence", "subject"})
"""Kinds of columns that may be folded."""
LEAST_NAME = 8
"""Characters of a name that stand on one line."""


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
            case doc.Table() if _squeezed(element, console):
                for line in _stacked(element, console.width):
                    console.print(line, overflow="fold")
            case doc.Table():
                console.print(_table(element, console.width))
            case doc.Verbatim():
                console.print(Text(element.text.rstrip("\n")), soft_wrap=True)
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


def _squeezed(table: doc.Table, console: Console) -> bool:
    """Whether so little room is left for names that their letters would stand below each other."""
    if _width(table, console) <= console.width:
        return False
    names = others = 0
    for k, column in table.columns_in("terminal", console.width):
        cells = [str(_text(row[k], column)) for row in table.rows]
        longest = max((len(line) for text in (_head(column), *cells) for line in text.split("\n")), default=0)
        if column.kind in NAMES:
            names += min(longest, LEAST_NAME)
        else:
            others += longest + table.gap
    return names > console.width - others


def _stacked(table: doc.Table, width: int) -> Iterator[Text]:
    """A line for each cell, under the names of whom the row is about; first what heads these: it says the unit."""
    columns = table.columns_in("terminal", width)
    before: tuple[str, ...] = ()
    if title := _head(columns[0][1]):
        yield Text(title, style="dim")
    for row in table.rows:
        names = tuple(str(_text(row[k], column)) for k, column in columns if column.kind in NAMES)
        for depth, name in enumerate(names):
            if names[: depth + 1] != before[: depth + 1]:
                yield Text(f"{'  ' * depth}{name}", style="" if depth else "bold")
        before = names
        for k, column in columns:
            text = _text(row[k], column)
            if column.kind not in NAMES and text.plain not in {"", doc.NOTHING}:
                head = " ".join(_head(column).split())
                yield Text.assemble("  " * len(names), f"{head}: " if head else "", text)


def _head(column: doc.Column) -> str:
    return column.head if column.short is None else column.short


def _apart(before: doc.Element, element: doc.Element) -> bool:
    """Whether an empty line stands between both."""
    if isinstance(element, doc.Paragraph):
        return not (element.close or isinstance(before, doc.Paragraph | doc.Heading))
    return not (isinstance(element, doc.Bullets | doc.Verbatim) and isinstance(before, doc.Heading))


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
    head = _head(column)
    if column.kind in NAMES:
        drawn.add_column(head, overflow="fold", max_width=column.fold or None)
    else:
        drawn.add_column(head, justify="right" if column.kind == "number" else "left", no_wrap=True)


def _text(cell: str | doc.Cell, column: doc.Column) -> Text:
    if isinstance(cell, str):
        return Text(cell, style="bold" if column.kind == "subject" else "")
    text = Text(cell.text, style=STYLES[cell.tone])
    return text if cell.under is None else Text.assemble(text, "\n", (cell.under, "dim"))
