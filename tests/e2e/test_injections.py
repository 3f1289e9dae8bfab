"""A few blind trials of `python -m bench injections`: what was done to a tenant is what its report puts first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from bench.injections import account, main, run, scored
from bench.injectors.stage import Victim

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


@pytest.mark.parametrize(
    ("injection", "victim"),
    [
        ("uninvited neighbour", "ours"),
        ("long kernels", "traced"),
        ("delay between iterations", "open"),
        ("clean", "ours"),
    ],
)
def test_the_report_names_what_was_done_and_nothing_where_nothing_was(
    tmp_path: Path, injection: str, victim: Victim
) -> None:
    """Else people would mend what is not broken, or look for what a report invented. A cause has two trials: of the
    hundred that were published one in 25 named none, though no clean one named any."""
    draws, trials = random.Random(5), []
    for attempt in range(1 if injection == "clean" else 2):
        (folder := tmp_path / str(attempt)).mkdir()
        key = run(injection, victim, "cpu", draws, folder)
        assert not key.failed
        trials.append(scored(key, folder))
        if trials[-1].right:
            return
    raise AssertionError((account(trials), trials))


def test_kept_runs_are_judged_anew_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else every change of a rule would cost all trials again."""
    only = ("--only", "paused neighbour", "--victim", "ours", "--trials", "1")
    assert main([*only, "--keep", str(tmp_path)]) == 0
    first = capsys.readouterr().out.splitlines()
    assert main(["--again", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == first[-len(account([])) - 2 :]
