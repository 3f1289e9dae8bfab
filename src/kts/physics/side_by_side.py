"""Programs under MPS: each is simulated alone, its kernels slowed by as many others as have some meanwhile.

How many these are is what they do on average, so that nobody sees what another does at one moment: mean-field processor
sharing, as `kts.physics.rules` has it, on the launches instead of on whole iterations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_columns

import numpy as np

from kts.arrivals import Closed
from kts.model.mode import MPS
from kts.model.plan import PROGRAM
from kts.physics.draws import generator, service_alone_ms
from kts.physics.fitted import BESIDE
from kts.physics.rules import crowd
from kts.physics.simulate import Completed, SharingModel, Simulated, Stream, simulate
from kts.physics.values import Fingerprint, Floats, Iterations, Profile

ROUNDS = 12
"""Until the presences settle to a thousandth."""
LOOKED_AT = 64
"""Iterations of each thread that presence is taken from, evenly spaced."""


def are_side_by_side(fingerprint: Fingerprint, profiles: Mapping[str, Profile]) -> bool:
    """True under MPS as soon as one of the profiles is a program's. Kernels of our own stand in line there."""
    return fingerprint.mode == MPS and any(profile.workload == PROGRAM for profile in profiles.values())


@dataclass(frozen=True, eq=False)
class _Presence:
    """How often a tenant has a kernel on the GPU. ``threads``: iterations and mean pause behind them (ms) of each;
    ``interval_ms``: of its arrivals, None in a closed loop."""

    busy_ms: float
    threads: tuple[tuple[Iterations, float], ...]
    interval_ms: float | None

    @classmethod
    def of(cls, profile: Profile) -> _Presence:
        arrivals = profile.arrivals
        think_ms = arrivals.think_ms if isinstance(arrivals, Closed) else 0.0
        threads = []
        for one in profile.threads:
            n = one.iterations.n
            few = np.linspace(0, n - 1, min(n, LOOKED_AT)).round().astype(np.int64)
            threads.append((one.iterations.only(few), think_ms + float(one.pause_ms.mean())))
        interval_ms = None if isinstance(arrivals, Closed) else arrivals.interval_ms
        return cls(float(profile.iterations.busy_ms.mean()), tuple(threads), interval_ms)

    def share(self, slower: float) -> float:
        """With kernels so many times as long; 0 to 1."""
        each = (
            [self.interval_ms]
            if self.interval_ms is not None
            else [service_alone_ms(_lasting(them, slower)) + pause_ms for them, pause_ms in self.threads]
        )
        return min(self.busy_ms * slower * sum(1 / max(cycle, 1e-6) for cycle in each), 1.0)


def _lasting(them: Iterations, slower: float | Floats) -> Iterations:
    """With kernels so many times as long: all of them, or each launch's, shape (launches,). Copies stay."""
    factor = slower if them.apart is None else np.where(them.apart, 1.0, slower)
    return with_columns(them, duration_ms=them.duration_ms * factor)


def presence(profiles: Sequence[Profile]) -> Floats:
    """How often each has a kernel on the GPU beside the others, shape ``(n,)``: the fixed point for all."""
    tenants = [_Presence.of(profile) for profile in profiles]
    share = np.zeros(len(tenants))
    for _ in range(ROUNDS):
        others = share.sum() - share
        share = np.array([one.share(1 + BESIDE * float(k)) for one, k in zip(tenants, others, strict=True)])
    return share


def crowded(profiles: Mapping[str, Profile], seed: int) -> dict[str, Profile]:
    """Each with the kernels of every iteration slower by `BESIDE` for each other tenant that is there; how many are is
    drawn from their presence."""
    shares = presence(list(profiles.values()))
    found = {}
    for k, (name, profile) in enumerate(profiles.items()):
        n = profile.iterations.n
        up_to = np.cumsum(crowd(np.delete(shares, k).tolist()))[:-1]
        others = np.searchsorted(up_to, (generator(seed, "beside", name).permutation(n) + 0.5) / n)
        slower = np.repeat(1 + BESIDE * others, np.diff(profile.iterations.first))
        found[name] = profile.lasting(_lasting(profile.iterations, slower).duration_ms)
    return found


def simulated_apart(tenants: Sequence[Sequence[Stream]], sharing: SharingModel, horizon_ms: float) -> Simulated:
    """Each tenant's streams by themselves, as long as all last. Nothing is switched; the GPU is idle as often as nobody
    is there, were that independent."""
    each = [simulate(streams, sharing, horizon_ms=horizon_ms) for streams in tenants]
    end_ms = min(one.end_ms for one in each)
    free = [1 - min(sum(done.busy_ms for done in one.tenants) / one.end_ms, 1.0) for one in each]
    return Simulated(
        tenants=tuple(_until(end_ms, done, one.end_ms) for one in each for done in one.tenants),
        end_ms=end_ms,
        switch_ms=0.0,
        idle_ms=end_ms * float(np.prod(free)),
        switches=(0, 0, 0),
        kernels=sum(one.kernels for one in each),
    )


def _until(end_ms: float, done: Completed, ended_ms: float) -> Completed:
    """What was completed by then."""
    n = int(np.searchsorted(done.retire_ms, end_ms, side="right"))
    columns = ("due_ms", "submit_ms", "begin_ms", "end_ms", "retire_ms")
    return Completed(
        **{name: getattr(done, name)[:n] for name in columns}, busy_ms=done.busy_ms * end_ms / max(ended_ms, 1e-6)
    )
