"""The join of samples and iterations, for any of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_telemetry import series
from tests.unit.test_stats_activity import block, info

from kts.model.telemetry import SampleSeries
from kts.stats.activity import Cover, Join

MS = 1_000_000
pieces = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=30)


def spans(of: list[tuple[int, int]], begin: int = 800) -> list[tuple[int, int]]:
    """Intervals (begin, end) in ms one after the other, from gaps and lengths."""
    found, at = [], begin
    for gap, length in of:
        found.append((at + gap, at + gap + length))
        at = found[-1][1]
    return found


def as_series(intervals: list[tuple[int, int]], shift_ns: int = 0, *, momentary: bool = False) -> SampleSeries:
    """A sample per interval, its value a number of its own."""
    return series(
        [
            (end * MS + shift_ns, 0 if momentary else (end - begin) * MS, float(k % 7) / 7)
            for k, (begin, end) in enumerate(intervals)
        ]
    )


def join(samples: SampleSeries, iterations: list[tuple[int, int]], shift_ns: int = 0) -> object:
    """The activity, with the whole run ``shift_ns`` later."""
    of = Join([samples], info())
    submit, retire = (np.array(c, np.int64) * MS + shift_ns for c in zip(*iterations, strict=True))
    outcome = block()
    outcome = msgspec.structs.replace(outcome, start_ns=outcome.start_ns + shift_ns, end_ns=outcome.end_ns + shift_ns)
    of.add(info().plan.tenants[0].name, outcome, "solo", submit, retire)
    return of.activity(info().plan.tenants[0].name)


@settings(deadline=None)
@given(pieces, pieces, st.booleans(), st.integers(-500 * MS, 10**16))
def test_moving_everything_in_time_changes_nothing(
    samples: list[tuple[int, int]], iterations: list[tuple[int, int]], momentary: bool, shift_ns: int
) -> None:
    """Else figures would depend on how long the machine has been up."""
    here = join(as_series(spans(samples), momentary=momentary), spans(iterations))
    there = join(as_series(spans(samples), shift_ns, momentary=momentary), spans(iterations), shift_ns)
    assert here == there


@settings(deadline=None)
@given(pieces, pieces, st.booleans())
def test_weights_never_exceed_the_time_there_is_and_means_lie_among_the_values(
    samples: list[tuple[int, int]], iterations: list[tuple[int, int]], momentary: bool
) -> None:
    """Else some stretch of time would count twice."""
    given_samples = as_series(spans(samples), momentary=momentary)
    for activity in join(given_samples, spans(iterations)):  # type: ignore[attr-defined]
        assert 0 <= activity.solo.covered <= 1
        low, high = given_samples.value.min(), given_samples.value.max()
        for mean in (activity.solo.mean, activity.solo.block_mean):
            assert mean is None or low - 1e-12 <= mean <= high + 1e-12


@settings(deadline=None)
@given(pieces, st.booleans())
def test_no_time_is_covered_twice(samples: list[tuple[int, int]], momentary: bool) -> None:
    """Else the sum of weights could be longer than the run."""
    cover = Cover.of(as_series(spans(samples), momentary=momentary))
    assert np.all(cover.begin_ns[1:] >= cover.end_ns[:-1])
    assert np.all(cover.end_ns >= cover.begin_ns)


@settings(deadline=None)
@given(pieces, st.floats(0, 1))
def test_a_constant_is_its_own_mean(iterations: list[tuple[int, int]], value: float) -> None:
    """Else the weights would not sum to one."""
    samples = series([(t * MS, 100 * MS, value) for t in range(100, 20_000, 100)])
    for activity in join(samples, spans(iterations)):  # type: ignore[attr-defined]
        assert activity.solo.mean is None or activity.solo.mean == pytest.approx(value)
        assert activity.solo.block_mean == pytest.approx(value)
