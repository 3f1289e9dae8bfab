"""The text format against lines that were made, and against any text."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from tests.helpers_telemetry import UUID

from kts.telemetry.dcgm_values import Target, gpus, told, words
from kts.telemetry.exposition import lines

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True)
VALUES = st.floats(allow_nan=False)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@given(
    labels=st.dictionaries(NAMES.map(str.lower), st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    value=VALUES,
    stamp=st.none() | st.integers(0, 2**41),
    space=st.sampled_from(["", " ", "\t"]),
    end=st.sampled_from(["", " ", "\r", ' # {a="}"} 7']),
)
def test_what_is_written_is_read(labels: dict[str, str], value: float, stamp: int | None, space: str, end: str) -> None:
    """Else a label's text, however odd, could hide a value or change it."""
    inside = f",{space}".join(f'{space}{name}{space}={space}"{_escaped(text)}"' for name, text in labels.items())
    line = f"{space}DCGM_FI_X{space}{{{inside}{space}}}{space} {value!r}" + (f" {stamp}" if stamp is not None else "")
    (found,) = lines(f"# HELP x\n{line}{end}\n", lambda line: "#" not in line[:1])
    assert found.labels == labels
    assert found.value == value
    assert found.stamp_ns == (None if stamp is None else stamp * 1_000_000)


WORDS = f'DCGM_FI_DEV_GPU_UTIL DCGM_FI_PROF_SM_ACTIVE UUID="{UUID}" GPU_I_ID="3" pod="a" 1 NaN 1e999 # EOF'
PIECES = st.sampled_from([*WORDS.split(), *'{}=",\\#- \n'])


@given(st.lists(PIECES | st.text(max_size=3), max_size=60).map("".join))
def test_any_text_is_values_that_can_be_or_nothing(text: str) -> None:
    """Else a damaged answer would be a traceback, or a value that no GPU has."""
    for target in (Target(UUID), Target(UUID, "3")):
        found = told(text, target)
        for metric, value in found.device.items():
            assert math.isfinite(value)
            assert 0 <= value <= (1 if metric.endswith("_ratio") else 20_000)
    assert words(gpus(text))
