"""What is known of a run besides its records: the content of run.json. Versioned; see docs/formats.md."""

from __future__ import annotations

from typing import Literal

import msgspec

from kts.model.foretold import Foretold
from kts.model.mode import CPU_SCHEDULER, Evidence, SharingMode
from kts.model.neighbours import Neighbours
from kts.model.plan import Plan
from kts.model.provenance import Provenance
from kts.model.telemetry import SourceState

SCHEMA_VERSION = 5
"""Of the run directory. Raised when an older kts could misread a newer directory."""

OutcomeKind = Literal["running", "complete", "undetermined", "incomplete", "interrupted", "failed"]


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The accelerator as the worker itself found it.

    ``uuid`` is the driver's (``GPU-...``) for CUDA; for the CPU device it names host and core.
    ``label`` is the honest name for tables and pictures, e.g. ``NVIDIA H200`` or
    ``CPU core 1 (AMD EPYC), not a GPU``.
    """

    kind: Literal["cuda", "cpu", "other"]
    uuid: str
    name: str
    label: str
    library: str
    library_version: str = ""
    driver: str = ""
    memory_bytes: int | None = None
    stopwatch: str = ""  # what device_ms is: "CUDA events", "thread CPU time", ...


class ClockPair(msgspec.Struct, frozen=True, kw_only=True):
    """CLOCK_REALTIME and CLOCK_MONOTONIC read together; ``error_ns`` bounds the time between the two reads."""

    realtime_ns: int
    monotonic_ns: int
    error_ns: int = 0


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant did between its warm-up and its first block, by `kts.steady.Settling`.

    ``steady``: False where it was still changing when ``limit_s`` was over. It took ``seconds`` and ``iterations``, of
    which the first ``unsteady`` were its start. ``course``: where that was not nothing, up to `COURSE` of these as
    seconds since the first and milliseconds.
    """

    steady: bool
    seconds: float
    limit_s: float
    iterations: int
    unsteady: int = 0
    course: tuple[tuple[float, float], ...] = ()


COURSE = 200


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process, as recorded for whoever must repeat the measurement.

    ``id``: its own name. A tenant may have several workers; that of its only one is the tenant's. ``cores``: the
    tenant's; the worker of a program may itself run on others.
    """

    tenant: str
    pid: int
    hostname: str
    device: DeviceInfo
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()  # UUIDs that NVML shows the worker, whatever device it computes on
    solo_ms: float | None = None  # what calibration measured for the frozen size
    sharing: tuple[Evidence, ...] = ()  # what it saw of how its device is shared, once it had computed
    cpu_limit: float | None = None  # CPUs that its cgroup lets it use; None: no limit, or not told
    settled: Settled | None = None  # None: it has no iterations, or nobody looked
    boot_id: str = ""  # of the kernel it runs on: whoever has the same is on the same machine
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            msgspec.structs.force_setattr(self, "id", self.tenant)


class ThreadWait(msgspec.Struct, frozen=True, kw_only=True):
    """How long a thread of a tenant's was ready in a block and had no core. ``name``: as the kernel shows it."""

    pid: int
    tid: int
    name: str
    waited_ns: int


class BlockOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a block went. ``counts``: records announced per tenant. Invalid blocks are kept, never analysed.

    ``lost``: iterations per tenant that could not be read, so that the slowest may be among them. ``events_lost``:
    calls per traced tenant that were seen and not kept; the iterations that they could touch are among ``lost``.
    ``start_ns``, ``end_ns``: first submission and last completion. ``window_ns``: from when until when all its tenants
    were commanded to run side by side; iterations submitted outside of it, and the first of each tenant, are in the
    records and count for nothing. None where each tenant ends by itself (classic), and in runs of schema 1, whose
    tenants began every block at the same instant. ``waits``: of each tenant the threads that waited longest for a core;
    missing where its kernel does not tell.
    """

    index: int
    round: int
    condition: str
    start_ns: int
    end_ns: int
    valid: bool
    counts: dict[str, int] = {}
    reason: str = ""
    clocks: tuple[ClockPair, ...] = ()
    window_ns: tuple[int, int] | None = None
    lost: dict[str, int] = {}
    events_lost: dict[str, int] = {}
    waits: dict[str, tuple[ThreadWait, ...]] = {}

    def check(self) -> None:
        """ValueError where it has no place in time."""
        told = (self.start_ns, self.end_ns, *(self.window_ns or ()), self.index, self.round, *self.counts.values())
        if min(told) < 0 or max(told) >= 2**62:
            raise ValueError("a block's numbers or times cannot be")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the run ended.

    complete: all that was planned (or asked precision reached). undetermined: ended at its limits
    before the asked precision. incomplete: a tenant died or hung. interrupted: by the user.
    failed: nothing measured. running: never closed (still running, or killed).
    """

    kind: OutcomeKind
    reason: str = ""
    remedy: str = ""
    exit_code: int = 0


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """run.json. Times are CLOCK_REALTIME nanoseconds since the epoch."""

    schema: int
    id: str
    kts: str
    backend: str
    mode: SharingMode  # what was asked for, and what was seen before the workers were there
    created_ns: int
    plan: Plan
    workers: tuple[WorkerInfo, ...] = ()
    blocks: tuple[BlockOutcome, ...] = ()
    outcome: Outcome = Outcome(kind="running")
    environment: dict[str, str] = {}
    experiment: str = ""  # text of the experiment file, as given
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()  # what was recorded and contradicts itself
    altered: dict[str, tuple[str, ...]] = {}  # per tenant: how its pod differs from what the run asked for
    provenance: Provenance | None = None  # which kts conducted it, of what; None: made before that was recorded
    telemetry: tuple[SourceState, ...] = ()  # sources that were asked for, each once; empty without telemetry
    foretold: tuple[Foretold, ...] = ()  # what it was expected to decide, each time that was told
    neighbours: Neighbours | None = None  # who else was there; None: nobody was to look (as before kts recorded it)
    uid: str = ""  # 16 hexadecimal digits, drawn when it was made, that its records carry; empty before schema 5
    samples: int | None = None  # of telemetry, kept so far; None: not told (before schema 5)

    def check(self) -> None:
        """ValueError where its blocks or workers are not of its plan."""
        if not {block.condition for block in self.blocks} <= {condition.name for condition in self.plan.conditions}:
            raise ValueError("a block's condition is not in the plan")
        if len({block.index for block in self.blocks}) < len(self.blocks):
            raise ValueError("two blocks of one number")
        tenants = {tenant.name for tenant in self.plan.tenants}
        if not {worker.tenant for worker in self.workers} <= tenants:
            raise ValueError("a worker's tenant is not in the plan")

    @property
    def sharing(self) -> SharingMode:
        """How the device was shared, with all that anybody saw of it."""
        seen = [one for worker in self.workers for one in worker.sharing]
        if self.mode.asked == CPU_SCHEDULER:  # whoever computes on a CPU core shares it by nothing else
            seen += [
                Evidence(
                    mode=CPU_SCHEDULER,
                    seen=f"it computes on {worker.device.label}",
                    by=f"tenant {worker.tenant}",
                    at_ns=self.created_ns,
                )
                for worker in self.workers
                if worker.device.kind == "cpu"
            ]
        return self.mode.also(seen)
