"""One block of a program: let go on, listened to, held again."""

from __future__ import annotations

import random
import time

import numpy as np

from kts.arrivals import Closed
from kts.model.records import Records, joined
from kts.units import NS_PER_MS, NS_PER_S, s_to_ns
from kts.wire.framing import CHUNK_RECORDS
from kts.wire.messages import Start
from kts.worker.loop import FLUSH_NS, Counting, Every, LeftOut, Outlet
from kts.worker.tenants.hearing import Hearing
from kts.worker.tenants.own_program import OwnProgram

LISTEN_S = 0.02
BEAT_NS = 50 * NS_PER_MS
"""Between heartbeats, mean: the worker of a program has its time for telling what the host does with it."""
_SOON_NS = 2 * NS_PER_MS
"""A wait for lines ends up to 1 ms late."""


class AtRandom:
    """True at moments of its own, between half a period and one and a half apart.

    A program prints as its iteration ends. Whoever looks at it when a line comes, or in step with it, never sees it
    wait for a disk in one.
    """

    def __init__(self, period_ns: int, now_ns: int, rng: random.Random | None = None) -> None:
        self._period_ns, self._rng = period_ns, rng or random.Random()
        self.next_ns = now_ns
        """The next such moment."""
        self._draw(now_ns)

    def due(self, now_ns: int) -> bool:
        """True if that moment has come; then another is drawn."""
        if now_ns < self.next_ns:
            return False
        self._draw(now_ns)
        return True

    def _draw(self, now_ns: int) -> None:
        self.next_ns = now_ns + round(self._period_ns * self._rng.uniform(0.5, 1.5))


class ProgramBlock:
    """Iterations that do not lie wholly inside the block are left out, and counted."""

    def __init__(self, program: OwnProgram, hearing: Hearing, start: Start, outlet: Outlet) -> None:
        hearing.decide()
        self._program = program
        self._hearing = hearing
        self._start = start
        self._quota = start.quota
        self._end_ns = None if start.quota.seconds is None else start.start_ns + s_to_ns(start.quota.seconds)
        self._outlet = outlet
        self._silent = not hearing.speaks
        self._counting = Counting(start.quota, start.start_ns, Closed())
        self._wanted = self._counting.first()
        self._closes_ns: int | None = None
        self._kept: list[Records] = []
        self._pending = self._count = self._skipped = self._late = 0
        self._sent = self._sent_ns = self._retired_ns = self._longest_ns = 0
        self._overlap = False
        self._before = self._missing()
        self._heartbeat = AtRandom(BEAT_NS, time.monotonic_ns())
        self._flush_due = Every(FLUSH_NS, time.monotonic_ns())

    def run(self) -> LeftOut:
        """Until the block ends; how many iterations were not wholly inside it, and how many could not be read."""
        if self._stopped_before(self._start.go_ns):
            return LeftOut()
        self._program.resume()
        try:
            self._measure()
        finally:
            self._program.pause()
            end_ns = time.monotonic_ns()
            self._outlet.heartbeat(end_ns, self._count)  # what its host did until the end of the block
            self._add(self._hearing.drain(), end_ns)
            self._flush(whole=True)
        left_out, unread, lost = (now - before for now, before in zip(self._missing(), self._before, strict=True))
        return LeftOut(outside=self._skipped + left_out, unread=unread + self._late, events_lost=lost)

    def _missing(self) -> tuple[int, int, int]:
        """In all, so far: round trips that belong to no iteration, iterations that could not be read, lost calls."""
        source = self._hearing.source
        left_out, unread = (0, 0) if source is None else (source.left_out, source.unread)
        return left_out, unread + self._program.refused, self._program.calls_lost

    def _stopped_before(self, at_ns: int) -> bool:
        while (left_ns := at_ns - time.monotonic_ns()) > 0:
            if self._between():
                return True
            time.sleep(min(left_ns / NS_PER_S, LISTEN_S))
        return False

    def _measure(self) -> None:
        said = False
        while not self._between():
            if not said and (reached_ns := self._reached_ns()) is not None:
                if not self._quota.linger and not self._waits_for_others():
                    return
                self._outlet.quota_reached(reached_ns)
                said = True
            self._listen()

    def _listen(self) -> None:
        """Until a line comes, but no longer than to the next heartbeat: for the last moment before it in no line's
        time."""
        left_ns = self._heartbeat.next_ns - time.monotonic_ns()
        if left_ns > _SOON_NS:
            listen_s = min(LISTEN_S, (left_ns - _SOON_NS) / NS_PER_S)
            self._add(self._hearing.read(listen_s), time.monotonic_ns())
        elif left_ns > 0:
            time.sleep(left_ns / NS_PER_S)

    def _reached_ns(self) -> int | None:
        """When its window may close; None before that."""
        at_ns = self._start.start_ns if self._silent else self._closes_ns
        if self._end_ns is not None:
            at_ns = self._end_ns
        return at_ns if at_ns is not None and time.monotonic_ns() >= at_ns else None

    def _waits_for_others(self) -> bool:
        """A silent program cannot know its own end; it goes on until the conductor says so."""
        return self._silent and self._end_ns is None

    def _between(self) -> bool:
        """Sends what is due; True if the block is to end."""
        now_ns = time.monotonic_ns()
        if self._heartbeat.due(now_ns) and now_ns >= self._start.first_ns:
            self._outlet.heartbeat(now_ns, self._count)
        if self._pending >= CHUNK_RECORDS or self._flush_due.due(now_ns):
            self._flush()
        return self._outlet.stopped()

    def _add(self, records: Records, latest_ns: int) -> None:
        inside = (records["submit_ns"] >= self._start.first_ns) & (records["retire_ns"] <= latest_ns)
        kept = records[inside]
        if not self._quota.linger and self._quota.iterations is not None:
            kept = kept[: self._quota.iterations - self._count]
        self._skipped += len(records) - len(kept)
        if not len(kept):
            return
        self._kept.append(kept)
        self._pending += len(kept)
        retired_ns = np.maximum.accumulate(np.append(self._retired_ns, kept["retire_ns"]))
        self._overlap = self._overlap or bool((kept["submit_ns"] < retired_ns[:-1]).any())
        self._retired_ns = int(retired_ns[-1])
        self._longest_ns = max(self._longest_ns, int((kept["retire_ns"] - kept["submit_ns"]).max()))
        self._counts(kept)

    def _counts(self, kept: Records) -> None:
        """Asks the quota wherever it wants to be asked."""
        first = self._count
        self._count += len(kept)
        while self._wanted and self._wanted <= self._count:
            last = kept[self._wanted - first - 1]
            self._wanted = self._counting.next(self._wanted, int(last["submit_ns"]))
            self._closes_ns = self._counting.closes_ns if self._wanted else int(last["retire_ns"])

    def _flush(self, *, whole: bool = False) -> None:
        """Sends records in order of submission: those of iterations that overlap once none that began before can still
        end, as far as the longest tells; all, if ``whole``. One that ends later counts as unread."""
        records = joined(self._kept)
        records = records[np.argsort(records["submit_ns"], kind="stable")]
        until = len(records)
        if self._overlap and not whole:
            until = int(np.searchsorted(records["submit_ns"], time.monotonic_ns() - FLUSH_NS - 2 * self._longest_ns))
        late = int(np.searchsorted(records["submit_ns"], self._sent_ns))
        self._late += min(late, until)
        self._kept, records = [records[until:]], records[late:until]
        self._pending = 0
        if not len(records):
            return
        records["i"] = np.arange(self._sent, self._sent + len(records))
        self._sent, self._sent_ns = self._sent + len(records), int(records["submit_ns"][-1])
        for first in range(0, len(records), CHUNK_RECORDS):
            self._outlet.records(records[first : first + CHUNK_RECORDS])
