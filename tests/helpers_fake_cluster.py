"""A cluster in memory that runs the classic design's Jobs: what the API server would answer, without one."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from kts.k8s.cluster.api import Conflict, Missing, Silent, Unavailable
from kts.k8s.objects.names import LABEL_BLOCK, LABEL_TENANT
from kts.model.run import ClockPair
from kts.wire.appline import AppLine
from kts.worker.applog import AppLog
from tests.helpers_log import META, T0, stamped
from tests.helpers_worker import MS, FakeClock

Object = dict[str, Any]
Lines = list[str]

OFFSET_NS = -1_699_000_000_000_000_000
"""CLOCK_MONOTONIC less CLOCK_REALTIME on the node."""

_CREATED = {"creationTimestamp": "2026-01-01T00:00:00Z"}


class FakeCluster:
    """Every Job's pod runs as soon as it is made, and has ended at the second look after its log was read.

    ``spoil`` changes a pod's lines, ``uuids`` which GPU a block gets, ``kind`` what its worker takes it for, ``codes``
    how a tenant's pod ends. The log of a pod in ``held`` breaks off before its end, again and again; that of one in
    ``hung`` ends in silence, and that of one in ``cut_off`` cannot be had. While ``away`` is above 0 every call fails,
    and counts it down.
    """

    server = "fake"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.spoil: Callable[[str, Lines], Lines] = lambda _, lines: lines
        self.uuids: dict[str, str] = {}
        self.kind: Literal["cuda", "cpu"] = "cpu"
        self.codes: dict[str, int] = {}
        self.held: set[str] = set()
        self.hung: set[str] = set()
        self.cut_off: set[str] = set()
        self.away = 0
        self.created: list[str] = []
        self.size = 48
        self._read: set[str] = set()
        self._uids = itertools.count(1)

    def _answer(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise Unavailable("the server is away", "wait")

    def version(self) -> str:
        return "v1.34.2"

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        del namespace
        self._answer()
        if kind in ("Namespace", "ServiceAccount", "Node"):
            labels = {"kubernetes.io/hostname": "node"}
            return {"kind": kind, "metadata": {"name": name, "labels": labels}, "status": {}}
        return self.objects.get((kind, name))

    def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Object]:
        del namespace
        self._answer()
        if kind == "Node":
            ready = [{"type": "Ready", "status": "True"}]
            node = {"conditions": ready, "allocatable": {"nvidia.com/gpu": "4"}}
            return [{"metadata": {"name": "node", "labels": {}}, "spec": {}, "status": node}]
        found = [obj for (k, _), obj in self.objects.items() if k == kind]
        for pod in found if kind == "Pod" else ():
            self._advance(pod)
        wanted = (labels or {}).items()
        return [msgspec.json.decode(msgspec.json.encode(o)) for o in found if wanted <= o["metadata"]["labels"].items()]

    def create(self, obj: Object) -> Object:
        self._answer()
        key = (obj["kind"], obj["metadata"]["name"])
        if key in self.objects:
            raise Conflict(f"{key} is there", "")
        made = {**obj, "metadata": {**obj["metadata"], "uid": f"uid-{next(self._uids)}", **_CREATED}}
        self.objects[key] = made
        if obj["kind"] == "Job":
            self.created.append(obj["metadata"]["name"])
            if not obj["spec"].get("suspend"):
                self._make_pod(obj)
        return made

    def delete(self, kind: str, name: str, namespace: str = "", propagation: str = "Background") -> bool:
        del namespace, propagation
        self._answer()
        self.objects.pop(("Pod", f"{name}-pod"), None)
        return self.objects.pop((kind, name), None) is not None

    def logs(self, pod: str, namespace: str, *, follow: bool = False, **_: object) -> Iterator[bytes]:
        del namespace
        self._answer()
        if ("Pod", pod) not in self.objects:
            raise Missing(pod, "")
        if any(part in pod for part in self.cut_off):
            raise Unavailable("the kubelet does not answer", "")
        yield b"".join(stamped(self.spoil(pod, self.printed(pod))))
        self._read.add(pod)
        if follow and any(part in pod for part in self.hung):
            raise Silent("nothing came", "")
        if follow and self._held(pod):
            raise Unavailable("the connection broke", "")

    def _held(self, pod: str) -> bool:
        return any(part in pod for part in self.held | self.hung | self.cut_off)

    def _make_pod(self, job: Object) -> None:
        name, labels = f"{job['metadata']['name']}-pod", job["spec"]["template"]["metadata"]["labels"]
        uuid = self.uuids.get(labels[LABEL_BLOCK], "GPU-1")
        container = {
            "containerID": "containerd://x",
            "state": {"running": {}},
            "allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": [{"resourceID": f"{uuid}::1"}]}],
        }
        self.objects["Pod", name] = {
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "namespace": "kts"},
            "spec": {**job["spec"]["template"]["spec"], "nodeName": "node"},
            "status": {"phase": "Running", "containerStatuses": [container]},
        }

    def _advance(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if name in self._read and not self._held(name):
            code = self.codes.get(pod["metadata"]["labels"][LABEL_TENANT], 0)
            pod["status"]["phase"] = "Failed" if code else "Succeeded"
            reason = {137: "OOMKilled", 0: "Completed"}.get(code, "Error")
            pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": code, "reason": reason}}

    def printed(self, pod: str) -> Lines:
        """What the pod's worker prints, by its environment."""
        obj = self.objects["Pod", pod]
        labels, container = obj["metadata"]["labels"], obj["spec"]["containers"][0]
        env = {item["name"]: item.get("value", "") for item in container["env"]}
        app, tenant, block = env["KTS_APP_NAME"], labels[LABEL_TENANT], labels[LABEL_BLOCK]
        begin_ns = T0 + int(block) * 100_000 * MS
        uuid = self.uuids.get(block, "GPU-1")
        meta = msgspec.structs.replace(
            META,
            app=app,
            workload=container["args"][0],
            size=int(env.get("MATRIX_SIZE") or self.size),
            solo_ms=2.0 if "TARGET_MS" in env else None,
            device=msgspec.structs.replace(META.device, kind=self.kind, uuid=uuid),
            clock=ClockPair(realtime_ns=begin_ns, monotonic_ns=begin_ns + OFFSET_NS, error_ns=50),
            gpus=(uuid,),
            hostname=f"{tenant}-{block}",
        )
        clock, out = FakeClock(step_ns=0), io.StringIO()
        log = AppLog(app, out, framed=True, echo_s=0.05, now=clock)
        log.begin(meta)
        for i in range(int(env["ITERATIONS"])):
            start_ns = begin_ns + i * 10 * MS
            latency_ns = MS * (2 if env["KTS_PHASE"] == "shared" else 1) + i * 997 % 5000
            log.iteration(
                AppLine(
                    app=app,
                    i=i,
                    start_ns=start_ns,
                    end_ns=start_ns + latency_ns,
                    device_ms=latency_ns / MS,
                    phase=env["KTS_PHASE"],
                )
            )
            clock.push_ms(10)
        log.end(clock.sleep)
        return out.getvalue().splitlines(keepends=True)
