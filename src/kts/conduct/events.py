"""What the conductor's machine is told (events) and what it asks for (actions). Frozen values, no behaviour."""

from __future__ import annotations

import msgspec

from kts.conduct.ports import WorkerExit
from kts.model.plan import Plan
from kts.model.records import Records
from kts.model.run import BlockOutcome, Outcome, WorkerInfo
from kts.wire.messages import FromConductor, FromWorker, Hello


class Greeted(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that is nobody's yet sent Hello. ``peer``: the driver's number for the connection."""

    peer: int
    hello: Hello


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted tenant sent a message."""

    tenant: str
    message: FromWorker


class Garbled(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted tenant sent bytes that are no message."""

    tenant: str
    what: str


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The connection of an accepted tenant closed; all that it had sent was received before."""

    tenant: str


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Time has passed. Sent about ten times a second."""


class SettleDone(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to `Settle`: everything asked for before it is done."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to `AskRule`."""

    reached: bool


class Signalled(msgspec.Struct, frozen=True, kw_only=True):
    """The user wants to stop. ``signal``: SIGINT, SIGTERM."""

    signal: str


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever watches the run from outside ends it, and says how it is to be called."""

    outcome: Outcome


class SinkFailed(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured can no longer be kept (disk full)."""

    what: str
    remedy: str = ""


Event = (
    Greeted | Received | Garbled | Lost | WorkerExit | Tick | SettleDone | Decided | Signalled | Stopped | SinkFailed
)


class Accept(msgspec.Struct, frozen=True, kw_only=True):
    """From now on the connection ``peer`` is this tenant's."""

    peer: int
    tenant: str


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """Send Refuse with ``what`` to the connection and close it."""

    peer: int
    what: str


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Send a message to an accepted tenant."""

    tenant: str
    message: FromConductor


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's worker was sent Finish. Another one will take its place; nothing more is expected of this one."""

    tenant: str


class Introduce(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's device, or its calibration, is known."""

    info: WorkerInfo


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """The plan has its final sizes. ``solo_ms``, ``cycles_ms``: see `kts.conduct.ports.Foreteller.begin`."""

    plan: Plan
    solo_ms: dict[str, float | None] = {}
    cycles_ms: dict[str, float | None] = {}


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """A checked chunk, to be kept at once."""

    tenant: str
    block: int
    seq: int
    records: Records


class EndBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block is over; all its chunks were given before."""

    outcome: BlockOutcome


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """One line for events.jsonl."""

    kind: str
    fields: dict[str, str | int | float | bool | None] = {}


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """Answer with `SettleDone`, and the time as it is then: what came before may have taken long (fsync)."""


class AskRule(msgspec.Struct, frozen=True, kw_only=True):
    """Answer with `Decided`: is the asked precision reached?"""


class Conclude(msgspec.Struct, frozen=True, kw_only=True):
    """The run is over. Always the last action, and given once."""

    outcome: Outcome


Action = Accept | Reject | Send | Release | Introduce | Freeze | Keep | EndBlock | Log | Settle | AskRule | Conclude
