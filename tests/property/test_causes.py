"""If these fail, what company adds depends on how it is counted, named or measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kts.model.summary import Estimate, Latency
from kts.stats.causes.company import computed, shares
from kts.stats.causes.components import components
from kts.stats.causes.decompose import Compared, decompositions
from kts.stats.causes.facts import Facts
from kts.stats.causes.kept import KeptRows
from kts.stats.causes.rates import RATES
from kts.stats.overlap import Span

ROUNDS, N = 6, 60


def rows(seed: int, others: tuple[str, ...], *, scale: float = 1.0) -> KeptRows:
    """Iterations of 3.6 ms; with company a wait before and turns since, and neighbours in flight for all of it."""
    rng = np.random.default_rng(seed)
    n = ROUNDS * N
    rest = 0.1 * rng.lognormal(0, 0.05, n)
    device = 3.6 * rng.lognormal(0, 0.01, n)
    parts = np.sort(rng.random((len(others) + 1, n)), axis=0)[1:]
    if others:
        rest, device = rest + rng.uniform(0, 2, n), device + 2.4 * (rng.random(n) < 0.7)
    weights = np.diff(np.vstack([parts, np.ones(n)]), axis=0) if others else np.zeros((0, n))
    weights = weights / np.maximum(weights.sum(axis=0), 1e-9)
    rest, device = scale * rest, scale * device
    queue = scale * rng.exponential(0.3, n)
    nothing = np.full(n, np.nan)
    return KeptRows(
        neighbours=others,
        response=queue + rest + device,
        backlog=queue,
        late=np.zeros(n),
        service=rest + device,
        device=device,
        before=weights * rest,
        during=weights * device,
        core_wait=nothing,
        waited=nothing,
        rates=np.full((len(RATES), n), np.nan),
        weight=np.ones(n),
        round=np.repeat(np.arange(ROUNDS), N),
        block=np.repeat(np.arange(ROUNDS), N),
        place=np.tile(np.arange(N) / N, ROUNDS),
        switched=np.full(n, float(bool(others))),
        beside=np.full(n, float(bool(others))),
    )


def latency(of: KeptRows) -> Latency:
    def exact(p: float) -> Estimate:
        value = float(np.quantile(of.response, p))
        return Estimate(estimate=value, lo=value, hi=value)

    none = Estimate(estimate=None, lo=None, hi=None)
    mean = float(of.response.mean())
    return Latency(n=of.n, mean=mean, p50=exact(0.5), p95=exact(0.95), p99=exact(0.99), p999=none, jitter=none)


def split(alone: KeptRows, together: KeptRows) -> dict[tuple[str, str], tuple[float, dict[str, float]]]:
    facts = Facts(components(alone, alone, is_cpu=False), components(together, alone, is_cpu=False))
    found = decompositions(Compared(facts, latency(alone), latency(together), split=False, confidence=0.95))
    for of in found:
        assert sum(part.ms for part in of.parts) == pytest.approx(of.added_ms)
        for part in of.parts:
            assert part.lo is not None
            assert part.hi is not None
            assert part.lo <= part.ms <= part.hi
    return {(of.statistic, part.cause): (part.ms, dict(part.by)) for of in found for part in of.parts}


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_whatever_the_neighbours_are_called_and_in_whatever_order_each_has_its_part(seed: int) -> None:
    alone, together = rows(seed, ()), rows(seed + 1, ("a", "b", "c"))
    other_way = replace(
        together, neighbours=("c", "b", "a"), before=together.before[::-1], during=together.during[::-1]
    )
    first, second = split(alone, together), split(alone, other_way)
    assert first.keys() == second.keys()
    for key, (ms, by) in first.items():
        assert second[key][0] == pytest.approx(ms, abs=1e-9)
        assert second[key][1] == pytest.approx(by, abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_others_time_is_split_among_those_in_flight_without_rest(seed: int) -> None:
    found = split(rows(seed, ()), rows(seed + 1, ("a", "b")))
    ms, by = found["mean", "turns"]
    assert sum(by.values()) == pytest.approx(ms)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 200)), max_size=8), st.integers(0, 900), st.integers(0, 300)
)
def test_time_in_flight_is_shared_without_rest(intervals: list[tuple[int, int]], begin: int, length: int) -> None:
    """The sum over neighbours is the time in which anybody was in flight, whoever had how many."""
    spans = [Span(np.array([at * 1000]), np.array([(at + took) * 1000])) for at, took in intervals]
    window = np.array([begin * 1000]), np.array([(begin + length) * 1000])
    ms = shares(spans, *window).sum() if spans else 0.0
    anybody = sum(any(at <= t < at + took for at, took in intervals) for t in range(begin, begin + length))
    assert ms == pytest.approx(anybody / 1000, abs=1e-9)


@given(st.floats(0.1, 30.0), st.floats(0.0, 1.0))
def test_cpu_time_of_a_neighbour_is_told_in_full(took_ms: float, used: float) -> None:
    """Over the whole of a neighbour's iteration it is what its stopwatch says."""
    end = int(took_ms * 1e6)
    own = Span(np.array([0, end // 3]), np.array([end // 4, end // 2]))
    theirs = [(Span(np.array([0]), np.array([end])), np.array([used * took_ms]))]
    found = computed(theirs, own, np.array([0]), np.array([end]))
    assert found[0, 0] == pytest.approx(used * took_ms, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000))
def test_in_another_unit_of_time_the_parts_are_the_same(seed: int) -> None:
    """All times but the GPU's own (`SWITCH_MS`) twice as long: the parts are, too."""
    first = split(rows(seed, ()), rows(seed + 1, ("a",)))
    second = split(rows(seed, (), scale=2.0), rows(seed + 1, ("a",), scale=2.0))
    for key in (("mean", "turns"), ("mean", "first-turn")):
        assert second[key][0] == pytest.approx(2 * first[key][0], rel=0.03)
