"""The objects of a fleet, which nodes it takes, and what becomes of a Job of which no pod is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
from msgspec.structs import replace
from tests.helpers_fleet_here import FleetHere, node

from kts.conduct.ports import Progress
from kts.errors import SetupError, UsageError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import fleet as following
from kts.k8s.objects import fleet, manifests, pending
from kts.k8s.objects.fleet import FleetSpec
from kts.k8s.objects.names import GPU, LABEL_INDEX, LABEL_QUEUE
from kts.k8s.objects.settings import ClusterSettings
from kts.model.fleet import Fleet
from kts.model.plan import Plan
from kts.plan import build
from kts.spec import load_text

GOLDEN = Path(__file__).parents[2] / "golden" / "render" / "fleet.yaml"
TENANT = "{workload: fft, size: 32, think_ms: 1, iterations: 100}"
TEXT = f"name: small\ntenants:\n  a: {TENANT}\n  b: {TENANT}\n"
SETTINGS = ClusterSettings(image="worker:v1", tolerations=({"key": GPU, "operator": "Exists"},))
SPEC = FleetSpec(
    id="fleet-1", experiment="small", selector="pool=gpu", created_ns=1, nodes=("n1", "n2", "n3"), settings=SETTINGS,
    image="kts:v1", at_once=2,
)  # fmt: skip


def plan() -> Plan:
    """Of the small experiment."""
    return build(load_text(TEXT, source="test").experiment)


def objects(spec: FleetSpec = SPEC) -> list[dict[str, Any]]:
    """What is created."""
    return fleet.render(spec, plan(), token="t" * 32, experiment_text=TEXT, created="2026-01-01T00:00:00Z")


def job(**changes: Any) -> dict[str, Any]:
    """The Job of a fleet."""
    return objects(replace(SPEC, **changes))[-1]


def test_the_objects_change_only_on_purpose() -> None:
    """Else a change of what runs with rights in a user's cluster would go unreviewed."""
    text = manifests.to_yaml([obj for obj in objects() if obj["kind"] == "Job"])
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("version", ["1.31.0", str(kubernetes_validate.latest_version())])
@pytest.mark.parametrize("queue", ["", "team-a"])
def test_kubernetes_takes_them(version: str, queue: str) -> None:
    """Else the API server would refuse a fleet, or drop a field in silence."""
    for obj in [*objects()[:-1], job(queue=queue)]:
        kubernetes_validate.validate(obj, version, strict=True)


def test_one_bad_node_ends_none_of_the_others_and_is_not_tried_twice() -> None:
    """Else the Job would be over at its first failure, or measure beside a pod that is still ending."""
    spec = job()["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 2)
    assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (0, 3)
    assert spec["podReplacementPolicy"] == "Failed"
    assert job(at_once=9)["spec"]["parallelism"] == 3
    assert job(at_once=1)["spec"]["activeDeadlineSeconds"] == 3 * spec["template"]["spec"]["activeDeadlineSeconds"]


def test_a_queue_finds_what_it_needs() -> None:
    """Else Kueue would not see the Job, or it would run before it is admitted."""
    queued = job(queue="team-a")
    assert queued["metadata"]["labels"][LABEL_QUEUE] == "team-a"
    assert queued["spec"]["suspend"] is True
    assert "suspend" not in job()["spec"]
    assert queued["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]


def test_a_node_is_taken_or_the_reason_is_told() -> None:
    """Else a node would be missing from the table, or the Job would wait at one that offers nothing."""
    nodes = [node("b"), node("a"), node("down", ready=False), node("none", 0), node("off", cordoned=True)]
    fit, skipped = fleet.chosen([*nodes, node("cpu", pool="cpu")], "pool!=cpu", SETTINGS)
    assert fit == ("a", "b")
    told = {one.node: one.reason for one in skipped}
    assert told == {"down": "not Ready: no word", "none": f"offers no {GPU}", "off": "cordoned"}
    with pytest.raises(SetupError, match="none offers no"):
        fleet.chosen([node("none", 0)], "", SETTINGS)
    with pytest.raises(SetupError, match="no node has such labels"):
        fleet.chosen(nodes, "pool=x", SETTINGS)


@pytest.mark.parametrize("changed", [{"node": "n1"}, {"claim": "c"}])
def test_what_is_of_one_node_is_refused(changed: dict[str, str]) -> None:
    """Else every pod would measure on the same node."""
    with pytest.raises(UsageError):
        fleet.check(ClusterSettings(**changed), 1)  # type: ignore[arg-type]


def test_an_index_is_read_from_a_label_or_an_older_clusters_annotation() -> None:
    """Else no pod would be known on a cluster before 1.28."""
    for where in ("labels", "annotations"):
        assert fleet.index_of({"metadata": {where: {LABEL_INDEX: "7"}}}) == 7
    assert fleet.index_of({"metadata": {"labels": {LABEL_INDEX: "x"}}}) is None
    assert fleet.is_of("fleet-1-12", "fleet-1")
    assert not fleet.is_of("fleet-1-ab", "fleet-1")
    assert not fleet.is_of("fleet-12", "fleet-1")


class Silent:
    """A watcher; ``texts``: what it was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def progress(self, progress: Progress) -> None:
        self.texts.append(progress.text)


def event(component: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    """About the fleet's Job."""
    about = {"kind": "Job", "name": "kts-fleet-1"}
    meta = {"name": message[:5], "labels": {}}
    return {
        "metadata": meta,
        "involvedObject": about,
        "type": kind,
        "message": message,
        "source": {"component": component},
    }


def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: FleetSpec, *events: dict[str, Any]) -> Fleet:
    """The end of a fleet of which Kubernetes makes no pods, and says so."""
    monkeypatch.setattr(pending, "NO_POD_S", 0.2)
    monkeypatch.setattr(following, "POLL_S", 0.05)
    with FleetHere(tmp_path / "cluster", [node("n1")]) as cluster:
        cluster.podless.add("kts-fleet-1")
        for k, one in enumerate(events):
            cluster.objects["Event", str(k)] = one
        session = following.start(cast(Api, cluster), spec, plan(), TEXT, tmp_path / "out")
        try:
            return session.follow(Silent())
        finally:
            session.close()


def test_a_job_without_pods_ends_with_the_events_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a quota, or a ServiceAccount that is gone, would look like waiting."""
    message = 'pods "x" is forbidden: error looking up service account kts/kts: serviceaccount "kts" not found'
    fleet_ = followed(tmp_path, monkeypatch, SPEC, event("job-controller", message))
    assert {one.state for one in fleet_.nodes} == {"failed"}
    assert fleet_.nodes[0].reason.endswith(message)
    assert fleet_.nodes[0].remedy == following.ACCOUNT_REMEDY


def test_a_queue_that_nobody_serves_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else --queue on a cluster without Kueue would never come to an end."""
    suspended = event("job-controller", "Job suspended", "Normal")
    fleet_ = followed(tmp_path, monkeypatch, replace(SPEC, queue="team-a"), suspended)
    assert "nobody took it up" in fleet_.nodes[0].reason
    assert "Kueue" in fleet_.nodes[0].remedy
