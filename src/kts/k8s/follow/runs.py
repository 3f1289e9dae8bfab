"""The runs that are in a cluster, as a list."""

from __future__ import annotations

import time

import msgspec

from kts.k8s.cluster.api import Api
from kts.k8s.objects import Object, fleet, podstate
from kts.k8s.objects.names import (
    ANNOTATION_BLOCKS,
    ANNOTATION_EXPERIMENT,
    APP,
    LABEL_APP,
    LABEL_ROLE,
    LABEL_RUN,
)


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a cluster, for a list. ``state``: what its pods say together."""

    run: str
    namespace: str
    experiment: str
    state: str
    age_s: float


def runs(api: Api, namespace: str | None) -> list[RunState]:
    """The runs of a namespace (None: of all), the youngest first."""
    owners = api.list("ConfigMap", namespace, {LABEL_APP: APP, LABEL_ROLE: "owner"})
    pods = api.list("Pod", namespace, {LABEL_APP: APP})
    found = []
    for owner in owners:
        run = podstate.labelled(owner, LABEL_RUN)
        annotations = owner["metadata"].get("annotations") or {}
        mine = [pod for pod in pods if podstate.labelled(pod, LABEL_RUN) == run]
        blocks = str(annotations.get(ANNOTATION_BLOCKS, ""))
        found.append(
            RunState(
                run=run,
                namespace=owner["metadata"]["namespace"],
                experiment=annotations.get(ANNOTATION_EXPERIMENT, ""),
                state=_state(mine, blocks),
                age_s=podstate.age_s(owner, time.time()),
            )
        )
    found += _fleets(api, namespace)
    return sorted(found, key=lambda state: state.age_s)


def _fleets(api: Api, namespace: str | None) -> list[RunState]:
    """The fleets, each with how many of its nodes are over."""
    owners = api.list("ConfigMap", namespace, {LABEL_APP: APP, LABEL_ROLE: fleet.ROLE})
    jobs = api.list("Job", namespace, {LABEL_APP: APP, LABEL_ROLE: fleet.MEMBER}) if owners else []
    by_fleet = {podstate.labelled(job, LABEL_RUN): job for job in jobs}
    return [_fleet(owner, by_fleet.get(podstate.labelled(owner, LABEL_RUN))) for owner in owners]


def _fleet(owner: Object, job: Object | None) -> RunState:
    state = "stopped"
    if job is not None:
        over, wanted, waits = fleet.counts(job)
        state = "waiting for its queue" if waits else f"{over} of {wanted} nodes over"
    return RunState(
        run=podstate.labelled(owner, LABEL_RUN),
        namespace=owner["metadata"]["namespace"],
        experiment=(owner["metadata"].get("annotations") or {}).get(ANNOTATION_EXPERIMENT, ""),
        state=state,
        age_s=podstate.age_s(owner, time.time()),
    )


def _state(pods: list[Object], blocks: str) -> str:
    """``blocks``: how many there are, where each has pods of its own."""
    conductor = next((pod for pod in pods if podstate.is_conductor(pod)), None)
    if conductor is None:
        return "no conductor"
    tenants = [pod for pod in pods if podstate.tenant(pod)]
    here = podstate.phase(conductor) == "Running"
    ended = bool(tenants) and all(podstate.ended(pod) for pod in tenants)
    if here and blocks and tenants:
        latest = max((podstate.block(pod) or 0) + 1 for pod in tenants)
        if str(latest) != blocks or not ended:
            return f"block {latest} of {blocks} {'over' if ended else 'running'}"
    if here and ended:
        return "over, to be collected"
    return {"Running": "running", "Pending": "pending", "Succeeded": "over", "Failed": "failed"}.get(
        podstate.phase(conductor), "unknown"
    )
