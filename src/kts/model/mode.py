"""How a device was shared: what was asked for, and what shows what it was. Pure.

Only evidence gives a mode its name. What was merely configured is said as what it is: asked for, not proven.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

UNKNOWN = "unknown"
CPU_SCHEDULER = "cpu-scheduler"
EXCLUSIVE = "exclusive"
TIME_SLICING = "time-slicing"
MPS = "mps"
MIG = "mig"
STREAMS = "streams"
DRA = "dra"
"""Asked for only: a claim hands out a device, and its sharing is one of the others."""
SIDE_BY_SIDE = (MPS, MIG, STREAMS)
"""Modes in which nobody waits for a turn."""
TIGHTEST = "*"
"""As `Mode.first`, before there is a plan: the tenant with the tightest SLO."""


class Mode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A way to share the device that a run is asked to measure, beside others. ``name``: in tables; ``kind``: the mode.

    ``threads_percent``: of `MPS`: the share of the GPU's threads that each tenant may use; None: no limit.
    ``memory_mib``: of the GPU's memory (pinned memory limit); ``chunks``: of its SMs, in a static partition of its own,
    in the chunks of MPS. ``above``: the one tenant, by the name that all modes have in common, that is not below normal
    priority.
    ``first``: of `STREAMS`: the tenant, by the name that all modes have in common, whose stream has priority; empty:
    all are equal.
    """

    name: str
    kind: str
    threads_percent: int | None = None
    memory_mib: int | None = None
    chunks: int | None = None
    above: str = ""
    first: str = ""

    @property
    def limit(self) -> str:
        """The part of the device that a tenant computes with, in words; empty: all of it."""
        if self.threads_percent is not None:
            return f"each tenant at most {self.threads_percent} % of the GPU's threads"
        return f"each with {self.chunks} chunks of its SMs" if self.chunks is not None else ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that shows a mode: ``seen``, in words, ``by`` whom, at a CLOCK_REALTIME ``at_ns``.

    ``told``: somebody's word for it (a node's label, a pipe that is there), not the device's or the kernel's own
    doing. It counts only while nothing else was seen.
    """

    mode: str
    seen: str
    by: str
    at_ns: int
    told: bool = False

    def words(self) -> str:
        """For people."""
        return f"{self.mode}: {self.seen} (by {self.by})"


class SharingMode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``asked``: the mode that a run was to measure, or as which its device was to be had. ``recorded``: the word in a
    run that was made before evidence was kept; it stands for itself. ``limit``: `Mode.limit` of one of several modes.
    """

    asked: str = UNKNOWN
    evidence: tuple[Evidence, ...] = ()
    recorded: str = ""
    limit: str = ""

    @property
    def name(self) -> str:
        """The mode that the evidence shows, or that an older run recorded; empty if nothing shows one, or several."""
        return self.recorded or (self._shown[0] if len(self._shown) == 1 else "")

    @property
    def likely(self) -> str:
        """`name`, else what was asked for: to look up what was measured in such a mode."""
        return self.name or self.asked

    @property
    def proven(self) -> bool:
        """Whether `name` was seen, and not only told of."""
        return bool(self.recorded) or any(one.mode == self.name and not one.told for one in self.evidence)

    def words(self) -> str:
        """For people: the mode, and where it is not proven that it is not."""
        if self.name:
            return self.name
        if self._shown:
            return f"{' and '.join(self._shown)}: the evidence disagrees"
        return UNKNOWN if self.asked == UNKNOWN else f"asked for {self.asked}, not proven"

    def also(self, evidence: Iterable[Evidence]) -> SharingMode:
        """The same with more evidence; what was seen before is not repeated."""
        more = [one for one in evidence if one not in self.evidence]
        return msgspec.structs.replace(self, evidence=(*self.evidence, *more)) if more else self

    @property
    def _shown(self) -> list[str]:
        seen = [one.mode for one in self.evidence if not one.told] or [one.mode for one in self.evidence]
        return list(dict.fromkeys(seen))
