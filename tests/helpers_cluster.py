"""What the cluster of the tests marked `cluster` can tell, asked of itself: tests skip, or expect, by that alone."""

from __future__ import annotations

import shutil
import subprocess

from kts.k8s.cluster.api import Api

GPU = "nvidia.com/gpu"


def has_plugin(api: Api) -> bool:
    """Whether a device plugin of NVIDIA's runs there; else slots are a number that somebody wrote into the node."""
    for daemonset in api.list("DaemonSet"):
        containers = daemonset["spec"]["template"]["spec"]["containers"]
        names = [daemonset["metadata"]["name"], *(container["image"] for container in containers)]
        if any("device-plugin" in name and "nvidia" in name for name in names):
            return True
    return False


def has_labels(api: Api) -> bool:
    """Whether GPU feature discovery has told how the GPU is shared."""
    return any(f"{GPU}.replicas" in (node["metadata"].get("labels") or {}) for node in api.list("Node"))


def tells_devices() -> bool:
    """Whether the API server says that a pod's status names its devices (feature gate ResourceHealthStatus)."""
    if not shutil.which("kubectl"):
        return False
    done = subprocess.run(
        ["kubectl", "get", "--raw", "/metrics"], capture_output=True, text=True, timeout=200, check=False
    )
    gate = 'kubernetes_feature_enabled{name="ResourceHealthStatus"'
    return any(line.startswith(gate) and line.endswith(" 1") for line in done.stdout.splitlines())
