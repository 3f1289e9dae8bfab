"""The pod of a tenant whose program runs in an image of its own: three containers, in this order. Pure.

``bring`` (the worker's image) copies launcher, tracer and CUPTI to a volume, and ends. ``program`` (the user's image,
as that image's user) runs the launcher, and by it the program. ``worker`` (the worker's image) tells the launcher what
to do. The slot is the program's. Nothing is asked of the user's image but a user other than root.
"""

from __future__ import annotations

from collections.abc import Sequence

from kts.k8s.objects import Object
from kts.model.plan import Program

BRING, PROGRAM, WORKER = "bring", "program", "worker"
TOOLS_MOUNT, SHARED_MOUNT = "/kts/tools", "/kts/shared"
SOCKET = f"{SHARED_MOUNT}/launcher.sock"
TOLD = {
    "KTS_LAUNCHER": SOCKET,
    "KTS_TRACE_DIR": SHARED_MOUNT,
    "KTS_TRACE_LIBRARY": f"{TOOLS_MOUNT}/libkts_trace.so",
    "KTS_CUPTI": f"{TOOLS_MOUNT}/libcupti.so",
}
"""Where worker and program have what they share. CUPTI is only there if the worker's image has one."""
SHARED_BYTES = "256Mi"
DEFAULT_CONTAINER = {"kubectl.kubernetes.io/default-container": WORKER}
"""Whose log kubectl shows: the worker passes on what the program prints."""
_TOOLS, _SHARED = "kts-tools", "kts-shared"
_LIGHT = {"cpu": "250m", "memory": "512Mi"}
"""Of the worker, which only watches: limits as requests, so that the pod may still be Guaranteed."""


def spec_of(spec: Object, work: Program, worker: Object, *, see_nvml: bool) -> Object:
    """The spec of a tenant's pod with ``worker`` beside the program, instead of with the worker that is the tenant."""
    own = {key: worker["securityContext"][key] for key in ("allowPrivilegeEscalation", "capabilities")}
    as_kts = {key: spec["securityContext"][key] for key in ("runAsUser", "runAsGroup")}
    anybody = {key: value for key, value in spec["securityContext"].items() if key not in as_kts}
    kts = {**worker, "securityContext": {**worker["securityContext"], **as_kts}, "resources": _light(worker)}
    nvml = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"} if see_nvml else {}
    program = {
        "name": PROGRAM,
        "image": work.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [f"{TOOLS_MOUNT}/launcher", SOCKET, "--", *map(literal, work.command)],
        **({"workingDir": work.workdir} if work.workdir else {}),
        "env": _variables({name: literal(value) for name, value in work.env.items()}),
        "resources": worker["resources"],
        "securityContext": own,
        "volumeMounts": [_mount(_TOOLS, TOOLS_MOUNT, read_only=True), _mount(_SHARED, SHARED_MOUNT)],
    }
    bring = {
        **{key: kts[key] for key in ("image", "imagePullPolicy", "securityContext", "resources")},
        "name": BRING,
        "command": ["python3", "-P", "-m", "kts.worker.launcher.bring", TOOLS_MOUNT],
        "volumeMounts": [_mount(_TOOLS, TOOLS_MOUNT)],
    }
    watching = {
        **kts,
        "env": [*kts["env"], *_variables({**TOLD, **nvml})],
        "volumeMounts": [*kts["volumeMounts"], _mount(_SHARED, SHARED_MOUNT)],
    }
    return {
        **spec,
        "securityContext": anybody,
        "initContainers": [bring],
        "containers": [program, watching],
        "volumes": [
            *spec["volumes"],
            {"name": _TOOLS, "emptyDir": {}},
            {"name": _SHARED, "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_BYTES}},
        ],
    }


def literal(text: str) -> str:
    """``text`` as Kubernetes passes it on unchanged: ``$(NAME)`` would be a variable to it."""
    return text.replace("$", "$$")


def _light(worker: Object) -> Object:
    """Beside a GPU with limits; else the tenants share a core, and a limit would throttle."""
    if "cpu" in worker["resources"]["limits"]:
        return {"limits": dict(_LIGHT), "requests": dict(_LIGHT)}
    return {"limits": {"memory": _LIGHT["memory"]}, "requests": {"cpu": "50m", "memory": _LIGHT["memory"]}}


def _mount(volume: str, path: str, *, read_only: bool = False) -> Object:
    return {"name": volume, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _variables(values: dict[str, str]) -> Sequence[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]
