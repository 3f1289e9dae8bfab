"""Streams, profiles and fingerprints for tests of prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from kts.arrivals import Arrivals, Closed
from kts.files import encode
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.physics.simulate import SharingModel, Stream
from kts.physics.values import (
    Fingerprint,
    Floats,
    Gpu,
    Interval,
    Iterations,
    Profile,
    bursts,
    make_profile,
)
from tests.helpers_stats import FakeRun, make_info, make_plan

GRID_MS = 1 / 64
"""Sums of multiples of it are exact: two programs that add in another order agree to the bit, ties included."""
GPU = Gpu(kind="cuda", uuid="GPU-1", name="H", label="NVIDIA H", driver="580")


def free_of_cost(slice_ms: float = 2.0, cost_ms: float = 0.0, *, at_once: bool = False) -> SharingModel:
    """Every switch costs the same."""
    return SharingModel(slice_ms, (cost_ms,), (cost_ms,), (cost_ms,), at_once=at_once)


def saturating(duration_ms: float, n: int) -> Stream:
    """Back-to-back bursts: always runnable."""
    return Stream(bursts([duration_ms], 0.0), np.zeros(n, np.int64), think_ms=np.zeros(n))


def paced(duration_ms: float, think_ms: Floats, *, retire_ms: float = 0.0, priority: int = 0) -> Stream:
    """Bursts of one length with the given think times, the first of which comes before the first iteration."""
    n = len(think_ms)
    return Stream(
        bursts([duration_ms], retire_ms),
        np.zeros(n, np.int64),
        think_ms=np.roll(think_ms, -1),
        start_ms=float(think_ms[0]),
        priority=priority,
    )


def due_at(duration_ms: float, due_ms: list[float], *, priority: int = 0) -> Stream:
    """Bursts at given times."""
    n = len(due_ms)
    due = np.array(due_ms)
    return Stream(bursts([duration_ms], 0.0), np.zeros(n, np.int64), due_ms=due, priority=priority)


def launches(offsets_ms: list[float], durations_ms: list[float], retire_ms: float = 0.0) -> Iterations:
    """A single listed iteration."""
    return Iterations(
        np.array([0, len(offsets_ms)]), np.array(offsets_ms), np.array(durations_ms), np.array([retire_ms])
    )


def fingerprint(slice_ms: float = 2.0, preempt_ms: float = 0.18, yield_ms: float = 0.1) -> Fingerprint:
    """Exact figures."""
    exact = Interval.exact
    return Fingerprint(
        gpu=GPU,
        slice_ms=exact(slice_ms),
        preempt_ms=(exact(preempt_ms),),
        yield_ms=(exact(yield_ms),),
        source="assumed",
    )


def profile(
    name: str,
    duration_ms: float,
    *,
    arrivals: Arrivals = Closed(think_ms=10.0),  # noqa: B008 - frozen
    spread: float = 0.01,
    n: int = 500,
    deadline_ms: float | None = None,
    solo: bool = True,
) -> Profile:
    """Single bursts around ``duration_ms``; ``solo``: with a sample of 4 n iterations measured alone."""
    rng = np.random.default_rng(n)
    found = duration_ms * rng.lognormal(0, spread, n)
    alone = duration_ms * rng.lognormal(0, spread, 4 * n) if solo else np.empty(0)
    return make_profile(
        name,
        bursts(found, 0.05),
        GPU,
        arrivals=arrivals,
        workload="fft",
        deadline_ms=deadline_ms,
        solo_service_ms=alone + 0.05 * solo,
        solo_device_ms=alone,
    )


def pair_of_profiles(folder: Path, *, n: int) -> Path:
    """The folder, with those of an fft of 3.6 ms and a gemm of 20 ms, of ``n`` iterations each, in files."""
    for name, duration in (("fft", 3.6), ("gemm", 20.0)):
        (folder / f"{name}.profile.json").write_bytes(encode(profile(name, duration, n=n)))
    return folder


@st.composite
def streams(draw: st.DrawFn, *, grid: float = GRID_MS, most: int = 25) -> Stream:
    """Any tenant: several listed iterations of several launches, closed or open loop, any priority and queue."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    listed, n = draw(st.integers(1, 4)), draw(st.integers(1, most))
    counts = rng.integers(1, draw(st.integers(1, 7)) + 1, listed)
    first = np.concatenate([[0], np.cumsum(counts)])

    def times(high: int, size: int) -> Floats:
        return np.asarray(rng.integers(0, high, size) * grid)

    offsets = np.concatenate([np.sort(times(60, count)) for count in counts])
    them = Iterations(first, offsets, times(200, first[-1]), times(20, listed))
    if draw(st.booleans()):
        them = with_trips(them, rng, grid)
    rest = {
        "priority": draw(st.sampled_from([0, 0, 0, 1, 2])),
        "settles_next": draw(st.booleans()),
        "queue_depth": draw(st.sampled_from([None, None, 1, 2, 3])) if them.lane is None else None,
        "slice_ms": draw(st.sampled_from([None, None, 40 * grid])),
        "start_ms": float(rng.integers(0, 100) * grid),
        "host": draw(st.sampled_from([1.0, 1.0, 0.5, 2.0])),
    }
    arrivals = {"think_ms": times(300, n)} if draw(st.booleans()) else {"due_ms": np.sort(times(400 * n, n))}
    return Stream(them, rng.integers(0, listed, n), **arrivals, **rest)  # type: ignore[arg-type]


def with_trips(them: Iterations, rng: np.random.Generator, grid: float) -> Iterations:
    """The same with waits between a launch and the next, copies and lanes: each of the three or not."""
    launches = len(them.offset_ms)
    wait = notice = apart = lane = None
    if rng.random() < 0.7:
        ends = np.append(them.offset_ms[1:], 0.0)
        ends[them.first[1:] - 1] = them.offset_ms[them.first[1:] - 1] + 300 * grid
        wait = them.offset_ms + grid * np.floor(rng.random(launches) * (ends - them.offset_ms) / grid + 0.5)
        wait = np.where(rng.random(launches) < rng.random(), np.minimum(wait, ends), np.nan)
        notice = np.asarray(rng.integers(0, 20, launches) * grid)
    if rng.random() < 0.5:
        apart = rng.random(launches) < rng.choice([0.2, 0.5, 1.0])
    if rng.random() < 0.5:
        lane = rng.integers(0, 4, launches)
    return replace(them, wait_ms=wait, notice_ms=notice, apart=apart, lane=lane)


@st.composite
def sharings(draw: st.DrawFn, *, grid: float = GRID_MS) -> SharingModel:
    """Any way of sharing."""
    costs = st.lists(st.integers(0, 10).map(lambda n: n * grid), min_size=1, max_size=3).map(tuple)
    return SharingModel(
        slice_ms=draw(st.integers(1, 150)) * grid,
        preempt_ms=draw(costs),
        yield_ms=draw(costs),
        wake_ms=draw(costs),
        launch_gap_ms=draw(st.integers(0, 2)) * grid,
        at_once=draw(st.booleans()),
        in_line=draw(st.booleans()),
    )


@st.composite
def some_threads(draw: st.DrawFn, mix: list[Stream]) -> list[Stream]:
    """The same, some of the streams threads of one process or of two."""
    names = [draw(st.sampled_from([None, "a", "b"])) for _ in mix]
    first: dict[str, Stream] = {}
    for name, stream in zip(names, mix, strict=True):
        if name is not None:
            first.setdefault(name, stream)
    return [
        stream
        if name is None
        else replace(
            stream,
            process=name,
            queue_depth=None,
            priority=first[name].priority,
            slice_ms=first[name].slice_ms,
            settles_next=first[name].settles_next,
        )
        for name, stream in zip(names, mix, strict=True)
    ]


mixes = st.one_of(plain := st.lists(streams(), min_size=1, max_size=5), plain.flatmap(some_threads))


def recorded_run(blocks: list[tuple[str, dict[str, Records]]]) -> FakeRun:
    """A run of fft and gemm: condition and records of each block, in order."""
    plan = make_plan(("fft", "gemm"), rounds=1)
    outcomes = [
        BlockOutcome(index=k, round=0, condition=condition, start_ns=0, end_ns=1, valid=True)
        for k, (condition, _) in enumerate(blocks)
    ]
    data = {(name, k): rows for k, (_, records) in enumerate(blocks) for name, rows in records.items()}
    return FakeRun(info=make_info(plan, outcomes), blocks=outcomes, data=data)
