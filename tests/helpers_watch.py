"""States of watching, as nobody measured them: for what shows, serves and keeps them."""

from __future__ import annotations

from kts.model.summary import Estimate
from kts.watch.live import WATCH_VERSION, Cost, Happened, Watched, WatchNow

GPU = "GPU-11111111-2222-3333-4444-555555555555"
TOO_SHORT = "alone for 3 s, and 30 s are needed"
AT_NS = 5_000_000_000_000


def estimate(value: float, width: float = 0.1) -> Estimate:
    """With an interval of that relative half-width."""
    return Estimate(estimate=value, lo=value * (1 - width), hi=value * (1 + width))


def refused(why: str = TOO_SHORT) -> Estimate:
    """No figure."""
    return Estimate(estimate=None, lo=None, hi=None, refused=why)


def watched(
    pod: str, *, df99: Estimate, waits_for: dict[str, float], foretold: Estimate | None = None, gpu: str = GPU
) -> Watched:
    """A pod of namespace ``shop`` with one container."""
    return Watched(
        unit=f"shop/{pod}/main",
        gpu=gpu,
        namespace="shop",
        pod=pod,
        container="main",
        processes=2,
        p50_ms=estimate(4.0),
        p99_ms=estimate(12.5),
        trips=81.5,
        launches=2400.0,
        in_flight=0.4,
        cost=Cost(alone_s=200.0, shared_s=400.0, df50=estimate(1.2), df99=df99, foretold_df99=foretold),
        added_ms=sum(waits_for.values()),
        waits_for=waits_for,
    )


def state(*units: Watched, happened: tuple[Happened, ...] = (), lost: int = 0, left_out: int = 0) -> WatchNow:
    """What is known at `AT_NS` of node-1."""
    return WatchNow(
        schema=WATCH_VERSION,
        node="node-1",
        at_ns=AT_NS,
        window_s=60.0,
        units=units,
        happened=happened,
        calls=123_456,
        lost=lost,
        left_out=left_out,
        notes=(),
    )


def three() -> WatchNow:
    """One that pays, one that does not, one of which only the model says something; and a new neighbour."""
    api = watched("api", df99=estimate(2.5), waits_for={"shop/train/main": 120.0, "shop/web/main": 15.0, "": 5.0})
    train = watched("train", df99=estimate(1.02), waits_for={"shop/api/main": 2.0, "": 0.5})
    web = watched("web", df99=refused(), foretold=estimate(1.9), waits_for={"": 0.0})
    came = Happened(at_ns=AT_NS - 7_000_000_000, what="new-neighbour", unit="shop/train/main", words="computes now")
    return state(api, train, web, happened=(came,))
