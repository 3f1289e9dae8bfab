"""A report as a value: what there is to say, in order. Renderers show it and know nothing of what it means.

Each element says in which media it stands; a renderer passes over those that are not for it. Text is cleaned where an
element is made (`kts.shown.one_line`), whoever wrote it and wherever it will be shown. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kts.shown import clean, one_line

Medium = Literal["terminal", "markdown", "page", "csv"]
Media = frozenset[Medium]
TERMINAL: Media = frozenset({"terminal"})
MARKDOWN: Media = frozenset({"markdown"})
PAGE: Media = frozenset({"page"})
CSV: Media = frozenset({"csv"})
FILES = MARKDOWN | PAGE
EVERYWHERE = TERMINAL | FILES | CSV

Tone = Literal[
    "",
    "strong",
    "quiet",
    "badge",
    "warning",
    "worse",
    "better",
    "no-change",
    "undetermined",
    "refused",
    "not-steady",
    "dimmed",
]
"""How a piece of text is meant; colour alone never says anything."""
NOTHING = "-"
"""In a cell: there is no figure."""


class Shown:
    """What holds text. ``LINES``: fields whose line breaks stay. ``AS_IT_IS``: fields that are no text to be read."""

    LINES: ClassVar[frozenset[str]] = frozenset()
    AS_IT_IS: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in self.AS_IT_IS:
                cleaned = _cleaned(value, clean if name in self.LINES else one_line)
                if cleaned is not value:
                    object.__setattr__(self, name, cleaned)


def _cleaned(value: Any, how: Callable[[str], str]) -> Any:
    """Itself where nothing in it had to be cleaned."""
    if isinstance(value, str):
        return value if value.isprintable() else how(value)
    if isinstance(value, tuple | list):
        parts = tuple(_cleaned(one, how) for one in value)
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else parts
    return value


@dataclass(frozen=True)
class Element(Shown):
    """What a document is made of. ``media``: where it stands."""

    media: Media = field(default=EVERYWHERE, kw_only=True)


@dataclass(frozen=True)
class Cell(Shown):
    """A piece of text with its tone. ``under``: a second, smaller text that belongs to it, e.g. an interval."""

    text: str
    tone: Tone = ""
    under: str | None = None


@dataclass(frozen=True)
class Heading(Element):
    """The title of what follows. ``key``: its anchor on a page, by default made of the text."""

    text: str
    key: str = ""


@dataclass(frozen=True)
class Paragraph(Element):
    """One or several pieces of running text.

    ``close``: stands right below what it explains. ``hanging``: all but the last piece are its label.
    """

    parts: tuple[Cell, ...]
    close: bool = False
    hanging: bool = False


@dataclass(frozen=True)
class Item(Shown):
    """One line of a list: with a label, the label has the tone."""

    text: str
    label: str = ""
    tone: Tone = ""
    dimmed: bool = False


@dataclass(frozen=True)
class Bullets(Element):
    """A list. ``mark``: what a terminal puts before each item without a label."""

    items: tuple[Item, ...]
    mark: str = "*"


@dataclass(frozen=True)
class Column(Shown):
    """A column of a table. A terminal shows no headings where none has any.

    ``kind``: a number (right-aligned), a word, a name (may be long), a sentence (has several lines on a page), or the
    name of whom the row is about. ``short``:
    the heading in a terminal, where it differs; it may have two lines. ``from_width``: terminals with fewer columns
    leave it out. ``fold``: longer names are folded there; 0 folds them only where there is no room.
    """

    head: str
    kind: Literal["number", "word", "name", "sentence", "subject"] = "number"
    short: str | None = None
    from_width: int = 0
    fold: int = 30
    media: Media = EVERYWHERE

    LINES = frozenset({"short", "head"})


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Table(Element):
    """Rows in groups, each with a cell per column.

    ``caption``: on a page, what a reader must know. ``layout``: groups just follow each other, are set apart, or stand
    under their name, which is in the first column. ``once``: leading columns that a terminal fills once per group.
    ``gap``: blanks between the columns of a terminal. ``folded``: a page shows it on demand, under this title.
    """

    columns: tuple[Column, ...]
    groups: tuple[tuple[Row, ...], ...]
    caption: str = ""
    layout: Literal["plain", "apart", "headed"] = "plain"
    once: int = 0
    gap: int = 1
    folded: str = ""

    def columns_in(self, medium: Medium, width: int = 10_000) -> list[tuple[int, Column]]:
        """The columns that stand in that medium, with their numbers."""
        return [(k, c) for k, c in enumerate(self.columns) if medium in c.media and c.from_width <= width]

    @property
    def rows(self) -> list[Row]:
        """Of all groups."""
        return [row for group in self.groups for row in group]


@dataclass(frozen=True)
class Fitting(Element):
    """Elements for where their tables fit, and others for a terminal too narrow for them."""

    wide: tuple[Element, ...]
    narrow: tuple[Element, ...]


@dataclass(frozen=True)
class Figure(Element):
    """One picture. ``name``: file name without suffix; ``alt``: what it shows, in words; ``svg``: in light colours.

    ``files``: name and content of what stands beside a page. ``undrawn``: why there is no picture, where it has failed.
    """

    name: str
    title: str
    alt: str
    svg: str
    files: tuple[tuple[str, bytes], ...] = ()
    undrawn: str = ""

    AS_IT_IS = frozenset({"svg", "files"})

    @property
    def note(self) -> str:
        """What stands in its place, where it has failed."""
        return f"Picture {self.name} could not be drawn: {self.undrawn}"


@dataclass(frozen=True)
class Verbatim(Element):
    """Text of several lines to be copied as it is: no line is folded."""

    text: str

    LINES = frozenset({"text"})


@dataclass(frozen=True)
class Details(Element):
    """Text of several lines, shown on demand."""

    title: str
    text: str

    LINES = frozenset({"text"})


@dataclass(frozen=True)
class Datum(Shown):
    """One figure of the CSV file, in the order of its columns."""

    clock: str
    condition: str
    figure: str
    estimate: float | None
    unit: str
    lo: float | None = None
    hi: float | None = None
    refused: str = ""


@dataclass(frozen=True)
class Data(Element):
    """Figures for programs. ``subject``: whose they are. ``several``: they stand after those of each alone."""

    subject: str
    data: tuple[Datum, ...]
    several: bool = False
    media: Media = field(default=CSV, kw_only=True)


@dataclass(frozen=True)
class Document(Shown):
    """Elements in their order. ``title``, ``heading`` and ``footer`` are for files; a terminal shows none of them."""

    elements: tuple[Element, ...]
    title: str = ""
    heading: str = ""
    footer: str = ""

    def shown(self, medium: Medium) -> Iterator[Element]:
        """The elements of that medium; of `Fitting` the wide ones."""
        return shown(self.elements, medium)


def shown(elements: Iterable[Element], medium: Medium) -> Iterator[Element]:
    """Those that stand in ``medium``; only for a terminal with `Fitting` as it is."""
    for element in elements:
        if medium not in element.media:
            continue
        if isinstance(element, Fitting) and medium != "terminal":
            yield from shown(element.wide, medium)
        else:
            yield element


def paragraph(text: str, tone: Tone = "", *, close: bool = False, media: Media = EVERYWHERE) -> Paragraph:
    """One piece of running text."""
    return Paragraph((Cell(text, tone),), close=close, media=media)


def listed(title: str, lines: Iterable[str], mark: str, *, in_files: str = "", key: str = "") -> Iterator[Element]:
    """A heading and a list below it, or nothing. ``in_files``: the heading in files, where it differs."""
    if items := tuple(map(Item, lines)):
        yield Heading(title, key, media=TERMINAL if in_files else EVERYWHERE)
        if in_files:
            yield Heading(in_files, key, media=FILES)
        yield Bullets(items, mark)
