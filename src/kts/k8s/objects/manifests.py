"""From a plan to Kubernetes objects. Pure: the same arguments give the same objects.

A run is a ConfigMap that owns the rest (`owned`), a Secret with the run's token, a Service, the conductor's Pod,
one Job per tenant and a NetworkPolicy. In the classic design there is a Job per tenant and block
(`kts.k8s.objects.classic_jobs`). Tenants find the conductor by the Service's environment variable, which needs neither
DNS nor the pod's address, so that ``kubectl apply`` of the objects alone runs the experiment.

All pods of a run must be on one node: they share its CLOCK_MONOTONIC, by which blocks start. Where the node is named
each pod goes there by itself, so that the conductor starts even if no tenant can. Where the scheduler chooses, tenants
attract each other, and the conductor follows them, since only they ask for what the node must have; tenants of a later
block follow the conductor.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kts import __version__
from kts.errors import UsageError
from kts.k8s.objects import Object, beside, egress, sharingmode
from kts.k8s.objects.names import (
    ANNOTATION_BLOCKS,
    ANNOTATION_CREATED,
    ANNOTATION_EXPERIMENT,
    ANNOTATION_VERSION,
    APP,
    LABEL_APP,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_TENANT,
    STATUS_PORT,
    WORKER_PORT,
)
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import SharingMode
from kts.model.plan import Plan, Program

PLAN_MOUNT = "/etc/kts/run"
TOKEN_MOUNT = "/etc/kts/token"
DATA_MOUNT = "/var/lib/kts"
USER_ID = 10001
UNPRIVILEGED = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of a pod that passes the restricted Pod Security level."""
CONTAINERS = ("conductor", "worker", beside.PROGRAM)
"""Of the pods of a run; what a pod template says of one is for the pods that have it."""
DEFAULT_RUNTIME_CLASS = "nvidia"
LONGEST_NAME = 63
RUN_ID = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,28}[a-z0-9])?")
_CONNECT = f"import socket; socket.create_connection(('127.0.0.1', {STATUS_PORT}), 4)"
LISTENS = {
    "exec": {"command": ["python3", "-ISc", _CONNECT]},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "failureThreshold": 600,
}
"""Makes ready mean that the conductor listens, whatever the network lets through. Asked until then, and never while
the run is measured."""
SPARE_S = 3600
"""On top of what a run may take, before Kubernetes ends its pods by itself."""
TTL_S = 86_400
_CLAIM = "gpu"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def checked_run_id(run: str) -> str:
    """``run``. UsageError if Kubernetes could not name objects by it."""
    if not RUN_ID.fullmatch(run):
        raise UsageError(f"--run-id: {run!r} is no ID", "use 1 to 30 of a-z, 0-9 and '-', with no '-' at an end")
    return run


def object_name(run: str) -> str:
    """Name of a run's ConfigMap (its owner), Secret, Service and NetworkPolicy."""
    return f"kts-{run}"


def conductor_name(run: str) -> str:
    """Name of the conductor's Pod."""
    return f"kts-{run}-conductor"


def job_name(run: str, tenant: str) -> str:
    """Name of a tenant's Job: unique in the run, and short enough for the label that Kubernetes makes of it."""
    name = f"kts-{run}-{tenant}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(tenant.encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7].rstrip('-')}-{digest}"


def service_variable(run: str) -> str:
    """The environment variable in which Kubernetes gives pods the address of the run's Service."""
    return f"{object_name(run).replace('-', '_').upper()}_SERVICE_HOST"


def render(
    plan: Plan,
    *,
    run: str,
    token: str,
    settings: ClusterSettings,
    experiment_text: str,
    created: str,
    mode: SharingMode | None = None,
) -> list[Object]:
    """All objects of a run, in the order in which they must be created; the first of kind ConfigMap is the owner.

    In the classic design without its Jobs, which come block by block: `kts.k8s.objects.classic_jobs`.
    ``plan.device`` must be decided (cpu or cuda). ``created``: RFC 3339, kept as an annotation.
    """
    objects = [namespace_object(settings)] if settings.create_namespace else []
    objects += [
        _owner(plan, run, settings, experiment_text, created),
        secret(run, token, settings),
        _service(run, settings),
        *_network_policies(run, settings),
        _conductor(plan, run, settings, mode or sharingmode.asked(plan, settings)),
    ]
    command = ["python3", "-P", "-m", "kts.worker", "--join"]
    names = () if is_classic(plan) else tuple(tenant.name for tenant in plan.tenants)
    jobs = (worker_job(plan, run, settings, name=job_name(run, n), tenant=n, command=command) for n in names)
    return [*objects, *jobs]


def is_classic(plan: Plan) -> bool:
    """True where each block has Jobs of its own."""
    return plan.design == "classic"


def owned(objects: Sequence[Object], uid: str) -> list[Object]:
    """The objects without Namespace and owner, each owned by the run's ConfigMap of that ``uid``."""
    owner = next(o for o in objects if o["kind"] == "ConfigMap")
    rest = [o for o in objects if o["kind"] != "Namespace" and o is not owner]
    return [owned_by(o, owner["metadata"]["name"], uid) for o in rest]


def owned_by(obj: Object, owner: str, uid: str) -> Object:
    """The object, owned by the ConfigMap of that name and ``uid``."""
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


def merged(base: Any, patch: Any) -> Any:
    """Strategic merge: maps are merged (None removes), lists of named items by name, all else is replaced."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        result = dict(base)
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merged(base[key], value) if key in base else value
        return result
    if _named(base) and _named(patch):
        by_name = {item["name"]: item for item in base}
        for item in patch:
            by_name[item["name"]] = merged(by_name.get(item["name"], {}), item)
        return list(by_name.values())
    return patch


def to_yaml(objects: Sequence[Object]) -> str:
    """The objects as one YAML stream for ``kubectl apply -f -``."""
    import yaml

    return yaml.safe_dump_all(objects, sort_keys=False, width=120)


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, Mapping) and "name" in i for i in value)


def labels_of(run: str, role: str, tenant: str = "") -> dict[str, str]:
    """The labels of an object of that run."""
    labels = {
        LABEL_APP: APP,
        "app.kubernetes.io/managed-by": "kts",
        "app.kubernetes.io/component": role,
        LABEL_RUN: run,
        LABEL_ROLE: role,
    }
    return {**labels, LABEL_TENANT: tenant} if tenant else labels


def _meta(name: str, run: str, role: str, settings: ClusterSettings) -> Object:
    return {"name": name, "namespace": settings.namespace, "labels": labels_of(run, role)}


def namespace_object(settings: ClusterSettings) -> Object:
    """The namespace of the run."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace}}


def _owner(plan: Plan, run: str, settings: ClusterSettings, text: str, created: str) -> Object:
    """The ConfigMap that holds what the run is, and owns all that it is made of."""
    meta = _meta(object_name(run), run, "owner", settings)
    meta["annotations"] = {
        ANNOTATION_CREATED: created,
        ANNOTATION_EXPERIMENT: plan.name,
        ANNOTATION_VERSION: __version__,
        **({ANNOTATION_BLOCKS: str(plan.rounds * len(plan.conditions))} if is_classic(plan) else {}),
    }
    data = {
        "plan.json": msgspec.json.encode(plan).decode(),
        "experiment.yaml": text,
        "settings.json": msgspec.json.encode(settings).decode(),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def secret(run: str, token: str, settings: ClusterSettings) -> Object:
    """The Secret with the run's token."""
    meta = _meta(object_name(run), run, "token", settings)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "stringData": {"token": token}}


def _service(run: str, settings: ClusterSettings) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(object_name(run), run, "service", settings),
        "spec": {
            "selector": {LABEL_RUN: run, LABEL_ROLE: "conductor"},
            "ports": [{"name": "worker", "port": WORKER_PORT, "targetPort": WORKER_PORT}],
            "publishNotReadyAddresses": True,
        },
    }


def _network_policies(run: str, settings: ClusterSettings) -> list[Object]:
    """Only the run's tenants reach the workers' port. The API server's address is unknown, so the token guards the
    other port. What the pods may reach is said where others restrict it: `kts.k8s.objects.egress`."""
    tenants = {"podSelector": {"matchLabels": {LABEL_RUN: run, LABEL_ROLE: "tenant"}}}
    spec: Object = {
        "podSelector": {"matchLabels": {LABEL_RUN: run, LABEL_ROLE: "conductor"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [tenants], "ports": [{"protocol": "TCP", "port": WORKER_PORT}]},
            {"ports": [{"protocol": "TCP", "port": STATUS_PORT}]},
        ],
    }
    policies = [_network_policy(object_name(run), run, settings, spec)]
    if settings.egress:
        asks_api = bool(settings.service_account)
        spec["policyTypes"] = ["Ingress", "Egress"]
        spec["egress"] = egress.of_conductor(run, exporter=settings.dcgm, asks_api=asks_api)
        reached: Object = {**tenants, "policyTypes": ["Egress"], "egress": egress.of_tenants(run)}
        policies.append(_network_policy(f"{object_name(run)}-tenants", run, settings, reached))
    return policies


def _network_policy(name: str, run: str, settings: ClusterSettings, spec: Object) -> Object:
    meta = _meta(name, run, "policy", settings)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def _conductor(plan: Plan, run: str, settings: ClusterSettings, mode: SharingMode) -> Object:
    told = {
        "KTS_RUN": run,
        "KTS_MODE": msgspec.json.encode(mode).decode(),
        "KTS_JOIN_S": str(settings.join_s + settings.wait_s),
        "KTS_KEEP_S": str(settings.keep_s),
        **_telemetry_env(plan, settings),
        **_scope_env(settings),
    }
    container = {
        **unprivileged("conductor", ["python3", "-P", "-m", "kts.k8s.pod.conductor"], settings),
        "env": [*_variables(told), _node_name()],
        "ports": [{"name": "worker", "containerPort": WORKER_PORT}, {"name": "status", "containerPort": STATUS_PORT}],
        "startupProbe": LISTENS,
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        "volumeMounts": [
            {"name": "run", "mountPath": PLAN_MOUNT, "readOnly": True},
            {"name": "token", "mountPath": TOKEN_MOUNT, "readOnly": True},
            {"name": "data", "mountPath": DATA_MOUNT},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    volumes = [
        {"name": "run", "configMap": {"name": object_name(run)}},
        {"name": "token", "secret": {"secretName": object_name(run)}},
        {"name": "data", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    spec = _pod_spec({LABEL_RUN: run, LABEL_ROLE: "tenant"}, container, volumes, settings)
    spec["activeDeadlineSeconds"] = deadline_s(plan) + settings.keep_s
    if _sees_nvml(plan, settings):
        spec |= _runtime_class(settings)
    if settings.service_account:
        spec |= {"serviceAccountName": settings.service_account, "automountServiceAccountToken": True}
    template = {"metadata": _meta(conductor_name(run), run, "conductor", settings), "spec": spec}
    return {"apiVersion": "v1", "kind": "Pod", **templated(template, settings)}


def _sees_nvml(plan: Plan, settings: ClusterSettings) -> bool:
    return settings.telemetry and plan.device == "cuda"


def _telemetry_env(plan: Plan, settings: ClusterSettings) -> dict[str, str]:
    """NVML without a slot of the device plugin: the container runtime mounts it for whoever asks so, if it is set to;
    where it is not, NVML is not there, and the run says so."""
    env = {"KTS_TELEMETRY": "on" if settings.telemetry else "off"}
    if settings.telemetry and settings.dcgm:
        env["KTS_DCGM"] = settings.dcgm
    if settings.telemetry and settings.dcgm_missing:
        env["KTS_DCGM_MISSING"] = settings.dcgm_missing
    if _sees_nvml(plan, settings):
        env |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"}
    return env


def _scope_env(settings: ClusterSettings) -> dict[str, str]:
    """What the run shares with whom, for looks at its neighbours."""
    shares = {"KTS_NAMESPACE": settings.namespace, "KTS_RESOURCE": settings.resource, "KTS_CLAIM": settings.claim}
    return {name: value for name, value in shares.items() if value}


def worker_job(
    plan: Plan,
    run: str,
    settings: ClusterSettings,
    *,
    name: str,
    tenant: str,
    command: list[str],
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    extra_labels: Mapping[str, str] | None = None,
) -> Object:
    """A Job of one pod that runs a worker of ``tenant`` once; ``env`` on top of what every worker gets."""
    container = {
        **unprivileged("worker", command, settings),
        **({"args": list(args)} if args else {}),
        "env": [*_variables(env or {}), *_tenant_env(tenant, run, settings), *_worker_env(plan)],
        "resources": _resources(plan, settings),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = _pod_spec({LABEL_RUN: run}, container, [{"name": "tmp", "emptyDir": {}}], settings)
    spec |= _runtime_class(settings)
    if settings.claim:
        spec["resourceClaims"] = [{"name": _CLAIM, "resourceClaimName": settings.claim}]
    labels = {**labels_of(run, "tenant", tenant), **(extra_labels or {})}
    template: Object = {"metadata": {"labels": dict(labels)}, "spec": spec}
    work = plan.tenant(tenant).work
    if isinstance(work, Program) and work.image:
        template["spec"] = beside.spec_of(spec, work, container, see_nvml=_sees_nvml(plan, settings))
        template["metadata"]["annotations"] = dict(beside.DEFAULT_CONTAINER)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": settings.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": deadline_s(plan),
            "ttlSecondsAfterFinished": TTL_S,
            "template": templated(template, settings),
        },
    }


def pod_labels(plan: Plan, settings: ClusterSettings, run: str) -> list[dict[str, str]]:
    """Labels of the pods that a run has: the conductor's, and each tenant's."""
    given = (settings.pod_template.get("metadata") or {}).get("labels") or {}
    tenants = (labels_of(run, "tenant", tenant.name) for tenant in plan.tenants)
    return [{**given, **labels} for labels in (labels_of(run, "conductor"), *tenants)]


def pod_specs(plan: Plan, settings: ClusterSettings) -> list[Object]:
    """Specs of the pods that a run has at once, at most: the conductor's, and each tenant's in the plan's order."""
    jobs = [worker_job(plan, "r", settings, name=t.name, tenant=t.name, command=[]) for t in plan.tenants]
    conductor = _conductor(plan, "r", settings, sharingmode.asked(plan, settings))
    return [conductor["spec"], *(job["spec"]["template"]["spec"] for job in jobs)]


def _runtime_class(settings: ClusterSettings) -> Object:
    name = DEFAULT_RUNTIME_CLASS if settings.runtime_class is None else settings.runtime_class
    return {"runtimeClassName": name} if name else {}


def templated(template: Object, settings: ClusterSettings) -> Object:
    """The pod with the user's template merged in; what that says of the other role's container is not for this pod.

    The node is pinned last: a template's own node affinity holds beside it, and not in its place.
    """
    patch = settings.pod_template
    containers = (patch.get("spec") or {}).get("containers") or []
    if _named(containers):
        mine = {container["name"] for container in template["spec"]["containers"]}
        kept = [c for c in containers if c["name"] in mine or c["name"] not in CONTAINERS]
        spec = {key: value for key, value in patch["spec"].items() if key != "containers"}
        patch = {**patch, "spec": {**spec, **({"containers": kept} if kept else {})}}
    pod = merged(template, patch)
    return {**pod, "spec": _on_node(pod["spec"], settings.node)} if settings.node else dict(pod)


def _on_node(spec: Object, node: str) -> Object:
    """The pod's spec for the node of that name: a name is unique, and its hostname label may differ from it."""
    affinity = dict(spec.get("affinity") or {})
    nodes = dict(affinity.get("nodeAffinity") or {})
    terms = (nodes.get(REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    named = {"key": "metadata.name", "operator": "In", "values": [node]}
    pinned = [{**term, "matchFields": [*(term.get("matchFields") or ()), named]} for term in terms]
    nodes[REQUIRED] = {"nodeSelectorTerms": pinned}
    return {**spec, "affinity": {**affinity, "nodeAffinity": nodes}}


def _tenant_env(tenant: str, run: str, settings: ClusterSettings) -> list[Object]:
    where = {
        "KTS_TENANT": tenant,
        "KTS_CONDUCTOR": f"$({service_variable(run)}):{WORKER_PORT}",
        "KTS_CONDUCTOR_NAME": f"{object_name(run)}.{settings.namespace}.svc",
    }
    token = {"name": "KTS_TOKEN", "valueFrom": {"secretKeyRef": {"name": object_name(run), "key": "token"}}}
    return [*_variables(where), token, *_variables({"KTS_JOIN_S": str(settings.join_s + settings.wait_s)})]


def _worker_env(plan: Plan) -> list[Object]:
    env = [{"name": "HOME", "value": "/tmp"}, _node_name()]
    # On the CPU device the node's last core is what the tenants share.
    return [*env, {"name": "KTS_CORES", "value": "last"}] if plan.device == "cpu" else env


def _variables(values: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _node_name() -> Object:
    return {"name": "KTS_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}


def unprivileged(name: str, command: list[str], settings: ClusterSettings) -> Object:
    """A container without any rights."""
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _resources(plan: Plan, settings: ClusterSettings) -> Object:
    """Guaranteed, with a whole CPU, beside a GPU. On the CPU device a small request and no limit: a limit is enforced
    by throttling, which looks like sharing."""
    if plan.device == "cpu":
        limits = {"memory": settings.memory or "512Mi", **({"cpu": settings.cpu} if settings.cpu else {})}
        requests = {"cpu": settings.cpu or "100m", "memory": limits["memory"]}
    else:
        limits = {"cpu": settings.cpu or "1", "memory": settings.memory or "4Gi"}
        requests = dict(limits)
    if settings.claim:
        return {"limits": limits, "requests": requests, "claims": [{"name": _CLAIM}]}
    if settings.resource:
        limits, requests = {**limits, settings.resource: "1"}, {**requests, settings.resource: "1"}
    return {"limits": limits, "requests": requests}


def _pod_spec(beside: dict[str, str], container: Object, volumes: list[Object], settings: ClusterSettings) -> Object:
    """``beside``: labels of the pods whose node it must share, where no node is named."""
    together = {"labelSelector": {"matchLabels": beside}, "topologyKey": "kubernetes.io/hostname"}
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": True,
        "terminationGracePeriodSeconds": 5,
        **({"nodeSelector": dict(settings.node_selector)} if settings.node_selector else {}),
        **({"tolerations": all_} if (all_ := tolerations(settings)) else {}),
        **({} if settings.node else {"affinity": {"podAffinity": {REQUIRED: [together]}}}),
        "securityContext": dict(UNPRIVILEGED),
        "containers": [container],
        "volumes": volumes,
    }


def tolerations(settings: ClusterSettings) -> list[Object]:
    """The user's, and that of the taint by which clusters keep other pods off nodes with the resource.

    Kubernetes' admission plugin ExtendedResourceToleration, where it is on, gives it to pods that ask for the resource;
    the conductor's does not, and must follow its tenants.
    """
    own = {"key": settings.resource, "operator": "Exists", "effect": "NoSchedule"}
    return [*settings.tolerations, *([own] if settings.resource else [])]


def deadline_s(plan: Plan) -> int:
    """After how many seconds Kubernetes ends a run's pods by itself."""
    return round(2 * (plan.max_seconds or 6 * 3600)) + SPARE_S
