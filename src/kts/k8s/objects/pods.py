"""The pods of a run: the conductor's, and those of the tenants' Jobs. Pure.

All pods of a run must be on one node: they share its CLOCK_MONOTONIC, by which blocks start. Where the node is named
each pod goes there by itself, so that the conductor starts even if no tenant can. Where the scheduler chooses, tenants
attract each other, and the conductor follows them, since only they ask for what the node must have; tenants of a later
block follow the conductor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kts.k8s.objects import Object, beside
from kts.k8s.objects.merging import REQUIRED, templated
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN, STATUS_PORT, WORKER_PORT
from kts.k8s.objects.runnames import conductor_name, labels_of, meta, object_name, service_variable
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
DEFAULT_RUNTIME_CLASS = "nvidia"
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


def conductor(plan: Plan, run: str, settings: ClusterSettings, mode: SharingMode) -> Object:
    """The Pod that conducts the run, and keeps what is measured until it is fetched."""
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
    template = {"metadata": meta(conductor_name(run), run, "conductor", settings), "spec": spec}
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


def _runtime_class(settings: ClusterSettings) -> Object:
    name = DEFAULT_RUNTIME_CLASS if settings.runtime_class is None else settings.runtime_class
    return {"runtimeClassName": name} if name else {}


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
