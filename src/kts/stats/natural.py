"""What sharing costs, from windows that nobody arranged: round trips while neighbours were about, and while none was.

Pure formulas. What they can claim, and what not, is in docs/watch.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.model.summary import Estimate
from kts.rows import joined
from kts.stats.degradation import ratio_estimate
from kts.stats.quantiles import LOST, refused
from kts.stats.sample import MIN_ROUNDS, LatencySample, make_sample

KEPT = np.dtype(
    [
        ("ms", "<f4"),  # response
        ("issue", "<f4"),  # ms of it until its host began to wait
        ("size", "<u4"),  # launches and copies
        ("window", "<u4"),  # in which it began
        ("visit", "<u4"),  # counts up whenever company ends: a stretch without company and the one with it that follows
        ("pace", "<f4"),  # round trips begun in its window
        (
            "beside",
            "<f4",
        ),  # share of the time that it usually takes, from its begin, with a neighbour in flight, or NaN
        ("met", "<f4"),  # neighbours in flight in that time, their mean number, or NaN
        ("number", "<u4"),  # of the unit's round trips, counted from 0
    ]
)
"""A round trip that is kept for comparison."""

Rows = NDArray[np.void]
Floats = NDArray[np.float64]


class SeenUnit(NamedTuple):
    """A unit as far as calls tell of it, for a model. ``alone``, ``shared``: round trips kept, dtype `KEPT`; per
    second ``trips`` and ``launches``; ``in_flight``: share of the time; ``gpus``: UUIDs."""

    unit: str
    alone: Rows
    shared: Rows
    trips: float
    launches: float
    in_flight: float
    gpus: tuple[str, ...] = ()


MOST_VISITS = 30
ENOUGH_OF_VISITS = 1 / 16
"""A quantile is refused where visits differ so much that its round trips are worth less than this part of what it
needs. A run, which can go on until rounds tell, asks for more; visits come when they come, and the interval of few that
differ is wide, not wrong (docs/watch.md)."""
FEWEST_ALIKE = 20
"""Round trips of a kind without company with which those in company are compared."""
SURE = 3.0
"""Standard errors by which a kind must be more frequent in company before it is adjusted for."""
FASTER = 1.1
"""Own pace in company over that without, from which own load is taken to have risen: sharing never adds round trips."""
GROWN = 0.05
"""Logarithm of what company adds, from which it is asked whether it may be own load."""
VARIED = 0.15
"""Standard deviation of `KEPT`'s ``beside`` within a window, below which it tells nothing."""
LONG = 10.0
"""Times the larger p99 of both sides: in means a longer iteration counts as that long. One in which a program loads
takes seconds, and would outweigh all that neighbours add."""
EXPLAINED = 1 / 3
"""What the time with neighbours in flight must surely be able to explain of what company adds."""


class NaturalCost(NamedTuple):
    """``alone_ms``: mean of those without company that are like those in company; NaN where there are none.
    ``added_ms``: mean in company less that, ``sure``: beyond chance. ``doubt``: what cannot be told apart, in words.
    ``long_ms``: iterations that are longer count as that long in these means."""

    df50: Estimate
    df99: Estimate
    alone_ms: float
    added_ms: float
    sure: bool
    doubt: str = ""
    long_ms: float = math.inf


def compared(alone: Rows, shared: Rows, window_s: float = 1.0) -> NaturalCost:
    """DF50 and DF99 of ``shared`` over ``alone``, dtype `KEPT`, by window. Refused where either side is too short, or
    where own load explains what company seems to add.

    Those without company are taken in the proportions of those in company: by size where the sizes differ beyond
    chance, and by own pace where that rises with company. Visits are the units that may differ in level.
    """
    if reason := _too_short(alone, shared, window_s):
        return NaturalCost(refused(reason), refused(reason), math.nan, math.nan, sure=False)
    kinds = _kinds(alone, shared)
    alike, unlike = _in_proportion(alone, kinds[: len(alone)], kinds[len(alone) :])
    with_like = shared.compress(~unlike)
    if not len(alike) or not len(with_like):
        reason = "what it does in company it was not seen to do without"
        return NaturalCost(refused(reason), refused(reason), math.nan, math.nan, sure=False)
    added, error = _added(alike, with_like)
    long_ms = LONG * max(float(np.quantile(rows["ms"], 0.99)) for rows in (alike, with_like))
    alone_ms, shared_ms = (float(np.minimum(rows["ms"], long_ms).mean(dtype=float)) for rows in (alike, with_like))
    sure = added > 2 * error
    own, doubt = _own_load(shared, added, error)
    samples = _samples(with_like, alike)
    figures = []
    for p in (0.5, 0.99):
        if own:
            figures.append(refused(own))
        elif unlike.mean() > LOST * (1 - p):
            share = 100 * float(unlike.mean())
            figures.append(refused(f"{share:.2g} % of its round trips in company are of a kind not seen without"))
        else:
            names = ("in company:", "without:")
            figures.append(ratio_estimate(samples[0], p, samples[1], p, names=names, enough_of_rounds=ENOUGH_OF_VISITS))
    return NaturalCost(figures[0], figures[1], alone_ms, shared_ms - alone_ms, sure and not own, doubt, long_ms)


def _too_short(alone: Rows, shared: Rows, window_s: float) -> str:
    if not len(shared):
        return "no neighbour had work in flight"
    if not len(alone):
        return "never seen without a neighbour's work in flight"
    seen_s = len(np.unique(alone["window"])) * window_s
    return (
        "" if len(alone) >= FEWEST_ALIKE else f"seen without company for {seen_s:.3g} s only, {len(alone)} round trips"
    )


def _kinds(alone: Rows, shared: Rows) -> NDArray[np.int64]:
    """A number for each row, first those of ``alone``: what it must be like to be compared."""
    both = joined((alone, shared))
    company = np.arange(len(both)) >= len(alone)
    kinds = np.zeros(len(both), np.int64)
    sizes = _merged(np.floor(4 * np.log2(1.0 + both["size"])).astype(np.int64))
    if _differ(sizes, company, both):
        kinds += sizes
    paces = both["pace"].astype(float)
    if _faster(both, company):
        edges = np.unique(np.quantile(paces[company], np.linspace(0, 1, 6)[1:-1]))
        kinds = kinds * 8 + np.searchsorted(edges, paces, side="right")
    return kinds


def _merged(codes: NDArray[np.int64], least: float = 0.002) -> NDArray[np.int64]:
    """Codes from 0; one that is rarer than ``least`` joins the one below."""
    values, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    group, groups, filled = 0, np.zeros(len(values), np.int64), 0
    for number, count in enumerate(counts):
        if number and filled >= least * len(codes) and count >= least * len(codes):
            group, filled = group + 1, 0
        groups[number] = group
        filled += count
    return groups[place]


def _differ(codes: NDArray[np.int64], company: NDArray[np.bool_], rows: Rows) -> bool:
    """Whether any code's share differs in company by `SURE` standard errors; visits are what varies."""
    for code in range(int(codes.max()) + 1) if codes.max() else ():
        is_it = (codes == code).astype(float)
        means, errors = zip(
            *(_mean(is_it[side], _units(rows.compress(side))) for side in (company, ~company)), strict=True
        )
        if abs(means[0] - means[1]) > SURE * math.hypot(*errors) + 0.001:
            return True
    return False


def _faster(rows: Rows, company: NDArray[np.bool_]) -> bool:
    """Whether its own pace seems higher in company; each window counts once. Then like is compared with like, which is
    no harm where it is by chance."""
    means, errors = [], []
    for side in (company, ~company):
        _, first = np.unique(rows["window"][side], return_index=True)
        windows = rows.compress(side).take(first)
        mean, error = _mean(windows["pace"].astype(float), _units(windows))
        means.append(mean)
        errors.append(error)
    return means[0] > FASTER * means[1] and means[0] - means[1] > math.hypot(*errors)


def _units(rows: Rows) -> NDArray[np.int64]:
    """What varies as a whole: visits; tenths of the windows where there are few of them."""
    visits, place = np.unique(rows["visit"], return_inverse=True)
    if len(visits) >= MIN_ROUNDS:
        return place * min(len(visits), MOST_VISITS) // len(visits)
    windows, place = np.unique(rows["window"], return_inverse=True)
    return place * 10 // max(len(windows), 1)


def _mean(values: Floats, units: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and its standard error, from how units differ (linearised ratio estimator, Woodruff 1952)."""
    mean = float(values.mean())
    sums = np.bincount(units, values - mean)
    k = max(len(sums), 2)
    return mean, math.sqrt(k / (k - 1) * float(np.square(sums).sum())) / len(values)


def _added(alone: Rows, shared: Rows) -> tuple[float, float]:
    """What company adds to the mean logarithm, and its standard error."""
    (top, one), (bottom, other) = (
        _mean(np.log(np.maximum(rows["ms"].astype(float), 1e-9)), _units(rows)) for rows in (shared, alone)
    )
    return top - bottom, math.hypot(one, other)


def _in_proportion(alone: Rows, mine: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[Rows, NDArray[np.bool_]]:
    """Those of ``alone`` (of kinds ``mine``) that are left where each kind is as frequent as in ``wanted``, and which
    of ``wanted`` have too few like them. Every so many-th is taken, in order of time."""
    most = int(max(mine.max(), wanted.max())) + 1
    have, want = np.bincount(mine, minlength=most), np.bincount(wanted, minlength=most)
    if most == 1 or not (np.minimum(have, want) > 0).any():
        return (alone, np.zeros(len(wanted), bool)) if most == 1 else (alone[:0], np.ones(len(wanted), bool))
    usable = (have >= FEWEST_ALIKE) & (want > 0)
    ratio = np.where(usable, want / np.maximum(have, 1), 0.0)
    ratio = ratio / max(ratio.max(), 1e-300)
    keep = np.zeros(len(mine), bool)
    for kind in np.flatnonzero(usable):
        places = np.flatnonzero(mine == kind)
        taken = np.floor((np.arange(len(places)) + 1) * ratio[kind] + 1e-9)
        keep[places[np.diff(taken, prepend=0.0) > 0]] = True
    return alone.compress(keep), ~usable[wanted]


def _samples(shared: Rows, alone: Rows) -> tuple[LatencySample | None, LatencySample | None]:
    """Both, cut alike: by visit, at most `MOST_VISITS`, or into segments where there are few."""
    visits = np.unique(np.concatenate([shared["visit"], alone["visit"]]))
    few = min(len(np.unique(rows["visit"])) for rows in (shared, alone)) < MIN_ROUNDS
    found = []
    for rows in (shared, alone):
        label = np.searchsorted(visits, rows["visit"]) * min(len(visits), MOST_VISITS) // len(visits)
        if few:
            label = np.zeros(len(rows), np.int64)
        cuts = np.flatnonzero(np.diff(label)) + 1
        parts = np.split(rows["ms"].astype(np.float64), cuts)
        found.append(make_sample(list(zip(label[np.r_[0, cuts]].tolist(), parts, strict=True)), split=few))
    return found[0], found[1]


def _own_load(shared: Rows, added: float, error: float) -> tuple[str, str]:
    """Why what company seems to add is its own load's; and what cannot be told apart, if neither.

    Within one window own load is the same. If neighbours cost time, round trips that begin while a neighbour has work
    in flight take longer than those of the same window that do not: the regression of log response on ``beside``, with
    an effect for each window. What that foretells for the whole of company must be able to explain what was added.
    """
    if added < max(GROWN, 2 * error):
        return "", ""
    rows = shared.compress(np.isfinite(shared["beside"]))
    unsure = "nothing tells what neighbours add from what its own load adds: they always have work in flight when about"
    if len(rows) < 10 * FEWEST_ALIKE:
        return "", unsure
    _, window = np.unique(rows["window"], return_inverse=True)
    count = np.bincount(window)
    beside, log = rows["beside"].astype(float), np.log(np.maximum(rows["ms"].astype(float), 1e-9))
    share = float(beside.mean())
    x, y = (column - (np.bincount(window, column) / count)[window] for column in (beside, log))
    spread = float(np.square(x).sum())
    if spread < VARIED**2 * len(rows):
        return "", unsure
    slope = float((x * y).sum()) / spread
    slope_error = math.sqrt(float(np.square(np.bincount(window, x * (y - slope * x))).sum())) / spread
    if share * (slope + 3 * slope_error) < EXPLAINED * added:
        return "as slow in these seconds when no neighbour has work in flight: its own load rose with theirs", ""
    return "", unsure if share * (slope - 2 * slope_error) <= 0 else ""
