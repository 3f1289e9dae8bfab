"""Ways to share a device, one file each: what a mode prepares, and how everything is put back.

What proves a mode, each tenant's process sees by itself once it computes: `kts.worker.sharing`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from kts.errors import SetupError, UsageError
from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MIG, MPS, STREAMS, TIGHTEST, TIME_SLICING, Mode
from kts.model.plan import InMode, Plan
from kts.model.sharing_facts import MpsProcess, SharedMachine
from kts.sharing import folders, mig, mps, parts, state, streams, turns
from kts.sharing.port import Held, Sharing
from kts.worker.detect import cuda_devices

KINDS: dict[str, Sharing] = {
    EXCLUSIVE: turns,
    TIME_SLICING: turns,
    CPU_SCHEDULER: turns,
    MPS: mps,
    STREAMS: streams,
    MIG: mig,
}
"""Modes that a run can be measured in."""
ALONE = Mode(name=EXCLUSIVE, kind=EXCLUSIVE)


PRIORITY = "priority"


def parse(text: str) -> tuple[Mode, ...]:
    """``time-slicing,mps,mps:50,streams:priority,a=mps``: modes by kind, MPS with settings
    (`kts.sharing.mps.with_settings`), streams with a tenant that goes first, each by a name of its own.

    UsageError for what is no mode.
    """
    return tuple(_mode(word.strip()) for word in text.split(","))


def _mode(word: str) -> Mode:
    head, colon, settings = word.partition(":")
    name, equals, kind = head.rpartition("=")
    if kind not in KINDS:
        raise UsageError(f"--modes: no mode {kind!r}", f"there are: {', '.join(KINDS)}")
    if equals and not (name and name.replace("-", "").isalnum() and name.isascii()):
        raise UsageError(f"--modes: {name!r} is no name", "letters, digits and -")
    if not colon:
        return Mode(name=name or kind, kind=kind)
    if kind == STREAMS:
        return _streams(name, settings)
    if kind != MPS:
        raise UsageError(f"--modes: {word!r}: {kind} has no settings", "for example mps:50, or streams:priority")
    usual = f"{kind}-{settings}".replace(":", "-").replace("=", "-")
    return mps.with_settings(Mode(name=name or usual, kind=kind), settings)


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


def in_pods(text: str) -> str:
    """The one mode that a run in pods is to be in, which its node or claim is set to. UsageError for what no run in
    pods can be."""
    modes = parse(text)
    kind = modes[0].kind
    if len(modes) > 1:
        raise UsageError(
            f"--modes {text} in pods: a node shares its GPU in one way at a time, and a run does not change it",
            "for each mode set the node (kts choose prints the lines), kts run --on k8s --modes MODE; then kts compare",
        )
    if kind == EXCLUSIVE:
        raise UsageError("--modes exclusive in pods: nothing is shared in it", "every run has each tenant alone anyway")
    if kind == STREAMS:
        raise UsageError(
            "--modes streams in pods: its tenants are threads of one process, and each pod is a process of its own",
            "kts run --modes streams on the machine that has the GPU, without --on k8s",
        )
    if modes[0] != Mode(name=modes[0].name, kind=kind):
        raise UsageError(
            f"--modes {text} in pods: the device plugin, or the claim, sets the limits of MPS",
            "--modes mps; limits that are lower than the node's: env of the containers, by --pod-template",
        )
    return kind


def check(plan: Plan) -> None:
    """UsageError where a mode of the plan cannot be one of its device."""
    on_cpu = plan.device == "cpu"
    others = [one.mode.name for one in plan.modes if one.mode.kind not in (EXCLUSIVE, MIG)]
    if others and any(one.mode.kind == MIG for one in plan.modes):
        raise UsageError(
            f"--modes: {MIG} beside {', '.join(others)}: a GPU that is cut is no whole one for the others",
            f"{EXCLUSIVE},{MIG} in one run, and the others in another, on a whole GPU",
        )
    for one in plan.modes:
        if one.mode.above and one.mode.above not in one.tenants:
            raise UsageError(
                f"--modes: {one.mode.name}: no tenant {one.mode.above!r}", f"one of: {', '.join(one.tenants)}"
            )
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


@dataclass(frozen=True)
class Reconfigured:
    """What was changed of a machine, in words; ``before``: as it was, None where nothing may be changed."""

    notes: tuple[str, ...] = ()
    before: SharedMachine | None = None


@contextmanager
def reconfigured(plan: Plan, *, allowed: bool) -> Iterator[Reconfigured]:
    """MIG devices for the plan's tenants are there, and what was made of them is gone afterwards; without ``allowed``
    nothing is made. What killed runs of this user made is taken away first.

    UsageError where the plan has no use for it, SetupError where they cannot be had.
    """
    if not allowed:
        yield Reconfigured()
        return
    arm = next((one for one in plan.modes if one.mode.kind == MIG), None)
    if arm is None or plan.device == "cpu":
        raise UsageError(
            "--allow-reconfigure: MIG devices are made for the mode mig, on a GPU", "--modes exclusive,mig"
        )
    check(replace(plan, device="cuda"))
    parts.end_orphans()
    before = state.look("cuda")
    with parts.made(len(arm.tenants)) as note:
        yield Reconfigured((note,) if note else (), before)


@contextmanager
def prepared(plan: Plan) -> Iterator[Held]:
    """What the plan's modes need is there, and gone afterwards. What killed runs of this user left is ended first.

    SetupError where a mode cannot be had here; what was prepared before is put back.
    """
    if not plan.modes:
        yield Held({})
        return
    end_orphans()
    before = state.look(plan.device)
    _check_contexts(plan, before)
    with ExitStack() as stack:
        everybody = InMode(mode=ALONE, tenants={tenant.name: tenant.name for tenant in plan.tenants}, mixes={})
        held = [stack.enter_context(turns.prepared([everybody]))]  # who runs alone is nobody's client either
        for kind, sharing in KINDS.items():
            arms = [one for one in plan.modes if one.mode.kind == kind]
            if arms and sharing is not turns:
                held.append(stack.enter_context(sharing.prepared(arms)))
        env: dict[str, Mapping[str, str]] = {}
        for some in held:
            env |= {name: {**env.get(name, {}), **own} for name, own in some.env.items()}
        strangers = tuple(_stranger(one) for one in before.mps)
        yield Held(env, lambda: (*strangers, *(text for one in held for text in one.trouble())), before)


def _check_contexts(plan: Plan, before: SharedMachine) -> None:
    """SetupError where the GPU does not let in as many processes as there are tenants."""
    ours = {gpu.uuid for gpu in cuda_devices()} if plan.device == "cuda" else set()
    for gpu in before.gpus:
        now = gpu.settings.get(state.COMPUTE_MODE, state.DEFAULT)
        if gpu.uuid in ours and now != state.DEFAULT:
            raise SetupError(
                f"--modes: the compute mode of {gpu.name} ({gpu.uuid}) is {now}: it does not let every tenant in",
                "nvidia-smi -c DEFAULT, as root; kts changes no setting of a GPU",
            )


def _stranger(one: MpsProcess) -> str:
    return (
        f"MPS: {one.name} (process {one.pid} of user {one.uid}) is not of this run: who computes through it shares the "
        "GPU with these tenants"
    )


def end_orphans() -> list[Path]:
    """Ends what runs of this user left that were killed: daemons, folders. What it was."""
    left = folders.orphans(turns.KIND)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return [*mps.end_orphans(), *parts.end_orphans(), *left]
