"""Simulated tenants that come and go on a GPU, as calls that a source would tell of them; and their truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bench.known import in_launches
from kts.physics.simulate import Completed, Stream, simulate
from kts.physics.synthetic import HOST_AFTER_MS, HOST_BEFORE_MS, SHARING, SyntheticKernel
from kts.physics.values import Iterations, bursts
from kts.watch.calls import CALL, FUNCTIONS, Array, Piece, WatchedProcess
from kts.watch.company import SECOND_NS
from kts.watch.live import Watched
from kts.watch.watching import Watching

Visitor = Callable[[np.random.Generator, float], Stream]
"""A tenant's work for at least so many ms."""
Stretch = tuple[float, Sequence[str]]
"""So many seconds with these tenants there."""

SHOWN_S = 10
"""Between two states that somebody asks for."""
LAUNCH = next(number for number, function in enumerate(FUNCTIONS) if function.name == "cuLaunchKernel")
WAIT = next(number for number, function in enumerate(FUNCTIONS) if function.name == "cuStreamSynchronize")


def paced(kernel: SyntheticKernel, think_ms: float) -> Visitor:
    """A closed loop, its pauses half as long to one and a half times."""

    def make(rng: np.random.Generator, ms: float) -> Stream:
        n = int(2 * ms / (kernel.ms + think_ms)) + 50
        return _closed(kernel.draw(n, rng), rng, think_ms)

    return make


def varied(low_ms: float, high_ms: float, think_ms: float) -> Visitor:
    """A closed loop of work between two lengths, all as likely."""

    def make(rng: np.random.Generator, ms: float) -> Stream:
        n = int(2 * ms / (low_ms + think_ms)) + 50
        return _closed(bursts(rng.uniform(low_ms, high_ms, n), HOST_AFTER_MS, HOST_BEFORE_MS), rng, think_ms)

    return make


def due(kernel: SyntheticKernel, rate_hz: float) -> Visitor:
    """An open loop of Poisson arrivals."""

    def make(rng: np.random.Generator, ms: float) -> Stream:
        n = int(1.3 * ms / 1000 * rate_hz) + 50
        return Stream(kernel.draw(n, rng), np.arange(n), due_ms=np.cumsum(rng.exponential(1000 / rate_hz, n)))

    return make


def launched(count: int, each_ms: float, every_ms: float, think_ms: float) -> Visitor:
    """A closed loop of iterations of so many launches, between which a GPU that is free waits for the host."""

    def make(rng: np.random.Generator, ms: float) -> Stream:
        n = int(2 * ms / (count * every_ms + think_ms)) + 50
        return _closed(in_launches(n, count, each_ms, every_ms, rng, host_spread=0.05), rng, think_ms)

    return make


def _closed(them: Iterations, rng: np.random.Generator, think_ms: float) -> Stream:
    think = think_ms * rng.uniform(0.5, 1.5, them.n)
    return Stream(them, np.arange(them.n), think_ms=think, start_ms=float(rng.uniform(0, 2 * think_ms)))


def stretch(tenants: Mapping[str, Visitor], rng: np.random.Generator, seconds: float) -> dict[str, Completed]:
    """What these do beside each other."""
    return {name: done for name, (_, done) in _played(tenants, rng, seconds).items()}


def _played(
    tenants: Mapping[str, Visitor], rng: np.random.Generator, seconds: float
) -> dict[str, tuple[Stream, Completed]]:
    streams = [make(rng, 1000 * seconds) for make in tenants.values()]
    found = simulate(streams, SHARING, horizon_ms=1000 * seconds, stop_at_first=False)
    return dict(zip(tenants, zip(streams, found.tenants, strict=True), strict=True))


def issued_ms(stream: Stream, done: Completed) -> np.ndarray:
    """From the first launch of each that was completed to its last."""
    them = stream.iterations
    span = (them.offset_ms[them.first[1:] - 1] - them.offset_ms[them.first[:-1]]) * stream.host
    return np.asarray(span[stream.pick[: len(done.submit_ms)]], np.float64)


def service_ms(done: Completed) -> np.ndarray:
    """As a watcher sees it: from the first work handed over until the wait returns."""
    return done.retire_ms - done.submit_ms - HOST_BEFORE_MS


def calls_of(done: Completed, issue_ms: np.ndarray, process: int, from_s: float, launches: int = 3) -> Array:
    """Its round trips as calls: the launches from the first to the last, then a wait."""
    calls = np.zeros((len(done.retire_ms), launches + 2), CALL)
    calls["process"], calls["thread"] = process, 10_000 + process
    begin = ((done.submit_ms + HOST_BEFORE_MS) * 1e6 + from_s * SECOND_NS).astype(np.int64)
    end = (done.retire_ms * 1e6 + from_s * SECOND_NS).astype(np.int64)
    calls["ns"][:, :launches] = begin[:, None] + (np.linspace(0, 1e6, launches) * issue_ms[:, None]).astype(np.int64)
    calls["ns"][:, :launches] += np.arange(launches) * 1000
    calls["ns"][:, -2] = calls["ns"][:, -3] + 1000
    calls["ns"] = np.minimum(calls["ns"], end[:, None])
    calls["ns"][:, -1] = end
    calls["function"][:, :launches], calls["function"][:, launches:] = LAUNCH, WAIT
    calls["returned"][:, -1] = 1
    return calls.ravel()


def visits(
    tenants: Mapping[str, Visitor], stretches: Sequence[Stretch], seed: int, *, gpu: str = "GPU-0"
) -> Iterator[Piece]:
    """Pieces of a second each, stretch after stretch."""
    rng = np.random.default_rng(seed)
    numbers = {name: number for number, name in enumerate(tenants, 1)}
    pods = tuple(
        WatchedProcess(
            number=number, pid=number, began_ticks=1, command=name, pod_uid=name, pod=name, namespace="sim", gpus=(gpu,)
        )
        for name, number in numbers.items()
    )
    begin_s = 1.0
    for seconds, names in stretches:
        played = _played({name: tenants[name] for name in names}, rng, seconds) if names else {}
        parts = [
            calls_of(done, issued_ms(stream, done), numbers[name], begin_s) for name, (stream, done) in played.items()
        ]
        yield from pieces(np.concatenate([np.empty(0, CALL), *parts]), begin_s, seconds, pods)
        begin_s += seconds
        pods = ()


def watched(tenants: Mapping[str, Visitor], stretches: Sequence[Stretch], seed: int, window_s: float = 10) -> Watched:
    """What is told of the tenant ``own`` at the end."""
    watching = Watching(window_s=window_s)
    for number, piece in enumerate(visits(tenants, stretches, seed)):
        watching.take(piece)
        if number % SHOWN_S == 0:
            watching.now()
    return next(unit for unit in watching.now(whole=True).units if unit.unit == "sim/own")


def pieces(calls: Array, begin_s: float, seconds: float, pods: tuple[WatchedProcess, ...] = ()) -> Iterator[Piece]:
    """``calls`` by the second."""
    calls = np.sort(calls, order="ns", kind="stable")
    ends = (begin_s + np.arange(1, int(seconds) + 1)) * SECOND_NS
    for number, part in enumerate(np.split(calls, np.searchsorted(calls["ns"], ends))[:-1]):
        yield Piece(int(ends[number]), part, pods if not number else ())
