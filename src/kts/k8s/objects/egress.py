"""What a run's pods must reach where a NetworkPolicy of the namespace lets them reach nothing. Pure.

NetworkPolicies add up: one that allows opens what another one closed. But a first one of type Egress would close what
was open, to a user's own program, too. So these exist only where the pods are isolated already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from kts.k8s.objects import Object
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN, WORKER_PORT

DNS_PORT = 53
API_PORTS = (443, 6443)
_HTTP = {"http": 80, "https": 443}


def isolated(policies: Iterable[Object], labels: Mapping[str, str]) -> bool:
    """True if one of the namespace's policies lets pods of these labels reach only what policies allow."""
    return any(_is_egress(policy["spec"]) and _selects(policy["spec"], labels) for policy in policies)


def of_tenants(run: str) -> list[Object]:
    """Rules for the tenants of a run: the conductor, and the cluster's DNS."""
    conductor = {"podSelector": {"matchLabels": {LABEL_RUN: run, LABEL_ROLE: "conductor"}}}
    dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    return [
        {"to": [conductor], "ports": [_port(WORKER_PORT)]},
        {"to": [dns], "ports": [_port(DNS_PORT, "UDP"), _port(DNS_PORT)]},
    ]


def of_conductor(run: str, *, exporter: str, asks_api: bool) -> list[Object]:
    """Rules for the conductor: DNS, the exporter of that URL, and the API server if it asks that. No label tells where
    these two are, so their ports are open to any address."""
    rules = of_tenants(run)[1:]
    url = urlsplit(exporter if "://" in exporter else "")
    if url.hostname:
        rules.append({"ports": [_port(url.port or _HTTP.get(url.scheme, 80))]})
    if asks_api:
        rules.append({"ports": [_port(port) for port in API_PORTS]})
    return rules


def _port(port: int, protocol: str = "TCP") -> Object:
    return {"protocol": protocol, "port": port}


def _is_egress(spec: Object) -> bool:
    """As Kubernetes takes it: where no types are given, Egress is one if there are such rules."""
    return "Egress" in (spec.get("policyTypes") or (["Egress"] if spec.get("egress") else []))


def _selects(spec: Object, labels: Mapping[str, str]) -> bool:
    selector = spec.get("podSelector") or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(one, labels) for one in selector.get("matchExpressions") or ())


def _matches(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    return {
        "In": value is not None and value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[expression["operator"]]
