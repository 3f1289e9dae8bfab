"""Whether a series of iterations is steady, from where on, and which states it passes through.

Change points: PELT (Killick, Fearnhead & Eckley 2012) with the cost of empirical distributions (ED-PELT: Haynes,
Fearnhead & Eckley 2017): minus twice the log-likelihood of the counts at or below `LEVELS` quantiles of the whole
series, their mean. Of durations only the order enters, so neither a heavy tail nor seldom spikes move it. The
quantiles are evenly spaced, not crowded into the tails as in the paper: a state is where most iterations lie. Series
of over `GRID` iterations may change every n / `GRID` iterations only; for a slow start its first eighth, the eighth
of that, ... are looked at, too. The penalty of a change is `PENALTY` log(n), times a dispersion: the largest median
square of what neighbouring stretches differ by, of any length that the series holds twelve times, over that of
independent iterations; so slow iterations that come in runs, and a host that wanders, make it higher.

A change then must matter: neighbouring segments are one unless their medians differ by a tenth (`RATIO`), and `APART`
of all pairs of their iterations are in that order (the A of Vargha & Delaney 2000).

The kinds are those of Barrett et al. (2017), "Virtual Machine Warmup Blows Hot and Cold", and one of ours, changing.
A warm-up is told from a host that wanders by the rest: the slow start is slower than all of it by `SLOW`, never
returns, and is further from the slowest level of the rest than the levels of the rest are from each other, by half.

Limits. A slow start that is all of the series is its steady state for whoever sees no more. A host that wanders once,
from slow to fast, looks like a warm-up; of several changes none does. A change of the tail alone, of under a tenth,
or of fewer than `FEWEST` iterations is not seen. docs/measuring.md has the figures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["flat", "warm-up", "slowdown", "changing", "no-steady-state"]

LEVELS = 9
GRID = 400
PENALTY = 3.0
FEWEST = 5
"""Iterations of the shortest segment."""
RATIO = 1.1
APART = 0.85
SLOW, MANY = 1.25, 300
"""How much slower than all that follows a start must be to be left out of figures: rounds of a run may differ by less.
On the log scale it is sqrt(MANY / n) times as much for n < MANY iterations: few show little of how a host wanders."""
REST = 0.25
"""The least share of a series that must be steady: in less, a steady state cannot be told from a pause on the way."""
FAR = 1.5
"""What a series must still be changing by, where under `REST` of it is steady, to have no steady state."""

_RESTED_S = 2.0
_LASTING = 0.2
_FURTHER = 1.5
_LONG = 2.0
_SCALES_HELD = 12
_SHORTEST_SCALE = 5
_CHI_SQUARE_MEDIAN = 0.4549


@dataclass(frozen=True)
class Segment:
    """Iterations ``first`` to before ``beyond``, in one state. ``level``: their median over that of the steady part."""

    first: int
    beyond: int
    level: float

    def __len__(self) -> int:
        return self.beyond - self.first


@dataclass(frozen=True)
class Segments:
    """The segments of a series, and what they are together. Iterations before ``first`` are warm-up.

    flat: one state. warm-up: a slow start that does not return. slowdown: it ends in a state slower than all before.
    changing: its states come and go, or their order shows nothing. no-steady-state: at its end it is still getting
    slower or faster.
    """

    kind: Kind
    first: int
    segments: tuple[Segment, ...]

    @property
    def steady(self) -> bool:
        """False where no part of it stands for what comes."""
        return self.kind != "no-steady-state"


def course(durations_ms: ArrayLike, of: ArrayLike | None = None, *, slow: float | None = None) -> Segments:
    """What a series of durations is, in order of time.

    ``of``: the condition of each iteration, where they were measured under several: whole numbers, same shape. Each
    then counts as its place among the later half of its condition, and a state is one of all conditions. ``slow``
    replaces `SLOW`.
    """
    values = np.asarray(durations_ms, dtype=np.float64)
    logs = np.log(np.maximum(values, 1e-9))
    ranks = values
    if of is not None:
        logs, ranks = _among(values, logs, np.asarray(of))
    parts = _merged(_segmented(ranks), logs, ranks)
    gap = math.log(slow or SLOW) * (1.0 if slow else math.sqrt(max(1.0, MANY / max(len(values), 1))))
    lead = _lead(parts, len(values), gap, REST)
    if not lead:
        parts, lead = _early(parts, logs, ranks, gap)
    first = _beyond_last(parts, lead, logs) if lead else 0
    usual = float(np.median(logs[first:])) if len(logs) else 0.0
    segments = tuple(Segment(p.first, p.beyond, math.exp(p.level - usual)) for p in parts)
    return Segments(_kind(parts, lead, len(values)), first, segments)


def _kind(parts: list[_Piece], lead: int, n: int) -> Kind:
    if lead:
        return "warm-up"
    if len(parts) < 2:
        return "flat"
    levels = [part.level for part in parts]
    steps = np.sign(np.diff(levels))
    ends_soon = len(parts[-1].logs) < REST * n
    one_way = bool(np.all(steps == steps[0])) and len(parts) > 2 and abs(levels[-1] - levels[0]) >= math.log(FAR)
    if (ends_soon and one_way) or _lead(parts, n, math.log(FAR), 0.0):
        return "no-steady-state"
    return "slowdown" if levels[-1] > max(levels[:-1]) and steps[-1] > 0 and not _recurs(parts) else "changing"


def _beyond_last(parts: list[_Piece], lead: int, logs: Floats) -> int:
    """Where the slow start is over for certain: behind it, too, no iteration before the first that is nearer to the
    rest."""
    first, rest = parts[lead].first, parts[lead].level
    middle = (parts[lead - 1].level + rest) / 2
    return first + int(np.argmax(logs[first:] < middle))


def _recurs(parts: list[_Piece]) -> bool:
    return any(not one.apart(other) for k, one in enumerate(parts) for other in parts[k + 2 :])


@dataclass(frozen=True, eq=False)
class _Piece:
    first: int
    beyond: int
    logs: Floats
    ranks: Floats  # sorted

    @property
    def level(self) -> float:
        return float(np.median(self.logs))

    def apart(self, other: _Piece) -> bool:
        """Whether these are two states."""
        if abs(self.level - other.level) < math.log(RATIO):
            return False
        slower = self.above(other)
        return max(slower, 1 - slower) >= APART

    def above(self, other: _Piece) -> float:
        """The chance that one of these took longer than one of the other."""
        below, upto = (np.searchsorted(other.ranks, self.ranks, side=side) for side in ("left", "right"))
        return float((below + upto).mean()) / 2 / len(other.ranks)


def _lead(parts: list[_Piece], n: int, gap: float, rest_share: float) -> int:
    """How many of the first parts are a slow start: each is slower than the rest by ``gap`` (log), by more than the
    lasting levels of the rest differ, and, if they do not only get faster, by more than they differ. 0: none.

    A single change late in the series may also be a host's; so one long part must be slower by more.
    """
    for lead in range(len(parts) - 1, 0, -1):
        before, rest = parts[:lead], parts[lead:]
        held = sum(len(part.logs) for part in rest)
        if held < max(rest_share * n, FEWEST):
            continue
        longest = max(len(part.logs) for part in rest)
        lasting = [p for p in rest if len(p.logs) >= min(longest, _LASTING * (n - held))]
        top, bottom = max(p.level for p in lasting), min(p.level for p in lasting)
        slow = [p.level for p in before]
        wanders = max(slow) - min(slow) if sorted(slow, reverse=True) != slow else 0.0
        once = 1 + _LONG * (n - held) / n if lead == 1 else 1.0
        if min(slow) - top < max(gap * once, wanders, _FURTHER * (top - bottom)):
            continue
        if all(slow.above(fast) >= APART for slow in before for fast in lasting):
            return lead
    return 0


def _early(parts: list[_Piece], logs: Floats, ranks: Floats, gap: float) -> tuple[list[_Piece], int]:
    """A slow start too short for the grid of the whole series: that of an eighth of it, of an eighth of that, ...,
    where it is slow beside all that follows, too. The parts with it, and how many of them it is."""
    head = len(ranks) // 8
    while head * 8 > GRID:
        early = _merged(_segmented(ranks[:head]), logs[:head], ranks[:head])
        if lead := _lead(early, head, gap, REST):
            first = early[lead].first
            rest = _part(logs, ranks, first, len(ranks))
            if all(one.level - rest.level >= gap and one.above(rest) >= APART for one in early[:lead]):
                edges = [first, *(p.beyond for p in parts if p.beyond - first >= FEWEST)]
                return early[:lead] + [_part(logs, ranks, a, b) for a, b in itertools.pairwise(edges)], lead
        head //= 8
    return parts, 0


def _among(values: Floats, logs: Floats, of: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Logarithms over the median of the later half of the condition, and places in it, 0 to 1."""
    places, relative = np.empty(len(values)), np.empty(len(values))
    for condition in np.unique(of):
        mine = np.flatnonzero(of == condition)
        later = np.sort(values[mine[len(mine) // 2 :]])
        upto = [np.searchsorted(later, values[mine], side=side) for side in ("left", "right")]
        places[mine] = (upto[0] + upto[1]) / (2 * len(later))
        relative[mine] = logs[mine] - np.median(np.log(np.maximum(later, 1e-9)))
    return relative, places


def _merged(edges: Sequence[int], logs: Floats, ranks: Floats) -> list[_Piece]:
    """The parts between ``edges``, with neighbours joined, the most alike first, until all are apart."""

    parts = [_part(logs, ranks, a, b) for a, b in itertools.pairwise(edges)]
    while True:
        alike = [k for k in range(len(parts) - 1) if not parts[k].apart(parts[k + 1])]
        if not alike:
            return parts
        nearest = min(alike, key=lambda k: abs(parts[k].level - parts[k + 1].level))
        parts[nearest : nearest + 2] = [_part(logs, ranks, parts[nearest].first, parts[nearest + 1].beyond)]


def _part(logs: Floats, ranks: Floats, first: int, beyond: int) -> _Piece:
    return _Piece(first, beyond, logs[first:beyond], np.sort(ranks[first:beyond]))


def _segmented(ranks: Floats) -> list[int]:
    """ED-PELT: the edges of the segments, the first 0, the last the number of values."""
    n = len(ranks)
    if n < 2 * FEWEST:
        return [0, n] if n else [0]
    step = -(-n // GRID)
    edges = np.append(np.arange(0, n, step), n)
    quantiles = np.quantile(ranks, np.arange(1, LEVELS + 1) / (LEVELS + 1), method="inverted_cdf")
    counts = np.stack([np.append(0, np.cumsum(ranks <= q))[edges] for q in quantiles], axis=1)
    penalty = PENALTY * math.log(n) * _dispersion(counts, edges) * LEVELS / 2  # of the sum of log-likelihoods
    return [int(edges[k]) for k in _pelt(counts, edges, penalty, -(-FEWEST // step))]


def _pelt(counts: Ints, edges: Ints, penalty: float, shortest: int) -> list[int]:
    last = len(edges) - 1
    best, previous = np.full(last + 1, np.inf), np.zeros(last + 1, dtype=np.int64)
    best[0] = -penalty
    candidates = np.zeros(1, dtype=np.int64)
    whole = np.arange(int(edges[-1]) + 1, dtype=np.float64)
    entropy = whole * np.log(np.maximum(whole, 1))  # n log n of every count
    for end in range(shortest, last + 1):
        if end > shortest and end - shortest >= shortest:
            candidates = np.append(candidates, end - shortest)
        costs = best[candidates] + _cost(counts[end] - counts[candidates], edges[end] - edges[candidates], entropy)
        chosen = int(np.argmin(costs))
        best[end], previous[end] = costs[chosen] + penalty, candidates[chosen]
        candidates = candidates[costs <= best[end]]
    found = [last]
    while found[-1] > 0:
        found.append(int(previous[found[-1]]))
    return found[::-1]


def _cost(below: Ints, n: Ints, entropy: Floats) -> Floats:
    """Minus the log-likelihood of each row of counts below the quantiles, of ``n`` each, summed over the quantiles."""
    rows = entropy[below] + entropy[n[:, None] - below]
    return np.asarray(below.shape[1] * entropy[n] - rows.sum(axis=1))


def _dispersion(counts: Ints, edges: Ints) -> float:
    """How much more neighbouring stretches differ than those of independent iterations would; at least 1."""
    n, cells = int(edges[-1]), len(edges) - 1
    shares = counts[-1] / n
    inner = np.flatnonzero((shares > 0.15) & (shares < 0.85))
    found = 1.0
    scale = 1
    while len(inner) and scale * _SCALES_HELD <= cells:
        if scale * n / cells >= _SHORTEST_SCALE:
            differ = counts[2 * scale :, inner] - 2 * counts[scale:-scale, inner] + counts[: -2 * scale, inner]
            expected = 2 * scale * n / cells * shares[inner] * (1 - shares[inner])
            ratio = np.median(differ**2, axis=0) / (_CHI_SQUARE_MEDIAN * expected)
            found = max(found, float(ratio.mean()))
        scale *= 2
    return found


class Settling:
    """Tells of a tenant that has just begun whether it is steady yet. Feed it every iteration, in order of time.

    It is looked at after ``least`` iterations, or after `FEWEST` where these take ``quick_s`` seconds, and then each
    time that it holds a quarter more. It is settled once `course` finds it steady with no slow start (a tenth is slow
    here: waiting costs little), or with one that twice as much, and ``least`` iterations or ``quick_s`` (and two
    seconds), follow.
    ``over``: no more needs to be fed: settled, or ``limit_s`` is over, after which only its whole course counts.

    As they are, ``least`` and ``quick_s`` are for kernels of ours: these launch the same on the same buffers from the
    first iteration, and have no cache that grows, nor a plan to be made for each new shape. Programs have, so they must
    be seen for longer.
    """

    def __init__(self, limit_s: float, *, least: int = 20, quick_s: float = 0.5) -> None:
        self.settled = self.over = False
        self.course = Segments("flat", 0, ())
        self.begun_s: list[float] = []
        self.durations_ms: list[float] = []
        self._limit_s, self._least, self._quick_s = limit_s, least, quick_s
        self._next = FEWEST

    def add(self, begun_s: float, duration_ms: float) -> bool:
        """One more iteration, begun at ``begun_s`` by any clock that runs on; returns ``over``."""
        self.begun_s.append(begun_s)
        self.durations_ms.append(duration_ms)
        n, took_s = len(self.durations_ms), self.took_s
        at_limit = took_s >= self._limit_s
        if at_limit or (n >= self._next and (n >= self._least or took_s >= self._quick_s)):
            self._look(at_limit)
        self.over = self.settled or at_limit
        return self.over

    def end(self) -> None:
        """No more comes: what is there decides, as at the limit."""
        if self.durations_ms and not self.over:
            self._look(at_limit=True)
            self.over = True

    def _look(self, at_limit: bool) -> None:
        self.course = course(self.durations_ms, slow=RATIO)
        n, first = len(self.durations_ms), self.course.first
        rested_s = self.took_s - (self.begun_s[first] - self.begun_s[0])
        enough = n - first >= self._least or rested_s >= max(self._quick_s, _RESTED_S)
        rested = enough and n - first >= max(2 * first, FEWEST)
        self.settled = self.course.steady and (at_limit or not first or rested)
        self._next = math.ceil(1.25 * n)

    @property
    def took_s(self) -> float:
        """From the beginning of the first iteration to the end of the last."""
        return self.begun_s[-1] - self.begun_s[0] + self.durations_ms[-1] / 1e3 if self.begun_s else 0.0

    @property
    def steady_ms(self) -> list[float]:
        """Durations since it is steady; all of them where it never was."""
        return self.durations_ms[self.course.first :]
