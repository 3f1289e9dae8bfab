"""What `kts k8s watch` asks for on a real cluster: it suffices, and nothing of it can be left out."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, kubectl, on_a_cluster
from tests.helpers_wait import until

from kts.k8s.cluster import kubeconfig
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.podevents import PodEvents
from kts.k8s.objects import podstate, watching
from kts.k8s.objects.names import WATCH
from kts.k8s.objects.watching import NamesBy, WatchSettings
from kts.watch.calls import WatchedProcess
from kts.watch.live import Happened

NAMESPACE, WATCHED = "kts-e2e-watch", "kts-e2e-watched"
POD, CONTAINER = "serves", "model"
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]

Object = dict[str, Any]

LOOKS = f"""\
import contextlib, glob, json, os
from kts.k8s.cluster.podnames import names_here
from kts.watch.calls import WatchedProcess

def tried(what):
    try:
        return what()
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"

def watched():
    for path in glob.glob("/proc/[0-9]*/environ"):
        pid = int(path.split("/")[2])
        with contextlib.suppress(OSError):  # it has ended
            if b"{WATCHED}" in open(f"/proc/{{pid}}/cmdline", "rb").read() and pid != os.getpid():
                return pid
    raise LookupError("no such process")

def names():
    ask = names_here(os.environ)
    named = ask(WatchedProcess(number=1, pid=1, began_ticks=0, command="", container=os.environ["ID"],
                               pod_uid=os.environ["POD"]))
    return named.unit if named.pod else ask.problem or "nobody tells"

def nvml():
    import pynvml
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetCount() > 0

def tracefs():
    if not os.path.exists("/tracing/README") and os.path.isdir("/tracing"):
        return "not mounted on this node"
    os.mkdir("/tracing/instances/kts_rights_%d" % os.getpid())
    os.rmdir("/tracing/instances/kts_rights_%d" % os.getpid())
    os.close(os.open("/tracing/uprobe_events", os.O_WRONLY | os.O_APPEND))
    return True

pid = tried(watched)
print(json.dumps({{
    "processes": isinstance(pid, int) or pid,
    "libraries": tried(lambda: "libc" in open(f"/proc/{{pid}}/maps").read()),
    "files": tried(lambda: "usr" in os.listdir(f"/proc/{{pid}}/root")),
    "names": tried(names),
    "nvml": tried(nvml),
    "tracefs": tried(tracefs),
}}))
"""
"""What kts watch does with each right, once."""


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """The cluster, as the administrator."""
    found = Api.connect()
    yield found
    found.close()


@pytest.fixture(scope="module")
def image() -> str:
    """One that holds Python and the package."""
    return os.environ.get("KTS_E2E_IMAGE") or kts("k8s", "image", "--extra", "cpu").stdout.strip()


@pytest.fixture(scope="module")
def watched(api: Api, image: str) -> Iterator[Object]:
    """Somebody's pod, in a namespace of its own, without any rights; and the namespace in which is looked at it."""
    level = {f"{watching.POD_SECURITY}/enforce": "baseline"}
    kubectl(
        "apply",
        "-f",
        "-",
        given={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WATCHED, "labels": level}},
    )
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", f"import time; {WATCHED!r}; time.sleep(3600)"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10007, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    try:
        kubectl("-n", WATCHED, "wait", "--for=create", "serviceaccount/default", "--timeout=120s")
        kubectl(
            "apply",
            "-f",
            "-",
            given={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": WATCHED}, "spec": spec},
        )
        for obj in watching.render(_settings(image, "kubelet")):
            if obj["kind"] != "DaemonSet":
                kubectl("apply", "-f", "-", given=obj)
        yield until(lambda: (pod := api.get("Pod", POD, WATCHED)) and podstate.ready(pod) and pod, "no pod to watch")
    finally:
        kubectl("delete", "namespace", WATCHED, NAMESPACE, "--ignore-not-found", "--timeout=180s")
        for kind in ("clusterrolebinding", "clusterrole"):
            kubectl("delete", kind, watching.cluster_name(NAMESPACE), "--ignore-not-found")


def _settings(image: str, names: NamesBy) -> WatchSettings:
    return WatchSettings(image=image, namespace=NAMESPACE, names=names)


def looking(image: str, name: str, watched: Object, *, less: Callable[[Object], Any], names: NamesBy) -> Object:
    """The DaemonSet's pod, which looks once; ``less``: takes a right from its spec."""
    daemonset = copy.deepcopy(watching.render(_settings(image, names))[-1])
    spec = daemonset["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    uid, status = watched["metadata"]["uid"], podstate.container_statuses(watched)[0]
    container |= {"command": ["python3", "-c", LOOKS], "args": []}
    container["env"] += [{"name": "POD", "value": uid}, {"name": "ID", "value": status["containerID"].split("//")[1]}]
    del container["readinessProbe"]
    spec |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    less(spec)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _without(mount: str) -> Callable[[Object], None]:
    def less(spec: Object) -> None:
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != mount]
        (container,) = spec["containers"]
        container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != mount]

    return less


def _not_root(spec: Object) -> None:
    spec["containers"][0]["securityContext"] |= {"runAsUser": 10001, "runAsGroup": 10001}


def _no_capability(spec: Object) -> None:
    del spec["containers"][0]["securityContext"]["capabilities"]["add"]


def _no_gpu(spec: Object) -> None:
    (container,) = spec["containers"]
    container["env"] = [one for one in container["env"] if one["name"] != "NVIDIA_VISIBLE_DEVICES"]


def _no_token(spec: Object) -> None:
    _without("logs")(spec)
    spec["automountServiceAccountToken"] = False


RIGHTS: dict[str, tuple[Callable[[Object], Any], NamesBy, set[str]]] = {
    "all": (lambda _: None, "files", set()),
    "all-kubelet": (_without("logs"), "kubelet", set()),
    "host-pid": (lambda spec: spec.pop("hostPID"), "files", {"processes", "libraries", "files"}),
    "sys-ptrace": (_no_capability, "files", {"libraries", "files"}),
    "root": (_not_root, "files", {"libraries", "files", "tracefs"}),
    "tracing": (_without("tracing"), "files", {"tracefs"}),
    "logs": (_without("logs"), "files", {"names"}),
    "visible-devices": (_no_gpu, "files", {"nvml"}),
    "runtime-class": (lambda spec: spec.pop("runtimeClassName"), "files", {"nvml"}),
    "token": (_no_token, "kubelet", {"names"}),
}
"""What is taken away, who names pods, and what cannot be done then."""


def told(api: Api, name: str) -> Object:
    """What a pod that looked has seen."""
    pod = until(lambda: (pod := api.get("Pod", name, NAMESPACE)) and podstate.ended(pod) and pod, f"{name} looks on")
    text = b"".join(api.logs(name, NAMESPACE)).decode()
    assert podstate.phase(pod) == "Succeeded", text
    return dict(json.loads(text.splitlines()[-1]))


def failed(seen: Object) -> set[str]:
    """What could not be done."""
    good = {"names": f"{WATCHED}/{POD}/{CONTAINER}"}
    return {what for what, came in seen.items() if came != good.get(what, True)}


def test_all_rights_suffice_and_none_can_be_left_out(api: Api, image: str, watched: Object) -> None:
    """Else an administrator would grant more than is needed; or what was granted would not do."""
    for name, (less, names, _) in RIGHTS.items():
        kubectl("create", "-f", "-", given=looking(image, name, watched, less=less, names=names))
    seen = {name: told(api, name) for name in RIGHTS}
    here = {"tracefs"} if seen["all"]["tracefs"] == "not mounted on this node" else set()
    for name, (_, _, lost) in RIGHTS.items():
        assert failed(seen[name]) - here == lost - here, (name, seen[name])


def test_no_other_namespace_takes_the_pod(image: str, watched: Object) -> None:
    """Else its namespace would be privileged for nothing."""
    pod = looking(image, "elsewhere", watched, less=lambda _: None, names="files")
    pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"] = WATCHED, "default"
    command = ["kubectl", "create", "--dry-run=server", "-f", "-"]
    done = subprocess.run(command, input=json.dumps(pod), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode != 0
    for what in ("host namespaces", "hostPath volumes", "SYS_PTRACE"):
        assert what in done.stderr


@contextmanager
def less_a_rule(api: Api, image: str, verb: str, resource: str, **given: Any) -> Iterator[None]:
    """The ClusterRole without its one rule; it had the rule before, and has it afterwards."""
    objects = watching.render(WatchSettings(image=image, namespace=NAMESPACE, **given))
    (role,) = (one for one in objects if one["kind"] == "ClusterRole")
    plain, _, part = resource.partition("/")
    asked = ["auth", "can-i", verb, plain, *([f"--subresource={part}"] if part else []), "--all-namespaces"]

    def allowed() -> bool:
        command = ["kubectl", *asked, f"--as=system:serviceaccount:{NAMESPACE}:{WATCH}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False).stdout == "yes\n"

    try:
        api.apply({**role, "rules": []})
        until(lambda: not allowed(), "something else grants it, too")
        yield
    finally:
        api.apply(role)
        until(allowed, "it is not granted")


def test_the_kubelet_tells_nobody_who_may_not_get_nodes_pods(api: Api, image: str, watched: Object) -> None:
    """Else the ClusterRole would grant what anybody has."""
    with less_a_rule(api, image, "get", "nodes/pods", names="kubelet"):
        kubectl("create", "-f", "-", given=looking(image, "no-role", watched, less=_without("logs"), names="kubelet"))
        assert "does not let this account get nodes/pods" in told(api, "no-role")["names"]


def test_an_event_is_of_the_pod_and_needs_its_rule(api: Api, image: str, watched: Object, tmp_path: Path) -> None:
    """Else who runs `kubectl describe pod` would learn nothing of its neighbours, or anybody could tell it lies."""
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--flatten", "--minify"))
    token = kubectl("-n", NAMESPACE, "create", "token", WATCH).strip()
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    own = Api.of(kubeconfig.access(None, {"KUBECONFIG": str(tmp_path / "config")}))
    events = PodEvents(own, "n1")
    uid = watched["metadata"]["uid"]
    process = WatchedProcess(
        number=1,
        pid=7,
        began_ticks=3,
        command="python3",
        pod_uid=uid,
        pod=POD,
        namespace=WATCHED,
        container_name=CONTAINER,
    )
    happened = Happened(at_ns=5, what="new-neighbour", unit=process.unit, words="b/train has work in flight beside it")
    with less_a_rule(api, image, "create", "events", events=True):
        assert not events.tell(happened, process)
        assert "not allowed" in events.problem
    assert events.tell(happened, process), events.problem
    own.close()
    assert "GpuNewNeighbour" in kubectl("-n", WATCHED, "describe", "pod", POD)
