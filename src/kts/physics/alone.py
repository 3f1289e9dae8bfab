"""An iteration on a GPU of its own: when its launches have ended, and how long its host waits meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kts.physics.values import Floats, Iterations


@dataclass(frozen=True, eq=False)
class Alone:
    """Of each iteration, milliseconds, shape ``(n,)``.

    ``ends_ms``: from submission until its retire delay begins: all has ended and, if the host waits behind the last
    launch, it goes on. ``waited_ms``: what its waits take of that, notices not counted; none without waits.
    """

    ends_ms: Floats
    waited_ms: Floats


@lru_cache(maxsize=64)
def alone(them: Iterations) -> Alone:
    """Every iteration of ``them`` alone, without launch gaps. Kept, as every draw of a tenant asks for it."""
    return Alone(_plain_ends_ms(them), np.zeros(them.n)) if them.are_plain else _walked(them)


def ends_ms(them: Iterations) -> Floats:
    """`Alone.ends_ms` of these."""
    return alone(them).ends_ms


def service_ms(them: Iterations) -> Floats:
    """How long each takes alone, retire delay included; shape ``(n,)``."""
    return ends_ms(them) + them.retire_ms


def _plain_ends_ms(them: Iterations) -> Floats:
    """A kernel starts when it is launched and the ones before have ended: the end is the largest, over all launches,
    of its launch time and the durations from it on."""
    before = np.concatenate([[0.0], np.cumsum(them.duration_ms)])
    slack = np.maximum.reduceat(them.offset_ms - before[:-1], them.first[:-1])
    return np.asarray(slack + before[them.first[1:]])


def _walked(them: Iterations) -> Alone:
    """Launch by launch, all iterations at once."""
    counts = np.diff(them.first)
    lane = (
        np.zeros(len(them.offset_ms), np.int64) if them.lane is None else np.unique(them.lane, return_inverse=True)[1]
    )
    free = np.zeros((them.n, int(lane.max()) + 1))  # when each lane is
    shift, waited, ended, goes_on = (np.zeros(them.n) for _ in range(4))
    for number in range(int(counts.max())):
        rows = np.flatnonzero(counts > number)
        at = them.first[rows] + number
        end = np.maximum(them.offset_ms[at] + shift[rows], free[rows, lane[at]]) + them.duration_ms[at]
        free[rows, lane[at]] = end
        ended[rows] = goes_on[rows] = np.maximum(ended[rows], end)
        if them.wait_ms is None or them.notice_ms is None:
            continue
        waits = ~np.isnan(them.wait_ms[at])
        rows, at = rows[waits], at[waits]
        begins = them.wait_ms[at] + shift[rows]
        seen = np.maximum(begins, ended[rows])
        waited[rows] += seen - begins
        goes_on[rows] = seen + them.notice_ms[at]
        shift[rows] += goes_on[rows] - begins
    return Alone(goes_on, waited)
