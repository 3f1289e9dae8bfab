"""A traced program alone, for `kts profile`: first only its calls are seen, then, in the same life, what the GPU does.

The iterations of both stretches are the program's own, as in a run. Whatever fails in the second is the tracer's
fault and costs the launches, not what was measured before.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from kts.model.records import Records, clock_ms
from kts.model.run import DeviceInfo
from kts.steady import Segments, course
from kts.wire.messages import Start
from kts.wire.recording import Launches, Recording, Stretch, packed, unpacked
from kts.worker.loop import LeftOut, Outlet
from kts.worker.stretch import MOST, MOST_TRACED, KeepingOutlet, Stretches
from kts.worker.tracing.kept import Kept
from kts.worker.tracing.layout import Level
from kts.worker.tracing.listed import Listing, ListingError, Owners, listed, owners
from kts.worker.tracing.reader import Tracing

TRACER = "tracer of its CUDA calls"
MOST_LISTED = 2000
"""Iterations without the tracer of kernels whose calls are kept, evenly by service time."""
MOST_LAUNCHES = 1_000_000
WARM_S = 1.0
"""So long the program runs with the tracer of kernels before that counts: its first records are slow."""
FLUSH_S = 0.3
"""What the GPU did is told within 50 ms; time for a machine that is busy."""
_READ_S = 0.02


class Traced(Protocol):
    """A program whose calls may be seen, as `kts.worker.tenants.program.ProgramTenant` is."""

    @property
    def tracing(self) -> Tracing | None:
        """None where it is not traced."""

    def unseen(self) -> str:
        """Why no call is seen; empty where some are."""

    def keep(self, kept: Kept | None) -> None:
        """All events go there, too, from now on."""

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        """See `kts.worker.tenants.Runner`."""


def record_program(program: Traced, info: DeviceInfo, stretches: Stretches) -> Recording:
    """Both stretches of a program that is calibrated. SetupError where it ended no iteration."""
    calls, outlet = Kept(), KeepingOutlet(stretches.seconds)
    program.keep(calls)
    program.run(stretches.start(MOST, 0), outlet)
    rows, said = steady_part(stretches.whole(outlet))
    bare = Recording(tenant=stretches.tenant.name, device=info, size=None, plain=Stretch(records=rows.tobytes()))
    try:
        traced, kernels = _with_kernels(program, calls, stretches)
        whose = _Whose.of(calls, rows, kernels, traced)
        seen = listed(kernels.processes, traced, gaps=kernels.gaps, threads=whose.traced)
        chosen = _evenly(clock_ms(rows, "service"), seen.launches)
        theirs = None if whose.plain is None else whose.plain.only(chosen)
        host = listed(calls.processes, rows[chosen], gaps=calls.gaps, usual_ns=seen.usual_ns, threads=theirs)
    except ListingError as error:
        return replace(bare, note="; ".join(("the program's own iterations", str(error), *said)))
    finally:
        program.keep(None)
    of = packed(chosen[unpacked(host.launches.of)])
    plain_threads, traced_threads, processes = whose.numbered(calls, kernels)
    return replace(
        bare,
        plain=replace(bare.plain, calls=replace(host.launches, of=of), threads=plain_threads),
        traced=Stretch(records=traced.tobytes(), threads=traced_threads),
        launches=seen.launches,
        processes=processes,
        note="; ".join((TRACER, *said, *_caveats(host, seen))),
    )


class _Whose(NamedTuple):
    """Which thread makes each iteration of both stretches, as `owners` says; None where one thread makes all."""

    plain: Owners | None
    traced: Owners | None

    @classmethod
    def of(cls, calls: Kept, rows: Records, kernels: Kept, traced: Records) -> _Whose:
        """None for both where one of the stretches does not tell."""
        plain, other = owners(calls.processes, rows), owners(kernels.processes, traced)
        return cls(None, None) if plain is None or other is None else cls(plain, other)

    def numbered(self, calls: Kept, kernels: Kept) -> tuple[bytes, bytes, bytes]:
        """Number of each iteration's thread, of both stretches, and of each thread's process; empty for one thread."""
        if self.plain is None or self.traced is None:
            return b"", b"", b""
        numbers: dict[tuple[tuple[int, int], int], int] = {}
        columns = []
        for kept, whose in ((calls, self.plain.of), (kernels, self.traced.of)):
            of = {
                one: numbers.setdefault((kept.keys[one >> 32], one & 0xFFFFFFFF), len(numbers))
                for one in np.unique(whose[whose >= 0]).tolist()
            }
            columns.append(packed([of.get(one, -1) for one in whose.tolist()]))
        keys = list(dict.fromkeys(key for key, _ in numbers))
        if len(numbers) < 2:
            return b"", b"", b""
        return columns[0], columns[1], packed([keys.index(key) for key, _ in numbers])


def steady_part(rows: Records) -> tuple[Records, tuple[str, ...]]:
    """The iterations that count, and what is to be said of the others."""
    found: Segments = course(clock_ms(rows, "service"))
    if not found.steady:
        return rows, ("it reached no steady state",)
    if not found.first:
        return rows, ()
    return rows[found.first :], (f"its first {found.first} iterations, not steady yet, are left out",)


def _with_kernels(program: Traced, calls: Kept, stretches: Stretches) -> tuple[Records, Kept]:
    """Iterations, and all events, also of the GPU. ListingError where these cannot be seen, in words for the user."""
    tracing = program.tracing
    if tracing is None or not calls.any:
        raise ListingError(f"its launches are not seen: {program.unseen() or 'it made no call in that time'}")
    tracing.raise_level()
    program.keep(None)
    program.run(stretches.start(MOST, 1), KeepingOutlet(WARM_S))
    heard = [process for process in tracing.processes if process.alive and process.calls]
    if not any(process.level == Level.KERNELS for process in heard):
        why = next((process.why for process in heard if process.why), "its processes have ended")
        raise ListingError(f"what the GPU does cannot be seen: {why}")
    program.keep(seen := Kept())
    outlet = KeepingOutlet(stretches.seconds)
    program.run(stretches.start(MOST_TRACED, 2), outlet)
    until = time.monotonic() + FLUSH_S
    while time.monotonic() < until:
        seen.add(tracing.read(), time.monotonic_ns())
        time.sleep(_READ_S)
    rows = outlet.rows
    if not len(rows):
        raise ListingError("no iteration ended while it was traced")
    return rows, seen


def _evenly(service_ms: NDArray[np.float64], launches: Launches) -> NDArray[np.int64]:
    """Iterations of all quantiles of service time, rising; no more than `MOST_LISTED`, or their `MOST_LAUNCHES`."""
    each = len(unpacked(launches.offset_ns)) / len(unpacked(launches.counts))
    n = max(min(len(service_ms), MOST_LISTED, int(MOST_LAUNCHES / each)), 1)
    places = ((np.arange(n) + 0.5) / n * len(service_ms)).astype(np.int64)
    return np.sort(np.argsort(service_ms, kind="stable")[places])


def _caveats(host: Listing, seen: Listing) -> list[str]:
    """What of it is not in the profile."""
    said = []
    for listing, when in ((host, "untraced"), (seen, "traced")):
        reasons = {
            "lost events": listing.lost,
            "lack what the GPU did": listing.unfinished,
            "launched nothing": listing.empty,
        }
        if told := ", ".join(f"{n} {what}" for what, n in reasons.items() if n):
            said.append(f"of the {when} iterations {told}")
    if seen.outside >= 0.005:
        said.append(f"{seen.outside:.0%} of its GPU time lies between iterations and is not in the profile")
    if seen.early >= 0.05:
        said.append(f"{seen.early:.0%} of its iterations end before their work does")
    return said
