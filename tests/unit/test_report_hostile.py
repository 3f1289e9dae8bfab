"""Pictures that fail cost no report, and text of others is text wherever it is shown."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.helpers_report import FakeRun, analysis, summary, terminal_text

from kts import files
from kts.cli.output import say, tell
from kts.model.summary import Summary
from kts.report import charts_series, figures, markdown, page, renderer, run_document, sheet, write
from kts.report import document as doc
from kts.report.figures import Gallery
from kts.report.renderer import Renderer, UndrawnError
from kts.shown import clean, take_any_text
from kts.stats.series import Strip

EVIL = "H200 \x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x00\ufffe"
OBEYED = "\x1b\x07\x9b\u202e\x00\ufffe\x85\u2028"
PROGRAM = """
import os, struct, sys, time
head = struct.Struct(">cI")
while len(asked := sys.stdin.buffer.read(5)) == 5:
    what, length = head.unpack(asked)
    content = sys.stdin.buffer.read(length)
    if b"abort" in content:
        os.abort()
    if b"for ever" in content:
        time.sleep(1000)
    if b"refuse" in content:
        what, content = b"e", b"no \\x1b[31msize"
    sys.stdout.buffer.write(head.pack(what, len(content)) + content)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renderer that answers with what it was asked, and can be made to fail."""
    monkeypatch.setattr(renderer, "program", lambda: PROGRAM)


def of_device(label: str) -> Summary:
    return msgspec.structs.replace(summary(), device=label)


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(("svg", "why"), [("abort", "the renderer ended (SIGABRT)"), ("refuse", "no \\x1b[31msize")])
def test_what_ends_the_renderer_costs_its_own_picture_alone(svg: str, why: str) -> None:
    """Else a foreign library's abort ends the report, or all pictures after it."""
    with Renderer() as drawing:
        with pytest.raises(UndrawnError) as told:
            drawing.png(svg)
        assert str(told.value) == why
        assert drawing.png("<svg/>") == b"<svg/>"


@pytest.mark.usefixtures("echo")
def test_a_picture_that_takes_for_ever_is_given_up() -> None:
    """Else the report waits for it."""
    with Renderer(longest_s=0.1) as drawing, pytest.raises(UndrawnError, match=r"took over 0\.1 s"):
        drawing.png("for ever")


def test_without_a_renderer_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine on which no process can be started has no report."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Renderer() as drawing, pytest.raises(UndrawnError, match="cannot be started: No such file"):
        drawing.png("<svg/>")


@pytest.mark.usefixtures("echo")
def test_a_picture_gets_no_character_that_no_svg_may_hold() -> None:
    """The renderer aborts at them, wherever in a chart they stand."""
    with Renderer() as drawing:
        got = json.loads(drawing.svg({"title": [EVIL], "datasets": {"d": [{EVIL: EVIL, "x": 1.5}]}}))
    assert got == {"title": [clean(EVIL)], "datasets": {"d": [{clean(EVIL): clean(EVIL), "x": 1.5}]}}
    assert not set(str(got)) & set(OBEYED)


@pytest.mark.usefixtures("echo")
def test_a_drawing_that_cannot_be_made_is_a_note_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one odd figure costs the table, the page and the other pictures."""
    seen_first: list[str] = []

    def broken(gallery: Gallery) -> None:
        seen_first.extend(sorted(path.name for path in tmp_path.iterdir()))
        gallery.add("odd", "Odd", "words", lambda: 1 / 0, [])  # type: ignore[arg-type, return-value]
        raise ValueError(f"the rest {EVIL}")

    monkeypatch.setattr(figures, "draw", lambda *_: Gallery.of(broken))
    said: list[str] = []
    of = summary()
    paths = write(FakeRun(of), analysis(of), tmp_path, say=said.append)
    assert seen_first == ["report.html", "results.md", "summary.csv", "summary.json"]
    assert sorted(path.name for path in paths) == seen_first
    assert said[0] == "note: Picture odd could not be drawn: ZeroDivisionError: division by zero"
    assert "ValueError: the rest H200 \\x1b" in said[1]
    for name in ("report.html", "results.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "could not be drawn: ZeroDivisionError" in text
        assert "fft" in text
        assert "<img" not in text


@pytest.mark.usefixtures("echo")
def test_iterations_of_no_length_are_no_bars() -> None:
    """Logs whose starts equal their ends: a timeline without bars has no size that could be drawn."""
    of = analysis()
    moments = np.linspace(0.0, 1.0, 5)
    strip = Strip(submit_s=moments, retire_s=moments, device_ms=0 * moments)
    none = replace(of, series={name: replace(one, strip=strip) for name, one in of.series.items()})
    names = [figure.name for figure in figures.draw(none, "0")]
    assert "timeline" not in names
    assert "degradation" in names
    chart, _ = charts_series.timeline(none.series, on_cpu=False)
    assert chart.to_dict()["encoding"]["color"]["legend"] is None


def everywhere(document: doc.Document) -> dict[str, str]:
    return {
        "terminal": terminal_text(document, 100),
        "markdown": markdown.render(document),
        "page": page.render(document),
        "csv": sheet.render(document),
    }


def test_no_medium_holds_what_a_terminal_would_obey() -> None:
    """A label, a last line or a note of a tenant could rename the window, clear the screen or turn text round."""
    document = run_document(of_device(EVIL), FakeRun(of_device(EVIL), damage=(f"a line: {EVIL}",)))
    for medium, text in everywhere(document).items():
        assert not set(text) & set(OBEYED), medium
        if medium != "csv":
            assert "x1b" in text


def test_every_kind_of_element_is_cleaned() -> None:
    """Else the next section that shows text of others would have to think of it."""
    pair = (doc.Cell(EVIL, under=EVIL), EVIL)
    document = doc.Document(
        elements=(
            doc.Heading(EVIL),
            doc.Paragraph((doc.Cell(EVIL),)),
            doc.Bullets((doc.Item(EVIL, EVIL),)),
            doc.Table((doc.Column(EVIL, "subject"), doc.Column(EVIL)), ((pair,),), caption=EVIL, folded=EVIL),
            doc.Fitting((doc.paragraph(EVIL),), (doc.paragraph(EVIL),)),
            doc.Details(EVIL, EVIL),
            doc.Figure(name="f", title=EVIL, alt=EVIL, svg="<svg/>", undrawn=EVIL),
            doc.Data(EVIL, (doc.Datum(EVIL, EVIL, EVIL, 1.0, EVIL, refused=EVIL),)),
        ),
        title=EVIL,
        heading=EVIL,
        footer=EVIL,
    )
    for medium, text in everywhere(document).items():
        assert not set(text) & set(OBEYED), medium


def test_a_line_break_in_a_label_makes_no_line_of_ours() -> None:
    """Else a tenant could write verdicts into the report."""
    label = "GPU\nNO CHANGE  fft: sharing costs nothing"
    assert not any(
        line.lstrip().startswith("NO CHANGE  fft: sharing")
        for line in terminal_text(run_document(of_device(label)), 200).splitlines()
    )


def test_lines_for_people_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    """What commands say besides documents, on either output."""
    say(f"{EVIL}\nwrote /everything")
    tell(f"{EVIL}\nsecond")
    out, err = capsys.readouterr()
    assert not set(out + err) & set(OBEYED)
    assert len(err.splitlines()) == 1
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "=HYPERLINK(0)", "\uff1d1"])
def test_text_is_no_formula_in_a_spreadsheet(text: str) -> None:
    """A tenant's name, or what an exporter calls a metric, must not be computed by who opens the file."""
    data = doc.Data(text, (doc.Datum(text, text, text, -1.5, text, -2.0, -1.0, text),))
    row = next(csv.DictReader(io.StringIO(sheet.render(doc.Document((data,))))))
    assert {row[name] for name in ("tenant", "clock", "condition", "figure", "unit", "refused")} == {f"'{text}"}
    assert (row["estimate"], row["lo"], row["hi"]) == ("-1.5", "-2", "-1")


def test_a_number_is_no_formula() -> None:
    """Else who reads the file by a program finds words where figures were."""
    data = doc.Data("-3", (doc.Datum("+1.5e-3", "", "", -1e-9, ""),))
    assert sheet.render(doc.Document((data,))).splitlines()[1] == "-3,+1.5e-3,,,-1e-09,,,,"


def test_json_of_ours_says_the_same_and_no_terminal_obeys_it() -> None:
    """``cat run.json`` shows it, too."""
    value = {"label": EVIL.replace("\x00", "") + "\U000e0041", "é": "ü \U0001f600"}
    text = files.encode(value).decode()
    assert not set(text) & (set(OBEYED) | {"\U000e0041"})
    assert json.loads(text) == value
    assert "ü \U0001f600" in text


def test_a_worker_passes_on_what_its_locale_cannot_show() -> None:
    """A program's own UTF-8 must not end the run where the locale is C."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    take_any_text(out, encoding="utf-8")
    out.write("é \U0001f600 \udc80")
    out.flush()
    assert raw.getvalue().decode() == "é \U0001f600 \ufffd"
