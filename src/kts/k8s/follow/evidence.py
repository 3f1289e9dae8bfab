"""cluster.json: what the cluster itself says of a run, and the two sources for which GPU its tenants had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kts.k8s.objects import Object, podstate
from kts.model.run import RunInfo
from kts.units import ns_to_s

CLUSTER_VERSION = 1
_NODE_INFO = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "architecture")


def proof(info: RunInfo, pods: Sequence[Object]) -> dict[str, Object]:
    """Per tenant: ``worker``, what NVML showed the worker itself; ``kubelet``, what the pod's status says; ``agree``.

    ``agree`` is None where one of the two tells nothing: then nothing is proven by it.
    """
    given: dict[str, set[str]] = {}
    for pod in pods:
        given.setdefault(podstate.tenant(pod), set()).update(podstate.gpus(pod))
    result: dict[str, Object] = {}
    for worker in info.workers:
        kubelet = tuple(sorted(given.get(worker.tenant, ())))
        agree = tuple(sorted(worker.gpus)) == kubelet if worker.gpus and kubelet else None
        result[worker.tenant] = {"worker": list(worker.gpus), "kubelet": list(kubelet), "agree": agree}
    return result


def proof_notes(proven: dict[str, Object]) -> list[str]:
    """What a reader must know of the proof, one line each."""
    notes = []
    apart = sorted(name for name, entry in proven.items() if entry["agree"] is False)
    if apart:
        notes.append(f"GPU PROOF FAILS for {', '.join(apart)}: worker and kubelet name different GPUs (cluster.json)")
    for source in ("worker", "kubelet"):
        silent = sorted(name for name, entry in proven.items() if not entry[source])
        if silent:
            notes.append(f"GPU proof: the {source} does not tell which GPU {', '.join(silent)} had")
    return notes


def times(info: RunInfo, wall_s: float | None) -> dict[str, float]:
    """Seconds: ``blocks``; and ``wall``, from creation to end, with ``overhead``, what of it is outside of blocks. Both
    are absent where they are not known, or two clocks contradict each other."""
    blocks_s = ns_to_s(sum(block.end_ns - block.start_ns for block in info.blocks))
    found = {"blocks": round(blocks_s, 3)}
    if wall_s is None or wall_s < blocks_s or info.outcome.kind == "running":
        return found
    return {"wall": round(wall_s, 3), **found, "overhead": round(wall_s - blocks_s, 3)}


def describe(
    *,
    version: str,
    reached_by: str,
    pods: Sequence[Object],
    node: Object | None,
    events: Sequence[Object],
    proven: dict[str, Object],
    altered: Mapping[str, Sequence[str]],
    times: dict[str, float],
) -> Object:
    """The content of cluster.json. Holds no environment variables, so no secrets."""
    return {
        "schema": CLUSTER_VERSION,
        "kubernetes": version,
        "reached_by": reached_by,
        "times_s": times,
        "gpus": proven,
        "altered": dict(altered),
        "pods": [_pod(pod) for pod in pods],
        "node": _node(node) if node else None,
        "events": [_event(event) for event in events],
    }


def _pod(pod: Object) -> Object:
    spec = pod.get("spec") or {}
    containers = [{key: c.get(key) for key in ("name", "image", "resources")} for c in spec.get("containers") or ()]
    return {
        "name": podstate.name(pod),
        "tenant": podstate.tenant(pod),
        "node": spec.get("nodeName", ""),
        "runtime_class": spec.get("runtimeClassName", ""),
        "containers": containers,
        "status": pod.get("status") or {},
    }


def _node(node: Object) -> Object:
    status = node.get("status") or {}
    labels = node["metadata"].get("labels") or {}
    return {
        "name": node["metadata"]["name"],
        "info": {key: (status.get("nodeInfo") or {}).get(key) for key in _NODE_INFO},
        "allocatable": status.get("allocatable") or {},
        "labels": {key: value for key, value in labels.items() if key.startswith("nvidia.com/")},
        "conditions": {c["type"]: c["status"] for c in status.get("conditions") or ()},
    }


def _event(event: Object) -> Object:
    involved = event.get("involvedObject") or {}
    return {
        "time": event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"),
        "object": f"{involved.get('kind')}/{involved.get('name')}",
        "type": event.get("type"),
        "reason": event.get("reason"),
        "message": event.get("message"),
        "count": event.get("count"),
    }
