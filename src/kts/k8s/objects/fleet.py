"""Many nodes, one experiment: an Indexed Job whose pods run kts, each on a node of its own. Pure.

A fleet is a ConfigMap that owns the rest, a Secret and the Job. The pod of index k is the client of an ordinary run
on node k (`kts.app.member`), and serves its run directory at the door of `kts.k8s.pod.door`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kts import __version__
from kts.errors import SetupError, UsageError
from kts.k8s.objects import Object, manifests, merging, offers, pods, runnames, selector, slots
from kts.k8s.objects.names import (
    ANNOTATION_CREATED,
    ANNOTATION_EXPERIMENT,
    ANNOTATION_VERSION,
    LABEL_INDEX,
    LABEL_QUEUE,
    SERVICE_ACCOUNT,
    STATUS_PORT,
)
from kts.k8s.objects.settings import ClusterSettings
from kts.model.fleet import FleetNode
from kts.model.plan import Plan

ROLE, MEMBER = "fleet", "member"
SPEC = "fleet.json"
GRACE_S = 60
"""For a member that is told to end: its run ends in order, and is fetched."""
SPARE_S = 600
_BUSY = "nvidia.com/gpu.present"


class FleetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a fleet is: ``nodes`` in the order of the Job's indices, and those that were ``skipped``.

    ``settings``: of every run, but for its node. ``image``: holds the whole kts. ``at_once``: so many nodes at a time.
    ``queue``: Kueue's LocalQueue; empty: none.
    """

    id: str
    experiment: str
    selector: str
    created_ns: int
    nodes: tuple[str, ...]
    skipped: tuple[FleetNode, ...] = ()
    settings: ClusterSettings
    image: str
    at_once: int = 1
    queue: str = ""

    def run_id(self, index: int) -> str:
        """ID of the run on a node, as in any cluster."""
        return f"{self.id}-{index}"


def chosen(
    nodes: Sequence[Object], selecting: str, settings: ClusterSettings
) -> tuple[tuple[str, ...], tuple[FleetNode, ...]]:
    """(nodes to measure on, those that match and cannot be), by name. SetupError if there is none of the former."""
    conditions = selector.parsed(selecting)
    wanted = dict(settings.node_selector).items()
    matching = [
        node
        for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
        if wanted <= (labels := node["metadata"].get("labels") or {}).items() and selector.matches(conditions, labels)
    ]
    out = {str(node["metadata"]["name"]): why for node in matching if (why := _unfit(node, settings.resource))}
    fit = tuple(name for node in matching if (name := str(node["metadata"]["name"])) not in out)
    if not fit:
        told = "; ".join(f"{name} {why}" for name, why in out.items()) or "no node has such labels"
        raise SetupError(f"--nodes {selecting!r}: no node to measure on: {told}", "kubectl get nodes --show-labels")
    code, remedy = SetupError.exit_code, "kubectl describe node"
    skipped = (
        FleetNode(node=name, state="skipped", reason=why, remedy=f"{remedy} {name}", exit_code=code)
        for name, why in out.items()
    )
    return fit, tuple(skipped)


def _unfit(node: Object, resource: str) -> str:
    if why := slots.out_of_service(node):
        return why
    if resource and not offers.offered(node, [resource])[1]:
        return f"offers no {resource}" + (f": {there}" if (there := offers.words(node)) else "")
    return ""


def check(settings: ClusterSettings, at_once: int) -> None:
    """UsageError for what a fleet does not do."""
    if settings.node:
        raise UsageError("--node and --nodes: which?", "--node NAME runs on one, --nodes SELECTOR on each that matches")
    if settings.claim:
        raise UsageError("--claim with --nodes: one ResourceClaim is of one node", "leave it out: --resource NAME")
    if at_once < 1:
        raise UsageError(f"--at-once {at_once}: no node would be measured", "give 1 or more")


def render(spec: FleetSpec, plan: Plan, *, token: str, experiment_text: str, created: str) -> list[Object]:
    """All objects of a fleet; the first one is the owner. ``created``: RFC 3339."""
    settings = spec.settings
    meta: Object = {"name": runnames.object_name(spec.id), "namespace": settings.namespace}
    annotations = {
        ANNOTATION_CREATED: created,
        ANNOTATION_EXPERIMENT: plan.name,
        ANNOTATION_VERSION: __version__,
    }
    data = {
        SPEC: msgspec.json.encode(spec).decode(),
        "plan.json": msgspec.json.encode(plan).decode(),
        "experiment.yaml": experiment_text,
    }
    labels = runnames.labels_of(spec.id, ROLE)
    meta_of_owner = {**meta, "labels": labels, "annotations": annotations}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta_of_owner, "data": data}
    return [owner, manifests.secret(spec.id, token, settings), _job(spec, plan, meta)]


def _job(spec: FleetSpec, plan: Plan, meta: Object) -> Object:
    """A node that fails does not end the others, and no node is tried twice."""
    at_once = min(spec.at_once, len(spec.nodes))
    turns = -(-len(spec.nodes) // at_once)
    labels = runnames.labels_of(spec.id, MEMBER)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**meta, "labels": {**labels, **({LABEL_QUEUE: spec.queue} if spec.queue else {})}},
        "spec": {
            **({"suspend": True} if spec.queue else {}),  # as Kueue wants it; it resumes what it admits
            "completionMode": "Indexed",
            "completions": len(spec.nodes),
            "parallelism": at_once,
            "backoffLimitPerIndex": 0,
            "maxFailedIndexes": len(spec.nodes),
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": turns * _member_s(spec, plan),
            "ttlSecondsAfterFinished": pods.TTL_S,
            "template": _member(spec, plan, labels),
        },
    }


def _member_s(spec: FleetSpec, plan: Plan) -> int:
    return pods.deadline_s(plan) + spec.settings.keep_s + SPARE_S


def _member(spec: FleetSpec, plan: Plan, labels: dict[str, str]) -> Object:
    """Best beside no GPU: what follows a run should not disturb another one."""
    settings = msgspec.structs.replace(spec.settings, image=spec.image, node="")
    name = runnames.object_name(spec.id)
    away = {"matchExpressions": [{"key": _BUSY, "operator": "DoesNotExist"}]}
    container = {
        **pods.unprivileged(MEMBER, ["python3", "-P", "-m", "kts.app.member"], settings),
        "env": [{"name": "HOME", "value": "/tmp"}],
        "ports": [{"name": "status", "containerPort": STATUS_PORT}],
        "startupProbe": pods.LISTENS,
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}},
        "volumeMounts": [
            {"name": "run", "mountPath": pods.PLAN_MOUNT, "readOnly": True},
            {"name": "token", "mountPath": pods.TOKEN_MOUNT, "readOnly": True},
            {"name": "data", "mountPath": pods.DATA_MOUNT},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "activeDeadlineSeconds": _member_s(spec, plan),
        **({"tolerations": list(settings.tolerations)} if settings.tolerations else {}),
        "affinity": {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": away}]}
        },
        "securityContext": dict(pods.UNPRIVILEGED),
        "containers": [container],
        "volumes": [
            {"name": "run", "configMap": {"name": name}},
            {"name": "token", "secret": {"secretName": name}},
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    return merging.templated({"metadata": {"labels": dict(labels)}, "spec": pod}, settings)


def index_of(pod: Object) -> int | None:
    """Which node's pod it is, by its index; None if it tells none."""
    meta = pod["metadata"]
    text = str((meta.get("labels") or {}).get(LABEL_INDEX) or (meta.get("annotations") or {}).get(LABEL_INDEX, ""))
    return int(text) if text.isascii() and text.isdecimal() else None


def newest(pods: Iterable[Object]) -> dict[int, Object]:
    """Each index's pod; of several the one that was made last."""
    found = sorted(
        ((index, str(pod["metadata"].get("creationTimestamp", "")), k, pod) for k, pod in enumerate(pods)
         if (index := index_of(pod)) is not None),
        key=lambda one: one[:3],
    )  # fmt: skip
    return {index: pod for index, _, _, pod in found}


def is_of(run: str, fleet: str) -> bool:
    """Whether a run of that ID is one of the fleet's."""
    head, _, tail = run.rpartition("-")
    return head == fleet and tail.isascii() and tail.isdecimal()


def counts(job: Object) -> tuple[int, int, bool]:
    """(nodes over, nodes in all, waiting for its queue) as the Job's status has it."""
    status, wanted = job.get("status") or {}, job["spec"]
    over = int(status.get("succeeded") or 0) + int(status.get("failed") or 0)
    return over, int(wanted.get("completions") or 0), bool(wanted.get("suspend"))
