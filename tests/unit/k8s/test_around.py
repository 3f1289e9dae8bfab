"""Who is beside a run, by the list of pods: a wrong reading would hide a stranger, or make one of the run itself."""

from __future__ import annotations

from typing import Any

import pytest

from kts.k8s.objects import around
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN, LABEL_TENANT
from kts.model.neighbours import Look, Seen

GPU = "nvidia.com/gpu"
SCOPE = around.Scope(run="r1", namespace="kts", node="n", resource=GPU)


def pod(
    name: str,
    *,
    namespace: str = "other",
    slots: str = "",
    claim: str = "",
    node: str = "n",
    run: str = "",
    health: tuple[str, str] | None = None,
    phase: str = "Running",
    **meta: Any,
) -> dict[str, Any]:
    """A pod; of a run, a tenant's. ``health``: what the kubelet says of its device."""
    labels = {LABEL_RUN: run, LABEL_ROLE: "tenant", LABEL_TENANT: "fft"} if run else {}
    requests = {GPU: slots} if slots else {}
    device = {"resourceID": health[0], "health": health[1]} if health else {}
    told = [{"name": GPU, "resources": [device]}] if health else []
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels, **meta},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "resources": {"requests": requests}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": claim}] if claim else [],
        },
        "status": {"phase": phase, "containerStatuses": [{"allocatedResourcesStatus": told}]},
    }


def look(*pods: dict[str, Any], scope: around.Scope = SCOPE, node: dict[str, Any] | None = None) -> Look:
    """One look at these."""
    return around.look(pods, scope, by="a test", every_ns=1, node=node)


@pytest.mark.parametrize(
    "beside",
    [
        pod("holder", slots="1"),
        pod("terminating", slots="1", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("other-run", run="r2"),
        pod("same-id-elsewhere", run="r1", namespace="elsewhere"),
        pod("claims", claim="shared", namespace="kts"),
    ],
    ids=lambda one: one["metadata"]["name"],
)
def test_whoever_holds_what_the_run_shares_is_a_neighbour(beside: dict[str, Any]) -> None:
    """Else a pod that computes on the GPU, perhaps for its last 30 s, would not be there for the result."""
    scope = around.Scope(run="r1", namespace="kts", node="n", resource=GPU, claim="shared")
    (seen,) = look(pod("own", run="r1", namespace="kts", slots="1"), beside, scope=scope).others
    assert seen.who == f"{beside['metadata']['namespace']}/{beside['metadata']['name']}"
    assert seen.what


@pytest.mark.parametrize(
    "beside",
    [
        pod("over", slots="1", phase="Succeeded"),
        pod("away", slots="1", node="elsewhere"),
        pod("no-gpu"),
        pod("claims-another", claim="another", namespace="kts"),
        pod("same-name-elsewhere", claim="shared", namespace="elsewhere"),
    ],
    ids=lambda one: one["metadata"]["name"],
)
def test_whoever_shares_nothing_is_none(beside: dict[str, Any]) -> None:
    """Else every cluster would be full of neighbours, and nobody would read the line."""
    scope = around.Scope(run="r1", namespace="kts", node="n", resource=GPU, claim="shared")
    assert look(beside, scope=scope).others == ()


def test_the_kubelets_word_on_devices_is_kept() -> None:
    """Else a holder of another GPU would be taken for a neighbour, and an Xid for nothing."""
    beside = pod("x", slots="1", health=("GPU-b::0", "Healthy"))
    mine = pod("m", run="r1", namespace="kts", slots="1", health=("GPU-a::2", "Unhealthy"))
    found = look(beside, mine)
    assert [one.device for one in found.others] == ["GPU-b"]
    assert found.slots == (Seen(who="tenant fft", what="GPU-a::2 Unhealthy", device="GPU-a"),)


@pytest.mark.parametrize("health", ["Healthy", ""])
def test_a_device_that_is_well_or_of_which_nothing_is_told_is_no_lost_one(health: str) -> None:
    """Else clusters that do not tell would throw doubt on every run."""
    assert look(pod("m", run="r1", namespace="kts", health=("GPU-a::2", health))).slots == ()


@pytest.mark.parametrize(("allocatable", "lost"), [("3", True), ("4", False), ("", False), ("x", False)])
def test_a_node_that_may_give_fewer_slots_than_it_has_lost_some(allocatable: str, lost: bool) -> None:
    """Else an Xid that took a slot of nobody's would never be seen."""
    given = {GPU: allocatable} if allocatable else {}
    node = {"metadata": {"name": "n"}, "status": {"capacity": {GPU: "4"}, "allocatable": given}}
    assert (look(node=node).slots != ()) == lost
