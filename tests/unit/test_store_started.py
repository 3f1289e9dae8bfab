"""Blocks beside a program that was still starting do not count."""

from __future__ import annotations

from pathlib import Path

import msgspec
from tests.helpers_store import CPU, make_plan, make_records

from kts.model.mode import SharingMode
from kts.model.plan import Program
from kts.model.run import BlockOutcome, Outcome, WorkerInfo
from kts.store import StoredRun, create, open_run


def _run(directory: Path, counts: list[int], *, solo_ms: float | None) -> StoredRun:
    """gemm is a program; so many iterations of it in each of four rounds' solo and shared blocks."""
    plan = make_plan(rounds=4, iterations=10)
    fft, gemm = plan.tenants
    program = msgspec.structs.replace(gemm, work=Program(command=("serve",)))
    plan = msgspec.structs.replace(plan, tenants=(fft, program))
    writer = create(directory, plan=plan, backend="local", mode=SharingMode(), experiment_text="", environment={})
    writer.worker(WorkerInfo(tenant="fft", pid=1, hostname="h", device=CPU, solo_ms=3.0))
    writer.worker(WorkerInfo(tenant="gemm", pid=2, hostname="h", device=CPU, solo_ms=solo_ms))
    for index, condition in enumerate([c.name for _ in range(4) for c in plan.conditions]):
        n = counts[index // 3]
        active = {"solo-fft": {"fft": 10}, "solo-gemm": {"gemm": n}}.get(condition, {"fft": 10, "gemm": n})
        for tenant, count in active.items():
            if count:
                writer.records(tenant, index, 0, make_records(count, begin_ns=(index + 1) * 10**9))
        begin_ns = (index + 1) * 10**9
        writer.block(
            BlockOutcome(
                index=index,
                round=index // 3,
                condition=condition,
                start_ns=begin_ns,
                end_ns=begin_ns + 10**9,
                valid=True,
                counts=active,
            )
        )
    writer.close(Outcome(kind="complete"))
    return open_run(directory)


def test_blocks_until_a_program_speaks_are_left_out(tmp_path: Path) -> None:
    """What ran beside a program that loaded its model would count as shared."""
    run = _run(tmp_path / "run", [0, 0, 10, 10], solo_ms=None)
    invalid = [block.index for block in run.blocks if not block.valid]
    assert invalid == [1, 2, 4, 5, 7], "solo blocks of its neighbour stay: it was stopped meanwhile"
    assert "gemm was still starting (KTS_SETTLE_S" in run.blocks[1].reason


def test_a_program_that_never_speaks_is_a_neighbour(tmp_path: Path) -> None:
    """A neighbour without lines of its own would make every shared block invalid."""
    run = _run(tmp_path / "run", [0, 0, 0, 0], solo_ms=None)
    assert all(block.valid for block in run.blocks)


def test_a_program_that_spoke_from_the_beginning_loses_nothing(tmp_path: Path) -> None:
    """A block too short for one of its iterations would be taken for a slow start."""
    run = _run(tmp_path / "run", [0, 10, 10, 10], solo_ms=5.0)
    assert all(block.valid for block in run.blocks)
