"""What a program tells of its iterations: which source is taken, when it is warm, and its records from then on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kts.model.plan import Iteration, Lines, Ranges, RoundTrips
from kts.model.records import RECORD, Records
from kts.model.run import Settled
from kts.steady import Settling
from kts.units import NS_PER_S
from kts.wire.appline import AppLine
from kts.worker.settled import settled
from kts.worker.tenants.own_program import OwnProgram
from kts.worker.tenants.sources import FromLines, FromRanges, FromTrips, IterationSource
from kts.worker.tracing.reader import Batch

FEWEST = 5
"""Iterations by which a source is taken that nobody asked for."""
LEAST, QUICK_S = 400, 30.0
"""A program is not taken for steady before it was seen for so many iterations, or for so many seconds of them: caches
that grow and plans that are made once for each shape make a start that is slow and as even as a steady state."""
_LINES_LATER_NS = 2 * NS_PER_S
_LOOKED_AT_FIRST = 12
_KEPT_LINES = 4096
_MOST_FED = 1 << 15


class _Candidate:
    """A source that may be taken, and whether its iterations are steady, as far as that is seen by now. The first
    ``warmup`` do not count."""

    def __init__(self, source: IterationSource, warmup: int, limit_s: float) -> None:
        self.source = source
        self.count = 0
        self.since_ns = 0
        self._fed = 0
        self._warmup, self._limit_s = warmup, limit_s
        self._last_ms = math.nan
        self._next_look = _LOOKED_AT_FIRST
        self.settling = self._unsettled()

    def _unsettled(self) -> Settling:
        return Settling(self._limit_s, least=LEAST, quick_s=QUICK_S)

    @property
    def over(self) -> bool:
        """It need not be waited for any longer."""
        sure = self.source.sure if isinstance(self.source, FromTrips) else True
        return self.settling.over and (sure or self.settling.took_s >= self._limit_s)

    def take(self, lines: Sequence[AppLine], batches: Sequence[Batch]) -> Records:
        records = self.source.take(lines, batches)
        self.count += len(records)
        if isinstance(self.source, FromTrips) and not self.source.launches:
            return records  # a program that loads its data waits for many copies first
        if self.count and not self.since_ns:
            self.since_ns = time.monotonic_ns()
        if not self._looked_at():
            self._feed(records)
        return records

    def look(self) -> None:
        """Makes sure of what an iteration is, where that is found by looking."""
        if isinstance(self.source, FromTrips) and self.source.settle():
            records = self.source.again()
            self.count, self._fed, self.settling = len(records), 0, self._unsettled()
            self._feed(records)

    def _looked_at(self) -> bool:
        """True where all iterations so far were just fed anew, or none can be fed yet."""
        if not isinstance(self.source, FromTrips):
            return False
        if self.count < self._next_look:
            return self._next_look == _LOOKED_AT_FIRST
        before = self.settling
        self.look()
        self._next_look = math.ceil(1.25 * max(self.count, _LOOKED_AT_FIRST))
        return self.settling is not before

    def _feed(self, records: Records) -> None:
        if not len(records):
            return
        durations_ms: NDArray[np.float64] = (records["retire_ns"] - records["submit_ns"]) / 1e6
        begun_s: NDArray[np.float64] = records["submit_ns"] / 1e9
        first = max(0, self._warmup - self._fed)
        self._fed += len(records)
        self._last_ms = float(durations_ms[-1])
        room = max(0, _MOST_FED - len(self.settling.durations_ms))
        for one_s, one_ms in zip(begun_s[first:].tolist()[:room], durations_ms[first:].tolist()[:room], strict=True):
            self.settling.add(one_s, one_ms)

    def usual_ms(self) -> tuple[float | None, float | None]:
        """An iteration's duration, and from the begin of one to that of the next, since it is steady (median, mean)."""
        steady_ms = self.settling.steady_ms
        if not steady_ms:
            return (None if math.isnan(self._last_ms) else self._last_ms), None
        begun_s = self.settling.begun_s[-len(steady_ms) :]
        cycles = len(begun_s) - 1
        cycle_ms = 1e3 * (begun_s[-1] - begun_s[0]) / cycles if cycles else None
        return float(np.median(steady_ms)), cycle_ms


class Hearing:
    """Listens to a program. ``lines``: the first that it printed, as they were."""

    def __init__(self, program: OwnProgram, iteration: Iteration | None, warmup: int, limit_s: float) -> None:
        self.lines: list[AppLine] = []
        self._program = program
        self._candidates = [
            _Candidate(source, warmup, limit_s) for source in _sources(iteration, traced=program.traced)
        ]
        self._chosen = self._candidates[0] if len(self._candidates) == 1 else None
        self._decided = False

    @property
    def source(self) -> IterationSource | None:
        """The source that is taken; None while that is not decided."""
        return None if self._chosen is None else self._chosen.source

    @property
    def speaks(self) -> bool:
        """Something tells of its iterations."""
        return self._chosen is not None and self._chosen.source.speaks

    @property
    def unfinished(self) -> bool:
        """It has no round trips because something of its own is always in flight."""
        return any(isinstance(one.source, FromTrips) and one.source.unfinished for one in self._candidates)

    def enough(self) -> bool:
        """It is warm: nothing better is to be expected by listening on."""
        first, *others = self._candidates
        if first.source.speaks or not others:
            return first.over
        now_ns = time.monotonic_ns()
        return any(one.over and now_ns - one.since_ns >= _LINES_LATER_NS for one in others)

    @property
    def begun_ns(self) -> int:
        """When the first iteration was heard of; 0 before that."""
        return min((one.since_ns for one in self._candidates if one.since_ns), default=0)

    def decide(self) -> None:
        """Takes the first source that tells of anything, if any does by now; what an iteration is stays so from then
        on."""
        if self._chosen is None:
            self._chosen = self._first_told()
        if self._chosen is None or self._decided:
            return
        self._chosen.look()
        self._chosen.settling.end()
        self._decided = self.speaks
        if isinstance(self._chosen.source, FromTrips):
            self._chosen.source.settled = self._decided

    def _first_told(self) -> _Candidate | None:
        first, *others = self._candidates
        told = [first] if first.source.speaks else [one for one in others if one.count >= FEWEST]
        return told[0] if told else None

    def read(self, timeout_s: float) -> Records:
        """Iterations that it told of within ``timeout_s``. CommandError: see `OwnProgram.read`."""
        return self._take(self._program.read(timeout_s))

    def drain(self) -> Records:
        """Iterations that are there to read now."""
        return self._take(self._program.drain())

    def usual_ms(self) -> tuple[float | None, float | None]:
        """See `_Candidate.usual_ms`; of the source that is taken."""
        return (None, None) if self._chosen is None else self._chosen.usual_ms()

    def settled(self, limit_s: float) -> Settled | None:
        """How it came to its steady state; None where nothing tells of its iterations."""
        chosen = self._chosen
        return settled(chosen.settling, limit_s) if chosen is not None and chosen.settling.durations_ms else None

    def _take(self, lines: list[AppLine]) -> Records:
        self.lines += lines[: _KEPT_LINES - len(self.lines)]
        batches = self._program.seen()
        if self._chosen is not None:
            return (self._chosen.source if self._decided else self._chosen).take(lines, batches)
        heard = [one.take(lines, batches) for one in self._candidates]
        return heard[0] if heard else np.empty(0, RECORD)


def _sources(iteration: Iteration | None, *, traced: bool) -> list[IterationSource]:
    """Those that may be taken, the first that tells of anything before the others."""
    match iteration:
        case Ranges(name=name):
            return [FromRanges(name)]
        case RoundTrips(each=each):
            return [FromTrips(each)]
        case Lines():
            return [FromLines()]
    return [FromLines(), FromTrips(None)] if traced else [FromLines()]
