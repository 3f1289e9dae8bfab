"""Whose a unit's waits are: by who has the GPU in turns, corrected by what its neighbours were seen to cost. Pure.

`Company.beside` says a priori how long a unit waits for each neighbour, from what each of their round trips is taken to
need of the GPU. How much of that is its host's time no call tells. But round trips do: those that begin while it has
work in flight are longer by what it really costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.watch.company import BINS, Floats

Ints = NDArray[np.int64]

MOST = 32
"""Neighbours that are known of a unit; the one that was in flight least makes room."""
LEARNT_S = 600
"""Seconds with round trips after which what was learnt counts for a third."""
WORTH = 300.0
"""Round trips that tell as much as an independent one of a linear model would: what is added is not linear."""
SPREAD = 0.5
"""Standard deviation of neighbours' factors before anything was seen, relative to their mean."""
SAMPLED = 32
"""Round trips of a second that are looked at."""
APART = 1.0
"""Standard errors by which the first is blamed more than another, to be told apart from it."""


class Blamed(NamedTuple):
    """Of the last ``window_s`` seconds. ``weights``: by neighbour, how much of what was added is its: in ms per second,
    if turns took what they take a priori. ``first``: who is blamed most, then those who are not told apart from it:
    blamed less by no more than `APART` standard errors of the difference."""

    weights: dict[str, float]
    first: tuple[str, ...]


class Blame:
    """Told second by second. Memory: ``window_s`` rows and a matrix of at most `MOST` neighbours."""

    def __init__(self, window_s: int) -> None:
        self._place: dict[str, int] = {}
        self._names: Sequence[str] = ()  # of the second before
        self._where: tuple[Any, Any] = (slice(2), slice(0)), slice(0)  # where they are in `_sums`, and in all else
        self._recent = np.zeros((window_s, 0))  # seconds waited for each, of the last seconds
        self._seen = 0
        self._sums = np.zeros((2, 2))  # of products of (1, response in ms, share with each in flight)
        self._turns = np.zeros(0)  # ms waited for each, over the same time
        self._factors = np.zeros(0)
        self._unsure = np.zeros((0, 0))  # covariance of the factors

    def second(self, names: Sequence[str], turns_s: Floats, shares: Floats, ms: Floats, trips: int) -> None:
        """``turns_s``: seconds that the unit a priori waited for each of ``names``. ``shares``: of the time that it
        usually takes, from the begin of some of its ``trips``, with each in flight, shape (names, n); ``ms``: how long
        these took."""
        if names != self._names:
            self._where, self._names = self._places(names), names
        whole, places = self._where
        at = self._seen % len(self._recent)
        self._seen += 1
        self._recent[at] = 0.0
        self._recent[at, places] = turns_s
        if not len(ms):
            return
        rows = np.empty((2 + len(names), len(ms)))
        rows[0], rows[1], rows[2:] = 1.0, ms, shares
        self._sums *= 1 - 1 / LEARNT_S
        self._turns *= 1 - 1 / LEARNT_S
        self._sums[whole] += trips / len(ms) * (rows @ rows.T)
        self._turns[places] += 1e3 * turns_s

    def blamed(self) -> Blamed:
        """Whose that is which was added."""
        turns = 1e3 * self._recent.sum(axis=0) / max(min(self._seen, len(self._recent)), 1)
        weighed = turns * self._factors
        whole = float(weighed.sum())
        if not whole > 0:
            return Blamed({}, ())
        first = int(weighed.argmax())
        # they are few: numbers one by one take less time than arrays
        scale, weights, turn = float(turns.sum()) / whole, weighed.tolist(), turns.tolist()
        variances, shared = (self._unsure.diagonal() * turns**2).tolist(), self._unsure[first].tolist()

        def apart(k: int) -> float:
            variance = variances[first] + variances[k] - 2 * (shared[k] * turn[first] * turn[k])
            return APART * math.sqrt(max(variance, 0.0))

        some = [k for k, weight in enumerate(weights) if weight > 0]
        near = [k for k in some if k == first or weights[first] - weights[k] <= apart(k)]
        names = list(self._place)
        return Blamed(
            {names[k]: weights[k] * scale for k in some},
            tuple(names[k] for k in sorted(near, key=lambda k: -weights[k])),
        )

    def learn(self) -> None:
        """Makes anew what each neighbour costs over what it would a priori."""
        self._factors, self._unsure = self._found()

    def _found(self) -> tuple[Floats, Floats]:
        """Factors of all, alike where nothing tells, and their covariance.

        Ridge regression of response on the a-priori wait for each neighbour, none below 0, towards one factor for all
        (Hoerl & Kennard 1970): the penalty is the variance of what is left over that of the factors. Read as a normal
        prior of the factors, as that penalty is, what is left tells their covariance (Gelman et al., *Bayesian Data
        Analysis*, 2013, 14.8); of factors that would be below 0, too.
        """
        k, n = len(self._turns), float(self._sums[0, 0])
        alike = np.ones(k), SPREAD**2 * np.eye(k)
        if k < 2 or n < WORTH / 10:
            return alike
        shares = self._sums[0, 2:]
        each = np.divide(self._turns, shares, out=np.zeros(k), where=shares > 1e-9)  # ms for a share of 1
        spread = self._sums[1:, 1:] - np.outer(self._sums[0, 1:], self._sums[0, 1:]) / n
        both, with_ms = spread[1:, 1:] * np.outer(each, each), spread[0, 1:] * each
        common = float(with_ms.sum()) / max(float(both.sum()), 1e-300)
        if not common > 0:
            return alike
        factors = np.full(k, common)
        for _ in range(2):
            left = float(spread[0, 0] - 2 * factors @ with_ms + factors @ both @ factors) / n
            penalty = WORTH * max(left, 1e-12) / (SPREAD * common) ** 2
            factors = _solved(both + penalty * np.eye(k), with_ms + penalty * common)
        unsure = WORTH * max(left, 1e-12) * np.linalg.inv(both + penalty * np.eye(k))
        return (factors, unsure) if factors.any() else alike

    def _places(self, names: Sequence[str]) -> tuple[Any, Any]:
        """In `_sums`, where the first two are no neighbours, and in all else."""
        new = [name for name in names if name not in self._place]
        if len(self._place) + len(new) > MOST:
            self._forget(len(self._place) + len(new) - MOST, keep=names)
        for name in new:
            self._place[name] = len(self._place)
        more = len(self._place) - len(self._turns)
        if more:
            self._sums = np.pad(self._sums, (0, more))
            self._turns = np.pad(self._turns, (0, more))
            usual = float(self._factors.mean()) if len(self._factors) else 1.0
            self._factors = np.pad(self._factors, (0, more), constant_values=usual)
            self._unsure = np.pad(self._unsure, (0, more))
            self._unsure[-more:, -more:] = (SPREAD * usual) ** 2 * np.eye(more)
            self._recent = np.pad(self._recent, ((0, 0), (0, more)))
        if list(names) == list(self._place):
            return (slice(None), slice(None)), slice(None)  # all, in order: several times as fast
        places = np.array([self._place[name] for name in names], np.int64)
        whole = np.concatenate([[0, 1], 2 + places])
        return (whole[:, None], whole), places

    def _forget(self, count: int, keep: Sequence[str]) -> None:
        """So many, of those that are not there now, with the least time in flight beside it."""
        gone = sorted(set(self._place).difference(keep), key=lambda name: self._sums[0, 2 + self._place[name]])[:count]
        stay = [name for name in self._place if name not in gone]
        places = np.array([self._place[name] for name in stay], np.int64)
        whole = np.concatenate([[0, 1], 2 + places])
        self._sums = self._sums[whole[:, None], whole]
        self._turns, self._factors = self._turns[places], self._factors[places]
        self._unsure = self._unsure[places[:, None], places]
        self._recent = self._recent[:, places]
        self._place = {name: at for at, name in enumerate(stay)}


class UsualTimes(NamedTuple):
    """Whole parts of two seconds, from ``since`` until ``until``: one for each round trip."""

    since: Ints
    until: Ints

    @classmethod
    def usual(cls, begin_ms: Floats, usual_ms: Floats) -> UsualTimes:
        """``usual_ms`` from each of ``begin_ms``, as far as the two seconds go."""
        parts = 1e-3 * BINS  # in a ms
        until = np.minimum(np.ceil((begin_ms + usual_ms) * parts).astype(np.int64), 2 * BINS)
        return cls((begin_ms * parts).astype(np.int64), until)

    def of(self, some: Ints | slice) -> UsualTimes:
        return UsualTimes(self.since[some], self.until[some])

    def covered(self, covered: NDArray[np.float32], units: Ints) -> Floats:
        """Share of each in which each of ``units``, of one shape with them, has work in flight.

        ``covered``: cumulated parts of the two seconds in which each unit has, shape (all units, 2 `BINS` + 1).
        """
        flat, row = covered.reshape(-1), units * covered.shape[1]  # taken from one line: half the time
        parts = flat.take(row + self.until) - flat.take(row + self.since)
        return np.asarray(parts / np.maximum(self.until - self.since, 1))


def _solved(matrix: Floats, wanted: Floats) -> Floats:
    """The least squares with none below 0; whoever would be is left out, the lowest first."""
    left = np.arange(len(wanted))
    found = np.zeros(len(wanted))
    while len(left):
        values = np.linalg.solve(matrix[left[:, None], left], wanted[left])
        if values.min() >= 0:
            found[left] = values
            break
        left = np.delete(left, int(values.argmin()))
    return found
