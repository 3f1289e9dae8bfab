"""A cluster in memory whose pods are processes of this machine: as much of the API server as a run asks of it."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from kts.errors import SetupError
from kts.k8s.cluster.api import Conflict, Forbidden, Unavailable
from kts.k8s.objects import podstate
from kts.k8s.objects.names import LABEL_JOB, LABEL_RUN, STATUS_PORT
from tests.helpers_conductor import DEADLINE_S, free_port

Object = dict[str, Any]


class ClusterHere:
    """Its files lie in ``folder``; ends all its processes on exit.

    ``created``: Jobs in their order; ``beside``: tenants' pods that ran when each was made. ``gpus``: what the kubelet
    says a block's pods were given. ``podless``: Jobs of which no pod is made. ``placeless``: parts of names of pods for
    which there is no place, and the scheduler's words. ``taints``: of the node. While ``away`` every call fails.
    """

    server = "here"

    def __init__(self, folder: Path) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.created: list[str] = []
        self.beside: list[list[str]] = []
        self.gpus: dict[int, str] = {}
        self.podless: set[str] = set()
        self.placeless: dict[str, str] = {}
        self.taints: list[Object] = []
        self.away = False
        self.accounts = {"default"}
        self._folder = folder
        self._port, self._status_port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ClusterHere:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def process(self, part: str) -> subprocess.Popen[bytes]:
        """The one pod with ``part`` in its name."""
        (found,) = (process for name, process in self.processes.items() if part in name)
        return found

    # what a session asks

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the server is away", "wait")

    def version(self) -> str:
        self._answer()
        return "v1.34.2"

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        del namespace
        self._answer()
        if kind == "ServiceAccount" and name not in self.accounts:
            return None
        if kind in ("Namespace", "ServiceAccount", "Node"):
            return {"kind": kind, "metadata": {"name": name, "labels": {}}, "status": {}}
        return self.objects.get((kind, name))

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        del namespace
        self._answer()
        if kind == "Node":
            ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"nvidia.com/gpu": "4"}}
            return [{"metadata": {"name": "node", "labels": {}}, "spec": {"taints": self.taints}, "status": ready}]
        for name in self.processes:
            if pod := self.objects.get(("Pod", name)):
                self._look_at(pod)
        wanted = (labels or {}).items()
        found = [obj for (k, _), obj in self.objects.items() if k == kind]
        assert fields is None or fields.keys() == {"spec.nodeName"}
        found = [obj for obj in found if fields is None or obj["spec"].get("nodeName") == fields["spec.nodeName"]]
        return [msgspec.json.decode(msgspec.json.encode(o)) for o in found if wanted <= o["metadata"]["labels"].items()]

    def create(self, obj: Object) -> Object:
        self._answer()
        kind, name = obj["kind"], podstate.name(obj)
        if (kind, name) in self.objects:
            raise Conflict(f"{kind} {name} is there", "")
        born = {"uid": f"uid-of-{name}", "creationTimestamp": datetime.now(UTC).isoformat(timespec="seconds")}
        made = {**obj, "metadata": {"labels": {}, **obj["metadata"], **born}}
        if kind == "Secret":
            made["data"] = {key: base64.b64encode(text.encode()).decode() for key, text in obj["stringData"].items()}
        self.objects[kind, name] = made
        if kind == "Pod":
            self._start(made)
        elif kind == "Job":
            self.created.append(name)
            self.beside.append([pod for pod in self.processes if self._is_alive(pod)])
            if not obj["spec"].get("suspend") and name not in self.podless:
                self.run_job(name)
        return made

    def delete(self, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> bool:
        del namespace, grace_s
        self._answer()
        return self.objects.pop((kind, name), None) is not None

    def logs(self, pod: str, namespace: str, *, tail: int | None = None, container: str = "") -> list[bytes]:
        del namespace, tail, container
        self._answer()
        if pod not in self.processes:
            raise SetupError(f"container of {pod} is waiting to start", "")
        return [(self._folder / f"{pod}.log").read_bytes()]

    def proxy(self, method: str, namespace: str, pod: str, port: int, path: str, **what: Any) -> bytes:
        del namespace
        self._answer()
        assert port == STATUS_PORT
        query = "&".join(f"{key}={value}" for key, value in (what.get("params") or {}).items())
        connection = http.client.HTTPConnection("127.0.0.1", self._door(pod), timeout=DEADLINE_S)
        try:
            connection.request(method, f"{path}?{query}", body=what.get("body", b""), headers=what["headers"])
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            raise Unavailable(f"the pod does not answer: {error}") from error
        finally:
            connection.close()
        assert answer.status in (200, 204), (path, answer.status)
        return body

    def upgraded(self, *_: Any) -> Any:
        self._answer()
        raise Forbidden("nobody may port-forward here", "")

    # what a kubelet does

    def run_job(self, job: str) -> None:
        """Makes a pod of the Job, another one if it had one."""
        template = self.objects["Job", job]["spec"]["template"]
        name = f"{job}-{sum(job in pod for pod in self.processes)}"
        labels = {**template["metadata"]["labels"], LABEL_JOB: job}
        pod = {
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "namespace": "kts"},
            "spec": template["spec"],
        }
        self.objects["Pod", name] = pod
        self._start(pod)

    def tell(self, kind: str, name: str, reason: str, message: str) -> None:
        """An event that warns of an object."""
        self.objects["Event", f"{name}.{reason}"] = {
            "metadata": {"name": f"{name}.{reason}", "labels": {}},
            "involvedObject": {"kind": kind, "name": name},
            "type": "Warning",
            "reason": reason,
            "message": message,
        }

    def _start(self, pod: Object) -> None:
        for part, why in self.placeless.items():
            if part in podstate.name(pod):
                unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
                pod["status"] = {"phase": "Pending", "conditions": [unplaced]}
                return
        (container,) = pod["spec"]["containers"]
        env = {item["name"]: item.get("value", "") for item in container["env"]} | self._env(pod)
        command = self._mounted(pod["spec"], container, [*container["command"], *container.get("args", ())])
        assert command[0] == "python3"
        name = podstate.name(pod)
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *command[1:]], env={**os.environ, **env}, stdout=log, stderr=subprocess.STDOUT
            )
        pod["spec"] = {**pod["spec"], "nodeName": self._node_of(pod), "hostname": socket.gethostname()}
        self._look_at(pod)

    def _mounted(self, spec: Object, container: Object, command: list[str]) -> list[str]:
        """The command, with folders of this machine in place of those at which it has ConfigMaps."""
        at = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        for volume in (volume for volume in spec["volumes"] if "configMap" in volume):
            name = volume["configMap"]["name"]
            folder = self._folder / name
            folder.mkdir(exist_ok=True)
            for file, text in self.objects["ConfigMap", name]["data"].items():
                (folder / file).write_text(text, encoding="utf-8")
            command = [word.replace(at[volume["name"]], str(folder)) for word in command]
        return command

    def _env(self, pod: Object) -> dict[str, str]:
        """What a kubelet, a Service and a mount would bring."""
        run = podstate.labelled(pod, LABEL_RUN)
        token = self._token_of(run)
        if not podstate.is_conductor(pod):
            return {"KTS_CONDUCTOR": f"127.0.0.1:{self._port}", "KTS_TOKEN": token}
        plan, secret = self._folder / "plan.json", self._folder / "token"
        plan.write_text(self.objects["ConfigMap", f"kts-{run}"]["data"]["plan.json"], encoding="utf-8")
        secret.write_text(token, encoding="utf-8")
        return {
            "KTS_PLAN": str(plan),
            "KTS_TOKEN_FILE": str(secret),
            "KTS_DATA": str(self._folder / "data"),
            "KTS_PORT": str(self._port),
            "KTS_STATUS_PORT": str(self._status_port),
        }

    def _node_of(self, pod: Object) -> str:
        del pod
        return "node"

    def _is_alive(self, pod: str) -> bool:
        return self.processes[pod].poll() is None and not podstate.is_conductor(self.objects["Pod", pod])

    def _look_at(self, pod: Object) -> None:
        code = self.processes[podstate.name(pod)].poll()
        state: Object = {"running": {}} if code is None else {"terminated": {"exitCode": code % 256, "reason": "Error"}}
        status: Object = {"containerID": "here://x", "state": state, "ready": code is None and self._listens(pod)}
        if gpu := self.gpus.get(podstate.block(pod) or 0) if podstate.tenant(pod) else None:
            status["allocatedResourcesStatus"] = [{"name": "gpu", "resources": [{"resourceID": f"{gpu}::1"}]}]
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        pod["status"] = {"phase": phase, "containerStatuses": [status]}

    def _listens(self, pod: Object) -> bool:
        """What the startup probe asks."""
        if podstate.tenant(pod):
            return True
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._door(podstate.name(pod)))) == 0

    def _door(self, pod: str) -> int:
        """The port on which that pod answers."""
        del pod
        return self._status_port

    def _token_of(self, run: str) -> str:
        secret = self.objects["Secret", f"kts-{run}"]
        return base64.b64decode(secret["data"]["token"]).decode()
