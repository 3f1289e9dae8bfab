"""What a report says of a run, by the run's directory alone."""

from __future__ import annotations

from pathlib import Path

import msgspec

import kts
from bench.injectors.stage import SUBJECT
from kts.model.causes import Part, Statistic

JUDGED: Statistic = "mean"
"""A few seconds hold too few iterations for a p99 whose parts have narrow intervals."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``first``: the cause that is put first; empty: none is named. ``at_p99``: the same of the p99, which is not
    scored. ``added_ms`` to the mean, its interval, and its ``parts``. ``refused``: why there are none."""

    first: str
    at_p99: str = ""
    added_ms: float | None = None
    lo: float | None = None
    hi: float | None = None
    parts: tuple[Part, ...] = ()
    refused: str = ""


def judge(run: Path) -> Verdict:
    """What kts makes of this directory. DataError where it can make nothing of it."""
    causes = kts.load(run).summary.tenants[SUBJECT].causes
    if not causes or not causes[0].of:
        return Verdict(first="", refused=causes[0].refused if causes else "no causes")
    told = next(one for one in causes[0].of if one.statistic == JUDGED)
    return Verdict(
        first=_name(causes[0].first(JUDGED)),
        at_p99=_name(causes[0].first("p99")),
        added_ms=told.added_ms,
        lo=told.lo,
        hi=told.hi,
        parts=told.parts,
        refused=causes[0].refused,
    )


def _name(part: Part | None) -> str:
    return part.cause if part else ""
