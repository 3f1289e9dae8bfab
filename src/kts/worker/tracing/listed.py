"""From the events of a traced program to the launches, copies and waits of each of its iterations. Pure.

A call that hands work over belongs to the iteration in which it begins; where several threads make iterations, to that
of its own thread. What the GPU did for it has the call's
correlation. Between two such calls the host may wait: from the begin of the first wait to the end of the last,
whatever lies between, because a host goes on as long after its queue has emptied. A wait during which another thread
hands work over holds nothing up: it is time of the host. So is one before the first launch. What follows the last
launch is the iteration's end, and not listed.

A copy that waits by itself, or is followed by a wait (where memory is pageable, a driver waits in the copy), waits
from its own begin on. A query that answers "done" of a stream, or of an event behind the last launch, ends a wait that
began when the last launch had returned: it polled.

Streams are lanes where work of several ran at the same time, else all are one lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.model.records import Records
from kts.wire.recording import NO_WAIT, Launches, packed
from kts.worker.tracing.layout import EVENT, Flag, Kind
from kts.worker.tracing.trips import HELPED

LOST = 0.01
"""Where the GPU did more than this without a call that was seen, the events are not of whole iterations."""
CONCURRENT = 0.05
"""From this share of the GPU's time on, streams that ran at the same time are lanes of their own."""

_WORK = (Kind.LAUNCH, Kind.GRAPH, Kind.COPY, Kind.SET)
_WAITS = (Kind.WAIT, Kind.QUERY)
_DONE = (Kind.KERNEL, Kind.COPIED, Kind.SETTLED)
_SLACK_NS = 20_000  # a program's own clock may say that it ended as much before its last wait did
_NEVER = 2**62
INLINE_BYTES = 65536
"""Up to this many the driver hands pageable host memory over inside its commands, and no copy engine is asked."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Events = NDArray[np.void]


class ListingError(Exception):
    """The events are not those of whole iterations."""


class Listing(NamedTuple):
    """``launches``: of the iterations that are whole; ``launches.of`` says which. ``begin_ns``: when the GPU began
    each of these, 0 where it was not seen. ``usual_ns``: from a call's return until an idle GPU begins. Left out:
    ``lost`` iterations, of which events were lost, ``unfinished``, of which the GPU's part is missing, ``empty``,
    which launched nothing. ``early``: share of those listed whose host did not wait for all of their work.
    ``outside``: share of the GPU's time that was launched in no iteration."""

    launches: Launches
    begin_ns: Ints
    usual_ns: int
    lost: int
    unfinished: int
    empty: int
    early: float
    outside: float


def listed(
    processes: Sequence[Events],
    rows: Records,
    *,
    gaps: Sequence[tuple[int, int]] = (),
    usual_ns: int | None = None,
    threads: Owners | None = None,
) -> Listing:
    """The iterations ``rows``, in order of submission, by the events (`EVENT`) of each process, in any order.

    ``gaps``: times in which events were lost, ns, from and to. ``usual_ns``: that of a stretch in which the GPU was
    seen, where it was not in this one. ``threads``: who makes each iteration, as `owners` says, where it is not one for
    all: iterations of one thread are made of its own calls. ListingError where no iteration is whole, or over 1 % of
    what the GPU did has no call.
    """
    calls, did = _calls(processes), _did(processes)
    submit, retire = rows["submit_ns"].astype(np.int64), rows["retire_ns"].astype(np.int64)
    place = did.of(calls)
    seen = len(did.call) > 0
    lost = _overlap(submit, retire, gaps)
    if threads is not None:
        lost |= threads.of < 0
    if usual_ns is None:
        usual_ns = did.usual_ns(calls, place)
    inside = np.zeros(len(calls), np.bool_)
    parts = []
    for mine, ours in _parties(calls, submit, threads):
        found = _Part.of(calls[ours], place[ours], submit[mine], retire[mine], lost[mine], seen=seen)
        inside[ours[found.inside]] = True
        parts.append((mine, found))
    outside = _outside(did, place, inside, submit[~lost], retire[~lost]) if seen and not lost.all() else 0.0
    unfinished, empty = (sum(int(getattr(part, name).sum()) for _, part in parts) for name in ("unfinished", "empty"))
    if not any(part.whole.any() for _, part in parts):
        raise ListingError(
            f"of {len(rows)} iterations {int(lost.sum())} lost events, {unfinished} lack what the GPU did, and "
            f"{empty} launched nothing"
        )
    hosts = [part.host(submit[mine], usual_ns) for mine, part in parts if part.whole.any()]
    of = np.concatenate([mine[part.whole] for mine, part in parts])
    hand = np.concatenate([part.hand for _, part in parts])
    at = np.concatenate([part.hand_place for _, part in parts])
    number = np.repeat(of, counts := np.concatenate([host.counts for host in hosts]))
    order = np.argsort(number, kind="stable")
    hand, at = hand[order], at[order]
    took = did.duration_ns(at)
    launches = Launches(
        of=packed(np.sort(of)),
        counts=packed(counts[np.argsort(of)]),
        offset_ns=packed(np.concatenate([host.offset_ns for host in hosts])[order]),
        wait_ns=packed(np.concatenate([host.wait_ns for host in hosts])[order]),
        waited_ns=packed(np.concatenate([host.waited_ns for host in hosts])[order]),
        duration_ns=packed(took),
        apart=packed(_apart(hand, did, at)),
        lane=packed(_lanes(hand, did, at, several=len(parts) > 1)),
        graph=bool(took[hand["kind"] == Kind.GRAPH].sum() > took.sum() / 2),
    )
    begin_ns = np.where(at >= 0, did.begin_ns[at], 0) if seen else np.zeros_like(took)
    early = float(np.average([host.early for host in hosts], weights=[len(host.counts) for host in hosts]))
    return Listing(launches, begin_ns, usual_ns, int(lost.sum()), unfinished, empty, early, outside)


class Owners(NamedTuple):
    """Threads, told as the number of their process, shifted by 32 bits, and their own. ``of``: which one makes each
    iteration, -1: not told. ``others``: those that make none, launch, and wait for what they launched: no work of
    theirs is another's."""

    of: Ints
    others: tuple[int, ...] = ()

    def only(self, rows: Ints) -> Owners:
        """Of these iterations."""
        return self._replace(of=self.of[rows])


def owners(processes: Sequence[Events], rows: Records) -> Owners | None:
    """Which thread makes each of ``rows``: the one whose wait, or whose range, ends it; nothing tells of printed lines.
    None where that is not told of nearly all, or where all calls are of one thread's iterations."""
    calls = _calls(processes)
    ends = calls[np.isin(calls["kind"], (*_WAITS, Kind.RANGE)) | (calls["flags"] & Flag.WAITED > 0)]
    ends = ends[np.argsort(ends["end_ns"], kind="stable")]
    if not len(ends):
        return None
    retire = rows["retire_ns"].astype(np.int64)
    at = np.minimum(np.searchsorted(ends["end_ns"], retire), len(ends) - 1)
    found = np.where(ends["end_ns"][at] == retire, _thread(ends)[at], -1)
    if (found < 0).mean() > LOST:
        return None
    others = () if (ends["kind"][at] == Kind.RANGE).any() else _on_their_own(calls, found)
    several = len(np.unique(found[found >= 0])) > 1
    return Owners(found, others) if several or others else None


def _parties(calls: Events, submit: Ints, threads: Owners | None) -> list[tuple[Ints, Ints]]:
    """Iterations of each thread that makes any, and the calls that may be of these: its own, and those of threads of
    its process that make none, if its iteration was the last to begin."""
    if threads is None:
        return [(np.arange(len(submit)), np.arange(len(calls)))]
    whose, of = _thread(calls), threads.of
    helps = ~np.isin(whose, [*of, *threads.others])
    for process in np.unique(of[of >= 0] >> 32).tolist():
        there = np.flatnonzero(of >> 32 == process)
        theirs = np.flatnonzero(helps & (calls["process"] == process))
        latest = np.searchsorted(submit[there], calls["begin_ns"][theirs], side="right") - 1
        whose[theirs] = np.where(latest >= 0, of[there][np.maximum(latest, 0)], -1)
    each = np.unique(of[of >= 0]).tolist()
    return [(np.flatnonzero(of == one), np.flatnonzero(whose == one)) for one in each]


def _on_their_own(calls: Events, owners: Ints) -> tuple[int, ...]:
    """`Owners.others`."""
    whose = _thread(calls)
    waits, launches = calls["kind"] == Kind.WAIT, np.isin(calls["kind"], (Kind.LAUNCH, Kind.GRAPH))
    others = np.unique(whose[launches & ~np.isin(whose, owners)]).tolist()
    return tuple(one for one in others if HELPED * (waits & (whose == one)).sum() > (launches & (whose == one)).sum())


class _Part(NamedTuple):
    """Iterations that one host makes. Per call: ``inside`` one of them. Per iteration: ``whole``, ``unfinished``,
    ``empty``. The calls of whole ones that matter, those of an iteration one after the other: ``calls``, ``which``
    iteration, whether each ``hands`` something over; and where the GPU did what those that do handed over."""

    inside: Bools
    whole: Bools
    unfinished: Bools
    empty: Bools
    calls: Events
    which: Ints
    hands: Bools
    hand_place: Ints

    @classmethod
    def of(cls, calls: Events, place: Ints, submit: Ints, retire: Ints, lost: Bools, *, seen: bool) -> _Part:
        """By its ``calls``, in order of time. ``seen``: what the GPU did is."""
        which = np.searchsorted(submit, calls["begin_ns"], side="right") - 1
        within = which >= 0
        until = np.where(np.isin(calls["kind"], _WAITS), calls["end_ns"] - _SLACK_NS, calls["begin_ns"])
        within[within] = until[within] <= retire[which[within]]
        inside = np.flatnonzero(within & ~_stale(calls))
        calls, which, place = calls[inside], which[inside], place[inside]
        hands = _hands(calls)
        if seen:  # a copy or memset for which the GPU did nothing is none
            hands &= (place >= 0) | ~np.isin(calls["kind"], (Kind.COPY, Kind.SET))
        launched = np.isin(calls["kind"], _WORK) & hands
        n = len(submit)
        empty = np.bincount(which[launched], minlength=n) == 0
        unfinished = np.bincount(which[launched & (place < 0)], minlength=n) > 0 if seen else np.zeros_like(empty)
        whole = ~(lost | empty | unfinished)
        chosen = whole[which] & (hands | np.isin(calls["kind"], _WAITS))
        calls, which, hands, place = calls[chosen], which[chosen], hands[chosen], place[chosen]
        return cls(within, whole, unfinished & ~lost, empty & ~lost, calls, which, hands, place[hands])

    @property
    def hand(self) -> Events:
        return self.calls[self.hands]

    def host(self, submit: Ints, usual_ns: int) -> _Host:
        """What it did, and when."""
        return _Host.of(self.calls, self.which, self.hands, submit, usual_ns)


class Did(NamedTuple):
    """What the GPU did, by call, a row each: process and correlation of the ``call`` (rising), first begin, last end,
    and whether a copy engine did it."""

    call: Ints
    begin_ns: Ints
    end_ns: Ints
    apart: Bools

    def of(self, calls: Events) -> Ints:
        """For each call its row, by its own correlation, else by the driver's call in it; -1: the GPU did nothing."""
        row = np.full(len(calls), -1, dtype=np.int64)
        for name in ("inner", "correlation") if len(self.call) else ():
            wanted = _number(calls["process"], calls[name])
            at = np.minimum(np.searchsorted(self.call, wanted), len(self.call) - 1)
            there = (self.call[at] == wanted) & (calls[name] > 0)
            row[there] = at[there]
        return row

    def duration_ns(self, rows: Ints) -> Ints:
        """Of each of ``rows``, 0 for -1."""
        found = np.zeros(len(rows), dtype=np.int64)
        there = rows >= 0
        found[there] = (self.end_ns - self.begin_ns)[rows[there]]
        return found

    def usual_ns(self, calls: Events, rows: Ints) -> int:
        """From a launch's return until the GPU begins, if it had nothing else to do: median, 0 if it always had."""
        order = np.argsort(self.begin_ns, kind="stable")
        busy_until = np.empty(len(order), dtype=np.int64)
        busy_until[order] = np.concatenate([[-_NEVER], np.maximum.accumulate(self.end_ns[order])[:-1]])[: len(order)]
        launches = (rows >= 0) & np.isin(calls["kind"], (Kind.LAUNCH, Kind.GRAPH))
        returned, rows = calls["end_ns"][launches], rows[launches]
        idle = busy_until[rows] <= returned
        return round(float(np.median((self.begin_ns[rows] - returned)[idle]))) if idle.any() else 0


def _calls(processes: Sequence[Events]) -> Events:
    """All that succeeded, in order of time, with the number of their process."""
    parts = []
    for number, events in enumerate(processes):
        ours = events[(events["kind"] < Kind.KERNEL) & (events["flags"] & Flag.FAILED == 0)]
        part = np.empty(len(ours), _CALL)
        for name in EVENT.names or ():
            part[name] = ours[name]
        part["process"] = number
        parts.append(part)
    calls = np.concatenate([np.empty(0, _CALL), *parts])
    return calls[np.lexsort((calls["seq"], calls["begin_ns"]))]


_CALL = np.dtype([*EVENT.descr, ("process", "<u4")])


def _did(processes: Sequence[Events]) -> Did:
    events = [part[np.isin(part["kind"], _DONE)] for part in processes]
    done = np.concatenate([np.empty(0, EVENT), *events])
    call = _number(np.repeat(np.arange(len(events)), [len(part) for part in events]), done["correlation"])
    order = np.argsort(call, kind="stable")
    call, done = call[order], done[order]
    first = np.flatnonzero(np.diff(call, prepend=-1))
    if not len(first):
        return Did(call, *(np.empty(0, np.int64),) * 2, np.empty(0, np.bool_))
    apart = (done["kind"] == Kind.COPIED) & _by_engine(done)
    return Did(
        call[first],
        np.minimum.reduceat(done["begin_ns"], first),
        np.maximum.reduceat(done["end_ns"], first),
        np.logical_and.reduceat(apart, first),
    )


def _thread(calls: Events) -> Ints:
    return _number(calls["process"], calls["thread"])


def _number(process: NDArray[np.integer], correlation: NDArray[np.integer]) -> Ints:
    return np.asarray((process.astype(np.int64) << 32) | correlation.astype(np.int64))


def _hands(calls: Events) -> Bools:
    """Which hand something over. An event that is recorded behind a copy engine's copy is no launch: it waits for no
    turn."""
    work = np.isin(calls["kind"], _WORK)
    nothing = np.isin(calls["kind"], (Kind.COPY, Kind.SET)) & (calls["detail"] == 0)
    by_stream = np.lexsort((np.arange(len(calls)), calls["stream"], calls["context"], calls["process"]))
    there = calls[by_stream]
    latest = np.maximum.accumulate(np.where(work[by_stream], np.arange(len(calls)), -1))
    before = there[np.maximum(latest, 0)]
    same = (latest >= 0) & (_stream(before) == _stream(there))
    copied = np.empty(len(calls), np.bool_)
    copied[by_stream] = same & (before["kind"] == Kind.COPY) & _by_engine(before)
    return np.asarray((work & ~nothing) | ((calls["kind"] == Kind.RECORD) & ~copied))


def _stale(calls: Events) -> Bools:
    """Which are queries of an event behind which more was handed over, or that was never recorded here: libraries ask
    so whether memory is free, and wait for nothing."""
    events = np.isin(calls["kind"], (Kind.RECORD, Kind.QUERY)) & (calls["detail"] > 0)
    at = np.flatnonzero(events)
    by_event = at[np.lexsort((at, calls["detail"][at], calls["process"][at]))]
    asked, number = calls[by_event], np.arange(len(by_event))
    latest = np.maximum.accumulate(np.where(asked["kind"] == Kind.RECORD, number, -1))
    record = asked[np.maximum(latest, 0)]
    same = (latest >= 0) & (record["detail"] == asked["detail"]) & (record["process"] == asked["process"])
    recorded = np.where(same, by_event[np.maximum(latest, 0)], -1)
    work = np.maximum.accumulate(np.where(np.isin(calls["kind"], _WORK), np.arange(len(calls)), -1))
    stale = np.zeros(len(calls), np.bool_)
    stale[by_event] = (asked["kind"] == Kind.QUERY) & (recorded < work[by_event])
    stale[by_event] |= (asked["kind"] == Kind.QUERY) & ~same
    return stale


def _stream(calls: Events) -> Events:
    return calls[["process", "context", "stream"]]


def _outside(did: Did, rows: Ints, inside: Bools, submit: Ints, retire: Ints) -> float:
    """Share of the GPU's time between the first and the last iteration that was launched in none. ListingError where
    over 1 % of what it did in these iterations has no call at all."""
    which = np.searchsorted(submit, did.begin_ns, side="right") - 1
    among = (which >= 0) & (did.begin_ns <= retire[-1])
    within = among & (did.begin_ns <= retire[np.maximum(which, 0)])
    called, ours = np.zeros(len(among), np.bool_), np.zeros(len(among), np.bool_)
    called[rows[rows >= 0]] = True
    ours[rows[inside & (rows >= 0)]] = True
    without = int((within & ~called).sum())
    if without > LOST * within.sum():
        raise ListingError(f"{without} of {within.sum()} kernels and copies belong to no call that was seen")
    took = did.duration_ns(np.arange(len(among)))
    return float(took[among & ~ours].sum() / max(took[among].sum(), 1))


def _overlap(submit: Ints, retire: Ints, gaps: Sequence[tuple[int, int]]) -> Bools:
    found = np.zeros(len(submit), np.bool_)
    for begin_ns, end_ns in gaps:
        found |= (submit <= end_ns) & (retire >= begin_ns)
    return found


class _Host(NamedTuple):
    """Launches per iteration, and of each launch what `Launches` says; ``early`` as in `Listing`."""

    counts: Ints
    offset_ns: Ints
    wait_ns: Ints
    waited_ns: Ints
    early: float

    @classmethod
    def of(cls, calls: Events, which: Ints, hands: Bools, submit: Ints, usual_ns: int) -> _Host:
        """Of calls of the iterations ``which``; ``hands``: those that hand something over, the others are waits."""
        hand, of = calls[hands], which[hands]
        last = np.append(of[1:] != of[:-1], True)
        begins, ends = _waits(calls, which, hands, last)
        waited = ends > -_NEVER
        held = waited & ~last
        returned = np.where(hand["flags"] & Flag.WAITED > 0, hand["begin_ns"], np.minimum(hand["end_ns"], begins))
        begins = np.maximum(begins, np.minimum(returned + usual_ns, ends))  # a wait for what the GPU can have begun
        took = np.where(held, ends - begins, 0)
        first = np.flatnonzero(np.append(True, last[:-1]))
        number = np.cumsum(np.append(True, last[:-1])) - 1
        before = np.cumsum(took) - took
        base = submit[of] + before - before[first][number]
        offset = np.maximum(returned + usual_ns - base, 0)
        until = np.maximum(np.where(held, begins - base, 0), offset)
        far = int(until.max()) + 1  # more than any: so one running maximum serves all iterations
        latest = np.maximum.accumulate(until + far * number) - far * number
        offset[1:] = np.where(last[:-1], offset[1:], np.maximum(offset[1:], latest[:-1]))
        return cls(
            counts=np.diff(np.append(first, len(hand))),
            offset_ns=offset,
            wait_ns=np.where(held, np.maximum(until, offset), NO_WAIT),
            waited_ns=took,
            early=1.0 - float(waited[last].mean()),
        )


def _waits(calls: Events, which: Ints, hands: Bools, last: Bools) -> tuple[Ints, Ints]:
    """For each launch when its host began to wait after it, and stopped; plus and minus `_NEVER` where it did not."""
    hand, of = calls[hands], which[hands]
    waits = np.isin(calls["kind"], _WAITS) | (hands & (calls["flags"] & Flag.WAITED > 0))
    behind = (np.cumsum(hands) - 1)[waits]  # the launch that each wait follows, or is
    goes_on = np.append(np.where(last[:-1], _NEVER, hand["begin_ns"][1:]), _NEVER)  # when the next is handed over
    ours = (behind >= 0) & (of[np.maximum(behind, 0)] == which[waits])
    ours &= calls["end_ns"][waits] <= goes_on[np.maximum(behind, 0)]
    wait, behind = calls[waits][ours], behind[ours]
    begins, ends = np.full(len(hand), _NEVER), np.full(len(hand), -_NEVER)
    np.minimum.at(begins, behind, _begins(wait, hand[behind]))
    np.maximum.at(ends, behind, wait["end_ns"].astype(np.int64))
    return begins, ends


def _begins(wait: Events, hand: Events) -> Ints:
    """When the host began to wait, for each wait and the launch before it."""
    begin = wait["begin_ns"].astype(np.int64)
    mine = (wait["thread"] == hand["thread"]) & (wait["process"] == hand["process"])
    to_host = mine & (hand["kind"] == Kind.COPY) & (hand["flags"] & Flag.TO_HOST > 0)
    begin = np.where(mine & (wait["kind"] == Kind.QUERY), hand["end_ns"].astype(np.int64), begin)
    return np.asarray(np.where(to_host, hand["begin_ns"].astype(np.int64), begin))


def _by_engine(copies: Events) -> Bools:
    """Which copies a copy engine does, in nobody's turn: from and to the host, but what the commands carry."""
    flags = copies["flags"]
    inline = (flags & Flag.PAGEABLE > 0) & (copies["detail"] <= INLINE_BYTES)
    return np.asarray((flags & Flag.TO_HOST > 0) | ((flags & Flag.TO_DEVICE > 0) & ~inline))


def _apart(hand: Events, did: Did, rows: Ints) -> Bools:
    told = (hand["kind"] == Kind.COPY) & _by_engine(hand)
    there = rows >= 0
    told[there] = did.apart[rows[there]]
    return np.asarray(told)


def _lanes(hand: Events, did: Did, rows: Ints, *, several: bool) -> Ints:
    """The stream of each, numbered as they appear, where those of several ran at the same time; else all 0. Of
    ``several`` threads nobody orders the streams: there they count unless work of one waits while another's runs."""
    lane = np.zeros(len(hand), dtype=np.int64)
    there = rows >= 0
    if not there.any():
        return lane
    _, first, stream = np.unique(_stream(hand), return_index=True, return_inverse=True)
    if len(first) == 1:
        return lane
    begin, end = did.begin_ns[rows[there]], did.end_ns[rows[there]]
    apiece, at_once = _at_once(begin, end, stream[there])
    at_least = CONCURRENT * apiece
    if several:
        _, queued = _at_once(np.minimum(hand["end_ns"][there].astype(np.int64), begin), end, stream[there])
        at_least = CONCURRENT * queued if queued >= at_least else 0.0
    if at_once < at_least:
        return lane
    return np.asarray(np.argsort(np.argsort(first))[stream])


def _at_once(begin: Ints, end: Ints, stream: Ints) -> tuple[int, int]:
    """How much time each stream takes, added up, and how much less the union of all does."""
    apiece = sum(_covered(begin[ours], end[ours]) for k in range(int(stream.max()) + 1) if (ours := stream == k).any())
    return apiece, apiece - _covered(begin, end)


def _covered(begin: Ints, end: Ints) -> int:
    """How much time lies in at least one of these intervals."""
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    return int((end - np.maximum(begin, np.append(begin[:1], end[:-1]))).clip(0).sum())
