"""Asking a run to end: the first reason counts, and no moment is lost."""

from __future__ import annotations

from kts.conduct.stop import StopRequest
from kts.model.run import Outcome

FIRST = Outcome(kind="failed", reason="no free slot", exit_code=4)
SECOND = Outcome(kind="interrupted", reason="SIGTERM", exit_code=130)


def test_the_first_reason_is_given_once() -> None:
    """Else a run would be ended twice, or for the reason that came last."""
    stop = StopRequest()
    assert stop.take() is None
    stop.ask(FIRST)
    stop.ask(SECOND)
    assert (stop.take(), stop.take()) == (FIRST, None)
    assert not stop.insisted


def test_a_signal_while_the_run_is_being_ended_insists() -> None:
    """Else a pod that is being deleted would wait for workers that do not leave."""
    stop = StopRequest()
    stop.ask(FIRST)
    stop.ask(SECOND, insistent=True)
    assert stop.take() == FIRST
    assert stop.insisted


def test_a_signal_that_comes_just_after_the_end_is_not_lost() -> None:
    """Else it would be taken for the end of a run that is over, and the pod would wait for an hour."""
    late, later = StopRequest(), StopRequest()
    late.ask(SECOND, insistent=True)
    late.close()
    later.close()
    later.ask(SECOND, insistent=True)
    assert late.insisted
    assert later.insisted


def test_who_asks_over_http_never_makes_the_pod_go() -> None:
    """Else stopping twice, or too late, would cost the results that are still to be fetched."""
    stop = StopRequest()
    stop.ask(FIRST)
    stop.ask(FIRST)
    stop.close()
    stop.ask(FIRST)
    assert not stop.insisted


def test_a_signal_that_ended_the_run_leaves_its_results_to_be_fetched() -> None:
    """Else a drained node would cost what was measured before it."""
    stop = StopRequest()
    stop.ask(SECOND, insistent=True)
    assert stop.take() == SECOND
    stop.close()
    assert not stop.insisted
