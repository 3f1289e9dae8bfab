"""`kts doctor --on k8s` on a real cluster: it says what is there, and what a user who may do nothing lacks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, has_labels, on_a_cluster

from kts.k8s.cluster.api import Api

NAMESPACE = "kts-e2e-doctor"
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]

RBAC = Path(__file__).parents[3] / "deploy" / "rbac.yaml"


def kubectl(*arguments: str, given: str = "") -> str:
    """What kubectl prints."""
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def doctor(*options: str, **env: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and checks by name; of several of one name the first."""
    done = kts("doctor", "--on", "k8s", "--json", *options, **env)
    answer = json.loads(done.stdout)
    assert answer["can_measure"] == (done.returncode == 0), done.stderr
    found: dict[str, dict[str, Any]] = {}
    for one in answer["checks"]:
        found.setdefault(one["name"], one)
    return done.returncode, found


def granted() -> str:
    """What deploy/rbac.yaml grants in a namespace, in this one and to its service account; nothing cluster-wide."""
    text = RBAC.read_text(encoding="utf-8").replace("YOUR-USER", f"system:serviceaccount:{NAMESPACE}:user")
    objects = [one for one in yaml.safe_load_all(text) if one["kind"] in ("Role", "RoleBinding")]
    for one in objects:
        one["metadata"]["namespace"] = NAMESPACE
    return yaml.safe_dump_all(objects)


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[str]:
    """The kubeconfig of a service account that may do nothing yet, in a namespace of its own."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl("create", "serviceaccount", "user", "--namespace", NAMESPACE)
        token = kubectl("create", "token", "user", "--namespace", NAMESPACE).strip()
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output", "json"))
        config["users"][0]["user"] = {"token": token}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        yield str(path)
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=true")


def test_an_administrator_sees_the_node_its_sharing_and_who_holds_the_slots() -> None:
    """Else doctor would tell nothing that a failed run does not."""
    code, found = doctor("--tenants", "1000")
    assert code == 4
    assert found["slots"]["status"] == "missing"
    assert "of 1000 tenants" in found["slots"]["found"]
    assert {found[name]["status"] for name in ("API server", "permissions", "node", "runtime class")} == {"ok"}
    api = Api.connect()
    told = has_labels(api)
    api.close()
    assert ("slots per GPU" if told else "has no labels that tell") in found["sharing"]["found"]


def test_a_runtime_class_and_a_resource_that_are_not_there_are_named() -> None:
    """Else every pod would be refused, one by one."""
    assert "no RuntimeClass no-such" in doctor("--runtime-class", "no-such")[1]["runtime class"]["found"]
    code, found = doctor("--resource", "example.com/none")
    assert code == 4
    assert found["node"]["found"].startswith("no node offers example.com/none: node ")


def test_rights_are_missing_until_they_are_granted_and_the_rest_is_unknown(nobody: str) -> None:
    """Else doctor would promise a run that the server refuses, or refuse one that it allows."""
    code, found = doctor("--namespace", NAMESPACE, KUBECONFIG=nobody)
    assert (code, found["permissions"]["status"]) == (4, "missing")
    assert "get, create pods/proxy" in found["permissions"]["found"]
    assert all("may not be read" in found[name]["found"] for name in ("namespace", "node", "slots", "runtime class"))
    kubectl("apply", "--filename", "-", given=granted())
    code, found = doctor("--namespace", NAMESPACE, KUBECONFIG=nobody)
    assert (code, found["permissions"]["status"], found["namespace"]["status"]) == (0, "ok", "ok")


def test_no_server_is_said_in_one_check(tmp_path: Path) -> None:
    """Else a cluster that is down would end in a traceback, or in a long wait."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output", "json"))
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")
    code, found = doctor(KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert (code, list(found)) == (4, ["API server"])
    assert "cannot be reached" in found["API server"]["found"]
