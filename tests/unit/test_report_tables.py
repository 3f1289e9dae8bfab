"""summary.json, its schema, and how figures are written."""

from __future__ import annotations

import csv
import io
import json

import jsonschema
import msgspec
import pytest
from tests.helpers_report import HOSTILE, bare_summary, fft_summary, summary, summary_csv, terminal_text

from kts import files
from kts.app.catalog import schema
from kts.model.summary import Estimate, Summary
from kts.report import cells, run_document
from kts.report.sections.latency import refusals
from kts.report.sheet import COLUMNS


@pytest.mark.parametrize("tenants", [None, {"alone": bare_summary()}])
def test_summary_json_fits_its_schema_and_reads_back(tenants: dict[str, object] | None) -> None:
    """Else programs that trust the published schema would fail on real output."""
    of = summary(tenants)  # type: ignore[arg-type]
    text = files.encode(of)
    jsonschema.Draft202012Validator(schema("summary")).validate(json.loads(text))
    assert msgspec.json.decode(text, type=Summary) == of


def test_the_schema_is_valid_and_describes_its_fields() -> None:
    """Else the published schema would be unusable or unexplained."""
    published = schema("summary")
    jsonschema.Draft202012Validator.check_schema(published)
    assert "$id" not in published
    assert "95 % interval" in published["$defs"]["Estimate"]["description"]


def test_the_schema_refuses_a_summary_without_a_verdict() -> None:
    """Else CI would pass on output that lacks what the issue of a run is."""
    broken = json.loads(files.encode(summary()))
    del broken["tenants"]["fft"]["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema("summary"))


def test_csv_holds_every_estimate_with_its_interval() -> None:
    """Else a spreadsheet would lack figures that the JSON has."""
    rows = list(csv.DictReader(io.StringIO(summary_csv(summary()))))
    found = {(r["tenant"], r["clock"], r["condition"], r["figure"]): r for r in rows}
    df = found["fft", "response", "df", "p99"]
    expected = fft_summary().response.df.p99
    assert (float(df["estimate"]), float(df["lo"]), float(df["hi"])) == pytest.approx(
        (expected.estimate, expected.lo, expected.hi)
    )
    assert {"solo", "shared", "df"} == {c for _, clock, c, _ in found if clock == "device"}
    assert found["fft", "response", "shared", "goodput"]["unit"] == "fraction"


def test_csv_says_why_a_figure_is_missing() -> None:
    """Else an empty cell could be taken for zero."""
    rows = csv.DictReader(io.StringIO(summary_csv(summary({"mine": bare_summary()}))))
    row = next(r for r in rows if r["figure"] == "p99" and r["condition"] == "df")
    assert (row["estimate"], row["lo"], row["hi"]) == ("", "", "")
    assert "p99 needs 368" in row["refused"]


def test_csv_survives_hostile_tenant_names() -> None:
    """Else a quote or comma in a name would shift the columns."""
    rows = list(csv.reader(io.StringIO(summary_csv(summary({HOSTILE + ',"\n': fft_summary()})))))
    assert {len(row) for row in rows} == {len(COLUMNS)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0"),
        (0.00412, "0.00412"),
        (0.4124, "0.412"),
        (3.598, "3.60"),
        (9.999, "10.0"),
        (20.677, "20.7"),
        (99.96, "100"),
        (1250.4, "1250"),
        (-3.5, "-3.50"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    """Else tables would show digits that the data do not support, or too few."""
    assert cells.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(2.1555, "2.16"), (0.98, "0.98"), (12.34, "12.3"), (None, "-")])
def test_ratios_have_two_decimals(value: float | None, text: str) -> None:
    """Else 0.98 and 2.16 could not be compared at a glance."""
    assert cells.ratio(value) == text


def test_a_cpu_is_always_labelled_as_no_gpu() -> None:
    """Else a CPU's figures could be taken for a GPU's."""
    bare = msgspec.structs.replace(summary(gpu=False), device="CPU core 1")
    assert cells.device_label(bare) == "CPU core 1, not a GPU"
    assert cells.device_label(summary(gpu=False)).count("not a GPU") == 1
    assert cells.device_label(summary()) == "NVIDIA H200"
    unknown = msgspec.structs.replace(summary(), is_gpu=False, device="unknown device", mode="unknown")
    assert cells.device_label(unknown) == "unknown device"


def test_refusals_name_reason_and_place_once() -> None:
    """Else the reader of a dash could not find out why, or would read the same line nine times."""
    lines = refusals(summary({"mine": bare_summary()}))
    assert len(lines) == 2
    assert "response, service: solo p99" in lines[0]
    assert lines[1].endswith("(device: all)")


def test_change_needs_both_sides() -> None:
    """Else a division by nothing would crash the report of a tenant that never ran shared."""
    assert cells.change(None, 1.0) == cells.change(0.0, 1.0) == cells.change(1.0, None) == "-"
    assert cells.change(278.1, 257.9) == "-7.3 %"


def test_interval_is_a_dash_without_bounds() -> None:
    """Else a figure without an interval would crash the table."""
    assert cells.ratio_with_interval(Estimate(estimate=2.0, lo=None, hi=None)) == "2.00 (-)"


def test_a_narrow_terminal_gets_fewer_figures_and_whole_ones() -> None:
    """Else 60 columns would show rows without names and figures cut short, which read as others."""
    text = terminal_text(run_document(summary()), 60)
    assert "…" not in text
    assert [name for name in ("fft", "gemm") if f"\n{name}" not in text] == []
    assert "DF99" in text
