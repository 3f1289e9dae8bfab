"""What a run in several modes did to its machine, and what it tried: the content of sharing.json.

Whether the GPU was left as it was found; who else falls when a tenant of a mode does.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SHARING_VERSION = 1

Harm = Literal["kill", "memory", "fault"]
"""What is done to a tenant: it is killed; it takes all memory that it can get; its kernel writes where nothing is."""
Others = Literal["go-on", "fall", "not-tried"]


class GpuSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as NVML tells it. ``settings``: by their names, those that outlive a program."""

    uuid: str
    name: str
    settings: dict[str, str]


class MpsProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon or server of MPS. ``began``: in ticks since boot."""

    pid: int
    began: str
    uid: int
    name: str


class SharedMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine at one moment (CLOCK_REALTIME). ``computing``: processes on its GPUs, None where NVML does not tell;
    ``missing``: why NVML told nothing of them."""

    at_ns: int
    gpus: tuple[GpuSettings, ...] = ()
    mps: tuple[MpsProcess, ...] = ()
    computing: int | None = None
    missing: str = ""

    def changes(self, after: SharedMachine) -> tuple[str, ...]:
        """What is not as it was, each in words; empty where all is."""
        return (*self._of_gpus(after), *self._of_mps(after))

    def _of_gpus(self, after: SharedMachine) -> list[str]:
        found, now = [], {gpu.uuid: gpu for gpu in after.gpus}
        for gpu in self.gpus:
            if gpu.uuid not in now:
                found.append(f"{gpu.name} ({gpu.uuid}) is gone{f': {after.missing}' if after.missing else ''}")
                continue
            then, is_ = gpu.settings, now[gpu.uuid].settings
            found += [
                f"{gpu.uuid}: {what} was {then.get(what, 'not told')}, is {is_.get(what, 'not told')}"
                for what in dict.fromkeys((*then, *is_))
                if then.get(what) != is_.get(what)
            ]
        return found

    def _of_mps(self, after: SharedMachine) -> list[str]:
        return [
            f"{one.name} (process {one.pid} of user {one.uid}) {what}"
            for some, others, what in (
                (self.mps, after.mps, "was there and is gone"),
                (after.mps, self.mps, "was not there and is"),
            )
            for one in some
            if one not in others
        ]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant came to ``harm`` beside another one of the same mode. ``victim``, ``bystander``: what became of them, in
    words; ``others``: whether the bystander went on. ``newcomer``: whether a tenant that came afterwards could compute.
    ``shown``: as what the bystander saw the mode, with proof; empty without. ``why``: it was not tried."""

    harm: Harm
    others: Others
    victim: str = ""
    bystander: str = ""
    newcomer: bool | None = None
    shown: str = ""
    why: str = ""


TurnsKind = Literal["turns", "at-once", "unclear", "not-looked"]


class TurnsSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What two probes in the environments of two tenants of a mode saw of each other, for ``window_ms``.

    ``both``: of the time in which either was on the device, the share in which both were; ``away``: of the window, the
    share in which each was not; ``handed``: how often the device was taken from the first of them. ``why``: they could
    not look.
    """

    kind: TurnsKind
    both: float = 0.0
    away: tuple[float, float] = (0.0, 0.0)
    handed: int = 0
    window_ms: float = 0.0
    why: str = ""

    def words(self) -> str:
        """For people."""
        if self.kind == "not-looked":
            return f"no probe looked for turns: {self.why}"
        heads = {"turns": "two probes took turns", "at-once": "no turns were seen by two probes"}
        head = heads.get(self.kind, "two probes could not tell whether they took turns")
        return f"{head}: both on the device for {100 * self.both:.0f} % of {self.window_ms:.0f} ms"


class SharingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Of a run: its machine ``before`` and ``after``; by mode the ``trials`` of its isolation, and what ``turns`` were
    seen in it before its tenants were there."""

    schema: int
    before: SharedMachine
    after: SharedMachine
    trials: dict[str, tuple[Trial, ...]] = {}
    turns: dict[str, TurnsSeen] = {}

    @property
    def changes(self) -> tuple[str, ...]:
        """What the run did not leave as it was."""
        return self.before.changes(self.after)
