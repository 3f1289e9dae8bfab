"""The pods of dcgm-exporter, as its chart, the GPU operator and GKE make them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kts.k8s.objects import Object

AUTO = "auto"
"""In place of an exporter's URL: kts looks for one."""

SELECTORS = (
    "app.kubernetes.io/name in (dcgm-exporter,gke-managed-dcgm-exporter)",
    "app in (nvidia-dcgm-exporter,dcgm-exporter)",
)
"""The chart's and GKE's; the operator's."""
NAMESPACES = ("gpu-operator", "nvidia-gpu-operator", "gke-managed-system", "monitoring", "kube-system")
"""Where exporters usually are, for users who may not list the pods of all."""
PORT = 9400
_PORT_NAME = "metrics"


class Exporter(NamedTuple):
    """One that runs. ``url``: where the cluster's pods, and its node, reach it; another pod in its place will have
    another."""

    namespace: str
    pod: str
    node: str
    port: int
    url: str
    labels: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """For a message."""
        return f"{self.namespace}/{self.pod}"


def exporters(pods: Iterable[Object]) -> list[Exporter]:
    """Those of ``pods`` that run, each once, in order of their names. With hostNetwork the address is the node's."""
    found = {}
    for pod in pods:
        status, spec = pod.get("status") or {}, pod.get("spec") or {}
        address = status.get("podIP") or ""
        if not address or status.get("phase") != "Running" or "deletionTimestamp" in pod["metadata"]:
            continue
        container, port = _door(spec)
        host = f"[{address}]" if ":" in address else address
        probe = (container.get("livenessProbe") or container.get("readinessProbe") or {}).get("httpGet") or {}
        scheme = str(probe.get("scheme") or "HTTP").lower()
        one = Exporter(
            namespace=pod["metadata"].get("namespace", ""),
            pod=pod["metadata"]["name"],
            node=spec.get("nodeName", ""),
            port=port,
            url=f"{scheme}://{host}:{port}/metrics",
            labels=pod["metadata"].get("labels") or {},
        )
        found[one.name] = one
    return [found[name] for name in sorted(found)]


def service_url(one: Exporter, services: Iterable[Object]) -> str:
    """The address of a Service that leads to the exporter, and to the pod after it; empty if there is none. One that
    leads to this node's alone comes first: others may lead to another node's exporter."""
    found = []
    for service in services:
        spec = service.get("spec") or {}
        selector, address = spec.get("selector") or {}, spec.get("clusterIP") or "None"
        if address == "None" or not selector or not selector.items() <= one.labels.items():
            continue
        host = f"[{address}]" if ":" in address else address
        found += [
            (
                spec.get("internalTrafficPolicy") != "Local",
                f"{one.url.partition(':')[0]}://{host}:{port['port']}/metrics",
            )
            for port in spec.get("ports") or []
            if port.get("targetPort", port["port"]) in (_PORT_NAME, one.port)
        ]
    return min(found)[1] if found else ""


def _door(spec: Object) -> tuple[Object, int]:
    """(container, port) that answer: the port of that name, or of that number; sidecars may have others."""
    containers = spec.get("containers") or [{}]
    ports = [(container, port) for container in containers for port in container.get("ports") or []]
    for fits in (_is_named, _is_usual):
        for container, port in ports:
            if fits(port):
                return container, int(port["containerPort"])
    return containers[0], PORT


def _is_named(port: Object) -> bool:
    return port.get("name") == _PORT_NAME


def _is_usual(port: Object) -> bool:
    return port.get("containerPort") == PORT
