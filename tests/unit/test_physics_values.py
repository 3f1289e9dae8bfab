"""Fingerprints and profiles: what they hold, and what becomes of files that are none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.helpers_physics import GPU, fingerprint, launches, profile

from kts.arrivals import Closed, Poisson, Trace
from kts.errors import DataError
from kts.files import encode
from kts.physics.draws import cycle_ms, service_alone_ms, sharing, streams
from kts.physics.files import decode_fingerprint, decode_profile
from kts.physics.simulate import simulate
from kts.physics.values import Interval, Iterations, Packed, bursts, make_profile


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**62), 2**62 - 1), max_size=60))
def test_a_column_gives_back_what_was_packed(values: list[int]) -> None:
    """Else a shared profile would not be the one that was measured."""
    assert Packed.of_ns(values).ns.tolist() == values


def test_files_give_back_what_was_written() -> None:
    """Fingerprint and profile, launches and all, through JSON."""
    mark = fingerprint()
    assert decode_fingerprint(encode(mark), "f") == mark
    them = launches([0.0, 0.5, 0.75], [0.25, 0.125, 1.5], 0.0625)
    made = make_profile("decode", them, GPU, arrivals=Trace(due_ms=(0.0, 5.0), period_ms=20.0), deadline_ms=9.0)
    read = decode_profile(encode(made), "p")
    assert read == made
    assert read.method == "launches"
    np.testing.assert_array_equal(read.iterations.offset_ms, them.offset_ms)
    np.testing.assert_array_equal(read.iterations.busy_ms, [1.875])


def test_waits_copies_and_lanes_survive_a_file() -> None:
    """Else a program that waits in the middle would be predicted as if its host ran through."""
    nan = np.nan
    them = Iterations(
        np.array([0, 2, 5]),
        np.array([0.0, 0.5, 0.25, 0.25, 1.0]),
        np.array([0.25, 0.125, 1.5, 2.0, 0.5]),
        np.array([0.0625, 0.0]),
        wait_ms=np.array([0.25, nan, nan, 0.75, 1.0]),
        notice_ms=np.array([0.0625, nan, nan, 0.125, 0.0]),
        apart=np.array([False, True, False, False, False]),
        lane=np.array([0, 0, 0, 7, 0]),
    )
    made = make_profile("retrieve", them, GPU)
    found = decode_profile(encode(made), "p").iterations
    for column in ("wait_ms", "apart", "lane"):
        np.testing.assert_array_equal(getattr(found, column), getattr(them, column))
    assert found.notice_ms is not None
    assert found.notice_ms[[0, 3, 4]].tolist() == [0.0625, 0.125, 0.0]
    np.testing.assert_array_equal(found.busy_ms, [0.25, 4.0])
    assert not found.are_plain
    faster = made.scaled(2.0).iterations
    np.testing.assert_array_equal(faster.duration_ms, [0.125, 0.125, 0.75, 1.0, 0.25])
    np.testing.assert_array_equal(faster.wait_ms, them.wait_ms)


def test_a_profile_from_before_waits_is_read_as_one_without() -> None:
    """Else everybody would have to profile everything again."""
    raw = json.loads(encode(make_profile("decode", launches([0.0, 0.5], [0.25, 0.125]), GPU)))
    for column in ("waiting", "wait", "notice", "apart", "lane"):
        del raw[column]
    read = decode_profile(json.dumps({**raw, "schema": 1}).encode(), "p")
    assert read.iterations.are_plain
    assert read.method == "launches"


@pytest.mark.parametrize(
    "columns",
    [
        {"waiting": Packed.of_ns([0])},
        {"waiting": Packed.of_ns([2]), "wait": Packed.of_ms([1.0]), "notice": Packed.of_ms([0.0])},
        {"waiting": Packed.of_ns([-1]), "wait": Packed.of_ms([1.0]), "notice": Packed.of_ms([0.0])},
        {"waiting": Packed.of_ns([1, 0]), "wait": Packed.of_ms([1.0] * 2), "notice": Packed.of_ms([0.0] * 2)},
        {"waiting": Packed.of_ns([0]), "wait": Packed.of_ms([0.75]), "notice": Packed.of_ms([0.0])},
        {"waiting": Packed.of_ns([1]), "wait": Packed.of_ms([0.25]), "notice": Packed.of_ms([0.0])},
        {"waiting": Packed.of_ns([0]), "wait": Packed.of_ms([0.25]), "notice": Packed.of_ms([-1.0])},
        {"apart": Packed.of_ns([2])},
        {"apart": Packed.of_ns([1, 1])},
        {"lane": Packed.of_ns([0])},
    ],
    ids=["alone", "beyond", "before", "disorder", "after-next", "before-launch", "notice", "apart", "twice", "lane"],
)
def test_waits_and_copies_that_cannot_be_are_refused(columns: dict[str, Packed]) -> None:
    """Else the compiled loop would read beyond its arrays, or a host would go back in time."""
    good = make_profile("decode", launches([0.0, 0.5], [0.25, 0.125]), GPU)
    with pytest.raises(DataError, match="not a profile"):
        decode_profile(encode(replace(good, **columns)), "p.json")


def test_a_profile_of_many_launches_is_small_enough_to_share() -> None:
    """2000 iterations of 112 launches, every number noisy to the nanosecond."""
    rng, n, k = np.random.default_rng(0), 2000, 112
    offsets = np.cumsum(rng.gamma(8, 0.002, (n, k)), axis=1).ravel()
    them = Iterations(np.arange(n + 1) * k, offsets, rng.gamma(9, 0.0004, n * k), np.full(n, 0.02))
    assert len(encode(make_profile("decode", them, GPU))) < 2_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slice_ms": {"value": 0.0, "lo": 0.0, "hi": 1.0}}, "slice"),
        ({"slice_ms": {"value": 2.0, "lo": 2.5, "hi": 3.0}}, "lo <= value <= hi"),
        ({"preempt_ms": []}, "no switch costs"),
        ({"yield_ms": [{"value": -1.0, "lo": -1.0, "hi": 0.0}]}, "lo <= value <= hi"),
        ({"schema": 99}, "newer kts"),
        ({"slice_ms": "long"}, "not a fingerprint"),
    ],
)
def test_a_file_that_is_no_fingerprint_says_why(change: dict[str, object], message: str) -> None:
    """Else a typing error would become a prediction."""
    raw = json.loads(encode(fingerprint()))
    with pytest.raises(DataError, match=message):
        decode_fingerprint(json.dumps({**raw, **change}).encode(), "f.json")


def test_a_file_that_is_no_profile_says_why() -> None:
    """Damaged columns, columns that do not fit together, launches out of order, no JSON at all."""
    good = profile("fft", 3.6)
    cut = replace(good.duration, data=good.duration.data[:-3])
    longer = replace(good.duration, n=good.duration.n + 1)
    for bad in (
        replace(good, duration=cut),
        replace(good, duration=longer),
        replace(good, counts=Packed.of_ns([0, 500])),
        replace(good, retire=Packed.of_ms([0.1])),
        replace(good, duration=Packed.of_ms([-1.0] * 500)),
    ):
        with pytest.raises(DataError, match="not a profile"):
            decode_profile(encode(bad), "p.json")
    for arrivals in (
        Closed(think_ms=-1.0),
        Poisson(rate_hz=0.0),
        Trace(due_ms=(), period_ms=1.0),
        Trace(due_ms=(2.0, 1.0), period_ms=3.0),
        Trace(due_ms=(0.0,), period_ms=0.0),
    ):
        with pytest.raises(DataError, match="impossible arrivals"):
            decode_profile(encode(replace(good, arrivals=arrivals)), "p.json")
    for field, value in (("deadline_ms", 0.0), ("queue_depth", 0)):
        with pytest.raises(DataError, match="not a profile"):
            decode_profile(encode(replace(good, **{field: value})), "p.json")
    nothing = replace(good, duration=Packed.of_ms([0.0] * 500), retire=Packed.of_ms([0.0] * 500))
    with pytest.raises(DataError, match="take no time"):
        decode_profile(encode(nothing), "p.json")
    disorder = replace(good, counts=Packed.of_ns([2] * 250), offset=Packed.of_ms([1.0, 0.5] * 250))
    with pytest.raises(DataError, match="out of order"):
        decode_profile(encode(replace(disorder, retire=Packed.of_ms([0.0] * 250))), "p.json")
    with pytest.raises(DataError, match="not a profile"):
        decode_profile(b"\xff\xfe", "p.json")


def test_an_interval_is_as_wide_as_its_own_side() -> None:
    """Draws from an interval: 95 % of them inside, each side by itself, none below zero."""
    figure = Interval(value=2.0, lo=1.9, hi=2.4)
    assert figure.at(0.0) == 2.0
    assert figure.at(1.959964) == pytest.approx(2.4)
    assert figure.at(-1.959964) == pytest.approx(1.9)
    assert Interval(value=0.1, lo=0.0, hi=0.2).at(-9.0) == 0.0


def test_a_faster_gpu_keeps_its_slice() -> None:
    """The slice is a time that the driver sets; the switches shorten."""
    fast = fingerprint(2.0, 0.18, 0.1).scaled(2.0)
    assert (fast.slice_ms.value, fast.preempt_ms[0].value, fast.yield_ms[0].value) == (2.0, 0.09, 0.05)
    assert fast.source == "scaled"


def test_waking_costs_what_yielding_costs_where_it_was_not_measured() -> None:
    """Documented default; and one z moves every cost of a kind."""
    assert sharing(fingerprint(2.0, 0.18, 0.1)).wake_ms == (0.1,)


def test_a_neighbour_more_changes_nobodys_draws() -> None:
    """Common random numbers: else two mixes would differ by luck, too."""
    a, b = (streams(profile("fft", 3.6), [1000], 7, "fft")[0] for _ in range(2))
    other = streams(profile("gemm", 20.0), [1000], 7, "gemm")[0]
    np.testing.assert_array_equal(a.pick, b.pick)
    np.testing.assert_array_equal(a.think_ms, b.think_ms)
    assert not np.array_equal(a.pick, other.pick)


def test_arrivals_are_what_the_profile_says() -> None:
    """Closed: uniform around the think time; Poisson: at its rate; a trace: again and again."""
    closed = streams(profile("a", 1.0), [20_000], 0, "a")[0]
    assert closed.think_ms is not None
    assert closed.think_ms.min() >= 5.0
    assert closed.think_ms.max() <= 15.0
    assert closed.think_ms.mean() == pytest.approx(10.0, rel=0.01)
    poisson = streams(profile("a", 1.0, arrivals=Poisson(rate_hz=50.0)), [20_000], 0, "a")[0]
    assert poisson.due_ms is not None
    assert poisson.due_ms[-1] / 20_000 == pytest.approx(20.0, rel=0.03)
    trace = streams(profile("a", 1.0, arrivals=Trace(due_ms=(1.0, 2.0, 9.0), period_ms=20.0)), [5], 0, "a")[0]
    assert trace.due_ms is not None
    gaps = np.diff(trace.due_ms).tolist()
    assert any(gaps == pytest.approx(([1.0, 7.0, 12.0] * 3)[k : k + 4]) for k in range(3)), "from any point of it"


def test_the_cycle_alone_is_the_simulators() -> None:
    """It decides how much is drawn: host-bound and GPU-bound launches, and bursts."""
    for them in (
        launches([0.0, 0.5, 1.0], [0.1, 0.1, 0.1], 0.05),
        launches([0.2, 0.3, 0.4], [1.0, 1.0, 1.0], 0.05),
        bursts([2.0, 3.0], 0.1),
    ):
        made = make_profile("a", them, GPU)
        done = simulate([streams(made, [4000], 0, "a")[0]], sharing(fingerprint())).tenants[0]
        assert service_alone_ms(made.iterations) == pytest.approx(done.service_ms.mean(), rel=0.02)
    assert cycle_ms(profile("a", 1.0, arrivals=Poisson(rate_hz=50.0))) == 20.0
