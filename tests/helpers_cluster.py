"""What the tests marked `cluster` need, and what their cluster tells of itself: they skip, or expect, by that alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from kts.k8s.cluster.api import Api

GPU = "nvidia.com/gpu"
NEEDED = ("KUBECONFIG", "KTS_IMAGE_LOADER")
DEADLINE_S = 180.0
NEEDS_KUBECTL = pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")


def on_a_cluster(*further: str) -> list[pytest.MarkDecorator]:
    """The marks of a file of tests for a real cluster; ``further``: environment variables that they need, too."""
    needed = (*NEEDED, *further)
    skip = pytest.mark.skipif(not all(map(os.environ.get, needed)), reason=f"needs a cluster: {' and '.join(needed)}")
    return [pytest.mark.cluster, pytest.mark.e2e, skip]


def kubectl(*arguments: str, given: object = None) -> str:
    """What it prints; the test fails if it does."""
    text = json.dumps(given) if given is not None else None
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
        ["kubectl", "get", "--raw", "/metrics"], capture_output=True, text=True, timeout=400, check=False
    )
    gate = 'kubernetes_feature_enabled{name="ResourceHealthStatus"'
    return any(line.startswith(gate) and line.endswith(" 1") for line in done.stdout.splitlines())
