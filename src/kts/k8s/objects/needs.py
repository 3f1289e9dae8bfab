"""What a run needs of a cluster or a machine, and whether it is there: a value for people. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "note", "missing"]

UNKNOWN = "unknown: may not be read"


class Need(msgspec.Struct, frozen=True):
    """What a run needs. ``status``: ok; note: works, with a limit, or is not known; missing: is not usable."""

    name: str
    status: Status
    found: str
    remedy: str = ""
