"""If these fail, the slowest iterations lose when they ran, or whom they met."""

from __future__ import annotations

import numpy as np
from tests.helpers_stats import Array, make_plan, make_run

from kts.stats import analyse
from kts.stats.slowest import KEPT

HOUSE = "shared-fft+gemm"


def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    """400 iterations of 2 ms, the 100th of round 3 slower by far."""
    service = np.full(400, 2.0) + np.random.default_rng([number, len(tenant), len(side)]).uniform(0, 0.1, 400)
    service[100] += 50.0 * (number == 3)
    return service, service - 0.1


def test_the_slowest_keep_their_times_their_block_and_their_neighbours() -> None:
    run = make_run(make_plan(rounds=5), latencies)
    slowest = analyse(run).series["fft"].slowest
    assert {condition: len(found) for condition, found in slowest.items()} == {"solo-fft": KEPT, HOUSE: KEPT}
    worst = slowest[HOUSE][0]
    records = run.records("fft", worst.block)[100]
    assert (worst.submit_ns, worst.retire_ns) == (records["submit_ns"], records["retire_ns"])
    assert 52 <= worst.response_ms <= 52.2
    theirs = run.records("gemm", worst.block)
    met = (theirs["submit_ns"] < worst.retire_ns) & (theirs["retire_ns"] > worst.submit_ns)
    assert worst.neighbours == {"gemm": int(met.sum())}
    assert slowest["solo-fft"][0].neighbours == {}
    assert all(a.response_ms >= b.response_ms for a, b in zip(slowest[HOUSE], slowest[HOUSE][1:], strict=False))


def test_they_are_the_slowest_of_all_blocks_however_the_blocks_are_read() -> None:
    run = make_run(make_plan(rounds=5), latencies)
    shared = [b.index for b in run.blocks if len(b.counts) > 1]
    every = np.concatenate([(r["retire_ns"] - r["due_ns"]) / 1e6 for r in (run.records("fft", b) for b in shared)])
    told = [one.response_ms for one in analyse(run).series["fft"].slowest[HOUSE]]
    assert told == sorted(every, reverse=True)[:KEPT]
