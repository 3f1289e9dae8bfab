"""What the conductor's pod tells over HTTP, and what it is told. JSON; see `kts.k8s.conductor` for the paths.

Every request carries the run's token in the header `kts.k8s.settings.TOKEN_HEADER`.

=============================== =========================================================
GET  /v1/status                  `Status`
GET  /v1/files/NAME?offset=N     up to `PART_BYTES` of that file from byte N (NAME from ``Status.files``)
POST /v1/exits                   list of `PodExit`: pods of tenants that ended, as the API server tells
POST /v1/note                    a line of text for the run's notes
POST /v1/stop                    end the run in order, as Ctrl-C does
POST /v1/done                    everything was fetched: the pod may go
=============================== =========================================================
"""

from __future__ import annotations

import msgspec

from kts.conduct.ports import Progress
from kts.model.run import Outcome

PART_BYTES = 1 << 20
BODY_BYTES = 1 << 16
"""Longest request body."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``outcome`` is None until the run directory is closed; ``files``: sizes in bytes, growing files only grow."""

    run: str
    kts: str
    progress: Progress | None = None
    outcome: Outcome | None = None
    files: dict[str, int] = {}


class PodExit(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's pod that ended: ``reason`` for people, e.g. ``OOMKilled (exit code 137)`` or ``Evicted: ...``."""

    tenant: str
    code: int
    reason: str
