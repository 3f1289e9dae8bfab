"""One block of a program, with a program and a hearing of the test."""

from __future__ import annotations

import time
from typing import cast

import numpy as np

from kts.model.plan import Quota
from kts.model.records import RECORD, Records
from kts.units import NS_PER_MS
from kts.wire.messages import Start
from kts.worker.tenants.hearing import Hearing
from kts.worker.tenants.own_program import OwnProgram
from kts.worker.tenants.program_block import ProgramBlock

STEP_NS = 10 * NS_PER_MS


class Program:
    refused = calls_lost = 0

    def __init__(self) -> None:
        self.went_on_ns: int | None = None

    def resume(self) -> None:
        self.went_on_ns = time.monotonic_ns()

    def pause(self) -> None:
        assert self.went_on_ns is not None


class Heard:
    """What an unending program says once it was let go: iterations of 9 ms, one every 10 ms from ``since_ns`` on."""

    source = None
    speaks = True

    def __init__(self, since_ns: int) -> None:
        self._next_ns = since_ns

    def decide(self) -> None: ...

    def read(self, seconds: float) -> Records:
        del seconds
        return self.drain()

    def drain(self) -> Records:
        begun = np.arange(self._next_ns, time.monotonic_ns() - STEP_NS, STEP_NS)
        rows = np.zeros(len(begun), RECORD)
        rows["submit_ns"] = rows["due_ns"] = begun
        rows["retire_ns"] = begun + STEP_NS - NS_PER_MS
        self._next_ns += len(begun) * STEP_NS
        return rows


class Outlet:
    def __init__(self) -> None:
        self.rows: list[Records] = []
        self.reached = False

    def records(self, records: Records) -> None:
        self.rows.append(records.copy())

    def heartbeat(self, now_ns: int, iterations: int) -> None: ...

    def quota_reached(self, at_ns: int) -> None:
        self.reached = at_ns > 0

    def stopped(self) -> bool:
        return self.reached


def test_what_a_program_does_while_it_runs_in_is_not_among_its_records() -> None:
    """Otherwise its first iterations after it was held, which are slow, are taken for its own."""
    now_ns = time.monotonic_ns()
    first_ns = now_ns - 30 * STEP_NS
    start = Start(
        block=0, start_ns=first_ns, first_ns=first_ns, go_ns=now_ns - 50 * STEP_NS, quota=Quota(iterations=20), seed=1
    )
    program, outlet = Program(), Outlet()
    heard = Heard(start.go_ns)
    left = ProgramBlock(cast(OwnProgram, program), cast(Hearing, heard), start, outlet).run()
    rows = np.concatenate(outlet.rows)
    assert rows["submit_ns"].min() == first_ns
    assert rows["i"].tolist() == list(range(len(rows)))
    assert left.outside >= 20, "the twenty that were left out are counted"


def test_a_program_goes_on_before_its_first_submission_that_may_count() -> None:
    """Otherwise it has no time to run in."""
    now_ns = time.monotonic_ns()
    first_ns = now_ns + 60 * NS_PER_MS
    start = Start(block=0, start_ns=first_ns, first_ns=first_ns, go_ns=now_ns, quota=Quota(iterations=2), seed=1)
    program, outlet = Program(), Outlet()
    ProgramBlock(cast(OwnProgram, program), cast(Hearing, Heard(now_ns)), start, outlet).run()
    assert program.went_on_ns is not None
    assert program.went_on_ns < first_ns
    assert np.concatenate(outlet.rows)["submit_ns"].min() >= first_ns
