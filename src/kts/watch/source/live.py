"""Calls as they are made on this node, by the running kernel. See `LiveSource`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kts.errors import SetupError
from kts.rows import joined
from kts.units import NS_PER_MS, NS_PER_S
from kts.watch.calls import CALL, FUNCTIONS, Array, Piece
from kts.watch.limits import MOST_CALLS_S
from kts.watch.source.libraries import DriverFile, FileId, Libraries, points
from kts.watch.source.pages import EventFormat, PageFormat, Where, events, value
from kts.watch.source.tracefs import Tracefs, default_tracefs
from kts.watch.source.whose import NOBODY, Gpus, Lived, Names, Processes

MOST_LIBRARIES = 16
_PIECE_S, _LEAST_S, _LOOK_S = 1.0, 0.05, 2.0
_SETTLE_NS = 50 * NS_PER_MS
"""A call's time is taken a little before it lies in the ring; so long it may take."""
_PAGES = 512
_MOST_PORTIONS = 16
"""So many portions of `_PAGES` are read at once, about 1.4 million calls: it bounds the memory. What is still in the
rings then comes late, and is told as lost."""
_ROUNDS = 3
"""So often in a row there are too many, or some found no room, before a process is left out."""
_CALL, _BEGAN, _ENDED = 1, 2, 3
_THREAD_OF_ITS_PROCESS = 0x10000  # CLONE_THREAD
_OWN_NAMESPACE = "pid:[4026531836]"


class _Kinds:
    """What an event's number means: tables over all 65,536."""

    def __init__(self) -> None:
        self.what = np.zeros(1 << 16, np.uint8)
        self.function = np.zeros(1 << 16, np.uint16)
        self.returned = np.zeros(1 << 16, np.uint16)
        self.library = np.full(1 << 16, -1, np.int32)
        self.place = np.zeros(1 << 16, np.int64)
        """Bytes to where it says at which instruction it was."""


class _Attached(NamedTuple):
    """A library with probes in it. ``numbers``: of its events."""

    number: int
    library: DriverFile
    numbers: tuple[int, ...]


class LiveSource:
    """`CallSource` of the running kernel: probes in the driver's library, in an instance of tracefs of its own.

    ``names``: fills in what the cluster calls a process; ``gpus``: UUIDs by pid. ``most_calls_s``: beyond it whole
    processes are left out, the one with the most calls first, and told. Entering: SetupError where the kernel cannot,
    or this process may not. Leaving removes every probe.
    """

    def __init__(
        self,
        names: Names = lambda one: one,
        gpus: Gpus = dict,
        *,
        most_calls_s: float = MOST_CALLS_S,
        tracefs: Tracefs | None = None,
        proc: Path = Path("/proc"),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._proc, self._clock, self._most_calls_s = proc, clock, most_calls_s
        self._tracefs = tracefs
        self._libraries = Libraries(proc)
        self._processes = Processes(names, gpus, proc)
        self._kinds = _Kinds()
        self._attached: dict[FileId, _Attached] = {}
        self._refused: dict[FileId, tuple[str, tuple[Path, ...]]] = {}
        self._twins: dict[FileId, FileId] = {}
        self._made = 0
        self._common: dict[str, Where] = {}
        self._began: EventFormat | None = None
        self._form: PageFormat | None = None
        self._kept = np.empty(0, CALL)
        self._kept_lived: list[Lived] = []
        self._until_ns = 0
        self._looked_ns = -(1 << 62)
        self._notes: list[str] = []
        self._left_out: set[int] = set()
        self._kernel_leaves_out = True
        self._rates: deque[tuple[float, dict[int, int], int]] = deque(maxlen=_ROUNDS)

    def __enter__(self) -> LiveSource:
        self._check_namespace()
        kernel = self._tracefs = self._tracefs or Tracefs(default_tracefs(), self._proc)
        kernel.check()
        if left := kernel.remove_left():
            self._notes.append(f"removed what a kts that was killed had left: {', '.join(left)}")
        self._form = kernel.open()
        try:
            self._began = kernel.turn_on("task", "task_newtask")
            for what, form in ((_BEGAN, self._began), (_ENDED, kernel.turn_on("sched", "sched_process_exit"))):
                if form is not None:
                    self._kinds.what[form.number] = what
            self._until_ns = self._clock()
            self._look()
        except BaseException:
            kernel.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        if self._tracefs is not None:
            self._tracefs.close()

    def pieces(self) -> Iterator[Piece]:
        """See CallSource. Never ends."""
        kernel = self._open()
        while True:
            begin_ns = self._clock()
            kernel.wait(_PIECE_S)
            if (spent_s := (self._clock() - begin_ns) / NS_PER_S) < _LEAST_S:  # kernels that wake for every event
                time.sleep(_LEAST_S - spent_s)
            yield self.take()

    def take(self) -> Piece:
        """What lies in the rings now."""
        kernel = self._open()
        now_ns = self._clock()
        until_ns = max(self._until_ns, now_ns - _SETTLE_NS)
        calls, late = self._read(until_ns)
        if now_ns - self._looked_ns >= _LOOK_S * NS_PER_S:
            self._look()  # after reading: what a library that goes was called for is told before
        if unheard := kernel.lost():
            self._processes.forget_threads()
        if late:
            self._notes.append(f"{late} calls came too late to be told in order; they count as lost")
        nobody = calls["process"] == NOBODY
        if missing := int(nobody.sum()):
            calls = calls.compress(~nobody)
            self._notes.append(
                f"{missing} calls of processes that ended before they could be looked up; they count as lost"
            )
        lost = unheard + late + missing
        if self._left_out:
            calls = calls.compress(~np.isin(calls["process"], list(self._left_out)))
        unwatched = self._too_many(calls, unheard, (until_ns - self._until_ns) / NS_PER_S)
        self._until_ns = until_ns
        told, gone = self._processes.news()
        notes, self._notes = tuple(self._notes), []
        self._left_out.difference_update(gone)
        return Piece(until_ns, calls, told, gone, lost, unwatched, notes)

    def _open(self) -> Tracefs:
        if self._tracefs is None or self._form is None:
            raise RuntimeError("a source is a context")
        return self._tracefs

    def _check_namespace(self) -> None:
        """SetupError where this process sees other numbers of processes than the kernel tells."""
        try:
            own = str((self._proc / "self" / "ns" / "pid").readlink())
        except OSError:
            return
        if own != _OWN_NAMESPACE:
            raise SetupError(
                "this process has process numbers of its own, the kernel tells the node's",
                "in a pod set hostPID: true; for docker --pid=host",
            )

    def _read(self, until_ns: int) -> tuple[Array, int]:
        """Calls up to ``until_ns``, by time, with their processes; how many are older than what was told before."""
        kernel = self._open()
        assert self._form is not None
        parts, lived = [self._kept], self._kept_lived
        torn = 0
        for pages in islice(kernel.pages(self._form, _PAGES), _MOST_PORTIONS):
            flat = pages.reshape(-1)
            found = events(pages, self._form)
            torn += found.torn
            if len(found.ns) and self._common:
                number = value(flat, found.at, self._common["common_type"])
                what = self._kinds.what[number]
                parts.append(self._calls(flat, found.ns[what == _CALL], found.at[what == _CALL], number[what == _CALL]))
                other = np.flatnonzero(what > _CALL)
                lived += self._lived(flat, found.ns[other], found.at[other], what[other])
        if torn:
            self._notes.append(f"{torn} pages of the kernel's rings were not as it describes them")
        calls = joined(parts)
        calls = calls.take(np.argsort(calls["ns"], kind="stable"))
        lived.sort(key=lambda one: one.ns)
        ready = int(np.searchsorted(calls["ns"], until_ns, "right"))
        calls, self._kept = calls[:ready], calls[ready:].copy()
        self._kept_lived = [one for one in lived if one.ns > until_ns]
        late = int(np.searchsorted(calls["ns"], self._until_ns, "right"))
        calls = calls[late:]
        ours = [one for one in lived if one.ns <= until_ns]
        calls["process"] = self._processes.owners(calls["thread"].astype(np.int64), calls["ns"], ours)
        return calls, late

    def _calls(self, flat: Any, ns: Any, at: Any, number: Any) -> Array:
        calls = np.zeros(len(ns), CALL)
        calls["ns"], calls["thread"] = ns, value(flat, at, self._common["common_pid"])
        calls["function"], calls["returned"] = self._kinds.function[number], self._kinds.returned[number]
        if len(self._attached) > 1:
            library = self._kinds.library[number]
            place = value(flat, at + self._kinds.place[number], Where(0, 8))
            calls = calls.compress(~self._twice(calls, library, place))
        return calls

    def _twice(self, calls: Array, library: Any, place: Any) -> Any:
        """Calls that two libraries told: the same thread at the same instruction, one after the other. They are one
        file, which containers show as two; the probes of the later one are removed."""
        order = np.lexsort((calls["ns"], calls["thread"]))
        one, other = order[:-1], order[1:]
        same = (calls["thread"][one] == calls["thread"][other]) & (place[one] == place[other])
        same &= (library[one] != library[other]) & (calls["returned"][one] == calls["returned"][other])
        twice = np.zeros(len(calls), dtype=bool)
        pairs = {(int(a), int(b)) for a, b in zip(library[one[same]], library[other[same]], strict=True)}
        for pair in pairs:
            drop = max(pair)
            twice |= library == drop
            by_number = {attached.number: attached for attached in self._attached.values()}
            if (found := by_number.get(drop)) is not None:
                self._twins[found.library.file] = by_number[min(pair)].library.file
                self._detach(found)
                self._notes.append(f"{found.library.seen_as} is the same file as one that is watched")
        return twice

    def _lived(self, flat: Any, ns: Any, at: Any, what: Any) -> list[Lived]:
        by = value(flat, at, self._common["common_pid"])
        child, flags = by, np.zeros(len(by), np.int64)
        if self._began is not None:
            child = value(flat, at, self._began.fields["pid"])
            flags = value(flat, at, self._began.fields["clone_flags"])
        rows = zip(ns.tolist(), what.tolist(), by.tolist(), child.tolist(), flags.tolist(), strict=True)
        return [
            Lived(when, new, True, thread, bool(flag & _THREAD_OF_ITS_PROCESS))
            if kind == _BEGAN
            else Lived(when, thread, False)
            for when, kind, thread, new, flag in rows
        ]

    def _look(self) -> None:
        """Finds libraries and what became of processes; attaches and detaches."""
        kernel = self._open()
        self._looked_ns = self._clock()
        removed = kernel.removed({one.number: len(one.numbers) for one in self._attached.values()})
        for attached in [one for one in self._attached.values() if one.number in removed]:
            self._detach(attached)  # what is left of them: they are made anew below
            self._libraries.forget(attached.library.file)
            seen_as = attached.library.seen_as
            self._notes.append(f"somebody else removed probes of kts from {seen_as}; calls of up to 2 s are missing")
            self._processes.forget_threads()
        there = self._libraries.look(self._looked_ns / NS_PER_S)
        for file, library in there.items():
            _, tried = self._refused.get(file, ("", ()))
            if file not in self._attached and file not in self._twins and tried != library.paths:
                self._attach(library)
        for file, attached in list(self._attached.items()):
            names = {file, *(twin for twin, other in self._twins.items() if other == file)}
            if not names & there.keys() and not any(map(self._libraries.users, names)):
                self._detach(attached)
                self._twins = {twin: other for twin, other in self._twins.items() if other != file}
                self._notes.append(f"no longer watched, nobody has it any more: {attached.library.seen_as}")
        if not self._attached and not self._refused and self._made == 0:
            self._made = -1
            self._notes.append("no libcuda is here yet; it is watched as soon as a process loads one")
        if kernel.turned_off(one.number for one in self._attached.values()):
            self._notes.append("somebody else turned off the tracing of kts; calls of up to 2 s are missing")
            self._processes.forget_threads()
        self._processes.look_again()

    def _attach(self, library: DriverFile) -> None:
        kernel = self._open()
        if len(self._attached) >= MOST_LIBRARIES:
            self._refuse(library, f"{MOST_LIBRARIES} libraries are watched already")
            return
        number = self._made = max(0, self._made) + 1
        why = ""
        for path in library.paths:
            try:
                formats = kernel.attach(number, path, points(path))
            except (OSError, ValueError) as error:
                why = str(error)
                continue
            for event, form in formats.items():
                self._kinds.what[form.number] = _CALL
                self._kinds.function[form.number] = int(event[1:])
                self._kinds.returned[form.number] = event.startswith("r")
                self._kinds.library[form.number] = number
                self._know(form)
            numbers = tuple(form.number for form in formats.values())
            self._attached[library.file] = _Attached(number, library, numbers)
            names = [FUNCTIONS[int(event[1:])].name for event in formats if event.startswith("e")]
            self._notes.append(f"watched: {library.seen_as}, {len(names)} functions")
            return
        self._refuse(library, why)

    def _refuse(self, library: DriverFile, why: str) -> None:
        """It is tried again when another process has it; a cause is told once."""
        before, _ = self._refused.get(library.file, ("", ()))
        self._refused[library.file] = why, library.paths
        if why != before:
            self._notes.append(f"not watched: {library.seen_as}: {why}")

    def _know(self, form: EventFormat) -> None:
        """Where the fields are that all have, and the function at which a probe was hit, which returns tell, too."""
        self._common = {name: form.fields[name] for name in ("common_type", "common_pid")}
        self._kinds.place[form.number] = (form.fields.get("__probe_ip") or form.fields["__probe_func"]).offset

    def _detach(self, attached: _Attached) -> None:
        self._open().detach(attached.number)
        self._kinds.what[list(attached.numbers)] = 0
        self._attached.pop(attached.library.file, None)

    def _too_many(self, calls: Array, unheard: int, seconds: float) -> tuple[int, ...]:
        """Whom to leave out from now on, so that the rest is not lost or too dear."""
        numbers, counts = np.unique(calls["process"], return_counts=True)
        self._rates.append((seconds, dict(zip(numbers.tolist(), counts.tolist(), strict=True)), unheard))
        over = [sum(of.values()) + missed > self._most_calls_s * took or missed > 0 for took, of, missed in self._rates]
        if len(over) < _ROUNDS or not all(over):
            return ()
        total_s = sum(took for took, _, _ in self._rates)
        sums: dict[int, int] = {}
        for _, of, _ in self._rates:
            for number, count in of.items():
                sums[number] = sums.get(number, 0) + count
        rate = (sum(sums.values()) + sum(missed for _, _, missed in self._rates)) / total_s
        out: list[int] = []
        for number in sorted(sums, key=lambda one: -sums[one]):
            if out and rate <= self._most_calls_s:
                break
            rate -= sums[number] / total_s
            out.append(number)
            self._leave_out(number, sums[number] / total_s)
        self._rates.clear()
        return tuple(out)

    def _leave_out(self, number: int, rate: float) -> None:
        self._left_out.add(number)
        passed_over = self._open().leave_out(self._processes.threads_of(number))
        one = self._processes.get(number)
        who = one.unit if one is not None else str(number)
        how = "" if passed_over else "; this kernel cannot pass over it, so its calls still cost reading them"
        self._notes.append(
            f"left out, {rate:,.0f} calls/s are too many: {who}: what others wait for it is not explained{how}"
        )
