"""From gaps to turns, neighbours and bursts, on traces written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.helpers_probe import H200, HERE_NS, watched

from kts.errors import DataError
from kts.worker.probe.gaps import SliceCosts, count, interval, turns, usual
from kts.worker.probe.traces import GapTrace, Looks, Pair, threshold_ns
from kts.worker.probe.who import sentence, sharing_of

MS = 1_000_000
KNOWN = SliceCosts(slice_ms=2.0, switch_ms=(0.2,), yield_ms=0.1)


def _trace(*cycles: tuple[float, float], last_ms: float = 2.0) -> GapTrace:
    """On and off times (ms) one after the other."""
    now, gaps = HERE_NS, []
    for on, off in cycles:
        now += round(on * MS)
        gaps.append((now, round(off * MS)))
        now += round(off * MS)
    return GapTrace(start_ns=HERE_NS, end_ns=now + round(last_ms * MS), gaps=tuple(gaps))


def _looks(*seen: GapTrace) -> Looks:
    return Looks(device=H200, mode="time-slicing", blip_ns=20_000, kind="looks", looks=seen)


def test_turns_lie_between_gaps() -> None:
    """Else every figure that follows is wrong."""
    found = turns(_trace((1.0, 2.4), (2.0, 2.4), (2.0, 4.6), last_ms=0.5), 20_000)
    assert found.on.tolist() == [1.0, 2.0, 2.0]
    assert found.whole.tolist() == [2.0, 2.0]
    assert found.off.tolist() == [2.4, 2.4, 4.6]
    assert found.at.tolist() == [1.0, 5.4, 9.8]
    assert found.last == 0.5
    assert found.away == pytest.approx(9.4 / 14.9)


def test_a_blip_is_no_turn() -> None:
    """Else an interrupt on a CPU core cuts every turn in two."""
    found = turns(_trace((1.0, 2.4), (0.8, 0.05), (1.15, 2.4)), 700_000)
    assert found.whole.tolist() == [2.0]
    assert len(turns(_trace(), 20_000).on) == 0


def test_time_after_a_full_buffer_does_not_count() -> None:
    """Else a watch that ran out of room looks like a device that nobody shares."""
    full = GapTrace(start_ns=0, end_ns=100 * MS, gaps=((2 * MS, 2 * MS),), lost=7)
    assert full.until_ns == 4 * MS
    assert turns(full, 20_000).last == 0


@pytest.mark.parametrize("n", range(6))
def test_neighbours_are_counted_with_and_without_a_fingerprint(n: int) -> None:
    """Else "who is on my GPU" gets the wrong answer in the plainest case."""
    away = n * 2.0 + (n + 1) * 0.2
    trace = _trace(*[(2.0, away)] * 20) if n else _trace(last_ms=60)
    for known in (None, KNOWN):
        found = count(watched(trace), known)
        assert found.neighbours == n
        assert found.sure > 0.85
        assert found.pattern is None
        one = _trace((2.0, away), last_ms=0) if n else _trace(last_ms=3.0)
        assert count(_looks(*[one] * 5), known).neighbours == n


def test_few_looks_make_nobody_sure() -> None:
    """Else two looks at one moment pass for certainty."""
    one = _trace((2.0, 2.4), last_ms=0)
    assert count(_looks(one, one), KNOWN).sure < count(_looks(*[one] * 10), KNOWN).sure < 1


def test_mixed_looks_count_those_who_are_always_there() -> None:
    """Else a neighbour with work now and then is taken for one that saturates."""
    one, two, none = _trace((2.0, 2.4), last_ms=0), _trace((2.0, 4.6), last_ms=0), _trace(last_ms=3.0)
    assert count(_looks(one, one, one, one, two), KNOWN).neighbours == 1
    assert count(_looks(none, none, one, none, none), KNOWN).neighbours == 0
    assert count(_looks(one, one, none, none, one), KNOWN).neighbours == 0


def test_bursts_are_described() -> None:
    """Else a neighbour that pauses is either missed or called saturating."""
    trace = _trace(*[(20.0 - 0.8, 0.8)] * 40)  # switch, burst of half a millisecond, yield
    found = count(watched(trace), KNOWN)
    assert found.neighbours == 0
    assert found.pattern is not None
    assert found.pattern.burst_ms == pytest.approx(0.5)
    assert found.pattern.period_ms == pytest.approx(20.0)
    assert found.pattern.regular


def test_a_burst_longer_than_a_slice_is_one_stay() -> None:
    """Else its length and its rate are both wrong."""
    long = [(20.0, 2.4), (2.0, 2.4), (2.0, 1.3)]  # 2 + 2 + 1 ms, cut by my slices
    found = count(watched(_trace(*long * 20)), KNOWN)
    assert found.pattern is not None
    assert found.pattern.burst_ms == pytest.approx(5.0, abs=0.3)
    assert found.pattern.period_ms == pytest.approx(30.1, abs=0.1)


def test_bursts_beside_a_saturating_neighbour_are_told_apart() -> None:
    """Else the second one hides behind the first."""
    trace = _trace(*([(2.0, 2.4)] * 9 + [(2.0, 3.5)]) * 12)
    found = count(watched(trace), KNOWN)
    assert found.neighbours == 1
    assert found.pattern is not None
    assert found.pattern.burst_ms == pytest.approx(1.0)
    assert found.pattern.period_ms == pytest.approx(45.1, abs=0.1)
    text = sentence(found, watched(trace))
    assert text.startswith("NVIDIA H: 1 neighbour keeps it busy")
    assert "you get 1 turn in 2" in text
    assert "somebody else comes in bursts of about 1.00 ms, every 45.1 ms" in text


def test_a_stale_fingerprint_is_not_used() -> None:
    """Else a slice set anew with nvidia-smi makes every later answer wrong."""
    trace = _trace(*[(6.0, 12.6)] * 20)  # two neighbours, slices three times as long as known
    found = count(watched(trace), KNOWN)
    assert found.neighbours == 2
    assert found.slice_ms == pytest.approx(6.0)
    assert found.stale_ms == 2.0
    assert "make a new one" in sentence(found, watched(trace))


def test_an_idle_device_is_called_so() -> None:
    """Else a user goes on looking for whoever is not there."""
    looks = _looks(*[_trace(last_ms=3.0)] * 5)
    assert "nobody was seen at all" in sentence(count(looks), looks)


def test_the_usual_value_stays_where_most_are() -> None:
    """Else turns that a third party cut pull the slice down."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(4.0, 0.01, 60), rng.uniform(0, 4, 40)])
    assert usual(values) == pytest.approx(4.0, abs=0.02)
    assert usual(np.array([3.0])) == 3.0
    assert math.isnan(usual(np.empty(0)))


def test_an_interval_widens_with_what_differs_between_groups() -> None:
    """Else the slice seems known better than it is the same."""
    rng = np.random.default_rng(0)
    alike = interval([rng.normal(2.0, 0.01, 50) for _ in range(4)], usual)
    differing = interval([rng.normal(2.0 + 0.1 * i, 0.01, 50) for i in range(4)], usual)
    assert alike[1] <= alike[0] <= alike[2]
    assert differing[2] - differing[1] > 5 * (alike[2] - alike[1])


@pytest.mark.parametrize(("step", "expected"), [(32, 20_000), (1024, 20_480), (60, 20_000)])
def test_the_clocks_own_steps_are_no_gaps(step: int, expected: int) -> None:
    """Else a timer of 1 us steps is full of gaps."""
    repeated = np.repeat(np.arange(0, 100 * step, step), 3)
    assert threshold_ns(repeated) == expected


def test_a_look_needs_of_a_fingerprint_what_counting_needs() -> None:
    """Else the light image cannot use the file that kts probe wrote, or a wrong one ends in a traceback."""
    raw = b'{"schema": 1, "slice_ms": {"value": 2.0, "lo": 1, "hi": 3}, "preempt_ms": [{"value": 0.2}], "yield_ms": []}'
    assert sharing_of(raw, "f") == SliceCosts(slice_ms=2.0, switch_ms=(0.2,))
    for wrong in (b"{}", b"\xff", b'{"slice_ms": {"value": 0}, "preempt_ms": []}'):
        with pytest.raises(DataError, match="not a fingerprint"):
            sharing_of(wrong, "f")


def test_gaps_are_pairs() -> None:
    """Else an empty trace has another shape than a full one."""
    pair: Pair = (1, 2)
    assert GapTrace(start_ns=0, end_ns=9, gaps=(pair,)).array.shape == (1, 2)
    assert GapTrace(start_ns=0, end_ns=9).array.shape == (0, 2)
