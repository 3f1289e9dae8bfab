"""If these fail, a verdict that drift could have made is shown like one that it could not."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
from rich.console import Console
from tests.helpers_report import FakeRun, analysis, matrix_summary, summary

from kts.model.summary import Estimate, Summary
from kts.report import cells, run_document, terminal, write
from kts.report.charts_matrix import UNSETTLED, heat_map
from kts.report.figures import degradation_title
from kts.report.sections import mixes

REASON = "one block per condition"


def dimmed(of: Summary) -> Summary:
    """The same from one block per condition."""
    tenants = {
        name: msgspec.structs.replace(t, verdict=msgspec.structs.replace(t.verdict, dimmed=REASON))
        for name, t in of.tenants.items()
    }
    house = [
        msgspec.structs.replace(
            mix, tenants={name: msgspec.structs.replace(cell, dimmed=REASON) for name, cell in mix.tenants.items()}
        )
        for mix in of.mixes or ()
    ]
    return msgspec.structs.replace(of, tenants=tenants, mixes=tuple(house) if house else msgspec.UNSET)


def printed(of: Summary) -> str:
    out = io.StringIO()
    terminal.render(run_document(of), Console(file=out, width=120, force_terminal=False))
    return out.getvalue()


def test_every_renderer_dims_the_verdict(tmp_path: Path) -> None:
    of = dimmed(summary())
    text = printed(of)
    assert "WORSE HERE  fft" in text
    assert "intervals without drift" in text
    assert "WORSE HERE" not in printed(summary())
    write(FakeRun(of), analysis(of), tmp_path, figures=False)
    markdown, page = ((tmp_path / name).read_text() for name in ("results.md", "report.html"))
    assert "- *worse here*: fft" in markdown
    assert "**worse" not in markdown
    assert "DF99 (95 % interval, no drift in it)" in markdown
    assert '<li class="worse dimmed"><span class="kind">worse here</span>' in page
    assert "DF99 (95 % interval, no drift in it)" in page


def test_no_title_says_that_sharing_did_it() -> None:
    assert degradation_title(summary()).startswith("Sharing makes the p99 worse: ")
    assert degradation_title(dimmed(summary())).startswith("The p99 was worse together, drift not excluded: fft 2.16x")


def test_cells_of_the_grid_are_marked_and_not_coloured() -> None:
    of = dimmed(matrix_summary())
    table = mixes.grid(of)
    assert table is not None
    assert [cell.text for cell in dict(table.rows)["fft"]] == ["", "1.66 *", "1.03 ?", "2.16 *"]
    assert f"*: {REASON}, so drift cannot be told from sharing." in mixes.legend(of)
    assert "*:" not in mixes.legend(matrix_summary())
    assert mixes.worst(of) is None
    assert "fft beside gemm 1.66 (1.59-1.75) (worse here)" in mixes.words(of)
    _, data = heat_map(of)
    assert {row["bin"] for row in data["filled"]} == {UNSETTLED}


def test_a_ratio_that_differs_from_1_is_not_printed_as_1() -> None:
    """ "1.00 (1.00-1.00)" beside "worse" would be read as a mistake."""
    assert cells.ratio_with_interval(Estimate(estimate=1.002, lo=1.0015, hi=1.0025)) == "1.0020 (1.0015-1.0025)"
    assert cells.ratio_with_interval(Estimate(estimate=1.2, lo=1.004, hi=1.3)) == "1.20 (1.004-1.30)"
    assert cells.ratio_with_interval(Estimate(estimate=1.0, lo=0.98, hi=1.03)) == "1.00 (0.98-1.03)"
    assert cells.ratio_with_interval(Estimate(estimate=12.04, lo=11.6, hi=125.3)) == "12.0 (11.6-125)"
