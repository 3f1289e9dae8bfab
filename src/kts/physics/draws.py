"""From a profile to a stream: which iteration comes when. One generator per tenant, so that a neighbour more or
less changes nobody's draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kts.arrivals import Closed
from kts.physics.alone import service_ms
from kts.physics.simulate import SharingModel, Stream
from kts.physics.values import Fingerprint, Floats, Ints, Iterations, Profile, Thread
from kts.plan.blocks import derive
from kts.units import ms_to_ns, ns_to_ms


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A generator of its own for each ``parts``."""
    return np.random.default_rng(derive(seed, *parts))


def cycle_ms(profile: Profile) -> float:
    """Mean time from one iteration to the next, alone: think time and pause included, or the interval of the
    arrivals. Of a program with several threads: of whichever."""
    each = cycles_ms(profile)
    return each[0] if len(each) == 1 else 1 / sum(1 / cycle for cycle in each)


def cycles_ms(profile: Profile) -> list[float]:
    """`cycle_ms` of each of its threads."""
    if not isinstance(profile.arrivals, Closed):
        return [profile.arrivals.interval_ms]
    think_ms = profile.arrivals.think_ms
    return [service_alone_ms(one.iterations) + think_ms + float(one.pause_ms.mean()) for one in profile.threads]


def service_alone_ms(them: Iterations) -> float:
    """Mean service time alone, from the launches: the GPU and the host run side by side.

    Without waits, copies and lanes it is the host's time or the GPU's, whichever is longer: less than
    `kts.physics.alone.service_ms` where the host lets the GPU idle first and queues up later. How much is drawn and in
    which phase hangs on it, and on those every prediction that was ever recorded, so it stays what it was.
    """
    if not them.are_plain:
        return float(service_ms(them).mean())
    last = them.first[1:] - 1
    host = them.offset_ms[last] + them.duration_ms[last]
    return float((np.maximum(host, them.offset_ms[them.first[:-1]] + them.busy_ms) + them.retire_ms).mean())


def streams(
    profile: Profile,
    planned: Sequence[int],
    seed: int,
    name: str,
    *,
    among: Ints | None = None,
    priority: int = 0,
    host: float = 1.0,
) -> list[Stream]:
    """Iterations of a tenant ``name``, ``planned`` of each of its threads, drawn from ``among`` (default: all) in runs
    of neighbours.

    Runs of about the cube root of their number keep what consecutive iterations have in common (Kuensch 1989).
    Think times are uniform as the worker draws them; a closed loop and a trace begin at a random point. ``host``: see
    `Stream`.
    """
    threads = profile.threads
    if len(threads) == 1:
        made = [_stream(profile, threads[0], planned[0], (seed, name), among)]
    else:
        chosen = [None if among is None else _within(one.of, among) for one in threads]
        made = [
            replace(_stream(profile, one, n, (seed, f"{name}/{k}"), pool), process=f"{name}/{one.process}")
            for k, (one, n, pool) in enumerate(zip(threads, planned, chosen, strict=True))
        ]
    depth, settles = profile.queue_depth, profile.settles_next
    return [replace(one, priority=priority, host=host, queue_depth=depth, settles_next=settles) for one in made]


def _within(of: Ints, among: Ints) -> Ints | None:
    """Those of ``among`` that are ``of`` a thread, as places among its own; None: there are none."""
    place = np.searchsorted(of, among)
    there = place < len(of)
    there[there] = of[place[there]] == among[there]
    return place[there] if there.any() else None


def _stream(profile: Profile, thread: Thread, planned: int, drawn: tuple[int, str], among: Ints | None) -> Stream:
    """``drawn``: by which seed, for whom."""
    seed, name = drawn
    rng = generator(seed, "stream", name)
    them = thread.iterations
    pool = np.arange(them.n) if among is None else among
    pick = pool[runs(rng, len(pool), planned)]
    arrivals = profile.arrivals
    if not isinstance(arrivals, Closed):
        return Stream(them, pick, due_ms=arrivals.drawn_ms(rng, planned))
    low, high = (arrivals.think_ms * (1 + sign * arrivals.jitter) for sign in (-1, 1))
    think = rng.uniform(low, high, planned) + thread.pause_ms[pick]
    service_ns = ms_to_ns(service_alone_ms(them))
    start = ns_to_ms(max(arrivals.first_submission_ns(service_ns, derive(seed, "phase", name)), 0))
    return Stream(them, pick, think_ms=think, start_ms=start)


def runs(rng: np.random.Generator, n: int, wanted: int) -> Ints:
    """``wanted`` indices below ``n``, in runs of round(n ** (1/3)) neighbours, going round at the end."""
    length = max(1, round(n ** (1 / 3)))
    begins = rng.integers(0, n, math.ceil(wanted / length))
    return np.asarray(((begins[:, None] + np.arange(length)) % n).ravel()[:wanted], dtype=np.int64)


def sharing(fingerprint: Fingerprint, z: Floats | None = None, *, at_once: bool = False) -> SharingModel:
    """The fingerprint's figures; ``z``, shape (5,): that many standard deviations off (slice, the three costs, gap).

    Without a cost of waking, that of yielding stands for it.
    """
    z = np.zeros(5) if z is None else z
    preempt, yielding, waking = (
        tuple(cost.at(float(off)) for cost in costs)
        for costs, off in zip((fingerprint.preempt_ms, fingerprint.yield_ms, fingerprint.wake_ms), z[1:4], strict=True)
    )
    return SharingModel(
        slice_ms=max(fingerprint.slice_ms.at(float(z[0])), 1e-6),
        preempt_ms=preempt,
        yield_ms=yielding,
        wake_ms=waking or yielding,
        launch_gap_ms=fingerprint.launch_gap_ms.at(float(z[4])),
        at_once=at_once,
        in_line=fingerprint.in_line,
    )
