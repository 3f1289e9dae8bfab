"""A cluster in memory with several nodes and Indexed Jobs, behind HTTP: its pods are processes that ask it, too."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kts.errors import SetupError
from kts.k8s.cluster.api import _PATHS, Conflict
from kts.k8s.objects import fleet, podstate
from kts.k8s.objects.names import LABEL_INDEX, LABEL_JOB, LABEL_RUN
from tests.helpers_cluster_here import ClusterHere, Object
from tests.helpers_conductor import free_port

GPU = "nvidia.com/gpu"
_KINDS = {plural: kind for kind, (_, plural) in _PATHS.items()}
_PATH = re.compile(
    r"/api(?:s/[^/]+)?/[^/]+(?:/namespaces/(?P<ns>[^/]+)(?=/))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>log|proxy)(?P<rest>/.*)?)?"
)


def node(name: str, slots: int = 4, *, ready: bool = True, cordoned: bool = False, **labels: str) -> Object:
    """A Node as its kubelet would tell it."""
    condition = {"type": "Ready", "status": "True" if ready else "Unknown", "message": "" if ready else "no word"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": cordoned},
        "status": {"conditions": [condition], "allocatable": {GPU: str(slots)} if slots else {}},
    }


class FleetHere(ClusterHere):
    """``nodes``: all that there are. Runs at ``url``; ``kubeconfig`` is a file that leads there."""

    def __init__(self, folder: Path, nodes: list[Object]) -> None:
        super().__init__(folder)
        self.nodes = nodes
        self.accounts = {"default", "kts"}
        self.most_at_once = 0
        self._lock = threading.RLock()
        self._doors: dict[str, int] = {}
        self._ports: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.kubeconfig = folder / "kubeconfig"
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "me"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }  # fmt: skip
        self.kubeconfig.write_text(json.dumps(config), encoding="utf-8")

    def __exit__(self, *error: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for process in self.processes.values():
                process.send_signal(signal.SIGCONT)
            super().__exit__(*error)

    # what is asked

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        with self._lock:
            if kind == "Node":
                return next((one for one in self.nodes if podstate.name(one) == name), None)
            absent = kind == "ServiceAccount" and name not in self.accounts
            if absent or kind in ("RuntimeClass", "ResourceClaim"):
                return None
            return super().get(kind, name, namespace)

    def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Object]:
        del namespace
        with self._lock:
            self._answer()
            if kind == "Node":
                return self.nodes
            self._tick()
            wanted = (labels or {}).items()
            found = [obj for (k, _), obj in self.objects.items() if k == kind]
            return json.loads(json.dumps([o for o in found if wanted <= o["metadata"]["labels"].items()]))  # type: ignore[no-any-return]

    def create(self, obj: Object) -> Object:
        with self._lock:
            return super().create(obj)

    def delete(self, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> bool:
        """Pods are told to end, and are gone once they have."""
        with self._lock:
            self._answer()
            if kind == "Pod":
                return self._terminate(name)
            for (k, pod), obj in list(self.objects.items()):
                if k == "Pod" and kind == "Job" and obj["metadata"]["labels"].get(LABEL_JOB) == name:
                    self._terminate(pod)
            return super().delete(kind, name, namespace, grace_s=grace_s)

    # what controllers and kubelets do

    def _terminate(self, pod: str) -> bool:
        if ("Pod", pod) not in self.objects:
            return False
        self.objects["Pod", pod]["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
        self.processes[pod].terminate()
        return True

    def _tick(self) -> None:
        for kind, name in list(self.objects):
            if kind == "Pod":
                self._look_at(self.objects[kind, name])
                gone = "deletionTimestamp" in self.objects[kind, name]["metadata"]
                if gone and self.processes[name].poll() is not None:
                    del self.objects[kind, name]
        for (kind, name), obj in list(self.objects.items()):
            if kind == "Job" and obj["spec"].get("completionMode") == "Indexed":
                self._next(name, obj)

    def _next(self, name: str, job: Object) -> None:
        """The pods of an Indexed Job that may run now."""
        pods = [
            o for (k, _), o in self.objects.items() if k == "Pod" and o["metadata"]["labels"].get(LABEL_JOB) == name
        ]
        over = [pod for pod in pods if podstate.ended(pod)]
        active = len(pods) - len(over)
        done = {"succeeded": sum(podstate.phase(pod) == "Succeeded" for pod in over)}
        job["status"] = {**done, "failed": len(over) - done["succeeded"]}
        begun = {fleet.index_of(pod) for pod in pods}
        if job["spec"].get("suspend") or name in self.podless:
            return
        for index in (k for k in range(job["spec"]["completions"]) if k not in begun):
            if active >= job["spec"]["parallelism"]:
                break
            active += 1
            self._begin(name, job, index)
        self.most_at_once = max(self.most_at_once, active)

    def _begin(self, name: str, job: Object, index: int) -> None:
        template = job["spec"]["template"]
        labels = {**template["metadata"]["labels"], LABEL_JOB: name, LABEL_INDEX: str(index)}
        pod_name = f"{name}-{index}-x"
        meta = {"name": pod_name, "labels": labels, "namespace": "kts", "creationTimestamp": "2026-01-01T00:00:00Z"}
        pod = {"kind": "Pod", "metadata": meta, "spec": template["spec"]}
        self.objects["Pod", pod_name] = pod
        self._start(pod)

    def run_job(self, job: str) -> None:
        if self.objects["Job", job]["spec"].get("completionMode") != "Indexed":
            super().run_job(job)

    def _env(self, pod: Object) -> dict[str, str]:
        """What a kubelet, a Service and a mount would bring."""
        run, name = podstate.labelled(pod, LABEL_RUN), podstate.name(pod)
        port = self._ports.setdefault(run, free_port())
        files = self._folder / run
        files.mkdir(exist_ok=True)
        for key, text in self.objects["ConfigMap", f"kts-{run}"]["data"].items():
            (files / key).write_text(text, encoding="utf-8")
        (files / "token").write_text(self._token_of(run), encoding="utf-8")
        if podstate.tenant(pod):
            return {"KTS_CONDUCTOR": f"127.0.0.1:{port}", "KTS_TOKEN": self._token_of(run)}
        self._doors[name] = free_port()
        return {
            "KTS_PLAN": str(files / "plan.json"),
            "KTS_TOKEN_FILE": str(files / "token"),
            "KTS_DATA": str(files / "data"),
            "KTS_PORT": str(port),
            "KTS_STATUS_PORT": str(self._doors[name]),
            "KUBECONFIG": str(self.kubeconfig),
            "JOB_COMPLETION_INDEX": str(fleet.index_of(pod) or 0),
        }

    def _door(self, pod: str) -> int:
        return self._doors.get(pod, 1)

    def _node_of(self, pod: Object) -> str:
        affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        return required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0] if required else "elsewhere"


class _Handler(BaseHTTPRequestHandler):
    """As much of the API server's HTTP as `kts.k8s.cluster.api` speaks."""

    protocol_version = "HTTP/1.1"
    cluster: FleetHere

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(200, self._value(body))
        except Conflict as error:
            self._answer(409, {"message": error.what})
        except SetupError as error:
            self._answer(503, {"message": error.what})

    do_GET = do_POST = do_DELETE = _do  # noqa: N815 - as http.server calls them

    def _value(self, body: bytes) -> Any:  # noqa: PLR0911 - a line per kind of request
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.endswith("/version"):
            return {"gitVersion": self.cluster.version()}
        if "accessreviews" in url.path:
            return {"status": {"allowed": True}}
        match = _PATH.fullmatch(url.path)
        assert match is not None, url.path
        kind, name, namespace = _KINDS[match["plural"]], match["name"], match["ns"] or ""
        if match["sub"] == "log":
            return b"".join(self.cluster.logs(name, namespace))
        if match["sub"] == "proxy":
            _, pod, port = name.split(":")
            headers = {key: self.headers[key] for key in ("X-Kts-Token",) if key in self.headers}
            more = {"headers": headers, "params": query, "body": body}
            return self.cluster.proxy(self.command, namespace, pod, int(port), match["rest"], **more)
        if self.command == "POST":
            return self.cluster.create(json.loads(body))
        if self.command == "DELETE":
            self.cluster.delete(kind, name, namespace)
            return {}
        if name is not None:
            return self.cluster.get(kind, name, namespace)
        pairs = (part.partition("=") for part in query.get("labelSelector", "").split(",") if part)
        return {"items": self.cluster.list(kind, namespace or None, {key: value for key, _, value in pairs})}

    def _answer(self, code: int, value: Any) -> None:
        if value is None:
            code, value = 404, {"message": "not found"}
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""
