"""From a recording of a traced program to its iterations without the tracer of kernels. Pure.

Two stretches of one life of the program: in one only calls were seen, which costs nothing that can be measured, in the
other also what the GPU did, which slows the host. So what the host did, when and for how long it waited, is taken from
the first, what the GPU did from the second. An iteration of the second gets the host's times of one of the first that
made the same calls, at the same quantile of their service times. Where none made the same, its own shrink by what its
partner's host took less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kts.errors import DataError
from kts.model.records import Records, clock_ms
from kts.physics.alone import ends_ms
from kts.physics.values import Flags, Floats, Ints, Iterations, one_behind_the_other
from kts.wire.recording import NO_WAIT, Launches, Stretch, unpacked


@dataclass(frozen=True, eq=False)
class Listed:
    """Iterations of a stretch, as they were seen. ``service_ms``: shape ``(n,)``; per launch ``waited_ms``: how long
    the host waited behind it, NaN: not at all. ``of``: which records they are."""

    of: Ints
    service_ms: Floats
    iterations: Iterations
    waited_ms: Floats

    @classmethod
    def of_stretch(cls, stretch: Stretch, launches: Launches) -> Listed:
        """The launches of a stretch. ValueError where they cannot be."""
        counts, wait = unpacked(launches.counts), unpacked(launches.wait_ns)
        of = unpacked(launches.of)
        waits = wait != NO_WAIT
        iterations = Iterations(
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            offset_ms=unpacked(launches.offset_ns) / 1e6,
            duration_ms=unpacked(launches.duration_ns) / 1e6,
            retire_ms=np.zeros(len(counts)),
            wait_ms=np.where(waits, wait / 1e6, np.nan),
            notice_ms=np.zeros(len(wait)),
            apart=unpacked(launches.apart) > 0,
            lane=unpacked(launches.lane),
        )
        iterations.check()
        waited = np.where(waits, unpacked(launches.waited_ns) / 1e6, np.nan)
        return cls(of, clock_ms(stretch.rows[of], "service"), iterations, waited)

    def only(self, which: Ints) -> Listed:
        """These of them."""
        first = self.iterations.first
        launches = np.repeat(np.isin(np.arange(len(self.of)), which), np.diff(first))
        return Listed(self.of[which], self.service_ms[which], self.iterations.only(which), self.waited_ms[launches])

    @property
    def shapes(self) -> list[bytes]:
        """What an iteration is made of, for each: iterations of the same shape make the same calls."""
        them = self.iterations
        kinds = np.where(np.isnan(self.waited_ms), 0, 1).astype(np.uint8)
        return [kinds[a:b].tobytes() for a, b in zip(them.first, them.first[1:], strict=False)]

    @property
    def host_ms(self) -> Floats:
        """When the last launch was handed over, without what was waited, shape ``(n,)``."""
        return self.iterations.offset_ms[self.iterations.first[1:] - 1]


@dataclass(frozen=True, eq=False)
class Joined:
    """``iterations`` without the tracer of kernels, ``pause_ms`` behind each until the program goes on with the next,
    shape ``(n,)``. ``alike``: share of them that got the times of one with the same calls. ``inflation``: the host's
    time with that tracer over without. ``thread``: which one made each, shape ``(n,)``, and ``process``: of each; empty
    where one made all."""

    iterations: Iterations
    pause_ms: Floats
    alike: float
    inflation: float
    thread: Ints
    process: Ints


def joined(plain: Stretch, calls: Launches, traced: Stretch, launches: Launches, processes: bytes = b"") -> Joined:
    """The iterations of a program; ``processes`` as in `Recording`. DataError where the recording's times cannot be."""
    try:
        known, seen = Listed.of_stretch(plain, calls), Listed.of_stretch(traced, launches)
    except ValueError as error:
        raise DataError(f"the recording makes no profile: {error}", "profile it again") from error
    whose = unpacked(plain.threads), unpacked(traced.threads)
    numbers: list[int] = []
    if plain.threads and traced.threads:
        numbers = np.intersect1d(whose[0][known.of], whose[1][seen.of]).tolist()
    if len(numbers) < 2:
        them, pause_ms, alike = _of_thread(known, seen, plain.rows, np.arange(len(plain.rows)))
        none = np.empty(0, np.int64)
        return Joined(_plain(them), pause_ms, float(alike.mean()), _inflation(known, seen), none, none)
    parts = []
    for number in numbers:
        mine = known.only(np.flatnonzero(whose[0][known.of] == number))
        theirs = seen.only(np.flatnonzero(whose[1][seen.of] == number))
        ours = np.flatnonzero(whose[0] == number)
        parts.append((theirs.of, *_of_thread(mine, theirs, plain.rows[ours], ours)))
    of = np.concatenate([part[0] for part in parts])
    order = np.argsort(of)
    process = unpacked(processes)[numbers]
    return Joined(
        iterations=_plain(one_behind_the_other([part[1] for part in parts]).only(order)),
        pause_ms=np.concatenate([part[2] for part in parts])[order],
        alike=float(np.concatenate([part[3] for part in parts]).mean()),
        inflation=_inflation(known, seen),
        thread=np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])[order],
        process=np.unique(process, return_inverse=True)[1],
    )


def _of_thread(known: Listed, seen: Listed, rows: Records, of: Ints) -> tuple[Iterations, Floats, Flags]:
    """Iterations of one thread, pauses behind them, and which are alike. ``rows``: all that it made in the first
    stretch, which are the records ``of`` it."""
    partner, alike = _partners(known, seen)
    them = _noticed(*_host(known, seen, partner, alike))
    retire = np.maximum(known.service_ms[partner] - ends_ms(them), 0.0)
    return replace(them, retire_ms=retire), pauses_ms(rows)[np.searchsorted(of, known.of[partner])], alike


def _inflation(known: Listed, seen: Listed) -> float:
    partner, _ = _partners(known, seen)
    return float(np.median(seen.host_ms) / max(np.median(known.host_ms[partner]), 1e-6))


def partners(plain: Floats, traced: Floats) -> Ints:
    """For each traced iteration the untraced one at the same quantile, shape of ``traced``. Ties in order of time."""
    rank = np.empty(len(traced), dtype=np.int64)
    rank[np.argsort(traced, kind="stable")] = np.arange(len(traced))
    place = ((rank + 0.5) / len(traced) * len(plain)).astype(np.int64)
    return np.asarray(np.argsort(plain, kind="stable")[place], dtype=np.int64)


def pauses_ms(rows: Records) -> Floats:
    """From each iteration's end until the next is submitted, shape ``(n,)``; behind the last as usual."""
    gaps = np.maximum(rows["submit_ns"][1:] - rows["retire_ns"][:-1], 0) / 1e6
    return np.append(gaps, np.median(gaps) if len(gaps) else 0.0)


def _partners(known: Listed, seen: Listed) -> tuple[Ints, Flags]:
    """For each traced iteration the untraced one whose host's times it gets, and whether that made the same calls."""
    partner = partners(known.service_ms, seen.service_ms)
    alike = np.zeros(len(partner), dtype=np.bool_)
    there: dict[bytes, list[int]] = {}
    for k, shape in enumerate(known.shapes):
        there.setdefault(shape, []).append(k)
    wanted: dict[bytes, list[int]] = {}
    for k, shape in enumerate(seen.shapes):
        wanted.setdefault(shape, []).append(k)
    for shape, ours in wanted.items():
        if shape in there:
            theirs = np.array(there[shape])
            partner[ours] = theirs[partners(known.service_ms[theirs], seen.service_ms[ours])]
            alike[ours] = True
    return partner, alike


def _host(known: Listed, seen: Listed, partner: Ints, alike: Flags) -> tuple[Iterations, Floats]:
    """The traced launches with the host's times of their partners, and how long it waited behind each."""
    them = seen.iterations
    counts = np.diff(them.first)
    each, same = np.repeat(partner, counts), np.repeat(alike, counts)
    within = np.arange(len(same)) - np.repeat(them.first[:-1], counts)
    place = np.where(same, known.iterations.first[each] + within, 0)
    shrunk = np.repeat(known.host_ms[partner] / np.maximum(seen.host_ms, 1e-6), counts)
    assert known.iterations.wait_ms is not None
    assert them.wait_ms is not None
    offset = np.where(same, known.iterations.offset_ms[place], them.offset_ms * shrunk)
    wait = np.where(same, known.iterations.wait_ms[place], them.wait_ms * shrunk)
    waited = np.where(same, known.waited_ms[place], seen.waited_ms)
    return replace(them, offset_ms=offset, wait_ms=wait), waited


def _noticed(them: Iterations, waited_ms: Floats) -> Iterations:
    """With what lies between the end of the queue and the host's going on: what the model's queue leaves of each
    wait."""
    assert them.wait_ms is not None
    launches = len(them.offset_ms)
    waits = np.flatnonzero(~np.isnan(them.wait_ms))
    begins = np.union1d(them.first[:-1], waits + 1)  # of each stretch without a wait
    since = np.where(np.isin(begins, them.first[:-1]), 0.0, them.wait_ms[begins - 1])  # on the host's clock
    first = np.append(begins, launches)
    offset = them.offset_ms - np.repeat(since, np.diff(first))
    empty = ends_ms(Iterations(first, offset, them.duration_ms, np.zeros(len(begins)), lane=them.lane))
    waiting = np.searchsorted(begins, waits, side="right") - 1
    begun = them.wait_ms[waits] - since[waiting]
    notice = np.zeros(launches)
    notice[waits] = np.maximum(begun + waited_ms[waits] - np.maximum(empty[waiting], begun), 0.0)
    return replace(them, notice_ms=notice)


def _plain(them: Iterations) -> Iterations:
    """Without columns that say nothing."""
    waits = them.wait_ms is not None and bool(np.isfinite(them.wait_ms).any())
    return replace(
        them,
        wait_ms=them.wait_ms if waits else None,
        notice_ms=them.notice_ms if waits else None,
        apart=them.apart if them.apart is not None and them.apart.any() else None,
        lane=them.lane if them.lane is not None and them.lane.any() else None,
    )
