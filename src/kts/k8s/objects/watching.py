"""What `kts watch` is on a cluster: a DaemonSet, and the rights that it cannot do without. Pure.

Each right stands here with why; docs/watch-rights.md says it to administrators, and
tests/e2e/cluster/test_watch_rights.py takes each away and sees what fails.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from kts import __version__
from kts.k8s.objects import Object
from kts.k8s.objects.names import (
    ANNOTATION_VERSION,
    APP,
    DEFAULT_WATCH_NAMESPACE,
    ENV_HOST_IP,
    ENV_KUBELET_CA,
    ENV_NAMES,
    ENV_NODE,
    ENV_TRACEFS,
    LABEL_APP,
    WATCH,
    WATCH_PORT,
)
from kts.k8s.objects.pods import DEFAULT_RUNTIME_CLASS

TRACEFS, MOUNTED = "/sys/kernel/tracing", "/tracing"
"""On the node, and in the pod. Not at the same place: AppArmor's profile for containers forbids writing below /sys."""
LOGS = "/var/log/containers"
GPU_LABELS = (
    ("nvidia.com/gpu.present", "true"),
    ("feature.node.kubernetes.io/pci-10de.present", "true"),
    ("cloud.google.com/gke-accelerator", ""),
)
"""Any of them says that a node has an NVIDIA GPU; without a value: whatever its value."""
POD_SECURITY = "pod-security.kubernetes.io"
SELECTED = {LABEL_APP: APP, "app.kubernetes.io/component": "watch"}

NamesBy = Literal["files", "kubelet", "none"]


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """An administrator's choices.

    ``names``: who tells what pods are called: the links to containers' logs, the kubelet's own API, nobody.
    ``trust_kubelet``: any certificate of the kubelet will do. ``events``: what happens is told as events of the pod.
    ``runtime_class``: which brings NVML, empty for the cluster's default. ``node_selector``: empty for all nodes that
    bear one of `GPU_LABELS`. ``arguments``: more of `kts watch`.
    """

    image: str
    namespace: str = DEFAULT_WATCH_NAMESPACE
    create_namespace: bool = True
    pull_policy: str = "Never"
    names: NamesBy = "files"
    trust_kubelet: bool = False
    events: bool = False
    runtime_class: str = DEFAULT_RUNTIME_CLASS
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    arguments: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether its pods ask anybody, and so need a token."""
        return self.events or self.names == "kubelet"


def render(settings: WatchSettings) -> list[Object]:
    """All objects, in the order in which they must be created. `cluster_name` names those that are no namespace's."""
    about = {"name": settings.namespace, "labels": {**SELECTED, **MANAGED, **_LEVELS}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": about}
    account: Object = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(settings)}
    account["automountServiceAccountToken"] = False
    return [
        *([namespace] if settings.create_namespace else []),
        account,
        *_rights(settings),
        _daemonset(settings),
    ]


_LEVELS = {f"{POD_SECURITY}/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
"""The namespace holds nothing else: hostPID and hostPath are refused at any other level."""


def cluster_name(namespace: str) -> str:
    """Of the ClusterRole and its binding: one for each namespace that watches."""
    return WATCH if namespace == DEFAULT_WATCH_NAMESPACE else f"{WATCH}:{namespace}"


def _meta(settings: WatchSettings, name: str = WATCH) -> Object:
    about: Object = {"name": name, "namespace": settings.namespace, "labels": {**SELECTED, **MANAGED}}
    return about


MANAGED = {"app.kubernetes.io/managed-by": "kts"}


def _rights(settings: WatchSettings) -> list[Object]:
    """None, unless somebody is to be asked: of the kubelet what it runs, of the API server to take an event."""
    rules = []
    if settings.names == "kubelet":
        rules.append({"apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"]})
    if settings.events:
        rules.append({"apiGroups": [""], "resources": ["events"], "verbs": ["create"]})
    if not rules:
        return []
    name = cluster_name(settings.namespace)
    about = {"name": name, "labels": {**SELECTED, **MANAGED}}
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": about, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": about,
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": WATCH, "namespace": settings.namespace}],
    }
    return [role, binding]


def _daemonset(settings: WatchSettings) -> Object:
    about = _meta(settings)
    about["annotations"] = {ANNOTATION_VERSION: __version__}
    template = {"metadata": {"labels": {**SELECTED, **MANAGED}}, "spec": _pod(settings)}
    spec = {
        "selector": {"matchLabels": SELECTED},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": about, "spec": spec}


def _pod(settings: WatchSettings) -> Object:
    spec: Object = {
        "serviceAccountName": WATCH,
        "automountServiceAccountToken": settings.asks,
        "enableServiceLinks": False,
        "hostPID": True,  # /proc of all processes of the node, and NVML's process IDs
        "terminationGracePeriodSeconds": 10,  # its probes are taken away first
        "containers": [_container(settings)],
        "volumes": [
            {"name": "tracing", "hostPath": {"path": TRACEFS, "type": "Directory"}},
            *([{"name": "logs", "hostPath": {"path": LOGS}}] if settings.names != "none" else []),
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}, *settings.tolerations],
        **_nodes(settings),
    }
    if settings.runtime_class:
        spec["runtimeClassName"] = settings.runtime_class
    return spec


def _nodes(settings: WatchSettings) -> Object:
    if settings.node_selector:
        return {"nodeSelector": dict(settings.node_selector)}
    terms = [
        {"matchExpressions": [{"key": key, **({"operator": "In", "values": [value]} if value else _EXISTS)}]}
        for key, value in GPU_LABELS
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


_EXISTS = {"operator": "Exists"}


def _container(settings: WatchSettings) -> Object:
    events = ["--events"] if settings.events else []
    return {
        "name": "watch",
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["watch", "--serve", f":{WATCH_PORT}", *events, *settings.arguments],
        "env": _environment(settings),
        "ports": [{"name": "metrics", "containerPort": WATCH_PORT}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 5, "timeoutSeconds": 5},
        "securityContext": {
            "runAsNonRoot": False,
            "runAsUser": 0,  # who owns tracefs
            "runAsGroup": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            # /proc/PID/maps and /proc/PID/root of others' processes: which of them has loaded libcuda, and which one.
            "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [
            {"name": "tracing", "mountPath": MOUNTED},
            *([{"name": "logs", "mountPath": LOGS, "readOnly": True}] if settings.names != "none" else []),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _environment(settings: WatchSettings) -> list[Object]:
    """NVML without a slot of the device plugin: the container runtime mounts it for whoever asks so."""
    told = {ENV_TRACEFS: MOUNTED, ENV_NAMES: settings.names}
    if settings.names == "kubelet" and settings.trust_kubelet:
        told[ENV_KUBELET_CA] = ""
    told |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"}
    fields = {ENV_NODE: "spec.nodeName"}
    if settings.names == "kubelet":
        fields[ENV_HOST_IP] = "status.hostIP"
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        *({"name": name, "value": value} for name, value in told.items()),
    ]
