"""What the conductor's pod tells over HTTP, and what it is told. JSON; answered by `kts.k8s.pod.door`.

Every request carries the run's token in the header `kts.k8s.objects.names.TOKEN_HEADER`.

=============================== =========================================================
GET  /v1/status                  `Status`
GET  /v1/files/NAME?offset=N     up to `PART_BYTES` of that file from byte N (NAME from ``Status.files``)
POST /v1/exits                   list of `PodExit`: pods of tenants that ended, as the API server tells
POST /v1/look                    a `Look` just taken: who else is on the node; when it comes is when it was taken
POST /v1/note                    a line of text for the run's notes
POST /v1/stop                    an `Outcome`: end the run in order, with that; empty: as Ctrl-C does
POST /v1/done                    everything was fetched: the pod may go
=============================== =========================================================
"""

from __future__ import annotations

import msgspec

from kts import files
from kts.conduct.ports import Progress
from kts.conduct.stop import BY_USER
from kts.errors import DataError
from kts.k8s.objects.around import MOST_SEEN
from kts.model.neighbours import Look, Seen
from kts.model.run import Outcome
from kts.units import NS_PER_S

PART_BYTES = 1 << 20
BODY_BYTES = 1 << 16
"""Longest request body."""
LONGEST_PAUSE_NS = 60 * NS_PER_S
TEXT_CHARACTERS = 500
"""Longest text that is kept of what the pod is told."""

TOLD_TO_END = "the conductor's pod was told to end"
"""How the reason begins of a run that ended so; who told it, only the cluster knows."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``outcome`` is None until the run directory is closed; ``files``: sizes in bytes, growing files only grow;
    ``looks``: the pod looks at its neighbours itself."""

    run: str
    kts: str
    progress: Progress | None = None
    outcome: Outcome | None = None
    files: dict[str, int] = {}
    looks: bool = False


def look_told(body: bytes, now_ns: int) -> Look:
    """The look that ``body`` holds, taken at ``now_ns``, its texts cut. DataError if it is none."""
    given = files.decode(body, Look, "look", "not a look at the neighbours", "use one kts version")
    if not 0 <= given.every_ns <= LONGEST_PAUSE_NS:
        raise DataError("looks are at most a minute apart", "use one kts version")
    return msgspec.structs.replace(
        given,
        by=given.by[:TEXT_CHARACTERS],
        node=given.node[:TEXT_CHARACTERS],
        problem=given.problem[:TEXT_CHARACTERS],
        at_ns=now_ns,
        others=tuple(map(_cut, given.others[:MOST_SEEN])),
        slots=tuple(map(_cut, given.slots[:MOST_SEEN])),
    )


def _cut(seen: Seen) -> Seen:
    who, what, device = (text[:TEXT_CHARACTERS] for text in msgspec.structs.astuple(seen))
    return Seen(who=who, what=what, device=device)


def stop_reason(body: bytes) -> Outcome:
    """With what a run ends that is told to stop by ``body``. DataError if that is no end of a run that was stopped."""
    if not body:
        return BY_USER
    given = files.decode(body, Outcome, "stop", "not an outcome", "use one kts version")
    if given.kind not in ("failed", "incomplete", "interrupted") or not 1 <= given.exit_code <= 255:
        raise DataError(f"no stopped run is {given.kind} with exit code {given.exit_code}", "use one kts version")
    reason, remedy = given.reason[:TEXT_CHARACTERS], given.remedy[:TEXT_CHARACTERS]
    return msgspec.structs.replace(given, reason=reason, remedy=remedy)
