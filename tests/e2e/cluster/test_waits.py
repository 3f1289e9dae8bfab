"""What a cluster lacks or refuses ends a run on it soon, in the cluster's words, and leaves nothing behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers_cli import kts
from tests.helpers_cluster import on_a_cluster

from kts.k8s.cluster.api import Api
from kts.k8s.objects.names import APP, LABEL_APP

NAMESPACE = "kts-e2e-waits"
ASKED_S = 15.0
"""For what kts asks before it creates anything; Python's start, on a machine that is busy, is most of it."""
TOLD_S = 45.0
"""For what only the events tell: pods are created, and removed again."""
EXPERIMENT = """\
name: small
rounds: 2
precision: null
tenants:
  t0: {workload: fft, size: 32, think_ms: 1, iterations: 200}
  t1: {workload: fft, size: 32, think_ms: 1, iterations: 200}
"""
pytestmark = [
    pytest.mark.alone,
    *on_a_cluster(),
]


@pytest.fixture(name="api")
def _api() -> Iterator[Api]:
    """The cluster, with a namespace for quotas that no other run meets."""
    api = Api.connect()
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        yield api
    finally:
        api.delete("Namespace", NAMESPACE)
        api.close()


def quota(name: str, hard: dict[str, str], *scopes: str) -> dict[str, object]:
    """A ResourceQuota."""
    spec = {"hard": hard, **({"scopes": list(scopes)} if scopes else {})}
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": spec}


def refused(path: Path, *arguments: str) -> tuple[float, str]:
    """(seconds that a run took, what it said) that could not be."""
    image = os.environ.get("KTS_E2E_IMAGE")
    began = time.monotonic()
    done = kts(
        *("run", path, "--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu", "--extra", "cpu"),
        *(["--image", image] if image else []),
        *("--out", path.parent / "out", "--overwrite", "--no-figures", *arguments),
    )
    assert done.returncode == 4, done.stderr
    return time.monotonic() - began, done.stderr


def test_what_a_run_asks_for_in_vain_is_said_within_seconds(tmp_path: Path, api: Api) -> None:
    """Else it would wait for minutes for pods that nobody makes, as it did."""
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    for arguments, what in (
        (("--runtime-class", "nope"), "there is no RuntimeClass nope"),
        (("--claim", "nope"), f"there is no ResourceClaim nope in namespace {NAMESPACE}"),
        (("--resource", "example.com/nope"), "no node offers example.com/nope"),
    ):
        took_s, said = refused(path, *arguments)
        assert what in said
        assert took_s <= ASKED_S
    api.create(quota("none", {"requests.nvidia.com/gpu": "0"}))
    took_s, said = refused(path)
    assert "quota none: requests.nvidia.com/gpu: 0 of 0 in use, the run asks for 2" in said
    assert took_s <= ASKED_S
    api.delete("ResourceQuota", "none", NAMESPACE)
    api.create(quota("hidden", {"pods": "0"}, "NotTerminating"))  # which meets the tenants' pods alone
    took_s, said = refused(path)
    assert "exceeded quota: hidden" in said
    if os.environ.get("KTS_E2E_IMAGE"):  # building is not part of it
        assert took_s <= TOLD_S
    for kind in ("ConfigMap", "Job", "Pod", "Secret", "Service", "NetworkPolicy"):
        assert api.list(kind, NAMESPACE, {LABEL_APP: APP}) == []
