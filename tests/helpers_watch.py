"""States of watching, as nobody measured them: for what shows, serves and keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kts.model.summary import Estimate
from kts.watch.calls import CALL, FUNCTIONS, Piece, WatchedProcess
from kts.watch.live import WATCH_VERSION, Cost, Happened, Watched, WatchNow
from kts.watch.recording import PieceWriter

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
    """A pod of namespace ``shop`` with one container, which waits for one neighbour most."""
    most_for = sorted(filter(None, waits_for), key=lambda unit: -waits_for[unit])[:1]
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
        most_for=tuple(most_for),
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


_WORKS_S, _RESTS_S = 20, 20
_FUNCTION = {function.name: number for number, function in enumerate(FUNCTIONS)}


def pieces(seconds: int, pods: tuple[str, str] = ("api", "train")) -> Iterator[Piece]:
    """Two pods on one GPU. The first has a round trip every 10 ms, of 2 ms; of 4 ms while the second computes, which
    does so for 20 s of every 40, without a pause between its round trips of 5 ms."""
    processes = tuple(
        WatchedProcess(
            number=k,
            pid=100 + k,
            began_ticks=k,
            command="python",
            container=f"{k}" * 64,
            container_name="main",
            pod_uid=f"uid-{k}",
            pod=pod,
            namespace="shop",
            gpus=(GPU,),
        )
        for k, pod in enumerate(pods)
    )
    random = np.random.default_rng(7)
    for second in range(seconds):
        begin_ns = AT_NS + second * 1_000_000_000
        works = second % (_WORKS_S + _RESTS_S) >= _RESTS_S
        mine = _trips(
            0, begin_ns + np.arange(100) * 10_000_000, (4e6 if works else 2e6) * random.uniform(0.9, 1.1, 100)
        )
        parts = [mine]
        if works:
            parts.append(_trips(1, begin_ns + np.arange(200) * 5_000_000, np.full(200, 4.9e6)))
        calls = np.concatenate(parts)
        yield Piece(begin_ns + 1_000_000_000, calls[np.argsort(calls["ns"])], processes if second == 0 else ())


def _trips(process: int, begin_ns: np.ndarray, lasts_ns: np.ndarray) -> np.ndarray:
    """A launch, and a wait until the GPU is done, for each."""
    launch, wait = _FUNCTION["cuLaunchKernel"], _FUNCTION["cuStreamSynchronize"]
    steps = ((launch, 0, begin_ns), (wait, 0, begin_ns + 10_000), (wait, 1, begin_ns + lasts_ns.astype(np.int64)))
    calls = np.zeros((len(begin_ns), len(steps)), CALL)
    for k, (function, returned, at_ns) in enumerate(steps):
        calls["ns"][:, k], calls["function"][:, k], calls["returned"][:, k] = at_ns, function, returned
    calls["process"], calls["thread"] = process, 100 + process
    return calls.ravel()


def recording(path: Path, seconds: int = 130) -> Path:
    """`pieces` as a file."""
    with PieceWriter(path, node="node-1", kts="0.1") as writer:
        for piece in pieces(seconds):
            writer.write(piece)
    return path
