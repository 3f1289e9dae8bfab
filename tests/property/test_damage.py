"""A part of `python -m bench damage`, always the same: see docs/robustness.md."""

from __future__ import annotations

import pytest
from bench.damage import READERS, campaign

NUMBER = 40


@pytest.mark.parametrize("name", READERS)
def test_no_changed_input_is_read_wrong_or_crashes_its_reader(name: str) -> None:
    """Else a flipped bit would become a figure, or a traceback."""
    ends, _ = campaign(name, NUMBER, seed=7)
    assert ends.total() == NUMBER
    assert (ends["wrong"], ends["crash"], ends["slow"]) == (0, 0, 0)
    assert ends["unchanged"] < NUMBER


def test_a_reader_that_believes_anything_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign that cannot fail would count nothing but its own inputs."""
    monkeypatch.setattr("kts.store.runfile._fault", lambda _: "")
    ends, _ = campaign("run.json", 150, seed=7)
    assert ends["wrong"] > 0
