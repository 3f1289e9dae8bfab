"""What the conductor needs from the edges. Each Protocol has one contract test suite in tests/contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from kts.model.foretold import Foretold
from kts.model.neighbours import Look
from kts.model.plan import Plan
from kts.model.records import Records
from kts.model.run import BlockOutcome, Outcome, WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.wire.messages import Heartbeat


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where workers find the conductor."""

    host: str
    port: int
    token: str


class WorkerExit(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process ended; what it sent may still be on its way. ``reason``: one line for people (exit code or
    signal, last log line); ``remedy``: what to do about it, where that is known.

    ``block``, ``hostname``: which of the tenant's workers it was, as its Hello said, where a tenant may have several.
    """

    tenant: str
    code: int
    reason: str
    remedy: str = ""
    block: int | None = None
    hostname: str = ""


class Backend(Protocol):
    """Starts and ends the worker of each tenant, and nothing else."""

    name: str
    sees_ends: bool
    """Whether `poll` tells every worker's end by itself, so that it is worth waiting for once the run is over."""

    def start(self, plan: Plan, endpoint: Endpoint) -> None:
        """Starts one worker per tenant; returns at once. SetupError if that cannot be."""

    def notes(self) -> list[str]:
        """What a reader of the results must know of where the workers run, as things are now, one line each.

        After `start`. Asked again after each block, so it must be quick.
        """

    def poll(self) -> list[WorkerExit]:
        """Workers that ended since the last call. Never blocks."""

    def stop(self, grace_s: float) -> None:
        """Ends every worker still alive (politely, then after ``grace_s`` by force) and reaps it. Idempotent."""


class Sink(Protocol):
    """Keeps what is measured, at once and durably. Methods may raise MeasurementError (disk full)."""

    def event(self, kind: str, **fields: str | int | float | bool | None) -> None:
        """One line for events.jsonl; time stamps are added. A ``note`` (field ``text``) also goes to RunInfo.notes."""

    def worker(self, info: WorkerInfo) -> None:
        """A worker's device is open, or its calibration is known (then called again, replacing)."""

    def frozen(self, plan: Plan) -> None:
        """The plan with every size filled in, before the first block."""

    def records(self, tenant: str, block: int, seq: int, records: Records) -> None:
        """One checked chunk."""

    def block(self, outcome: BlockOutcome) -> None:
        """A block ended, valid or not. Everything up to here is made durable."""

    def source(self, state: SourceState) -> None:
        """What became of a telemetry source; told again, it replaces what was told of that source."""

    def samples(self, samples: Sequence[Sample]) -> None:
        """Telemetry, in order of time within each source. What cannot be kept is dropped and named in the notes:
        never raises, because records matter more."""

    def foretold(self, told: Foretold) -> None:
        """What the run is expected to decide. Reaches RunInfo.foretold with its next version."""

    def look(self, look: Look) -> None:
        """Somebody looked who else is on the device. Reaches RunInfo.neighbours with its next version."""

    def close(self, outcome: Outcome) -> None:
        """The run ended. Idempotent: only the first call counts."""


class Telemetry(Protocol):
    """Samples taken beside the measuring, off its cores. No method raises or waits, but for `close`."""

    def worker(self, info: WorkerInfo) -> None:
        """A tenant's device is open, or told again. Device-scoped sources begin with the first."""

    def heartbeat(self, tenant: str, beat: Heartbeat) -> None:
        """A tenant gave a sign of life."""

    def block_over(self) -> None:
        """All tenants of the running block are idle again: what follows belongs to the next one."""

    def drain(self) -> tuple[list[SourceState], list[Sample]]:
        """What is new since the last call: states of sources, and samples."""

    def close(self) -> None:
        """Stops; what is left can be drained. Idempotent; may take a second."""


class TenantProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in the block that runs now."""

    tenant: str
    active: bool
    iterations: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the run stands, for a person who waits. ``left_s`` None: not known yet.

    ``awaits``: index of the block whose workers are to be started now, where each block has workers of its own.
    ``foretold``: what the run is expected to decide, as last told.
    """

    phase: str  # "starting", "calibrating", "measuring", "finishing"
    text: str
    done_s: float
    left_s: float | None
    round: int = 0
    rounds: int = 0
    tenants: tuple[TenantProgress, ...] = ()
    awaits: int | None = None
    foretold: Foretold | None = None


class Watcher(Protocol):
    """Told about progress; must not block."""

    def progress(self, progress: Progress) -> None:
        """Called a few times a second at most."""


class StopRule(Protocol):
    """Decides between rounds whether the asked precision is reached."""

    def take(self, tenant: str, records: Records) -> None:
        """A chunk of the running block."""

    def end(self, outcome: BlockOutcome) -> None:
        """The running block ended. What was taken of it counts if it is valid."""

    def forget(self, tenant: str) -> None:
        """No block so far that the tenant took part in counts any more: it was still starting."""

    def reached(self) -> bool:
        """True once every tenant's DF99 is settled. May take 100 ms: called between blocks only."""

    def widths(self) -> dict[str, float | None]:
        """Relative half-width of each tenant's interval that `reached` goes by; None while it is refused."""


class Foreteller(Protocol):
    """Tells what a run can decide in its time. Each method returns what is new, if anything is."""

    def begin(
        self, plan: Plan, solo_ms: Mapping[str, float | None], cycles_ms: Mapping[str, float | None]
    ) -> Foretold | None:
        """The plan is frozen: how long iterations take alone, as calibrated, and from one submission to the next where
        tenants pace themselves."""

    def take(self, tenant: str, records: Records) -> None:
        """A chunk of the running block."""

    def end(self, outcome: BlockOutcome) -> Foretold | None:
        """The running block ended. May take a second after some rounds: called between blocks only."""

    def forget(self, tenant: str) -> None:
        """See StopRule."""
