"""What users read, letter by letter. Write anew with `python -m tests.helpers_report` and review it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from tests.helpers_report import golden_texts

GOLDEN = Path(__file__).parent / "report"
NAMES = sorted(path.name for path in GOLDEN.iterdir())
texts = functools.cache(golden_texts)  # not while tests are collected, which each process does


@pytest.mark.parametrize("name", NAMES)
def test_reports_change_only_on_purpose(name: str) -> None:
    """Else a table, a column or the summary's schema could change without anyone having looked."""
    assert sorted(texts()) == NAMES
    assert texts()[name] == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["summary", "refused", "matrix"])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    """Else the table would wrap into something nobody can read."""
    assert max(map(len, texts()[f"{name}-{width}.txt"].splitlines())) <= width
