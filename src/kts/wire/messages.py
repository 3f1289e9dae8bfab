"""Messages between conductor and worker.

A worker's life::

    worker                       conductor
    Hello            ->
                     <-          Welcome           (or Refuse, and the connection closes)
    Opened           ->                            device is open; same-device check
                     <-          Calibrate         one tenant at a time, device otherwise idle
    Ready            ->
                     <-          Start             to active tenants, once every tenant is ready
    Chunk*, Heartbeat*, QuotaReached ->
                     <-          Stop              lingering tenants end after the current iteration
    Chunk*, BlockDone ->
                     ... next block ...
                     <-          Finish
    (worker closes the connection and exits 0)

Where each block has workers of its own (the classic design on a cluster) each is told to finish after its block.
A worker that cannot go on sends Failed and exits. Heartbeats come from the measuring thread, between
iterations and while idle, so that a hung iteration is a missing heartbeat.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from kts.errors import DataError
from kts.model.mode import Evidence
from kts.model.plan import DeviceChoice, Quota, Tenant
from kts.model.run import ClockPair, DeviceInfo, Settled, ThreadWait

PROTOCOL = 9

FailureKind = Literal["setup", "out-of-memory", "device-lost", "program", "internal"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the tag ``type`` is the class name."""


class Hello(Message, frozen=True, kw_only=True):
    """First message. ``token`` must be the run's; ``protocol`` must be ``PROTOCOL``.

    ``worker``: the process's own name, unique in the run; that of its tenant where it is the tenant's only one.
    ``block``: the only one that this worker is for, where each block has workers of its own.
    """

    protocol: int
    token: str
    tenant: str
    worker: str
    pid: int
    hostname: str
    block: int | None = None


class Opened(Message, frozen=True, kw_only=True):
    """The device is open. ``cores``: the CPU cores its tenant may run on. ``gpus``: UUIDs that NVML shows here.
    ``cpu_limit``: CPUs that its cgroup lets it use, where that is limited. ``boot_id``: of the kernel it runs on."""

    device: DeviceInfo
    cores: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    cpu_limit: float | None = None
    boot_id: str = ""


SILENT = "no KTS_APP line came from it, and no round trip to a GPU was seen, before it was to be ready"
SPEAK = (
    "print one line per iteration, as docs/formats.md says; where its first one takes longer to come, allow for that: "
    "settle_seconds in its experiment, or KTS_SETTLE_S=120 in the environment of kts"
)
"""What to do about it."""


class Ready(Message, frozen=True, kw_only=True):
    """Warm, calibrated and waiting for its first block. ``size`` None for a command.

    ``cycle_ms``: from one submission to the next, where the tenant's pacing is its own (a command's). ``sharing``: what
    the worker sees of how its device is shared. ``notes``: for whoever reads the run, a line each. ``settled``: whether
    it was steady by then; None where it has no iterations.
    """

    size: int | None
    solo_ms: float | None
    cycle_ms: float | None = None
    sharing: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    settled: Settled | None = None

    @property
    def silence(self) -> str:
        """Why there is nothing to measure of it; empty where it has iterations."""
        return "" if self.solo_ms is not None else "; ".join((SILENT, *self.notes))


class Chunk(Message, frozen=True, kw_only=True):
    """A run of consecutive records of one tenant and block. Chunks of a block are numbered from 0.

    ``payload`` is ``count`` packed records, `kts.model.records.record_dtype` of ``optional``; ``crc32`` is zlib.crc32
    of it.
    """

    block: int
    seq: int
    count: int
    crc32: int
    payload: bytes
    optional: tuple[str, ...] = ()


class HostCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What the host did with a tenant's processes: `kts.worker.host` reads it, `kts.telemetry.host` makes samples.

    ``counters``: by the name of the metric that two of them make; ns, those of ``_per_s`` what their name says.
    ``moments``: as they were then. ``untold``: metrics that are missing, or not what they should be, and why; only with
    the first reading.
    """

    monotonic_ns: int
    counters: dict[str, int]
    moments: dict[str, float] = {}
    untold: dict[str, str] = {}


class Heartbeat(Message, frozen=True, kw_only=True):
    """Still making progress: ``iterations`` finished in the current block (0 while idle).

    ``host``: what the host did with the tenant's processes; not in all heartbeats.
    """

    monotonic_ns: int
    iterations: int
    host: HostCounters | None = None


class QuotaReached(Message, frozen=True, kw_only=True):
    """The wanted amount of this block is done; the tenant lingers."""

    block: int


class BlockDone(Message, frozen=True, kw_only=True):
    """The tenant is idle again and all chunks of the block are sent: ``chunks`` with ``count`` records in all.

    ``clocks``: pairs read just before and just after the block. ``skipped``: iterations not recorded
    (a program's that were not wholly inside the block); ``unread``: those told in lines that cannot be read, or by
    calls of which some are lost; ``events_lost``: how many of these calls. ``notes``: as in Ready.
    ``opened_ns``: when its window opened; ``closed_ns``: when it may close, as far as this tenant's quota goes; 0: its
    quota was not reached. ``threads``: those that waited longest for a core in it.
    """

    block: int
    chunks: int
    count: int
    clocks: tuple[ClockPair, ...] = ()
    skipped: int = 0
    unread: int = 0
    events_lost: int = 0
    notes: tuple[str, ...] = ()
    opened_ns: int = 0
    closed_ns: int = 0
    threads: tuple[ThreadWait, ...] = ()


class Failed(Message, frozen=True, kw_only=True):
    """The worker cannot go on. ``what`` and ``remedy`` as in `kts.errors`."""

    kind: FailureKind
    what: str
    remedy: str = ""


FromWorker = Hello | Opened | Ready | Chunk | Heartbeat | QuotaReached | BlockDone | Failed


class Welcome(Message, frozen=True, kw_only=True):
    """Accepted; what to run and where."""

    tenant: Tenant
    device: DeviceChoice


class Refuse(Message, frozen=True, kw_only=True):
    """Not accepted. The worker prints ``what`` and exits with code 4."""

    what: str


class Calibrate(Message, frozen=True, kw_only=True):
    """Warm up; find the size for ``target_ms`` (if asked) or time the given size. Answered by Ready.

    ``size``: another tenant has found it for the same work; None: it is to be found.
    """

    size: int | None = None


class Start(Message, frozen=True, kw_only=True):
    """Run a block. Its window opens at ``start_ns`` (CLOCK_MONOTONIC); a tenant that paces itself submits its first
    iteration at ``first_ns``, before or after that, so that its phase is stationary. A program that was held goes on at
    ``go_ns``; what it submits before ``first_ns`` is left out.

    ``seed`` seeds the think times of this block. ``telemetry``: whether the worker tells what its host did meanwhile.
    """

    block: int
    start_ns: int
    first_ns: int
    go_ns: int
    quota: Quota
    seed: int
    telemetry: bool = True


class Stop(Message, frozen=True, kw_only=True):
    """End the block after the current iteration. Ignored if that block is over."""

    block: int


class Finish(Message, frozen=True, kw_only=True):
    """The run is over; exit 0."""


FromConductor = Welcome | Refuse | Calibrate | Start | Stop | Finish

_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_from_conductor: msgspec.msgpack.Decoder[FromConductor] = msgspec.msgpack.Decoder(FromConductor)


def encode(message: Message) -> bytes:
    """One message as MessagePack."""
    return _encoder.encode(message)


def decode_from_worker(data: bytes) -> FromWorker:
    """A message sent by a worker. DataError if the bytes are not one."""
    return _decode(_from_worker, data)


def decode_from_conductor(data: bytes) -> FromConductor:
    """A message sent by the conductor. DataError if the bytes are not one."""
    return _decode(_from_conductor, data)


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not a kts message: {error}", "both ends must run the same kts version") from error
