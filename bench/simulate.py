"""Events per second of the simulator, beside the slow reference and beside SimPy, on the same mixes.

python -m bench simulate --repetitions 5
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import simpy

from bench.event_queue import EventQueue
from kts.physics.simulate import SharingModel, Simulated, Stream, simulate
from kts.physics.summaries import plain
from kts.physics.values import Iterations, bursts

BAR_EVENTS_PER_S = 30e6
BAR_RATIO = 50.0
BAR_MILLION_S = 1.0
SHARING = SharingModel(slice_ms=2.087, preempt_ms=(0.178,), yield_ms=(0.1,), wake_ms=(0.1,))
MOST_LAUNCHES = 200_000
"""Of each tenant, for the slow ones."""
LISTED = 2000
"""Iterations in each profile."""


def tenant(works_ms: Sequence[float], think_ms: float, n: int, seed: int) -> Stream:
    """``n`` iterations of those kernels, 15 us of host time apart, each duration +-2 %, think times +-50 %."""
    rng, k = np.random.default_rng(seed), len(works_ms)
    durations = np.tile(works_ms, LISTED) * rng.uniform(0.98, 1.02, LISTED * k)
    offsets = np.tile(0.015 * np.arange(k), LISTED)
    them = Iterations(np.arange(LISTED + 1) * k, offsets, durations, rng.uniform(0.02, 0.05, LISTED))
    return Stream(
        them,
        rng.integers(0, LISTED, n),
        think_ms=think_ms * rng.uniform(0.5, 1.5, n),
        start_ms=float(rng.uniform(0, 1 + think_ms)),
    )


def mixes(n: int) -> dict[str, list[Stream]]:
    """Name to streams; with the fastest tenant's ``n`` iterations the simulation ends."""
    decode = [0.003] * 112
    return {
        "fft + gemm, paced": [tenant([3.6], 100, n, 1), tenant([20.6], 150, n, 2)],
        "4 paced bursts": [tenant([d], t, n, s) for s, (d, t) in enumerate([(3.6, 10), (5, 20), (1, 5), (2, 8)])],
        "4 saturating bursts": [tenant([d], 0, n, s) for s, d in enumerate([3.6, 5, 1, 2])],
        "3 bursts + eager decode": [
            *(tenant([d], t, n, s) for s, (d, t) in enumerate([(3.6, 10), (20.6, 20), (0.004, 1)])),
            tenant(decode, 8, n, 9),
        ],
        "2 programs, 500 and 1500 launches": [
            tenant([0.003, 0.02] * 250, 0, n // 50, 10),
            tenant([0.012] * 1500, 0, n // 50, 11),
        ],
    }


@dataclass
class Job:
    """A tenant's state in the SimPy model."""

    stream: Stream
    queue: deque[float] = field(default_factory=deque)
    left: int = 0
    finished: Any = None
    retired: list[float] = field(default_factory=list)


class InSimPy:
    """The same model as SimPy processes: a host per tenant, and the GPU."""

    def __init__(self, streams: Sequence[Stream], sharing: SharingModel) -> None:
        self.env = simpy.Environment()
        self.sharing = sharing
        self.jobs = [Job(stream) for stream in streams]
        self.wake = self.env.event()
        self.over = self.env.event()
        self.switches = 0
        self.kernels = 0
        for job in self.jobs:
            self.env.process(self._host(job))
        self.env.process(self._gpu())
        self.env.run(self.over)

    @property
    def events(self) -> int:
        """Counted as `Simulated.events` does."""
        return 2 * sum(len(job.retired) for job in self.jobs) + 2 * self.kernels + 2 * self.switches

    def _host(self, job: Job) -> Generator[Any, Any, None]:
        env, stream, them = self.env, job.stream, job.stream.iterations
        assert stream.think_ms is not None
        yield env.timeout(stream.start_ms)
        for pick, think in zip(stream.pick, stream.think_ms, strict=True):
            submit, job.finished = env.now, env.event()
            places = range(int(them.first[pick]), int(them.first[pick + 1]))
            job.left = len(places)
            for place in places:
                wait = submit + float(them.offset_ms[place]) - env.now
                if wait > 0:
                    yield env.timeout(wait)
                job.queue.append(float(them.duration_ms[place]))
                if not self.wake.triggered:
                    self.wake.succeed()
            yield job.finished
            yield env.timeout(float(them.retire_ms[pick]) + float(think))
        self.over.succeed()

    def _gpu(self) -> Generator[Any, Any, None]:
        env, jobs, n = self.env, self.jobs, len(self.jobs)
        owner, fresh, costs = -1, True, (self.sharing.preempt_ms[0], self.sharing.yield_ms[0], self.sharing.wake_ms[0])
        kind, left = 2, 0.0
        while True:
            own = jobs[owner].queue if owner >= 0 else None
            others = [j for k in range(1, n + 1) if (j := (owner + k) % n) != owner and jobs[j].queue]
            if own and fresh:
                left, fresh = self.sharing.slice_ms, False
            if (not own or left <= 0) and others:
                if owner >= 0:
                    self.switches += 1
                    yield env.timeout(costs[kind if not own else 0])
                owner, kind, fresh = others[0], 1, True
                continue
            if not own:
                kind, fresh = 2, True
                self.wake = env.event()
                yield self.wake
                continue
            kind = 1
            if left <= 0:
                left = self.sharing.slice_ms
            step = min(own[0], left)
            yield env.timeout(step)
            left -= step
            own[0] -= step
            if own[0] <= 1e-12:
                own.popleft()
                self.kernels += 1
                job = jobs[owner]
                job.left -= 1
                if not job.left:
                    job.retired.append(env.now)
                    job.finished.succeed()


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process: other load does not count."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def shortened(streams: Sequence[Stream], n: int) -> list[Stream]:
    """The first ``n`` iterations of each."""
    return [replace(s, pick=s.pick[:n], think_ms=None if s.think_ms is None else s.think_ms[:n]) for s in streams]


def compare(name: str, streams: list[Stream], part: int, repetitions: int) -> tuple[float, float]:
    """Prints one line per simulator; returns events/s of the fast one and its ratio to SimPy (medians)."""
    longest = max(int(np.diff(s.iterations.first).max()) for s in streams)
    short = shortened(streams, min(part, MOST_LAUNCHES // longest))
    fast, slow, foreign = [], [], []
    for _ in range(repetitions):  # in turns, so that all see the same machine
        spent, outcome = seconds(lambda: simulate(streams, SHARING))
        fast.append(outcome.events / spent)
        spent, reference = seconds(lambda: EventQueue(short, SHARING).run())
        check: Simulated = simulate(short, SHARING)
        slow.append(check.events / spent)
        spent, other = seconds(lambda: InSimPy(short, SHARING))
        foreign.append(other.events / spent)
    agree = all(
        np.allclose(np.array(host.records).reshape(-1, 5)[:, 3], done.end_ms, atol=1e-6)
        for host, done in zip(reference.hosts, check.tenants, strict=True)
    )
    same = all(
        np.allclose(job.retired[: len(done.end_ms)], done.end_ms, atol=1e-6)
        for job, done in zip(other.jobs, check.tenants, strict=True)
    )
    rates = [float(np.median(values)) for values in (fast, slow, foreign)]
    ratios = [rates[0] / rate for rate in rates]
    print(f"{name}: {outcome.iterations:,} iterations, {outcome.events:,} events")
    for label, rate, ratio, values in zip(
        ("kts", "event queue", "SimPy"), rates, ratios, (fast, slow, foreign), strict=True
    ):
        spread = f"{min(values) / 1e6:.3g} to {max(values) / 1e6:.3g}"
        beside = "" if label == "kts" else f"; kts is {ratio:,.0f} times as fast"
        print(f"  {label:<12}{rate / 1e6:10.3f} M events/s ({spread}){beside}")
    print(f"  same results: event queue {'yes' if agree else 'NO'}, SimPy {'yes' if same else 'NO'}")
    return rates[0], ratios[2]


def million(repetitions: int) -> float:
    """Seconds of wall time for a million iterations of four tenants: drawn, simulated, and their quantiles read."""

    def once() -> float:
        begin = time.perf_counter()
        rng, n = np.random.default_rng(0), 400_000
        streams = [
            Stream(
                bursts(d * rng.uniform(0.98, 1.02, LISTED), 0.03),
                rng.integers(0, LISTED, n),
                think_ms=t * rng.uniform(0.5, 1.5, n),
            )
            for d, t in ((3.6, 10), (5.0, 12), (1.0, 9), (2.0, 11))
        ]
        outcome = simulate(streams, SHARING)
        for done in outcome.tenants:
            plain(done.response_ms)
            plain(done.device_ms)
        spent = time.perf_counter() - begin
        return spent * 1e6 / outcome.iterations

    return float(np.median([once() for _ in range(repetitions)]))


def main(argv: Sequence[str] = ()) -> None:
    """Prints rates, ratios and verdicts."""
    parser = argparse.ArgumentParser(prog="python -m bench simulate")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=400_000, help="of each tenant, at most")
    parser.add_argument("--part", type=int, default=1500, help="iterations of each tenant for the slow ones")
    options = parser.parse_args(argv)
    simulate(shortened(mixes(100)["fft + gemm, paced"], 100), SHARING)  # compiles
    found = [
        compare(name, streams, options.part, options.repetitions) for name, streams in mixes(options.iterations).items()
    ]
    slowest, least = min(rate for rate, _ in found), min(ratio for _, ratio in found)
    spent = million(options.repetitions)
    print(f"slowest mix {slowest / 1e6:.0f} M events/s, bar 30: {'ok' if slowest >= BAR_EVENTS_PER_S else 'under'}")
    print(f"least ratio to SimPy {least:,.0f}, bar 50: {'ok' if least >= BAR_RATIO else 'under'}")
    print(f"a million iterations of four tenants {spent:.2f} s, bar 1 s: {'ok' if spent <= BAR_MILLION_S else 'over'}")


if __name__ == "__main__":
    main(sys.argv[1:])
