"""Why a tenant took longer: values of summary.json. See docs/attribution.md."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

CauseName = Literal[
    "queue",  # waiting for own earlier iterations: due to submit, open loops
    "first-turn",  # handed over, and others' turns came first
    "turns",  # turns of others after the first of its own
    "contended",  # others were in flight too, and no stopwatch tells turns before its own first from later ones
    "beside",  # others had work on the device at the same time: nobody waits for a turn there
    "limited",  # the device's own part that the mode gives the tenant, and others beside it: not told apart
    "slower-memory",  # longer execution: caches, memory bandwidth
    "slower-clocks",  # longer execution: clocks, power or heat
    "slower",  # longer execution, and the data do not say by what
    "core",  # the host's thread was ready and another had its core
    "quota",  # the host's threads were held back by their cgroup's CPU quota
    "sibling",  # the host's thread ran slower: another was on the same physical core
    "slow-core",  # the host's thread ran slower: its core did, by another thread on it or by its clock
    "launch",  # the host needed longer to hand the work over
    "between",  # the program began its next iteration later
    "disk",  # the host's threads waited for a disk
    "uninvited",  # turns of a process that is no tenant
    "xid",  # the GPU told an error
    "hidden",  # negative: host time that passed while the GPU was waited for
    "back-to-back",  # negative: launches that queued, and then ran without gaps
    "own",  # of a quantile: its slow iterations in company are others than alone, with more or less work of their own
    "unexplained",  # what no data explain
]
CAUSES: tuple[CauseName, ...] = get_args(CauseName)

Statistic = Literal["mean", "p50", "p95", "p99"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the added time: ``ms``, its 95 % interval ``lo`` to ``hi`` (null: none can be given), negative where it
    saved time. ``data``: the figures that show it, in words. ``by``: ms of it by neighbour, where it is known whose.
    """

    cause: CauseName
    ms: float
    lo: float | None
    hi: float | None
    data: str
    by: dict[str, float] = {}


class Decomposition(msgspec.Struct, frozen=True, kw_only=True):
    """What was added to one statistic of the response time: with company minus alone, ms, and its 95 % interval. The
    parts add up to ``added_ms``; the largest first, ``unexplained`` last."""

    statistic: Statistic
    alone_ms: float
    added_ms: float
    lo: float | None
    hi: float | None
    parts: tuple[Part, ...]


class Causes(msgspec.Struct, frozen=True, kw_only=True):
    """The added time of a tenant under one shared condition. ``refused``: why there are no parts, else empty."""

    condition: str
    of: tuple[Decomposition, ...] = ()
    refused: str = ""

    def first(self, statistic: Statistic = "mean") -> Part | None:
        """The cause that stands first: the largest part whose interval lies above 0, where that of the whole does, too.
        None: nothing is shown to be added, or the data show no cause."""
        found = next((one for one in self.of if one.statistic == statistic), None)
        if found is None or found.lo is None or found.lo <= 0:
            return None
        shown = [part for part in found.parts if part.cause != "unexplained" and (part.lo or 0.0) > 0]
        return max(shown, key=lambda part: part.ms, default=None)
