"""If these fail, the account of what no cause has counts wrongly, or gives a reason that the data do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench.addsup import by_folder, counts, looks_of, outside, reason, reasons, rows_of, speeds
from tests.helpers_stats import SHARED, Array, FakeRun, make_plan, make_run

from kts.model.telemetry import SampleSeries

ALONE, TOGETHER = (3.0, 4.5, 4.8, 3.7, 3.2), (4.6, 5.4, 5.6, 4.9, 4.4)


def uneven(tenant: str, side: str, number: int) -> tuple[Array, None]:
    """A program whose rounds differ, and that takes longer in company; its neighbour is always there, and the same."""
    levels = (TOGETHER if side == SHARED else ALONE) if tenant == "fft" else (4.0,) * 5
    return np.random.default_rng([number, len(side)]).normal(levels[number], 0.02, 300), None


def of_turns(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    """fft waits 2 ms for turns of a neighbour that is always there."""
    work = np.random.default_rng([number, len(side)]).normal(3.0, 0.02, 300)
    return work + (2.0 if (tenant, side) == ("fft", SHARED) else 0.0) + 0.05, work


def run(latencies: object) -> FakeRun:
    return make_run(make_plan(rounds=5), latencies, think_ms=0.05)  # type: ignore[arg-type]


def test_what_is_named_is_within_and_what_is_not_is_listed_with_its_interval() -> None:
    rows = [row for row in rows_of("turns", run(of_turns)) if row.tenant == "fft"]
    assert {row.statistic for row in rows} == {"mean", "p50", "p95", "p99"}
    assert all(row.within(0.1) and not row.surely_beyond(0.1) and row.lo <= row.unexplained <= row.hi for row in rows)
    means = [row for row in rows if row.statistic == "mean"]
    assert "| mean | 1 | 1 (100 %) | 1: 1 | 0 | " in "\n".join(counts(means, 0.1))


def test_rounds_that_differ_by_as_much_are_the_reason_and_nothing_else_is() -> None:
    """Else whatever is unexplained would be put down to the host."""
    (mean,) = (r for r in rows_of("uneven", run(uneven), folder="a") if (r.tenant, r.statistic) == ("fft", "mean"))
    assert mean.added == pytest.approx(1.1, abs=0.1)
    assert not mean.within(0.1)
    assert mean.why == "alone its rounds are 3 to 4.8 ms"
    assert (mean.mode, mean.records, mean.parts[:9]) == ("time-slicing", "", "contended")
    assert f"| its rounds differ by as much | 1 | {mean.folder} 1 | fft 1 |" in list(reasons([mean], 0.1))
    assert list(by_folder([mean], {mean.folder: 2, "b": 1}, 0.1))[2:] == [
        "| a (2) | 1 | 0 (0 %) | 0: 0 | 0 |",
        "| b (1) | 0 | 0 | 0: 0 | 0 |",
    ]
    assert mean.why in "\n".join(outside([mean], 0.1))


def test_time_that_is_measured_in_no_wait_for_the_device_is_said_to_be_its_hosts() -> None:
    """Else what is known of where it went is not told, since nothing says why."""
    rows = [
        SimpleNamespace(**dict.fromkeys(("response", "service"), np.full(40, ms)), device=np.full(40, np.nan))
        for ms in (2.0, 2.6)
    ]
    of: Any = SimpleNamespace(statistic="mean", alone_ms=2.0)
    for waited, why in ((0.1, "in no wait for the device its host took 2.5 ms, alone 1.9"), (np.nan, "no record of")):
        sides: list[Any] = [
            SimpleNamespace(
                **vars(one), waited=np.full(40, waited), weight=np.ones(40), round=np.zeros(40), rest=one.device
            )
            for one in rows
        ]
        assert reason(of, 0.6, *sides).startswith(why)


def test_looks_at_cores_are_those_of_their_blocks_and_slow_from_between_the_two_speeds_on() -> None:
    """Else a core would be said to be slow in company that is slow between blocks, or whose clock is a little lower."""
    found = run(of_turns)
    times = [one.start_ns + part * (one.end_ns - one.start_ns) // 4 for one in found.blocks for part in (1, 2, 3)]
    slow = {one.start_ns for one in found.blocks if len(one.counts) == 2}
    of_block = [one for one in found.blocks for _ in range(3)]
    values = [20.0 if one.start_ns in slow and k % 3 else 10.5 if k % 2 else 10.0 for k, one in enumerate(of_block)]
    t_ns = np.array([*times, found.blocks[-1].end_ns + 1])
    series = SampleSeries("host", "core_loop_us", "tenant", "fft", t_ns, np.zeros_like(t_ns), np.array([*values, 90.0]))
    found.samples = (series,)
    table = list(speeds(list(looks_of(found))))
    assert [row.split(" | ")[:3] for row in table[2:]] == [["| 0", "30", "0 %"], ["| 1", "15", "67 %"]]
    assert table[3].endswith("| 2.00 |")
    assert not list(looks_of(run(of_turns)))
