"""A document and what shows it: an element is written once and stands in every medium that it is for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from tests.helpers_report import FakeRun, summary, terminal_text

from kts.report import document as doc
from kts.report import markdown, page, sections, sheet
from kts.report.sections.report import Report

TABLE = doc.Table(
    columns=(
        doc.Column("tenant", "subject", short="who"),
        doc.Column("mean ms", from_width=60),
        doc.Column("files only", media=doc.FILES),
        doc.Column("p99 ms"),
    ),
    groups=((("fft", "3.6", "x", doc.Cell("8.3", "strong", "8.1-8.6")), ("fft", "3.7", "y", doc.Cell("-", "strong"))),),
    caption="Times.",
    once=1,
)


def in_terminal(*elements: doc.Element, width: int = 80) -> str:
    return terminal_text(doc.Document(elements), width)


def test_a_section_is_a_function_and_a_row_and_every_medium_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever adds a section must write it once more for each kind of report."""

    def section(report: Report) -> Iterator[doc.Element]:
        yield doc.Heading("Energy")
        yield doc.paragraph(f"{report.summary.run} took 12 kJ.")
        yield doc.Data("fft", (doc.Datum("", "shared", "energy", 12.0, "kJ"),))

    monkeypatch.setattr(sections, "OUTLINE", (*sections.OUTLINE, (section, doc.EVERYWHERE)))
    made = sections.run_document(summary(), FakeRun())
    sentence = "20260301-120000-agents took 12 kJ."
    assert f"Energy\n{sentence}" in terminal_text(made, 80)
    assert f"## Energy\n\n{sentence}" in markdown.render(made)
    assert f'<h2 id="energy">Energy</h2>\n<p>{sentence}</p>' in page.render(made)
    rows = [row for row in csv.DictReader(io.StringIO(sheet.render(made))) if row["figure"] == "energy"]
    assert [(row["tenant"], row["estimate"], row["unit"]) for row in rows] == [("fft", "12", "kJ")]


def test_elements_stand_only_in_their_media() -> None:
    """Else a note for files would lengthen what a terminal shows, or the other way round."""
    made = doc.Document(
        tuple(doc.paragraph(f"for {medium}", media=frozenset({medium})) for medium in ("terminal", "markdown", "page"))
    )
    assert terminal_text(made, 80) == "for terminal\n"
    assert markdown.render(made) == "for markdown\n"
    text = page.render(made)
    assert "<p>for page</p>" in text
    assert "for terminal" not in text


def test_a_table_says_the_same_in_every_medium() -> None:
    """Else a cell, its interval or its emphasis would be lost in one of them."""
    assert in_terminal(TABLE).splitlines() == [
        "who  mean ms   p99 ms",
        "─────────────────────",
        "fft      3.6      8.3",
        "              8.1-8.6",
        "         3.7        -",
    ]
    assert markdown.render(doc.Document((TABLE,))).splitlines() == [
        "| tenant | mean ms | files only | p99 ms |",
        "| --- | ---: | ---: | ---: |",
        "| fft | 3.6 | x | **8.3** (8.1-8.6) |",
        "| fft | 3.7 | y | - |",
    ]
    text = page.render(doc.Document((TABLE,)))
    assert '<th scope="row">fft</th><td>3.6</td><td>x</td><td>8.3 (8.1-8.6)</td>' in text
    assert "<caption>Times.</caption>" in text


def test_a_narrow_terminal_gets_what_fits() -> None:
    """Else figures would be cut short, which reads as other figures."""
    assert "mean ms" not in in_terminal(TABLE, width=50)
    wide = doc.Table(columns=(doc.Column("x" * 30), doc.Column("y" * 30)), groups=((("1", "2"),),))
    either = doc.Fitting((wide,), (doc.paragraph("narrow"),))
    assert "xxx" in in_terminal(either, width=62)
    assert in_terminal(either, width=61) == "narrow\n"
    assert "xxx" in markdown.render(doc.Document((either,)))


def test_groups_are_headed_or_set_apart() -> None:
    """Else one could not see where a tenant's rows end."""
    columns = (doc.Column("tenant", "subject"), doc.Column("clock", "name"), doc.Column("p99"))
    groups = ((("fft", "response", "8.3"), ("fft", "device", "6.1")), (("gemm", "response", "25"),))
    headed = in_terminal(doc.Table(columns, groups, layout="headed")).splitlines()
    assert headed[2:] == ["fft", "  response  8.3", "  device    6.1", "", "gemm", "  response   25"]
    apart = in_terminal(doc.Table(columns, groups, layout="apart", once=1)).splitlines()
    assert apart[2:] == ["fft     response  8.3", "        device    6.1", "", "gemm    response   25"]
    text = page.render(doc.Document((doc.Table(columns, groups, layout="headed"),)))
    assert '<th scope="rowgroup" rowspan="2">fft</th><th scope="row">response</th><td>8.3</td>' in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a*b", r"a\*b"),
        ("1.66 *", "1.66 *"),
        ("98 % ~", "98 % ~"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("* a list", r"\* a list"),
        ("a | b\n<b>", r"a \| b &lt;b&gt;"),
    ],
)
def test_markdown_escapes_what_it_would_understand(text: str, escaped: str) -> None:
    """Else a name could make a table, a list or bold text; and a mark that stands alone needs no backslash."""
    assert markdown.escape(text) == escaped


def test_figures_of_several_stand_after_those_of_each() -> None:
    """Else the lines of one tenant would be scattered over the CSV file."""
    figures = (doc.Datum("", "", "n", 1.0, ""),)
    made = doc.Document(
        (doc.Data("a", figures, several=True), doc.Data("a", figures), doc.Data("b", figures), doc.Data("a", figures))
    )
    assert [line.split(",")[0] for line in sheet.render(made).splitlines()[1:]] == ["a", "a", "b", "a"]
