"""One block of a program, with a program and a hearing of the test."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from kts.model.plan import Quota
from kts.model.records import RECORD, Records
from kts.units import NS_PER_MS
from kts.wire.messages import Start
from kts.worker.tenants import program_block
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


class InStep:
    """The clock of a block, and a program in it that prints a line at the end of each iteration: 6 ms, one every 8.
    Whoever listens is woken by the line."""

    source = None
    speaks = True

    def __init__(self) -> None:
        self.now_ns = 0
        self.looks: list[int] = []

    def monotonic_ns(self) -> int:
        self.now_ns += 1000  # it takes time to ask
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def decide(self) -> None: ...

    def read(self, seconds: float) -> Records:
        line_ns = (self.now_ns + 2 * NS_PER_MS) // (8 * NS_PER_MS) * 8 * NS_PER_MS + 6 * NS_PER_MS
        self.now_ns = min(line_ns, self.now_ns + round(seconds * 1e9))
        return self.drain()

    def drain(self) -> Records:
        return np.zeros(0, RECORD)

    def records(self, records: Records) -> None: ...

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        del iterations
        self.looks.append(now_ns)

    def quota_reached(self, at_ns: int) -> None: ...

    def stopped(self) -> bool:
        return self.now_ns > 20e9


def test_what_the_host_does_with_a_program_is_not_looked_at_in_step_with_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a program that waits for a disk in every iteration is never seen to: its lines come between these."""
    run = InStep()
    monkeypatch.setattr(program_block, "time", SimpleNamespace(monotonic_ns=run.monotonic_ns, sleep=run.sleep))
    start = Start(block=0, start_ns=0, first_ns=0, go_ns=0, quota=Quota(seconds=30), seed=1)
    ProgramBlock(cast(OwnProgram, Program()), cast(Hearing, run), start, run).run()
    inside = [at_ns % (8 * NS_PER_MS) < 6 * NS_PER_MS for at_ns in run.looks[:-1]]
    assert 300 < len(inside) < 500  # of 50 ms, mean, in 20 s
    assert 0.6 < sum(inside) / len(inside) < 0.9
