"""From a profile to a stream: which iteration comes when. One generator per tenant, so that a neighbour more or
less changes nobody's draws."""

from __future__ import annotations

import math

import numpy as np

from kts.arrivals import Closed
from kts.physics.alone import service_ms
from kts.physics.simulate import SharingModel, Stream
from kts.physics.values import Fingerprint, Floats, Ints, Profile
from kts.plan.blocks import derive
from kts.units import ms_to_ns, ns_to_ms


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A generator of its own for each ``parts``."""
    return np.random.default_rng(derive(seed, *parts))


def cycle_ms(profile: Profile) -> float:
    """Mean time from one iteration to the next, alone: think time and pause included, or the interval of the
    arrivals."""
    arrivals = profile.arrivals
    if isinstance(arrivals, Closed):
        return service_alone_ms(profile) + arrivals.think_ms + float(profile.pause_ms.mean())
    return arrivals.interval_ms


def service_alone_ms(profile: Profile) -> float:
    """Mean service time alone, from the launches: the GPU and the host run side by side.

    Without waits, copies and lanes it is the host's time or the GPU's, whichever is longer: less than
    `kts.physics.alone.service_ms` where the host lets the GPU idle first and queues up later. How much is drawn and in
    which phase hangs on it, and on those every prediction that was ever recorded, so it stays what it was.
    """
    them = profile.iterations
    if not them.are_plain:
        return float(service_ms(them).mean())
    last = them.first[1:] - 1
    host = them.offset_ms[last] + them.duration_ms[last]
    return float((np.maximum(host, them.offset_ms[them.first[:-1]] + them.busy_ms) + them.retire_ms).mean())


def stream(
    profile: Profile, planned: int, seed: int, name: str, *, among: Ints | None = None, priority: int = 0
) -> Stream:
    """``planned`` iterations of a tenant ``name``, drawn from ``among`` (default: all) in runs of neighbours.

    Runs of about the cube root of their number keep what consecutive iterations have in common (Kuensch 1989).
    Think times are uniform as the worker draws them; a closed loop and a trace begin at a random point.
    """
    rng = generator(seed, "stream", name)
    them = profile.iterations
    pool = np.arange(them.n) if among is None else among
    pick = pool[runs(rng, len(pool), planned)]
    arrivals = profile.arrivals
    think = due = None
    start = 0.0
    if isinstance(arrivals, Closed):
        low, high = (arrivals.think_ms * (1 + sign * arrivals.jitter) for sign in (-1, 1))
        think = rng.uniform(low, high, planned) + profile.pause_ms[pick]
        service_ns = ms_to_ns(service_alone_ms(profile))
        start = ns_to_ms(max(arrivals.first_submission_ns(service_ns, derive(seed, "phase", name)), 0))
    else:
        due = arrivals.drawn_ms(rng, planned)
    return Stream(
        them,
        pick,
        think_ms=think,
        due_ms=due,
        start_ms=start,
        priority=priority,
        queue_depth=profile.queue_depth,
        settles_next=profile.settles_next,
    )


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
    )
