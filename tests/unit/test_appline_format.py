"""The KTS_APP v1 line: what it must look like and what must not pass for one."""

from __future__ import annotations

import math

import pytest

from kts.wire.appline import AppLine, format_line, parse_line

WHOLE = "KTS_APP,v1,FFT,3,1700000000000000000,1700000000003800000,3.598000,shared"


def test_line_is_as_published() -> None:
    """Programs made for the reference could not read ours."""
    line = AppLine(app="FFT", i=3, start_ns=10, end_ns=20, device_ms=3.5980004)
    assert format_line(line) == "KTS_APP,v1,FFT,3,10,20,3.598000,"


@pytest.mark.parametrize("text", [WHOLE, WHOLE + "\n", WHOLE + "\r\n"])
def test_whole_line_is_read_with_any_line_end(text: str) -> None:
    """Logs from another system would be dropped."""
    line = parse_line(text)
    assert line == AppLine(
        app="FFT", i=3, start_ns=1700000000000000000, end_ns=1700000000003800000, device_ms=3.598, phase="shared"
    )


def test_phase_is_optional_and_stopwatch_may_be_absent() -> None:
    """Lines without a phase, or of a program without a device stopwatch, would be lost."""
    line = parse_line("KTS_APP,v1,FFT,3,10,20,nan")
    assert line is not None
    assert line.phase == ""
    assert math.isnan(line.device_ms)


def test_line_cut_before_its_phase_is_never_a_whole_one() -> None:
    """A torn latency (3.59 of 3.598) would be read as a measurement."""
    end_of_latency = WHOLE.index(",shared")
    assert [cut for cut in range(end_of_latency) if parse_line(WHOLE[:cut]) is not None] == []


@pytest.mark.parametrize(
    "text",
    [
        "KTS_APP,v2,FFT,3,10,20,3.598000,",
        "KTS_APP,v1,FFT,3,20,10,3.598000,",
        "KTS_APP,v1,FFT,4294967296,10,20,3.598000,",
        "KTS_APP,v1,FFT,3,10,9223372036854775808,3.598000,",
        "KTS_APP,v1,FFT,٣,10,20,3.598000,",
        "KTS_APP,v1,FFT,3,10,20,3.598000,a,b",
        "KTS_APP,v1,FFT,3,10,2KTS_APP,v1,FFT,4,10,20,3.598000,",
        "",
    ],
)
def test_other_versions_impossible_numbers_and_mixed_lines_are_none(text: str) -> None:
    """A damaged line would be read as a measurement, or would stop the reader."""
    assert parse_line(text) is None
