"""Who hurts whom, in every form of the report."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.helpers_report import FakeRun, analysis, matrix_summary, summary
from tests.unit.test_report_writing import contrast, luminance

from kts.model.summary import Summary
from kts.report import theme, write
from kts.report.charts_matrix import BINS, UNSETTLED, heat_map
from kts.report.figures import draw
from kts.report.sections import mixes


def test_a_row_suffers_and_a_column_causes() -> None:
    """Else the matrix would blame the victim."""
    table = mixes.grid(matrix_summary())
    assert table is not None
    assert table.heads == ("fft", "gemm", "mine", "full house")
    rows = dict(table.rows)
    assert [cell.text for cell in rows["fft"]] == ["", "1.66", "1.03 ?", "2.16"]
    assert [cell.text for cell in rows["gemm"]] == ["1.04", "", "0.70", "4.80"]
    assert [cell.text for cell in rows["mine"]] == ["refused", "refused", "", "refused"]
    assert rows["fft"][1].interval == "1.59-1.75"


def test_a_pair_that_was_not_measured_is_no_figure() -> None:
    """Else a gap would look like a result."""
    of = matrix_summary()
    assert of.mixes
    table = mixes.grid(msgspec.structs.replace(of, mixes=of.mixes[1:]))
    assert table is not None
    assert dict(table.rows)["fft"][1].text == "-"


def test_mixes_of_three_are_listed_below_the_grid() -> None:
    """Else `mixes: all` would measure what no table shows."""
    of = matrix_summary()
    assert of.mixes
    larger = msgspec.structs.replace(of, tenants={**of.tenants, "more": of.tenants["fft"]})
    house = msgspec.structs.replace(of.mixes[-1], tenants={**of.mixes[-1].tenants, "more": of.mixes[0].tenants["fft"]})
    assert mixes.others(of) == []
    triple = msgspec.structs.replace(larger, mixes=(*of.mixes, house))
    assert {"+".join(mix.tenants) for mix in mixes.others(triple)} == {"fft+gemm+mine"}
    no_pairs = msgspec.structs.replace(triple, mixes=triple.mixes[-2:])
    assert {"+".join(mix.tenants) for mix in mixes.others(no_pairs)} == {"fft+gemm+mine", "fft+gemm+mine+more"}


def test_the_picture_marks_what_is_not_settled() -> None:
    """Else an interval that holds 1 would be coloured as a finding."""
    _, data = heat_map(matrix_summary())
    bins = {(row["tenant"], row["head"]): row["bin"] for row in data["cells"]}
    assert bins["fft", "mine"] == bins["mine", "fft"] == UNSETTLED
    assert bins["fft", "gemm"] == "to 2"
    assert bins["gemm", "full house"] == BINS[-1]
    assert bins["gemm", "mine"] == BINS[0]
    assert bins["gemm", "fft"] == "about 1"
    assert bins["fft", "fft"] is None


def test_the_picture_is_drawn_for_a_matrix_alone() -> None:
    """Else a run of one pair would get a picture of one cell."""
    names = {figure.name: figure for figure in draw(analysis(matrix_summary()), "0.1.0")}
    assert names["matrix"].title == "Who hurts whom: worst is fft beside gemm, 1.66x"
    assert "not a GPU" in names["matrix"].svg
    assert "fft beside mine 1.03 (0.90-1.20) (undetermined)" in names["matrix"].alt
    assert "matrix" not in {figure.name for figure in draw(analysis(summary()), "0.1.0")}


@pytest.mark.parametrize("count", [8, 16, 32])
def test_many_tenants_stay_within_the_picture(count: int) -> None:
    """Else the picture of 16 tenants would be wider than the page."""
    of = matrix_summary()
    assert of.mixes
    tenants = {f"tenant-{k}": of.tenants["fft"] for k in range(count)}
    pair = msgspec.structs.replace(of.mixes[0], tenants=dict.fromkeys(list(tenants)[:2], of.mixes[0].tenants["fft"]))
    house = msgspec.structs.replace(of.mixes[-1], tenants=dict.fromkeys(tenants, of.mixes[0].tenants["fft"]))
    chart, _ = heat_map(msgspec.structs.replace(of, tenants=tenants, mixes=(pair, house)))
    assert chart.to_dict()["width"] <= 830


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK])
def test_text_can_be_read_on_every_step(colours: dict[str, str]) -> None:
    """Else the worst cells would be the least legible (contrast by WCAG)."""
    roles = {colour: role for role, colour in theme.LIGHT.items()}
    for step in theme.HEAT:
        ink = "background" if step in theme.HEAT_STRONG else "ink"
        assert contrast(luminance(colours[roles[step]]), luminance(colours[ink])) >= 4.5


def test_all_files_of_a_report_hold_the_matrix(tmp_path: Path) -> None:
    """Else a reader of one form would not know that pairs were measured."""
    of = matrix_summary()
    write(FakeRun(of), analysis(of), tmp_path)
    assert "suffers, beside" in (tmp_path / "results.md").read_text()
    assert "suffers, beside" in (tmp_path / "report.html").read_text()
    assert "fft,response,shared-fft+gemm,df_p99,1.66" in (tmp_path / "summary.csv").read_text()
    assert (tmp_path / "plots" / "matrix-dark.png").is_file()


def kinds(*of: str) -> Summary:
    """The recorded matrix with these verdicts for its pairs' cells, in order."""
    full = matrix_summary()
    assert full.mixes
    left = iter(of)
    mixes_ = tuple(
        msgspec.structs.replace(
            mix,
            tenants={name: msgspec.structs.replace(cell, kind=next(left)) for name, cell in mix.tenants.items()}
            if len(mix.tenants) == 2
            else mix.tenants,
        )
        for mix in full.mixes
    )
    return msgspec.structs.replace(full, mixes=mixes_)


def test_cells_of_which_nothing_is_known_are_not_taken_for_harmless_pairs() -> None:
    """Else a matrix of refusals would read as an acquittal."""
    cells = sum(len(mix.tenants) for mix in matrix_summary().mixes or () if len(mix.tenants) == 2)
    assert mixes.without_worst(kinds(*["no-change"] * cells)) == "no pair is shown to make a p99 worse"
    assert mixes.without_worst(kinds(*["refused"] * cells)) == "too few data for any pair"
    some = mixes.without_worst(kinds("refused", "undetermined", *["no-change"] * (cells - 2)))
    assert some.endswith(f"; of {cells}, 1 is refused and 1 is undetermined")
