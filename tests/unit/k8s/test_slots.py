"""Which node a run goes to, and why none is one."""

from __future__ import annotations

from typing import Any

import pytest

from kts.errors import SetupError
from kts.k8s.objects import slots
from kts.k8s.objects.settings import ClusterSettings

GPU = "nvidia.com/gpu"
TAINT = {"key": "team", "value": "a", "effect": "NoSchedule"}


def node(name: str, ready: str = "True", amount: int = 4, **spec: Any) -> dict[str, Any]:
    """A node with these slots."""
    conditions = [
        {"type": "Ready", "status": ready, "reason": "KubeletReady" if ready == "True" else "NodeStatusUnknown"}
    ]
    status = {"conditions": conditions, "allocatable": {GPU: str(amount)}}
    return {"metadata": {"name": name, "labels": {"pool": name}}, "spec": spec, "status": status}


def chosen(nodes: list[dict[str, Any]], wanted: int = 2, **settings: Any) -> str:
    """The node of a run of that many tenants."""
    asked = ClusterSettings(**settings)
    return slots.choose(slots.rooms(nodes, [], asked), wanted, asked, nodes)


@pytest.mark.parametrize(
    ("nodes", "settings", "what", "remedy"),
    [
        ([node("a", unschedulable=True)], {}, "no node is in service: a is cordoned", "kubectl uncordon a"),
        (
            [node("a", unschedulable=True), node("b", ready="Unknown")],
            {},
            "no node is in service: a is cordoned; b is not Ready: NodeStatusUnknown",
            "kubectl uncordon a",
        ),
        ([node("a"), node("b", ready="False")], {"node": "b"}, "no node called b is in service: b is", "describe node"),
        ([node("a")], {"node": "c"}, "there is no node called c", "--node"),
        ([node("a")], {"node_selector": {"pool": "b"}}, "there is no node labelled pool=b", "--node-selector"),
        ([], {}, "there is no node", "kubectl get nodes"),
    ],
)
def test_why_no_node_can_be_used_is_said_of_each(
    nodes: list[dict[str, Any]], settings: dict[str, Any], what: str, remedy: str
) -> None:
    """Else a cordoned node, which is Ready, would be said not to be, and its user would mend the wrong thing."""
    with pytest.raises(SetupError) as error:
        chosen(nodes, **settings)
    assert error.value.what.startswith(what)
    assert remedy in error.value.remedy


def test_a_node_without_a_taint_is_taken_before_a_roomier_one_with_one() -> None:
    """Else the run would wait for a place where it may not go."""
    nodes = [node("a", amount=8, taints=[TAINT]), node("b", amount=4)]
    assert chosen(nodes) == "b"
    assert chosen(nodes, wanted=6) == "a"  # some clusters add the toleration by themselves
    assert chosen(nodes, tolerations=({"key": "team", "operator": "Exists"},)) == "a"
    assert chosen(nodes, pod_template={"spec": {"tolerations": [{"operator": "Exists"}]}}) == "a"
    assert chosen([node("a", amount=8, taints=[{**TAINT, "effect": "PreferNoSchedule"}]), nodes[1]]) == "a"
