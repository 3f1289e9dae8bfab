"""How a run on a cluster is to share its device, and what the cluster's own objects say of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kts.errors import SetupError
from kts.k8s.objects import Object, offers, podstate
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import CPU_SCHEDULER, DRA, EXCLUSIVE, MIG, MPS, TIME_SLICING, UNKNOWN, Evidence, SharingMode
from kts.model.plan import Plan

_STRATEGIES = {
    "time-slicing": TIME_SLICING,
    "timeslicing": TIME_SLICING,
    "mps": MPS,
    "none": EXCLUSIVE,
}

_LOOK = "kts k8s preflight says what the cluster offers"
_SET = {
    TIME_SLICING: "kts k8s time-slicing --replicas N --apply sets the node, strategy: TimeSlicing a claim; or leave "
    "--modes out, and it is measured as it is",
    MPS: "sharing.mps in the device plugin's config sets the node, strategy: MPS a claim (kts choose prints both); or "
    "leave --modes out, and it is measured as it is",
    MIG: "--resource nvidia.com/mig-PROFILE asks for MIG devices; or leave --modes out",
}
"""By mode, how a cluster comes to it."""


def asked(plan: Plan, settings: ClusterSettings) -> SharingMode:
    """What a run with these settings asks for: nothing of it is seen before there are pods."""
    if plan.device == "cpu":
        return SharingMode(asked=CPU_SCHEDULER)
    if settings.mode:
        return SharingMode(asked=settings.mode)
    if settings.claim:
        return SharingMode(asked=DRA)
    if "/mig-" in settings.resource:
        return SharingMode(asked=MIG)
    return SharingMode(asked=TIME_SLICING if settings.resource else UNKNOWN)


def check_as_asked(mode: SharingMode, plan: Plan, settings: ClusterSettings) -> None:
    """SetupError where a run is to be in one mode, and the node's labels or the claim say another. Where they say none,
    the pods may yet show it."""
    wanted = settings.mode
    if not wanted:
        return
    if plan.device == "cpu" and wanted != CPU_SCHEDULER:
        raise SetupError(f"--modes {wanted} on the device cpu: pods share a core by its scheduler", "leave --modes out")
    if mode.name and mode.name != wanted:
        said = next(one for one in mode.evidence if one.mode == mode.name)
        raise SetupError(
            f"--modes {wanted}: the pods would share in {mode.name} ({said.seen}, by {said.by})",
            _SET.get(wanted, _LOOK),
        )


def by_node(node: Object, resource: str, at_ns: int) -> tuple[Evidence, ...]:
    """What the node's labels say of the resource's sharing; empty if nothing."""
    told = offers.told(node, resource)
    mode = _STRATEGIES.get(told.strategy)
    if mode is None:
        return ()
    by = f"the labels of node {podstate.name(node)}"
    return (Evidence(mode=mode, seen=told.label, by=by, at_ns=at_ns, told=True),)


def by_claim(claim: Object, at_ns: int) -> tuple[Evidence, ...]:
    """What the configs in a ResourceClaim ask NVIDIA's DRA driver for; empty if they do not say."""
    ways = dict.fromkeys(_strategies(claim))
    return tuple(
        Evidence(
            mode=_STRATEGIES[way.lower()],
            seen=f"its config has sharing.strategy {way}",
            by=f"claim {podstate.name(claim)}",
            at_ns=at_ns,
            told=True,
        )
        for way in ways
        if way.lower() in _STRATEGIES
    )


def _strategies(claim: Object) -> Iterator[str]:
    for config in _at(claim, "spec", "devices", "config") or ():
        strategy = _at(config, "opaque", "parameters", "sharing", "strategy")
        if isinstance(strategy, str):
            yield strategy


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
