"""Laws of the simulator that hold for any mix. If one fails, predictions are not what docs/physics.md says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bench.event_queue import EventQueue
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_physics import GRID_MS, mixes, sharings, streams

from kts.physics.simulate import Completed, SharingModel, Simulated, Stream, simulate
from kts.physics.values import Floats

horizons = st.one_of(st.just(np.inf), st.integers(1, 4000).map(lambda n: n * GRID_MS))


def rows(done: Completed) -> np.ndarray:
    return np.column_stack([done.due_ms, done.submit_ms, done.begin_ms, done.end_ms, done.retire_ms])


def scaled(stream: Stream, factor: float) -> Stream:
    them = stream.iterations
    return replace(
        stream,
        iterations=replace(them.slower_host(factor), duration_ms=factor * them.duration_ms),
        think_ms=None if stream.think_ms is None else factor * stream.think_ms,
        due_ms=None if stream.due_ms is None else factor * stream.due_ms,
        start_ms=factor * stream.start_ms,
        slice_ms=None if stream.slice_ms is None else factor * stream.slice_ms,
    )


def same(outcome: Simulated, slow: EventQueue, tolerance: float) -> None:
    assert outcome.switches == tuple(slow.switches)
    assert outcome.kernels == slow.kernels
    for mine, theirs in (
        (outcome.end_ms, slow.now),
        (outcome.switch_ms, slow.switch_ms),
        (outcome.idle_ms, slow.idle_ms),
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance)
    for done, host in zip(outcome.tenants, slow.hosts, strict=True):
        expected = np.array(host.records).reshape(-1, 5)
        np.testing.assert_allclose(rows(done), expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(done.busy_ms, host.busy, rtol=0, atol=max(tolerance, 1e-9))


@settings(max_examples=300, deadline=None)
@given(mix=mixes, sharing=sharings(), horizon=horizons, first=st.booleans())
def test_the_slow_simulator_says_the_same_to_the_bit(
    mix: list[Stream], sharing: SharingModel, horizon: float, first: bool
) -> None:
    """Times on a grid, so that ties happen and both must break them alike."""
    outcome = simulate(mix, sharing, horizon_ms=horizon, stop_at_first=first)
    same(outcome, EventQueue(mix, sharing).run(horizon_ms=horizon, stop_at_first=first), 0.0)


@settings(max_examples=60, deadline=None)
@given(mix=st.lists(streams(grid=0.0137), min_size=2, max_size=4), sharing=sharings(grid=0.01931), first=st.booleans())
def test_off_the_grid_both_agree_but_for_rounding(mix: list[Stream], sharing: SharingModel, first: bool) -> None:
    """As above, with numbers that have no exact binary form."""
    mix = [_without_ties(stream, k) for k, stream in enumerate(mix)]
    same(simulate(mix, sharing, stop_at_first=first), EventQueue(mix, sharing).run(stop_at_first=first), 1e-6)


def _without_ties(stream: Stream, seed: int) -> Stream:
    """Every time a little longer by a random amount: which of two equal times comes first would be rounding."""
    rng, them = np.random.default_rng(seed), stream.iterations

    def longer(times: Floats) -> Floats:
        return times + 1e-3 * rng.random(len(times))

    return replace(
        stream,
        iterations=replace(them, duration_ms=longer(them.duration_ms), retire_ms=longer(them.retire_ms)),
        due_ms=None if stream.due_ms is None else np.sort(longer(stream.due_ms)),
        think_ms=None if stream.think_ms is None else longer(stream.think_ms),
        start_ms=stream.start_ms + 1e-3 * float(rng.random()),
    )


@settings(max_examples=100, deadline=None)
@given(mix=mixes, sharing=sharings(), horizon=horizons, first=st.booleans())
def test_the_gpus_time_is_busy_or_switching_or_idle(
    mix: list[Stream], sharing: SharingModel, horizon: float, first: bool
) -> None:
    """Else shares of the GPU would not add up, and some wait would have no cause."""
    outcome = simulate(mix, sharing, horizon_ms=horizon, stop_at_first=first)
    parts = sum(done.busy_ms for done in outcome.tenants) + outcome.switch_ms + outcome.idle_ms
    np.testing.assert_allclose(parts, outcome.end_ms, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(mix=mixes, sharing=sharings(), power=st.integers(-4, 4))
def test_all_times_scaled_scale_all_results(mix: list[Stream], sharing: SharingModel, power: int) -> None:
    """Else a hidden constant of time would be at work."""
    k = 2.0**power
    longer = replace(
        sharing,
        slice_ms=k * sharing.slice_ms,
        preempt_ms=tuple(k * c for c in sharing.preempt_ms),
        yield_ms=tuple(k * c for c in sharing.yield_ms),
        wake_ms=tuple(k * c for c in sharing.wake_ms),
        launch_gap_ms=k * sharing.launch_gap_ms,
    )
    before, after = simulate(mix, sharing), simulate([scaled(s, k) for s in mix], longer)
    assert before.switches == after.switches
    for a, b in zip(before.tenants, after.tenants, strict=True):
        np.testing.assert_array_equal(k * rows(a), rows(b))


@settings(max_examples=100, deadline=None)
@given(mix=st.lists(streams(), min_size=2, max_size=5), sharing=sharings(), turn=st.integers(1, 4))
def test_the_circle_has_no_first_tenant(mix: list[Stream], sharing: SharingModel, turn: int) -> None:
    """Turning the list of tenants changes nothing. (Any order gives the same only for two: neighbours matter.)"""
    apart = [replace(s, start_ms=s.start_ms + 0.001 * (k + 1)) for k, s in enumerate(mix)]
    apart = [s if s.due_ms is None else replace(s, due_ms=s.due_ms + 0.001 * (k + 1)) for k, s in enumerate(apart)]
    turn %= len(mix)
    straight, turned = simulate(apart, sharing), simulate(apart[turn:] + apart[:turn], sharing)
    back = turned.tenants[-turn:] + turned.tenants[:-turn] if turn else turned.tenants
    for a, b in zip(straight.tenants, back, strict=True):
        np.testing.assert_array_equal(rows(a), rows(b))


@settings(max_examples=60, deadline=None)
@given(stream=streams(), sharing=sharings())
def test_alone_the_way_of_sharing_does_not_matter(stream: Stream, sharing: SharingModel) -> None:
    """Else a solo prediction would depend on a slice that never ends a turn."""
    cheap = replace(sharing, preempt_ms=(0.0,), yield_ms=(0.0,), wake_ms=(0.0,), slice_ms=1000.0)
    np.testing.assert_array_equal(
        rows(simulate([stream], sharing).tenants[0]), rows(simulate([stream], cheap).tenants[0])
    )


@settings(max_examples=60, deadline=None)
@given(mix=mixes, sharing=sharings(), factor=st.sampled_from([0.5, 2.0]))
def test_a_slower_host_is_one_whose_listed_times_are_longer(
    mix: list[Stream], sharing: SharingModel, factor: float
) -> None:
    """Waits and notices, launches and retirements, all of them: else a replicate would draw half a host."""
    listed = [replace(s, iterations=s.iterations.slower_host(factor * s.host), host=1.0) for s in mix]
    applied = [replace(s, host=factor * s.host) for s in mix]
    for one, other in zip(simulate(listed, sharing).tenants, simulate(applied, sharing).tenants, strict=True):
        np.testing.assert_array_equal(rows(one), rows(other))
