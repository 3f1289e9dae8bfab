"""What happened to a pod on its GPU, told as an event of it, so that `kubectl describe pod` shows it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kts.errors import SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.objects import Object
from kts.k8s.objects.names import WATCH
from kts.watch.calls import WatchedProcess
from kts.watch.live import Happened

AGAIN_S = 600.0
"""Before the same is told of the same pod again: whatever goes on is one event."""
MOST = 256
"""Pods and kinds of events that are remembered."""
REASONS = {"new-neighbour": "GpuNewNeighbour", "tail-doubled": "GpuTailDoubled", "gpu-lost": "GpuLost"}
"""What is told of a pod; the rest is of the node, or of kts watch itself."""
_LONGEST = 1024
"""Characters of a message, as Kubernetes takes it."""


class PodEvents:
    """``problem``: why the last event was not taken; empty if it was."""

    def __init__(
        self, api: Api, node: str, *, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.problem = ""
        self._api, self._node, self._now, self._wall = api, node, now, wall
        self._told: dict[tuple[str, str], float] = {}

    def tell(self, happened: Happened, process: WatchedProcess) -> bool:
        """Whether it was told now: not where it is no matter of a pod, was told a while ago, or is refused. Raises
        nothing: watching goes on. ``process``: one of the unit that it happened to."""
        key, now_s = (process.pod_uid, happened.what), self._now()
        if happened.what not in REASONS or not (process.pod and process.namespace and process.pod_uid):
            return False
        if now_s - self._told.get(key, float("-inf")) < AGAIN_S:
            return False
        try:
            self._api.create(event(happened, process, self._node, self._wall()))
        except SetupError as error:
            self.problem = error.what
            return False
        self.problem = ""
        self._told.pop(key, None)
        self._told[key] = now_s
        if len(self._told) > MOST:
            del self._told[next(iter(self._told))]  # the one told longest ago
        return True


def event(happened: Happened, process: WatchedProcess, node: str, wall_s: float) -> Object:
    """An event of the pod, at ``wall_s`` since the epoch. Its name is the same for the same, so that none is
    there twice."""
    at = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    of = f"{process.pod_uid} {happened.what} {node} {happened.at_ns}"
    name = f"{process.pod[:200]}.{hashlib.sha256(of.encode()).hexdigest()[:16]}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": process.pod,
        "namespace": process.namespace,
        "uid": process.pod_uid,
    }
    if process.container_name:
        pod["fieldPath"] = f"spec.containers{{{process.container_name}}}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": process.namespace},
        "involvedObject": pod,
        "type": "Warning",
        "reason": REASONS[happened.what],
        "message": happened.words[:_LONGEST],
        "source": {"component": WATCH, "host": node},
        "reportingComponent": f"kts.dev/{WATCH}",
        "reportingInstance": node,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
