"""What proves where a run ran: the GPUs by two sources, and cluster.json. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kts.k8s import podstate
from kts.model.run import RunInfo

Object = dict[str, Any]


def proof(info: RunInfo, pods: Sequence[Object]) -> dict[str, Object]:
    """Per tenant: ``worker``, the GPUs that NVML showed it, and ``kubelet``, the devices that its pod was given."""
    seen = {worker.tenant: sorted(worker.gpus) for worker in info.workers}
    given = {podstate.tenant(pod): sorted(podstate.devices(pod)) for pod in pods if podstate.tenant(pod)}
    return {
        tenant.name: {"worker": seen.get(tenant.name, []), "kubelet": given.get(tenant.name, [])}
        for tenant in info.plan.tenants
    }


def proof_notes(proven: Mapping[str, Object]) -> list[str]:
    """What a reader must know: tenants apart, sources that disagree, and sources that are absent."""
    seen = {tenant: set(entry["worker"]) for tenant, entry in proven.items() if entry["worker"]}
    given = {
        tenant: {device.partition("::")[0] for device in entry["kubelet"]}
        for tenant, entry in proven.items()
        if entry["kubelet"]
    }
    notes = [
        f"caution: {tenant} sees {_words(seen[tenant])}, its pod was given {_words(given[tenant])}:"
        " which GPU it used is not proven"
        for tenant in sorted(seen.keys() & given.keys())
        if not given[tenant] <= seen[tenant]
    ]
    for source, found in (("NVML in the worker", seen), ("the kubelet (ResourceHealthStatus)", given)):
        lacking = sorted(proven.keys() - found.keys())
        if lacking:
            notes.append(f"GPU proof: {source} names no GPU for {', '.join(lacking)}")
    apart = different(proven)
    return [*notes, f"caution: the tenants do not share one GPU: {apart}"] if apart else notes


def different(proven: Mapping[str, Object]) -> str:
    """Who has which GPU, if a source says that no GPU is common to all its tenants; else empty."""
    for source in ("kubelet", "worker"):
        known = {t: {g.partition("::")[0] for g in e[source]} for t, e in proven.items() if e[source]}
        if len(known) > 1 and not set.intersection(*known.values()):
            return ", ".join(f"{tenant} on {_words(gpus)}" for tenant, gpus in sorted(known.items()))
    return ""


def describe(
    *,
    version: str,
    pods: Sequence[Object],
    node: Object | None,
    events: Sequence[Object],
    proven: Mapping[str, Object],
    times: Mapping[str, float],
) -> Object:
    """The content of cluster.json. ``times`` in seconds. Nothing secret: no environment, no volumes."""
    return {
        "kubernetes": version,
        "times_s": dict(times),
        "gpu_proof": dict(proven),
        "node": _node(node) if node else None,
        "pods": [_pod(pod) for pod in pods],
        "events": sorted((_event(event) for event in events), key=lambda event: str(event["time"])),
    }


def _words(gpus: set[str]) -> str:
    return "+".join(sorted(gpus))


def _pod(pod: Object) -> Object:
    meta = pod["metadata"]
    kept = {key: meta.get(key) for key in ("name", "namespace", "uid", "labels", "creationTimestamp")}
    return {**kept, "node": (pod.get("spec") or {}).get("nodeName", ""), "status": pod.get("status") or {}}


def _node(node: Object) -> Object:
    status, meta = node.get("status") or {}, node["metadata"]
    kept = {key: status.get(key) for key in ("allocatable", "conditions", "nodeInfo")}
    return {"name": meta["name"], "labels": meta.get("labels") or {}, **kept}


def _event(event: Object) -> Object:
    about = event.get("involvedObject") or {}
    return {
        "time": event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"),
        "object": f"{about.get('kind')}/{about.get('name')}",
        "reason": event.get("reason", ""),
        "message": event.get("message", ""),
        "count": event.get("count") or 1,
    }
