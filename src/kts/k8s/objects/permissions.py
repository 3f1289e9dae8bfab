"""What a run does on a cluster, as RBAC names it; deploy/rbac.yaml grants that and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

RBAC = "kubectl apply -f deploy/rbac.yaml"


class Permission(NamedTuple):
    """What a run does with one kind of object."""

    verbs: tuple[str, ...]
    group: str
    resource: str
    subresource: str = ""

    def words(self, verbs: Sequence[str]) -> str:
        """For people: e.g. ``get, create pods/proxy``."""
        return f"{', '.join(verbs)} {self.plural}"

    @property
    def plural(self) -> str:
        """As RBAC has it, e.g. ``pods/proxy``."""
        return f"{self.resource}{'/' + self.subresource if self.subresource else ''}"


_OWN = ("create", "list", "delete")
NEEDED = (
    Permission((*_OWN, "get"), "", "configmaps"),
    Permission((*_OWN, "get"), "", "secrets"),
    Permission(_OWN, "", "services"),
    Permission(_OWN, "batch", "jobs"),
    Permission(_OWN, "", "pods"),
    Permission(_OWN, "networking.k8s.io", "networkpolicies"),
    Permission(("get",), "", "pods", "log"),
    Permission(("get", "create"), "", "pods", "proxy"),
    Permission(("list",), "", "events"),
    Permission(("get",), "", "namespaces"),  # a Role in the namespace may grant it, of this one namespace
)
"""In the run's namespace: what the Role in deploy/rbac.yaml grants, and no more."""
FORWARD = Permission(("get", "create"), "", "pods", "portforward")
"""In the run's namespace, where the API server does not reach pods: what a Role of its own grants."""
HELPFUL = (
    (Permission(("list",), "", "nodes"), "the scheduler chooses the node, and the image must be named (--image)"),
    (Permission(("list",), "", "pods"), "free slots and neighbours in other namespaces are not seen"),
)
"""In the whole cluster: a run can do without, and what it then lacks."""

_DENIED = re.compile(
    r'[Uu]ser "[^"]*" cannot (?P<verb>\S+) (?:resource|path) "(?P<resource>[^"]*)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)")?'
)


def denied(message: str) -> str | None:
    """What to do where the authorizer denies a request in these words; None where the message is not the
    authorizer's."""
    if not (match := _DENIED.search(message)):
        return None
    verb, what, namespace = match["verb"], (match["group"] or "", match["resource"]), match["namespace"] or ""
    granted = (*NEEDED, FORWARD) if namespace else [one for one, _ in HELPFUL]
    if any(verb in one.verbs and (one.group, one.plural) == what for one in granted):
        where = f" --namespace {namespace}" if namespace else ""
        return f"deploy/rbac.yaml grants it; kts doctor --on k8s{where} lists what is missing"
    return "ask an administrator of the cluster for it; deploy/rbac.yaml does not grant it"
