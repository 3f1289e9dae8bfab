"""The kill campaign, a few kills of it."""

from __future__ import annotations

import sys

import pytest
from bench import kills

pytestmark = [
    pytest.mark.alone,
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux"),
]


def test_no_kill_costs_what_was_kept_or_leaves_anything(capsys: pytest.CaptureFixture[str]) -> None:
    """The counts in docs/robustness.md would be history: a process, file or traceback left, or records lost."""
    number = len(kills.TARGETS)
    assert kills.main(["--kills", str(number), "--jobs", str(number), "--latest", "3"]) == 0, capsys.readouterr()
    (last,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| all |")]
    hit = int(last.split("|")[3])
    assert hit == number
