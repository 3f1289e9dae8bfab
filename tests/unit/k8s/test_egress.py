"""What a run's pods may reach where NetworkPolicies of its namespace isolate them, and where none do."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kts.k8s.objects import Object, egress, manifests
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN
from kts.k8s.objects.settings import ClusterSettings
from kts.plan import build
from kts.spec import load_text

TEXT = """\
name: small
device: cpu
tenants:
  t0: {workload: fft, size: 32, think_ms: 1, iterations: 10}
  t1: {workload: fft, size: 32, think_ms: 1, iterations: 10}
"""
DENY: Object = {"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
TENANT = {LABEL_RUN: "r", LABEL_ROLE: "tenant", "app.kubernetes.io/name": "kts"}
CONDUCTOR = {LABEL_RUN: "r", LABEL_ROLE: "conductor", "app.kubernetes.io/name": "kts"}
OTHER = {LABEL_RUN: "s", LABEL_ROLE: "conductor"}
DNS, OUTSIDE = "kube-system", "elsewhere"


def policies(settings: ClusterSettings) -> list[Object]:
    """The run's own."""
    plan = build(load_text(TEXT, source="test").experiment)
    made = manifests.render(plan, run="r", token="t", settings=settings, experiment_text=TEXT, created="2026-01-01")
    return [obj for obj in made if obj["kind"] == "NetworkPolicy"]


def selected(selector: Object | None, labels: dict[str, str]) -> bool:
    """Labels by matchLabels; all that these policies use."""
    assert set(selector or {}) <= {"matchLabels"}
    return ((selector or {}).get("matchLabels") or {}).items() <= labels.items()


def reaches(all_policies: list[Object], source: dict[str, str], to: Any, port: int, protocol: str = "TCP") -> bool:
    """As the documentation of NetworkPolicy says: who is selected by no policy reaches everything; else what one of
    them allows. ``to``: labels of a pod of the same namespace, or the name of another one."""
    mine = [p["spec"] for p in all_policies if selected(p["spec"]["podSelector"], source)]
    mine = [spec for spec in mine if "Egress" in spec["policyTypes"]]
    rules = [rule for spec in mine for rule in spec.get("egress") or ()]
    return not mine or any(
        {"protocol": protocol, "port": port} in rule["ports"] and any(peer(one, to) for one in rule.get("to") or [{}])
        for rule in rules
    )


def peer(one: Object, to: Any) -> bool:
    """Whether a peer of a rule is that one; an empty one is everybody."""
    if "namespaceSelector" in one:
        return isinstance(to, str) and selected(one["namespaceSelector"], {"kubernetes.io/metadata.name": to})
    return not one or (isinstance(to, dict) and selected(one["podSelector"], to))


def test_where_nothing_isolates_pods_no_policy_begins_to() -> None:
    """Else a user's own program would lose what it reached before."""
    (only,) = policies(ClusterSettings())
    assert only["spec"]["policyTypes"] == ["Ingress"]
    for pod in (TENANT, CONDUCTOR):
        assert reaches([only], pod, OUTSIDE, 443)


def test_where_everything_is_denied_tenants_reach_the_conductor_and_dns_and_no_more() -> None:
    """Else a namespace with a default-deny could not run anything, or would be opened wider than the run needs."""
    assert not reaches([DENY], TENANT, CONDUCTOR, 7077)
    together = [DENY, *policies(ClusterSettings(egress=True))]
    assert reaches(together, TENANT, CONDUCTOR, 7077)
    for protocol in ("UDP", "TCP"):
        for pod in (TENANT, CONDUCTOR):
            assert reaches(together, pod, DNS, 53, protocol)
    for to, port in ((CONDUCTOR, 7078), (OTHER, 7077), (TENANT, 7077), (OUTSIDE, 443), (OUTSIDE, 53), (OUTSIDE, 9400)):
        assert not reaches(together, TENANT, to, port), (to, port)
    for port in (443, 6443, 9400):
        assert not reaches(together, CONDUCTOR, OUTSIDE, port)


@pytest.mark.parametrize(
    ("url", "port"), [("http://10.0.0.9:9400/metrics", 9400), ("http://e/metrics", 80), ("https://e", 443)]
)
def test_the_conductor_reaches_what_it_is_told_to_ask(url: str, port: int) -> None:
    """Else --dcgm, or the watch for neighbours, would fail in such a namespace alone."""
    settings = ClusterSettings(egress=True)
    with_exporter = [DENY, *policies(replace(settings, dcgm=url))]
    assert reaches(with_exporter, CONDUCTOR, OUTSIDE, port)
    assert not reaches(with_exporter, TENANT, OUTSIDE, port)
    with_watch = [DENY, *policies(replace(settings, service_account="kts-watch"))]
    assert all(reaches(with_watch, CONDUCTOR, OUTSIDE, api) for api in (443, 6443))
    assert not reaches(with_watch, TENANT, OUTSIDE, 443)


@pytest.mark.parametrize(
    ("spec", "shut"),
    [
        ({"podSelector": {}, "policyTypes": ["Egress"]}, True),
        ({"podSelector": {}, "policyTypes": ["Ingress"]}, False),
        ({"podSelector": {}}, False),
        ({"podSelector": {}, "egress": [{}]}, True),
        ({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]}, False),
        ({"podSelector": {"matchLabels": {LABEL_ROLE: "tenant"}}, "policyTypes": ["Egress"]}, True),
        ({"podSelector": {"matchExpressions": [{"key": LABEL_ROLE, "operator": "Exists"}]}, "egress": [{}]}, True),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, "egress": [{}]}, True),
        (
            {"podSelector": {"matchExpressions": [{"key": LABEL_ROLE, "operator": "NotIn", "values": ["tenant"]}]},
             "policyTypes": ["Egress"]}, False,
        ),
        (
            {"podSelector": {"matchExpressions": [{"key": LABEL_ROLE, "operator": "In", "values": ["tenant"]}]},
             "policyTypes": ["Egress"]}, True,
        ),
    ],
)  # fmt: skip
def test_who_is_isolated_is_told_as_kubernetes_tells_it(spec: Object, shut: bool) -> None:
    """Else a run would hang in a namespace that denies, or isolate pods in one that does not."""
    assert egress.isolated([{"spec": spec}], TENANT) == shut
    assert not egress.isolated([], TENANT)
