"""What watching came to by a moment: the content of what is shown, served and kept. Pure."""

from __future__ import annotations

import msgspec

from kts.model.summary import Estimate

WATCH_VERSION = 1


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What sharing costs a unit. ``df50``, ``df99``: response while a neighbour had work in flight over that while
    none had, with 95 % intervals, or refused. ``alone_s``, ``shared_s``: how long it was seen so.

    ``foretold_df99``: the model's figure from what is seen, only where ``df99`` is refused; never measured.
    """

    alone_s: float
    shared_s: float
    df50: Estimate
    df99: Estimate
    foretold_df99: Estimate | None = None


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A unit (`WatchedProcess.unit`) on one GPU, within the last ``WatchNow.window_s``.

    ``p50_ms``, ``p99_ms``: response of its iterations, each of ``trips_each`` round trips; ``cost`` is of these, too.
    ``trips``, ``launches``: per second, round trips. ``in_flight``: share of
    the time with work of its own in flight. ``waits_for``: milliseconds per second that it waited longer because of
    each other unit; they sum to ``added_ms`` (per second) with what no neighbour explains under ``""``.
    ``most_for``: for whom most, then those that are not told apart from it.
    """

    unit: str
    gpu: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    processes: int
    p50_ms: Estimate
    p99_ms: Estimate
    trips: float
    trips_each: int = 1
    launches: float
    in_flight: float
    cost: Cost
    added_ms: float
    waits_for: dict[str, float]
    most_for: tuple[str, ...] = ()


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """``what``: `new-neighbour`, `tail-doubled`, `gpu-lost`, `left-out`, `lost-calls`."""

    at_ns: int
    what: str
    unit: str
    words: str


class WatchNow(msgspec.Struct, frozen=True, kw_only=True):
    """``at_ns``: CLOCK_MONOTONIC. ``lost``: calls since the start that found no room; ``left_out``: processes that
    are not watched so as not to cost too much."""

    schema: int
    node: str
    at_ns: int
    window_s: float
    units: tuple[Watched, ...]
    happened: tuple[Happened, ...]
    calls: int
    lost: int
    left_out: int
    notes: tuple[str, ...]
