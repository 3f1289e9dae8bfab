"""What happens to the outcome and to the stop rule when things are kept, or cannot be."""

from __future__ import annotations

import pytest
from tests.helpers_conduct import AfterRounds, MemorySink, make_records

from kts.conduct import events as ev
from kts.conduct.keeper import Keeper
from kts.model.run import BlockOutcome, Outcome

COMPLETE = Outcome(kind="complete")


def block(*, valid: bool, index: int = 0) -> ev.EndBlock:
    outcome = BlockOutcome(index=index, round=0, condition="solo-a", start_ns=0, end_ns=1, valid=valid)
    return ev.EndBlock(outcome=outcome)


def keep(index: int, seq: int) -> ev.Keep:
    return ev.Keep(tenant="a", block=index, seq=seq, records=make_records(3))


def test_the_rule_gets_whole_valid_blocks_only() -> None:
    """Otherwise sequential stopping would decide on half a block."""
    rule = AfterRounds(1)
    keeper = Keeper(MemorySink(), rule)
    for action in (keep(0, 0), keep(0, 1), block(valid=True), keep(1, 0), block(valid=False, index=1)):
        assert keeper.keep(action) is None
    assert rule.added == [("a", 0, 6)]


@pytest.mark.parametrize("method", ["records", "block", "close"])
def test_a_run_that_could_not_be_kept_is_not_complete(method: str) -> None:
    """Otherwise a disk that fills at the very end leaves a success without data."""
    keeper = Keeper(MemorySink(fail_at=method), None)
    keeper.keep(keep(0, 0))
    keeper.keep(block(valid=True))
    outcome = keeper.close(COMPLETE)
    assert (outcome.kind, outcome.exit_code, outcome.remedy) == ("incomplete", 5, "free some space")


def test_a_broken_sink_is_told_once_and_then_left_alone() -> None:
    """Otherwise each further record reports the full disk again."""
    sink = MemorySink(fail_at="records")
    keeper = Keeper(sink, None)
    error = keeper.keep(keep(0, 0))
    assert error is not None
    assert error.what == "disk full"
    assert keeper.keep(keep(0, 1)) is None
    assert keeper.keep(block(valid=False)) is None
    assert [b.valid for b in sink.blocks] == [False], "what still fits is kept"
    assert len(sink.outcomes) == 0
    keeper.close(Outcome(kind="incomplete", reason="disk full", exit_code=5))
    assert len(sink.outcomes) == 1
