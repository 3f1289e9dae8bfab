"""What containers are called: by the pods of a node, or by how the kubelet names their logs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kts.k8s.objects import Object

STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
CONFIG_HASH = "kubernetes.io/config.hash"
"""Annotation of a static pod: the UID that its cgroup bears, where the API server gave it another."""
LONGEST = 255 - len(".log")
"""To this the kubelet cuts the name of a log's link: its end, the container's ID, goes first."""
_ID = re.compile(r"[0-9a-f]{64}")
_TARGET = re.compile(r".*/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_(?P<uid>[^/_]+)/(?P<container>[^/]+)/[^/]+")
"""Where such a link leads: /var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log. No name in it holds a ``_``."""


class PodName(NamedTuple):
    """What a container is called; without ``container``: its pod."""

    namespace: str
    pod: str
    container: str = ""


class NamesKnown(NamedTuple):
    """``containers``: by a container's ID; ``pods``: by a pod's UID, without a container."""

    containers: Mapping[str, PodName]
    pods: Mapping[str, PodName]

    def get(self, pod_uid: str, container: str) -> PodName | None:
        """The name; without the container where only its pod is known; None if neither is."""
        return self.containers.get(container) or self.pods.get(pod_uid)


def of_pods(pods: Iterable[Object]) -> NamesKnown:
    """From pods as the kubelet or the API server lists them. What is not as Kubernetes has it is left out."""
    containers: dict[str, PodName] = {}
    uids: dict[str, PodName] = {}
    for pod in pods:
        meta = pod.get("metadata") or {}
        namespace, name = str(meta.get("namespace", "")), str(meta.get("name", ""))
        if not (namespace and name):
            continue
        uids |= dict.fromkeys(_uids(meta), PodName(namespace, name))
        for kind in STATUSES:
            for status in (pod.get("status") or {}).get(kind) or ():
                found = str(status.get("containerID") or "").rpartition("//")[2]  # containerd://ID
                if found:
                    containers[found] = PodName(namespace, name, str(status.get("name", "")))
    return NamesKnown(containers, uids)


def _uids(meta: Object) -> list[str]:
    found = [str(meta.get("uid") or ""), str((meta.get("annotations") or {}).get(CONFIG_HASH, ""))]
    return [uid for uid in found if uid]


def of_logs(links: Iterable[tuple[str, str]]) -> NamesKnown:
    """From (name, target) of the links in the kubelet's folder of containers' logs. Others' files are left out.

    A name is POD_NAMESPACE_CONTAINER-ID.log, cut to 255 characters: where that cut the ID, only the pod is known.
    """
    containers: dict[str, PodName] = {}
    uids: dict[str, PodName] = {}
    for link, target in links:
        if not (told := _TARGET.fullmatch(target)) or not link.endswith(".log"):
            continue
        uids[told["uid"]] = PodName(told["namespace"], told["pod"])
        found = link.removesuffix(".log").rpartition("-")[2]
        if _ID.fullmatch(found):
            containers[found] = PodName(told["namespace"], told["pod"], told["container"])
    return NamesKnown(containers, uids)
