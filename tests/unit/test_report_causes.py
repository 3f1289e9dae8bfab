"""If these fail, what is told of causes differs from their figures, or a report is lost over them."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import pytest
from tests.helpers_causes import HOUSE, LONG, crowded, decomposition, of_fft, of_gemm, part, waterfalls, with_causes
from tests.helpers_report import FakeRun, analysis, fft_summary, results_md, summary, summary_csv, terminal_text

from kts.model.causes import CAUSES, Causes, Decomposition, Part
from kts.model.summary import Summary
from kts.report import cause_words, charts_causes, theme
from kts.report.figures import draw
from kts.report.page import render
from kts.report.sections import run_document
from kts.report.sections.causes import ADDED, SAVED, UNEXPLAINED

SVG = "{http://www.w3.org/2000/svg}"


def test_a_sentence_says_what_was_added_and_of_what_it_is_made() -> None:
    """It is what people read, and quote."""
    assert cause_words.sentence("fft", of_fft()) == (
        "fft's p99 grew by 2.10 ms, from 1.90 to 4.00 ms: 1.80 ms wait before its first turn (all of it gemm's), "
        "0.40 ms turns of others in between (all of it gemm's), -0.20 ms launches that queued and ran back to back, "
        "0.10 ms unexplained (0.07 to 0.13)"
    )


def test_parts_that_are_zero_as_written_are_not_in_the_sentence() -> None:
    """A cause of 0.0 ms is none."""
    assert "core" not in cause_words.sentence("gemm", of_gemm())
    assert "fft 2.0, retrieval" in cause_words.sentence("gemm", of_gemm())


def test_a_part_that_is_not_told_from_zero_is_no_cause() -> None:
    """Otherwise chance would be given as a reason."""
    unsure = Part(cause="core", ms=0.5, lo=-0.1, hi=1.1, data="run-queue wait")
    one = Causes(condition=HOUSE, of=(decomposition("p99", 4.0, part("turns", 2.0), unsure, part("unexplained", 0.1)),))
    told = cause_words.sentence("a", one)
    assert "2.00 ms turns of others in between, 0.50 ms not told from 0 (most of it: wait for a " in told
    assert "CPU core, 0.50 ms, -0.10 to 1.10), 0.10 ms unexplained" in told


def test_what_fell_fell_and_what_is_not_settled_is_not_said_to_have_grown() -> None:
    """Otherwise a figure within its interval would be news."""
    fell = Causes(
        condition=HOUSE, of=(decomposition("p50", 4.1, part("back-to-back", -0.3), part("unexplained", 0.0)),)
    )
    assert cause_words.sentence("a", fell).startswith(
        "a's p50 fell by 0.30 ms, from 4.10 to 3.80 ms: -0.30 ms launches"
    )
    open_ = Decomposition(statistic="p99", alone_ms=4.0, added_ms=0.1, lo=-0.2, hi=0.4, parts=())
    told = cause_words.sentence("a", Causes(condition=HOUSE, of=(open_,)))
    assert told == (
        "a's p99 is not shown to change: 4.00 ms alone, 4.10 ms with company, difference 0.10 ms (-0.20 to 0.40)"
    )


def test_no_cause_is_told_of_what_is_not_shown_to_change() -> None:
    """A reason for what may be chance is none; a statistic that is shown to change is told in its place."""
    parts = (part("turns", 0.5), part("unexplained", -0.2))
    open_ = Decomposition(statistic="p99", alone_ms=4.0, added_ms=0.3, lo=-0.2, hi=0.8, parts=parts)
    assert "turns" not in cause_words.sentence("a", Causes(condition=HOUSE, of=(open_,)))
    mean = decomposition("mean", 3.0, part("turns", 0.5), part("unexplained", 0.0))
    told = cause_words.sentence("a", Causes(condition=HOUSE, of=(mean, open_)))
    assert told.startswith("a's mean grew by 0.50 ms, from 3.00 to 3.50 ms: 0.50 ms turns of others in between, ")
    assert told.endswith(
        "; its p99 is not shown to change: 4.00 ms alone, 4.30 ms with company, difference 0.30 ms (-0.20 to 0.80)"
    )


def test_a_part_is_said_to_be_one_neighbours_only_where_it_is() -> None:
    """Of a wait of which a neighbour has a fiftieth, it has not all."""
    whose = [cause_words.whose(part("first-turn", 0.5, **{"gemm": ms}), 2) for ms in (0.5, 0.48, 0.2, 0.001)]
    assert whose == ["gemm", "gemm", "gemm 0.20", ""]


def test_what_makes_the_change_stands_first() -> None:
    """The first cause that a reader meets is the one that stands first."""
    more = decomposition("p99", 20.0, part("hidden", -3.0), part("turns", 5.0), part("unexplained", 0.1))
    less = decomposition("p99", 20.0, part("hidden", -3.0), part("turns", 1.0), part("unexplained", 0.1))
    assert [one.cause for one in cause_words.ordered(more)] == ["turns", "hidden", "unexplained"]
    assert [one.cause for one in cause_words.ordered(less)] == ["hidden", "turns", "unexplained"]
    assert cause_words.ordered(more)[0] == Causes(condition=HOUSE, of=(more,)).first("p99")


def test_the_headline_is_p99_and_what_comes_next_where_that_is_refused() -> None:
    """A short run has causes of its median, and a reader must see of what they are."""
    mean = of_fft().of[0]
    assert "fft's mean grew" in cause_words.sentence("fft", Causes(condition=HOUSE, of=(mean,)))
    assert cause_words.sentence("a", Causes(condition=HOUSE, refused="too few")) == "a: no causes: too few"


def test_every_cause_has_its_words() -> None:
    """A cause without words would end a report with an error."""
    for cause in CAUSES:
        one = Causes(condition=HOUSE, of=(decomposition("p99", 4.0, part(cause, 1.0)),))
        assert f"1.00 ms {cause_words._PHRASES[cause]}" in cause_words.sentence("a", one)
        assert cause_words.SHORT[cause]


def test_a_waterfall_leads_from_alone_to_with_company() -> None:
    """Bars that do not meet would show parts that do not add up."""
    (of,) = of_gemm().of
    steps = cause_words.steps(of)
    assert steps[0].end == of.alone_ms
    assert steps[-1].begin == of.alone_ms + of.added_ms
    for before, after in pairwise(steps):
        assert after.begin == pytest.approx(before.end)
    assert steps[-2].label == "unexplained"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("of", [with_causes(), crowded()], ids=["pair", "crowded"])
def test_no_line_is_longer_than_the_terminal(of: Summary, width: int) -> None:
    """Longer lines are cut, and a figure that is cut is another one."""
    lines = waterfalls(of, width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("+1.80" in line for line in lines)
    if width > 60:
        text = "\n".join(lines)
        assert all(mark in text for mark in (ADDED, SAVED, UNEXPLAINED))


def test_the_data_of_every_part_are_shown() -> None:
    """A cause without its data is a rumour."""
    texts = [
        terminal_text(run_document(with_causes()), 100),
        results_md(with_causes()),
        render(run_document(with_causes())),
    ]
    for one in (of_fft(), of_gemm()):
        for of in one.of:
            for figure in of.parts:
                assert all(figure.data in text for text in texts[1:])
    assert "fft's p99 grew" in " ".join(texts[0].split())


def test_a_summary_without_causes_is_shown_as_before() -> None:
    """Summaries of older kts have none."""
    document = run_document(summary())
    for text in (terminal_text(document, 100), results_md(summary()), summary_csv(summary())):
        assert "Why" not in text
        assert "added" not in text.splitlines()[0]
    assert "causes" not in [figure.name for figure in draw(analysis(), "0")]
    refused = msgspec.structs.replace(fft_summary(), causes=(Causes(condition=HOUSE, refused="too few"),))
    of = summary({"fft": refused})
    assert "fft: no causes: too few." in terminal_text(run_document(of), 100)
    assert "causes" not in [figure.name for figure in draw(analysis(of), "0")]


def test_the_csv_has_the_whole_and_its_parts() -> None:
    """Programs add them up."""
    lines = summary_csv(with_causes()).splitlines()
    assert "fft,response,added,p99,2.1,1.975,2.225,ms," in lines
    assert "fft,response,added,p99:first-turn,1.8,1.6,2,ms," in lines
    parts = [float(line.split(",")[4]) for line in lines if line.startswith("fft,response,added,p99:")]
    assert sum(parts) == pytest.approx(2.1)


def test_a_picture_has_a_bar_per_part_in_the_colour_of_its_kind() -> None:
    """Read by colour it must say what the figures do."""
    (figure,) = (one for one in draw(analysis(with_causes()), "0") if one.name == "causes")
    root = ElementTree.fromstring(figure.svg)
    bars = [path.get("fill") for path in root.iter(f"{SVG}path") if "bar" in (path.get("aria-roledescription") or "")]
    marks = bars or [path.get("fill") for path in root.iter(f"{SVG}path")]
    for kind in ("shared", "solo", "muted"):
        assert theme.LIGHT[kind] in marks
    shown = " ".join("".join(node.itertext()) for node in root.iter(f"{SVG}text"))
    for text in ("before its first turn", "+1.80 (gemm)", "-1.4", "with company"):
        assert text in shown
    assert "fft's p99 grew by 2.10 ms" in figure.alt


def test_eight_tenants_and_long_names_are_all_in_the_picture() -> None:
    """A panel that is left out is a tenant that nobody explains."""
    told = cause_words.told(crowded())
    chart, rows = charts_causes.waterfalls(told)
    assert len(rows) == 7  # one of the eight is refused
    assert next(panel.title.text for panel in chart.vconcat).startswith(LONG)
    assert all(len(str(row["label"])) <= charts_causes.LABEL for of in rows.values() for row in of)


def test_a_run_about_one_tenant_tells_the_causes_of_every_mix() -> None:
    """Its mixes are what it was made for."""
    causes = tuple(Causes(condition=name, of=of_fft().of) for name in ("shared-mine+gemm", HOUSE))
    of = summary({"mine": msgspec.structs.replace(fft_summary(), causes=causes)})
    of = msgspec.structs.replace(of, subject="mine")
    assert [one.name for one in cause_words.told(of)] == ["mine, shared-mine+gemm", f"mine, {HOUSE}"]
    assert "mine,response,added shared-mine+gemm,p99,2.1," in summary_csv(of)


def test_a_part_without_interval_or_whose_is_shown_as_it_is() -> None:
    """Not every estimate has one."""
    bare = Part(cause="unexplained", ms=1.0, lo=None, hi=None, data="")
    of = Decomposition(statistic="p99", alone_ms=1.0, added_ms=1.0, lo=None, hi=None, parts=(bare,))
    one = msgspec.structs.replace(fft_summary(), causes=(Causes(condition=HOUSE, of=(of,)),))
    assert "a's p99 grew by 1.00 ms, from 1.00 to 2.00 ms: 1.00 ms unexplained." in terminal_text(
        run_document(summary({"a": one})), 100
    )
    assert "| unexplained | 1.00 |" in results_md(summary({"a": one}))


def test_a_run_is_reported_with_its_causes() -> None:
    """`kts report` writes them everywhere."""
    of = with_causes()
    document = run_document(of, FakeRun(of), draw(analysis(of), "0"))
    assert 'id="causes"' in render(document)
    assert render(document).count("<figure><svg") == 6
