"""What prediction reads: the fingerprint of a GPU's sharing, and the profile of one tenant. Files: docs/formats.md."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_columns
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import ArrayLike, NDArray

from kts.arrivals import Arrivals, Closed
from kts.files import ordered
from kts.model.mode import MPS, STREAMS
from kts.model.provenance import Provenance
from kts.model.run import DeviceInfo
from kts.units import NS_PER_MS

FINGERPRINT_VERSION = 1
PROFILE_VERSION = 3
IN_LINE = (MPS, STREAMS)
"""Modes in which kernels of different tenants are taken to stand in line, without turns."""
LONGEST_MS = 1e12
"""No time is that long: 31 years."""
MOST_VALUES = 1 << 27
LEVEL = 4
"""Of compression: a few per cent larger than at 9, and forty times as fast."""
MOST_LANES = 1024
MOST_THREADS = 256
PER_LAUNCH = ("offset_ms", "duration_ms", "wait_ms", "notice_ms", "apart", "lane")
"""Columns of `Iterations` with a value for each launch, as far as they are there."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval. ``lo`` = ``value`` = ``hi``: taken as exact."""

    value: float
    lo: float
    hi: float

    @classmethod
    def exact(cls, value: float) -> Interval:
        """A figure without uncertainty."""
        return cls(value=value, lo=value, hi=value)

    def check(self) -> None:
        """ValueError where it is no figure with an interval."""
        if not ordered(self.lo, self.value, self.hi):
            raise ValueError("lo <= value <= hi, none below 0")

    def times(self, factor: float) -> Interval:
        """The figure and its interval, scaled."""
        return Interval(value=self.value * factor, lo=self.lo * factor, hi=self.hi * factor)

    def at(self, z: float) -> float:
        """The figure ``z`` standard deviations off, each side as wide as its half of the interval; never below 0."""
        side = self.hi - self.value if z > 0 else self.value - self.lo
        return max(self.value + z * side / 1.959964, 0.0)


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """The device that was measured, as its driver names it. ``label`` is for tables; a CPU's says that it is no GPU."""

    kind: Literal["cuda", "cpu", "other"]
    uuid: str = ""
    name: str = ""
    label: str = ""
    driver: str = ""

    @classmethod
    def of(cls, device: DeviceInfo) -> Gpu:
        """A device as its worker found it."""
        return cls(kind=device.kind, uuid=device.uuid, name=device.name, label=device.label, driver=device.driver)


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What the GPU's sharing was measured to be. Valid for one GPU, driver and mode.

    ``slice_ms``: longest turn of a tenant while another waits. Switch costs by the number of other tenants that
    wait (first entry: one; the last one holds beyond): ``preempt_ms`` where a slice is over, ``yield_ms`` where
    a queue ran empty, ``wake_ms`` from an idle GPU to a tenant that was not the last one on it (empty: as
    ``yield_ms``). ``launch_gap_ms``: from one kernel's end to the next one's start when both are queued.
    ``slices``: how many slices were observed.
    """

    schema: int = FINGERPRINT_VERSION
    kts: str = ""
    gpu: Gpu
    mode: str = "time-slicing"
    slice_ms: Interval
    preempt_ms: tuple[Interval, ...]
    yield_ms: tuple[Interval, ...]
    wake_ms: tuple[Interval, ...] = ()
    launch_gap_ms: Interval = Interval(value=0.0, lo=0.0, hi=0.0)
    timer_resolution_ns: float | None = None
    source: Literal["measured", "assumed", "scaled"] = "measured"
    how: str = ""
    slices: int | None = None
    created_ns: int | None = None  # CLOCK_REALTIME
    provenance: Provenance | None = None

    def check(self) -> None:
        """ValueError where nothing can be shared like that."""
        if not self.slice_ms.lo > 0:
            raise ValueError("a slice is above 0")
        if not (self.preempt_ms and self.yield_ms):
            raise ValueError("no switch costs")

    @property
    def in_line(self) -> bool:
        """Whether kernels stand in line instead of taking turns: see `kts.physics.simulate.SharingModel`."""
        return self.mode in IN_LINE

    def in_mode(self, mode: str) -> Fingerprint:
        """The same GPU shared in a mode of `IN_LINE`, or again in turns."""
        return replace(self, mode=mode)

    def with_slice(self, slice_ms: float) -> Fingerprint:
        """The same sharing with another slice: switches are taken to cost what they cost now."""
        return replace(self, slice_ms=Interval.exact(slice_ms), source="scaled", how=f"slice set to {slice_ms:g} ms")

    def scaled(self, speed: float) -> Fingerprint:
        """The sharing of a GPU that is ``speed`` times as fast: switches and launch gaps shorten, the slice stays.

        The slice is a setting of the driver, a length of time; what a switch would cost on another GPU is an
        assumption until it is measured there.
        """

        def faster(costs: tuple[Interval, ...]) -> tuple[Interval, ...]:
            return tuple(cost.times(1 / speed) for cost in costs)

        return replace(
            self,
            preempt_ms=faster(self.preempt_ms),
            yield_ms=faster(self.yield_ms),
            wake_ms=faster(self.wake_ms),
            launch_gap_ms=self.launch_gap_ms.times(1 / speed),
            source="scaled",
            how=f"as if {speed:g} times as fast",
        )


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """Whole nanoseconds, packed: differences of consecutive values, int64 little-endian, zlib. Base64 in JSON."""

    n: int
    data: bytes

    @classmethod
    def of_ns(cls, values: ArrayLike) -> Packed:
        """Packs integers, shape ``(n,)``."""
        array = np.asarray(values, dtype="<i8")
        return cls(n=len(array), data=zlib.compress(np.diff(array, prepend=0).astype("<i8").tobytes(), LEVEL))

    @classmethod
    def of_ms(cls, values: ArrayLike) -> Packed:
        """Packs milliseconds, rounded to nanoseconds. ValueError where one is no time."""
        return cls.of_ns(np.round(_times(values) * NS_PER_MS).astype(np.int64))

    @property
    def ns(self) -> Ints:
        """The values. ValueError if the data are damaged or not ``n`` values."""
        if not 0 <= self.n <= MOST_VALUES:
            raise ValueError(f"a column of {self.n} values")
        try:
            limit = 8 * self.n
            unpacker = zlib.decompressobj()
            raw = unpacker.decompress(self.data, limit + 1)
        except zlib.error as error:
            raise ValueError(f"damaged column: {error}") from error
        if len(raw) != limit or not unpacker.eof:
            raise ValueError(f"damaged column: not {self.n} values")
        return np.cumsum(np.frombuffer(raw, dtype="<i8"))

    @property
    def ms(self) -> Floats:
        """The values in milliseconds. ValueError as for `ns`, and where one is no time."""
        return _times(self.ns / NS_PER_MS)


def _times(values: ArrayLike) -> Floats:
    times = np.asarray(values, dtype=np.float64)
    if not (np.abs(times) <= LONGEST_MS).all():
        raise ValueError("a time that cannot be")
    return times


EMPTY = Packed.of_ns([])


@dataclass(frozen=True, eq=False)
class Iterations:
    """Iterations as lists of launches, flat: those of iteration k are ``first[k]`` to ``first[k + 1]``.

    ``offset_ms``: host time from submission to the launch, without what the host has waited; ``duration_ms``: of its
    kernel on the GPU; ``retire_ms``: from the end of all until the iteration is over, shape ``(n,)``.

    The others are per launch, or None. ``wait_ms``: when the host, behind this launch, begins to wait until all its
    launches have ended, on the clock of the offsets; NaN: it does not. ``notice_ms``: from that end, or from the
    beginning of the wait if nothing is left to wait for, until the host goes on; at an iteration's last launch
    ``retire_ms`` counts from then. ``apart``: a copy engine does it, without a turn of the GPU, when its lane comes to
    it. ``lane``: launches of a lane run one after the other, those of different ones side by side.
    """

    first: Ints
    offset_ms: Floats
    duration_ms: Floats
    retire_ms: Floats
    wait_ms: Floats | None = None
    notice_ms: Floats | None = None
    apart: Flags | None = None
    lane: Ints | None = None

    @property
    def n(self) -> int:
        """Number of iterations."""
        return len(self.retire_ms)

    @property
    def busy_ms(self) -> Floats:
        """GPU time of each iteration, shape ``(n,)``: that of all its kernels, side by side or not."""
        kernels = self.duration_ms if self.apart is None else np.where(self.apart, 0.0, self.duration_ms)
        return np.add.reduceat(kernels, self.first[:-1])

    @property
    def are_plain(self) -> bool:
        """True where nothing waits within an iteration, nothing is apart, and all is in one lane."""
        return self.wait_ms is None and self.apart is None and self.lane is None

    def only(self, of: Ints) -> Iterations:
        """These of them, in this order."""
        counts = np.diff(self.first)[of]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        at = np.repeat(self.first[of] - first[:-1], counts) + np.arange(first[-1])
        per_launch = {name: column[at] for name in PER_LAUNCH if (column := getattr(self, name)) is not None}
        return with_columns(self, first=first, retire_ms=self.retire_ms[of], **per_launch)

    def slower_host(self, factor: float | Floats) -> Iterations:
        """The same with all host times ``factor`` times as long: of every iteration, or of each, shape ``(n,)``."""
        each = factor if isinstance(factor, float) else np.repeat(factor, np.diff(self.first))
        return with_columns(
            self,
            offset_ms=self.offset_ms * each,
            retire_ms=self.retire_ms * factor,
            wait_ms=None if self.wait_ms is None else self.wait_ms * each,
            notice_ms=None if self.notice_ms is None else self.notice_ms * each,
        )

    def check(self) -> None:
        """ValueError where the columns do not fit together, or where a time cannot be."""
        counts, launches = np.diff(self.first), len(self.offset_ms)
        if not len(counts) or (counts < 1).any():
            raise ValueError("every iteration needs at least one launch")
        if not len(self.duration_ms) == launches == self.first[-1] >= counts.max() or self.n != len(counts):
            raise ValueError("columns of unequal length")
        if any(len(column) != launches for column in (self.wait_ms, self.apart, self.lane) if column is not None):
            raise ValueError("columns of unequal length")
        if min(self.offset_ms.min(), self.duration_ms.min(), self.retire_ms.min()) < 0:
            raise ValueError("a time below zero")
        if self.lane is not None and not 0 <= self.lane.min() <= self.lane.max() < MOST_LANES:
            raise ValueError(f"a lane that is none of the first {MOST_LANES}")
        inner = np.ones(launches, dtype=np.bool_)
        inner[self.first[:-1]] = False
        if (np.diff(self.offset_ms, prepend=0)[inner] < 0).any():
            raise ValueError("launches out of order")
        self._check_waits(np.append(inner[1:], False))

    def _check_waits(self, followed: Flags) -> None:
        if (self.wait_ms is None) != (self.notice_ms is None):
            raise ValueError("waits and what follows them come together")
        if self.wait_ms is None or self.notice_ms is None:
            return
        waits = ~np.isnan(self.wait_ms)
        if len(self.notice_ms) != len(waits) or not (self.notice_ms[waits] >= 0).all():
            raise ValueError("a time below zero")
        late = self.wait_ms > np.where(followed, np.append(self.offset_ms[1:], 0.0), np.inf)
        if (self.wait_ms[waits] < self.offset_ms[waits]).any() or late.any():
            raise ValueError("a wait lies between its launch and the next one")


def one_behind_the_other(parts: Sequence[Iterations]) -> Iterations:
    """All of them. All have the same columns."""
    counts = np.concatenate([np.diff(part.first) for part in parts])
    per_launch = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in PER_LAUNCH
        if getattr(parts[0], name) is not None
    }
    return with_columns(
        parts[0],
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        retire_ms=np.concatenate([part.retire_ms for part in parts]),
        **per_launch,
    )


@dataclass(frozen=True, eq=False)
class Thread:
    """A thread that makes iterations of its own. ``of``: which of the profile's these are; ``pause_ms``: behind each,
    shape ``(n,)``; ``process``: number of the one that it belongs to."""

    of: Ints
    iterations: Iterations
    pause_ms: Floats
    process: int


class Profile(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """How one tenant behaves alone, at its own pacing: a sample of its iterations, in order of time.

    ``method``: ``launches`` (a trace of every launch) or ``burst`` (one launch of the whole duration).
    ``counts``, ``offset``, ``duration``, ``retire``, ``lane`` (empty: one lane): see `Iterations`. ``waiting``: places
    of the launches behind which the host waits, among all; ``wait``, ``notice``: of these; ``apart``: places of what a
    copy engine does. ``pause``: of a program, from each iteration's end until it goes on with the next (empty: at
    once). ``thread``: where several threads of a program make iterations, the number of each one's (empty: one thread);
    ``process``: of each thread, the number of its process (empty: one). ``solo_service`` and ``solo_device``:
    iterations alone without a tracer, for the solo figures (may be empty). ``tracer_inflation``: traced host
    time over untraced, already taken out of the offsets. ``host_warm_ms``, ``host_cold_ms``: what an iteration takes
    of the host, median, at the tenant's pacing and after a second of idleness. ``stopwatch_waits``: the device's
    stopwatch starts with an iteration's first launch, in turn; False: at once, because a copy engine starts it.
    ``settles_next``: see `kts.physics.simulate.Stream`.
    """

    schema: int = PROFILE_VERSION
    kts: str = ""
    tenant: str
    workload: str = ""
    size: int | None = None
    arrivals: Arrivals = Closed()
    deadline_ms: float | None = None
    gpu: Gpu
    method: Literal["launches", "burst"]
    counts: Packed
    offset: Packed
    duration: Packed
    retire: Packed
    waiting: Packed = EMPTY
    wait: Packed = EMPTY
    notice: Packed = EMPTY
    apart: Packed = EMPTY
    lane: Packed = EMPTY
    pause: Packed = EMPTY
    thread: Packed = EMPTY
    process: Packed = EMPTY
    solo_service: Packed = EMPTY
    solo_device: Packed = EMPTY
    queue_depth: int | None = None
    stopwatch_waits: bool = True
    settles_next: bool = False
    tracer_inflation: float = 1.0
    host_warm_ms: float | None = None
    host_cold_ms: float | None = None
    memory_bytes: int | None = None
    sm_clock_mhz: float | None = None
    how: str = ""
    created_ns: int | None = None  # CLOCK_REALTIME
    provenance: Provenance | None = None

    @cached_property
    def iterations(self) -> Iterations:
        """The columns, unpacked. ValueError if they do not fit together."""
        counts, offset = self.counts.ns, self.offset.ms
        launches = len(offset)
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        waiting, wait_ms, notice_ms = _places(self.waiting, launches), self.wait.ms, self.notice.ms
        if not len(waiting) == len(wait_ms) == len(notice_ms):
            raise ValueError("columns of unequal length")
        wait, notice = np.full(launches, np.nan), np.zeros(launches)
        wait[waiting], notice[waiting] = wait_ms, notice_ms
        apart = np.zeros(launches, dtype=np.bool_)
        apart[_places(self.apart, launches)] = True
        found = Iterations(
            first,
            offset,
            self.duration.ms,
            self.retire.ms,
            wait if len(waiting) else None,
            notice if len(waiting) else None,
            apart if self.apart.n else None,
            self.lane.ns if self.lane.n else None,
        )
        found.check()
        return found

    @cached_property
    def pause_ms(self) -> Floats:
        """``pause`` of each iteration, shape ``(n,)``. ValueError if it cannot be."""
        pause = self.pause.ms if self.pause.n else np.zeros(self.counts.n)
        if len(pause) != self.counts.n or (pause < 0).any():
            raise ValueError("pauses of other iterations")
        return pause

    @cached_property
    def threads(self) -> tuple[Thread, ...]:
        """Those that make its iterations, each with its own. ValueError if they cannot be."""
        them, pause_ms = self.iterations, self.pause_ms
        if not self.thread.n:
            if self.process.n:
                raise ValueError("processes of no thread")
            return (Thread(np.arange(them.n), them, pause_ms, 0),)
        number = self.thread.ns
        process = self.process.ns if self.process.n else np.zeros(int(number.max()) + 1, np.int64)
        if len(number) != them.n or number.min() < 0 or not number.max() + 1 == len(process) <= MOST_THREADS:
            raise ValueError("threads of other iterations")
        each = [np.flatnonzero(number == k) for k in range(len(process))]
        if not all(map(len, each)):
            raise ValueError("a thread without iterations")
        if not isinstance(self.arrivals, Closed) or self.queue_depth is not None:
            raise ValueError("threads pace themselves, and their queues have no bound")
        return tuple(
            Thread(of, them.only(of), pause_ms[of], int(k)) for of, k in zip(each, process.tolist(), strict=True)
        )

    def lasting(self, duration_ms: ArrayLike) -> Profile:
        """The same with other durations of the launches. What else it holds is not unpacked once more."""
        made = replace(self, duration=Packed.of_ms(duration_ms))
        made.__dict__["iterations"] = with_columns(self.iterations, duration_ms=made.duration.ms)
        return made

    def with_apart(self, apart: Flags) -> Profile:
        """The same with these of its launches apart, shape (launches,)."""
        made = replace(self, apart=Packed.of_ns(np.flatnonzero(apart)))
        made.__dict__["iterations"] = with_columns(self.iterations, apart=apart)
        return made

    def scaled(self, speed: float) -> Profile:
        """The tenant on a GPU ``speed`` times as fast: kernels shorten, the host and what is copied stay as they are.

        Its solo sample is gone: none was measured there.
        """
        them = self.iterations
        apart = False if them.apart is None else them.apart
        return replace(
            self,
            duration=Packed.of_ms(them.duration_ms / np.where(apart, 1.0, speed)),
            solo_service=EMPTY,
            solo_device=EMPTY,
            how=f"{self.how}; kernels as if {speed:g} times as fast".lstrip("; "),
        )

    @property
    def is_burst(self) -> bool:
        """True where every iteration is one launch of a kernel, and that is all."""
        return int(self.iterations.first[-1]) == self.iterations.n and self.iterations.are_plain


def make_profile(
    tenant: str,
    iterations: Iterations,
    gpu: Gpu,
    *,
    arrivals: Arrivals = Closed(),  # noqa: B008 - frozen
    workload: str = "",
    size: int | None = None,
    deadline_ms: float | None = None,
    solo_service_ms: ArrayLike = (),
    solo_device_ms: ArrayLike = (),
    kts: str = "",
    how: str = "",
) -> Profile:
    """A profile of ``iterations``; ValueError if they do not fit together."""
    iterations.check()
    single = (np.diff(iterations.first) == 1).all() and iterations.are_plain
    return Profile(
        kts=kts,
        tenant=tenant,
        workload=workload,
        size=size,
        arrivals=arrivals,
        deadline_ms=deadline_ms,
        gpu=gpu,
        method="burst" if single else "launches",
        **packed(iterations),
        solo_service=Packed.of_ms(solo_service_ms),
        solo_device=Packed.of_ms(solo_device_ms),
        how=how,
    )


def packed(them: Iterations) -> dict[str, Any]:
    """The columns of a `Profile` that hold these iterations. ValueError where a time cannot be."""
    waiting = np.empty(0, np.int64) if them.wait_ms is None else np.flatnonzero(~np.isnan(them.wait_ms))
    apart = () if them.apart is None else np.flatnonzero(them.apart)
    return {
        "counts": Packed.of_ns(np.diff(them.first)),
        "offset": Packed.of_ms(them.offset_ms),
        "duration": Packed.of_ms(them.duration_ms),
        "retire": Packed.of_ms(them.retire_ms),
        "waiting": Packed.of_ns(waiting),
        "wait": EMPTY if them.wait_ms is None else Packed.of_ms(them.wait_ms[waiting]),
        "notice": EMPTY if them.notice_ms is None else Packed.of_ms(them.notice_ms[waiting]),
        "apart": Packed.of_ns(apart),
        "lane": EMPTY if them.lane is None else Packed.of_ns(them.lane),
    }


def _places(column: Packed, launches: int) -> Ints:
    """ValueError where they are not places among so many launches, rising."""
    places = column.ns
    if len(places) and not (places[0] >= 0 and places[-1] < launches and (np.diff(places) > 0).all()):
        raise ValueError("a launch that is not there")
    return places


def bursts(duration_ms: ArrayLike, retire_ms: ArrayLike, offset_ms: ArrayLike = 0.0) -> Iterations:
    """Iterations of a single launch each, shape ``(n,)``; the other two may be single numbers."""
    duration = np.asarray(duration_ms, dtype=np.float64)
    return Iterations(
        first=np.arange(len(duration) + 1, dtype=np.int64),
        offset_ms=np.broadcast_to(np.asarray(offset_ms, dtype=np.float64), duration.shape),
        duration_ms=duration,
        retire_ms=np.broadcast_to(np.asarray(retire_ms, dtype=np.float64), duration.shape),
    )
