"""Ways to share a device, one file each: what a mode prepares, and how everything is put back.

What proves a mode, each tenant's process sees by itself once it computes: `kts.worker.sharing`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kts.errors import UsageError
from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MPS, STREAMS, TIGHTEST, TIME_SLICING, Mode
from kts.model.plan import InMode, Plan
from kts.sharing import folders, mps, streams, turns
from kts.sharing.port import Held, Sharing

KINDS: dict[str, Sharing] = {
    EXCLUSIVE: turns,
    TIME_SLICING: turns,
    CPU_SCHEDULER: turns,
    MPS: mps,
    STREAMS: streams,
}
"""Modes that a run can be measured in."""
ALONE = Mode(name=EXCLUSIVE, kind=EXCLUSIVE)


PRIORITY = "priority"


def parse(text: str) -> tuple[Mode, ...]:
    """``time-slicing,mps,mps:50,streams:priority,a=mps``: modes by kind, MPS with a percentage of threads, streams with
    a tenant that goes first, each by a name of its own.

    UsageError for what is no mode.
    """
    return tuple(_mode(word.strip()) for word in text.split(","))


def _mode(word: str) -> Mode:
    name, equals, what = word.rpartition("=")
    kind, colon, setting = what.partition(":")
    if kind not in KINDS:
        raise UsageError(f"--modes: no mode {kind!r}", f"there are: {', '.join(KINDS)}")
    if equals and not (name and name.replace("-", "").isalnum() and name.isascii()):
        raise UsageError(f"--modes: {name!r} is no name", "letters, digits and -")
    if not colon:
        return Mode(name=name or kind, kind=kind)
    if kind == STREAMS:
        return _streams(name, setting)
    if kind != MPS or not (setting.isascii() and setting.isdecimal() and 1 <= int(setting) <= 100):
        raise UsageError(f"--modes: {word!r}: only MPS has a percentage, from 1 to 100", "for example mps:50")
    return Mode(name=name or f"{kind}-{setting}", kind=kind, threads_percent=int(setting))


def _streams(name: str, setting: str) -> Mode:
    """``priority``: for the tenant with the tightest SLO; ``priority:TENANT``: for that one."""
    word, colon, tenant = setting.partition(":")
    if word != PRIORITY or (colon and not tenant):
        raise UsageError(
            f"--modes: {STREAMS}:{setting}: streams have a priority, or none",
            f"{STREAMS}, {STREAMS}:{PRIORITY} (for the tightest SLO) or {STREAMS}:{PRIORITY}:TENANT",
        )
    usual = "-".join(filter(None, (STREAMS, PRIORITY, tenant)))
    return Mode(name=name or usual, kind=STREAMS, first=tenant or TIGHTEST)


def check(plan: Plan) -> None:
    """UsageError where a mode of the plan cannot be one of its device."""
    on_cpu = plan.device == "cpu"
    for one in plan.modes:
        if one.mode.first and on_cpu:
            raise UsageError(
                f"--modes: {one.mode.name}: a CPU core has no streams, and so no priority among them",
                f"for a CPU core: {STREAMS}, whose tenants are threads of one process",
            )
        if one.mode.kind not in (EXCLUSIVE, STREAMS) and on_cpu != (one.mode.kind == CPU_SCHEDULER):
            what = (
                "a CPU core is shared by the kernel's scheduler alone" if on_cpu else "that is how a CPU core is shared"
            )
            raise UsageError(
                f"--modes: {one.mode.kind} on the device {plan.device}: {what}",
                f"for a CPU core: {EXCLUSIVE},{CPU_SCHEDULER},{STREAMS}; for a GPU: all but {CPU_SCHEDULER}",
            )


@contextmanager
def prepared(plan: Plan) -> Iterator[Held]:
    """What the plan's modes need is there, and gone afterwards. What killed runs of this user left is ended first.

    SetupError where a mode cannot be had here; what was prepared before is put back.
    """
    with ExitStack() as stack:
        env: dict[str, Mapping[str, str]] = {}
        held: list[Held] = []
        if plan.modes:
            end_orphans()
            everybody = InMode(mode=ALONE, tenants={tenant.name: tenant.name for tenant in plan.tenants}, mixes={})
            held.append(stack.enter_context(turns.prepared([everybody])))  # who runs alone is nobody's client either
        for kind, sharing in KINDS.items():
            arms = [one for one in plan.modes if one.mode.kind == kind]
            if arms and sharing is not turns:
                held.append(stack.enter_context(sharing.prepared(arms)))
        for one in held:
            env |= {name: {**env.get(name, {}), **own} for name, own in one.env.items()}
        yield Held(env, lambda: tuple(text for one in held for text in one.trouble()))


def end_orphans() -> list[Path]:
    """Ends what runs of this user left that were killed: daemons, folders. What it was."""
    left = folders.orphans(turns.KIND)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return [*mps.end_orphans(), *left]
