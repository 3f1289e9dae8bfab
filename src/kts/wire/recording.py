"""What a worker hands over of a tenant it ran alone: the request, the recording, and the line that carries it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kts.errors import DataError, MeasurementError, SetupError
from kts.files import check
from kts.model.plan import Condition, DeviceChoice, Plan, Tenant
from kts.model.records import RECORD, Records
from kts.model.run import DeviceInfo
from kts.wire.messages import Failed, Message

PREFIX = "KTS_PROFILE,v1,"
MAX_BYTES = 256 * 1024 * 1024
NO_WAIT = -1


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and for how long. ``seconds``: of each stretch, untraced and traced."""

    tenant: Tenant
    device: DeviceChoice
    seconds: float

    @property
    def plan(self) -> Plan:
        """Of that tenant alone, for whoever places it."""
        tenant = self.tenant
        return Plan(
            name="profile",
            design="classic",
            tenants=(tenant,),
            conditions=(Condition(name=f"solo-{tenant.name}", tenants=(tenant.name,)),),
            rounds=1,
            max_rounds=1,
            device=self.device,
        )


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Iterations one after the other at the tenant's pacing.

    ``records``: packed `RECORD`. ``issue_ns``: int64, one per record: from submission until all of it was handed to
    the device; empty where nobody can tell. ``calls``: what the host did in some of them, where a program's calls were
    seen. ``threads``: int64, one per record: number of the thread that made it (-1: not told), where several do.
    """

    records: bytes
    issue_ns: bytes = b""
    threads: bytes = b""
    calls: Launches | None = None

    @property
    def rows(self) -> Records:
        """The records."""
        return np.frombuffer(self.records, RECORD)

    @property
    def issue_ms(self) -> NDArray[np.float64]:
        """``issue_ns`` in milliseconds."""
        return np.asarray(unpacked(self.issue_ns) / 1e6, dtype=np.float64)


class Launches(msgspec.Struct, frozen=True, kw_only=True):
    """The launches of a stretch, int64. ``counts``: per iteration; the others one after the other.

    ``offset_ns``: from the iteration's beginning, without the time that its host had waited by then, until the GPU
    could have started it; ``duration_ns``: on the GPU, 0 where only calls were seen. ``stopwatch_waits``: the first
    event of the device's stopwatch waits for the GPU as a kernel does; False where a copy engine records it.

    Of a program, else empty. ``of``: the records of the stretch that these iterations are, rising. ``wait_ns``: when
    the host began to wait for the GPU after this launch, counted as ``offset_ns``; `NO_WAIT`: it did not before the
    next. ``waited_ns``: how long until it went on. ``apart``: 1 where a copy engine does it. ``lane``: streams,
    numbered. ``graph``: most of the GPU's time is that of replayed graphs.
    """

    counts: bytes
    offset_ns: bytes
    duration_ns: bytes
    stopwatch_waits: bool = True
    of: bytes = b""
    wait_ns: bytes = b""
    waited_ns: bytes = b""
    apart: bytes = b""
    lane: bytes = b""
    graph: bool = False

    def check(self) -> None:
        """ValueError where columns do not fit together."""
        counts: NDArray[Any] = unpacked(self.counts)
        optional = [column for column in (self.wait_ns, self.waited_ns, self.apart, self.lane) if column]
        lengths = {len(unpacked(column)) for column in (self.offset_ns, self.duration_ns, *optional)}
        if (counts < 0).any() or lengths != {int(counts.sum())}:
            raise ValueError("launches of unequal number")
        if self.of and (len(unpacked(self.of)) != len(counts) or (np.diff(unpacked(self.of), prepend=-1) < 1).any()):
            raise ValueError("launches of other iterations")


class Recording(Message, frozen=True, kw_only=True):
    """A tenant alone. ``traced`` and ``launches`` are there where a tracer was; ``note``: why not, or what it was.

    ``cold``: iterations that began after a second of idleness. ``queued_ms``: device time of one without a tracer where
    the next is handed over before it ends. ``processes``: int64, of each thread (`Stretch.threads`) the number of its
    process. ``held_bytes``: device memory that the tenant's library held.
    """

    tenant: str
    device: DeviceInfo
    size: int | None
    plain: Stretch
    cold: Stretch | None = None
    traced: Stretch | None = None
    launches: Launches | None = None
    note: str = ""
    queued_ms: float | None = None
    processes: bytes = b""
    held_bytes: int | None = None
    sm_clock_mhz: float | None = None


_decoder: msgspec.msgpack.Decoder[Recording | Failed] = msgspec.msgpack.Decoder(Recording | Failed)


def packed(values: ArrayLike) -> bytes:
    """Integers as int64."""
    return np.asarray(values, dtype="<i8").tobytes()


def unpacked(data: bytes) -> NDArray[np.int64]:
    """What was `packed`."""
    return np.frombuffer(data, dtype="<i8")


def format_result(result: Recording | Failed) -> str:
    """One line, without a line end."""
    raw = zlib.compress(msgspec.msgpack.encode(result))
    return PREFIX + base64.b64encode(raw).decode()


def parse_result(line: str) -> Recording | Failed | None:
    """What a worker's line carries; None if it is some other line. DataError if it is damaged."""
    if not line.startswith(PREFIX):
        return None
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(line[len(PREFIX) :].strip(), validate=True), MAX_BYTES)
        if not unpacker.eof:
            raise ValueError("cut off, or too large")
        result = _sound(_decoder.decode(raw))
        check(result)
    except (ValueError, zlib.error, msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"a worker's profile cannot be read: {error}", "both ends must run the same kts") from error
    return result


def recording_in(lines: Iterable[str], tenant: str, reason: str, code: int) -> tuple[Recording, list[str]]:
    """What a worker that ended with ``code``, for ``reason``, handed over in its log: a line that can be unpacked is
    whole. What befell the worker later is a note.

    SetupError or MeasurementError for a tenant that failed, DataError for a damaged line.
    """
    found = next((result for line in lines if (result := parse_result(line)) is not None), None)
    if isinstance(found, Failed):
        kind = SetupError if found.kind == "setup" else MeasurementError
        raise kind(found.what, found.remedy)
    if found is None:
        what = f"tenant {tenant} ended without a profile: {reason}"
        raise MeasurementError(what, "run it again; KTS_DEBUG=1 shows more")
    if code:
        return found, [f"the worker of {tenant} ended badly after it handed its profile over (code {code})"]
    return found, []


def _sound(result: Recording | Failed) -> Recording | Failed:
    """ValueError where lengths do not fit together."""
    if isinstance(result, Failed):
        return result
    for stretch in (result.plain, result.cold, result.traced):
        if stretch is None:
            continue
        if stretch.issue_ns and len(stretch.rows) != len(unpacked(stretch.issue_ns)):
            raise ValueError("records and issue times of unequal number")
        if stretch.threads:
            threads = unpacked(stretch.threads)
            if len(threads) != len(stretch.rows) or threads.max() >= len(unpacked(result.processes)):
                raise ValueError("threads of other iterations")
        if stretch.calls is not None:
            _belongs(stretch.calls, stretch)
    if (result.traced is None) != (result.launches is None):
        raise ValueError("launches without their iterations")
    if result.traced is not None and result.launches is not None:
        _belongs(result.launches, result.traced)
    return result


def _belongs(launches: Launches, stretch: Stretch) -> None:
    of = unpacked(launches.of)
    if (of[-1] >= len(stretch.rows)) if len(of) else len(unpacked(launches.counts)) != len(stretch.rows):
        raise ValueError("launches and iterations of unequal number")
