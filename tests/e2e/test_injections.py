"""A few blind trials of `python -m bench injections`: what was done to a tenant is what its report puts first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from bench.injections import account, main, run, scored, told
from bench.injectors.stage import Victim

pytestmark = [pytest.mark.e2e, pytest.mark.alone]


@pytest.mark.parametrize(
    ("injection", "victim"),
    [("uninvited neighbour", "ours"), ("long kernels", "traced"), ("delay between iterations", "open")],
)
def test_the_report_names_what_was_done(tmp_path: Path, injection: str, victim: Victim) -> None:
    """Else people would mend what is not broken. A cause has two trials: of the hundred that were published one in 25
    named none."""
    draws, trials = random.Random(5), []
    for attempt in range(2):
        (folder := tmp_path / str(attempt)).mkdir()
        key = run(injection, victim, "cpu", draws, folder)
        assert not key.failed
        trials.append(scored(key, folder))
        if trials[-1].right:
            return
    raise AssertionError((account(trials), trials))


def test_nothing_is_named_where_nothing_was_done_and_kept_runs_are_judged_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else people would look for what a report invented, as none of those published did; and every change of a rule
    would cost all trials again."""
    only = ("--only", "clean", "--victim", "ours", "--trials", "1")
    runs, found = tmp_path / "runs", tmp_path / "found.json"
    assert main([*only, "--keep", str(runs), "--out", str(found)]) == 0
    first = capsys.readouterr().out.splitlines()
    (trial,) = told(found)
    assert trial.right, trial
    assert main(["--again", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines() == first[-len(account([])) - 2 :]
