"""deploy/rbac.yaml on a real cluster: it suffices for a run, and nothing in it can be left out."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster
from tests.helpers_wait import until

from kts.errors import SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import clean
from kts.k8s.cluster.forward import Tunnel
from kts.k8s.follow import stored
from kts.k8s.follow.attach import attach
from kts.k8s.objects import manifests, runnames
from kts.k8s.objects.names import APP, CONDUCTOR_ACCOUNT, LABEL_APP, STATUS_PORT
from kts.k8s.objects.settings import ClusterSettings
from kts.plan import build
from kts.spec import load

NAMESPACE = "kts-e2e-rbac"
USER = "tester"
ADMIN = os.environ.get("KUBECONFIG", "")
EXPERIMENT = """\
name: small
rounds: 2
precision: null
tenants:
  t0: {workload: fft, size: 32, think_ms: 1, iterations: 200}
  t1: {workload: fft, size: 32, think_ms: 1, iterations: 200}
"""
RULES = Path(__file__).parents[3] / "deploy" / "rbac.yaml"
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]

Object = dict[str, Any]
Rule = tuple[str, str, str, str]  # the role's name, API group, resource, verb


def objects() -> list[Object]:
    """What deploy/rbac.yaml creates, in the tests' namespace, with names of its own, for the tests' user."""
    made = []
    for obj in yaml.safe_load_all(RULES.read_text(encoding="utf-8")):
        meta = obj["metadata"]
        if obj["kind"] == "Namespace":
            meta["name"] = NAMESPACE
        elif "namespace" in meta:
            meta["namespace"] = NAMESPACE
        else:
            meta["name"] += "-e2e"
        if obj["kind"] == "ClusterRoleBinding":
            obj["roleRef"]["name"] += "-e2e"
        if "subjects" in obj:
            (subject,) = obj["subjects"]
            name = USER if subject["kind"] == "User" else subject["name"]
            obj["subjects"] = [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
        made.append(obj)
    return made


def kubectl(*arguments: str, given: object = None) -> str:
    """Its output, as the administrator, whatever KUBECONFIG is now."""
    text = json.dumps(given) if given is not None else None
    done = subprocess.run(
        ["kubectl", "--kubeconfig", ADMIN, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a user who has these rules only."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": USER, "namespace": NAMESPACE}}
    made = [*objects(), account]
    try:
        for obj in made:
            kubectl("apply", "-f", "-", given=obj)
        # Pods are refused in a namespace so new that it has no account of its own.
        kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=120s")
        yield kubeconfig_of(USER, tmp_path_factory.mktemp("rbac"))
    finally:
        for obj in made:
            if obj["kind"].startswith("ClusterRole"):
                kubectl("delete", obj["kind"].lower(), obj["metadata"]["name"], "--ignore-not-found")
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true", "--timeout=180s")


def kubeconfig_of(account: str, folder: Path) -> Path:
    """The kubeconfig by which whoever has it is that service account."""
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--flatten", "--minify"))
    config["users"][0]["user"] = {"token": kubectl("-n", NAMESPACE, "create", "token", account).strip()}
    path = folder / account
    path.touch(0o600)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.fixture
def conductor(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The cluster, as the conductor's pod sees it."""
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig_of(CONDUCTOR_ACCOUNT, kubeconfig.parent)))
        api = Api.connect()
    yield api
    api.close()


@pytest.fixture
def user(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The cluster, as that user."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    api = Api.connect()
    yield api
    api.close()


def test_the_rules_suffice_for_a_run(kubeconfig: Path, tmp_path: Path) -> None:
    """Else an administrator would have to grant more than was said."""
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    image = os.environ.get("KTS_E2E_IMAGE")
    done = kts(
        *("run", path, "--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu", "--extra", "cpu"),
        *("--out", tmp_path / "out", "--no-figures", *(["--image", image] if image else [])),
        KUBECONFIG=str(kubeconfig),
    )
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    cluster = json.loads((tmp_path / "out" / "cluster.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "complete"
    assert not [note for note in info["notes"] if "could not" in note]
    assert cluster["node"]
    assert "the conductor's pod" in {watch["by"] for watch in info["neighbours"]["watches"]}
    assert not info["neighbours"]["problems"]
    assert cluster["events"]
    logs = [file for file in (tmp_path / "out" / "logs").iterdir() if file.suffix == ".log"]
    assert {"conductor.log", "t0.log", "t1.log"} <= {file.name for file in logs}
    listed = kts("runs", "--on", "k8s", "--namespace", NAMESPACE, KUBECONFIG=str(kubeconfig))
    assert (listed.returncode, listed.stdout) == (0, f"no runs in namespace {NAMESPACE}\n")  # so it was cleaned up


def uses(api: Api, conductor: Api, folder: Path) -> dict[Rule, Callable[[], object]]:
    """What kts does by each rule; what is not there is asked for, so that it changes nothing even where allowed."""
    plan = build(load(str(folder / "small.yaml")).experiment)
    made = manifests.render(
        plan,
        run="never",
        token="x",
        settings=ClusterSettings(namespace=NAMESPACE),
        experiment_text=EXPERIMENT,
        created="2026-01-01T00:00:00Z",
    )
    examples = {obj["kind"]: obj for obj in made}

    def proxy(method: str) -> Callable[[], object]:
        return lambda: api.proxy(method, NAMESPACE, runnames.conductor_name("never"), STATUS_PORT, "/v1/status")

    def forward() -> object:
        return Tunnel(api, NAMESPACE, runnames.conductor_name("never"), STATUS_PORT)

    found: dict[Rule, Callable[[], object]] = {
        ("kts", "", "configmaps", "get"): lambda: attach(api, "never", NAMESPACE, folder / "attached"),
        ("kts", "", "secrets", "get"): lambda: stored.token_of(api, "run", "never", NAMESPACE),
        ("kts", "", "namespaces", "get"): lambda: api.get("Namespace", NAMESPACE),
        ("kts", "", "events", "list"): lambda: api.list("Event", NAMESPACE),
        ("kts", "", "pods/log", "get"): lambda: b"".join(api.logs(runnames.conductor_name("never"), NAMESPACE)),
        ("kts", "", "pods/proxy", "get"): proxy("GET"),
        ("kts", "", "pods/proxy", "create"): proxy("POST"),
        ("kts-forward", "", "pods/portforward", "get"): forward,
        ("kts-forward", "", "pods/portforward", "create"): forward,
        ("kts-nodes-e2e", "", "nodes", "list"): lambda: api.list("Node"),
        ("kts-nodes-e2e", "", "nodes", "get"): lambda: api.get("Node", "never"),
        ("kts-neighbours-e2e", "", "pods", "list"): lambda: api.list("Pod"),
        ("kts-account", "", "serviceaccounts", "get"): lambda: api.get("ServiceAccount", CONDUCTOR_ACCOUNT, NAMESPACE),
        ("kts-conductor-e2e", "", "pods", "list"): lambda: conductor.list("Pod"),
    }
    kinds = {
        "ConfigMap": ("", "configmaps"),
        "Secret": ("", "secrets"),
        "Service": ("", "services"),
        "Pod": ("", "pods"),
        "Job": ("batch", "jobs"),
        "NetworkPolicy": ("networking.k8s.io", "networkpolicies"),
    }
    assert kinds.keys() == examples.keys() - {"Namespace"}
    for kind, (group, resource) in kinds.items():
        found["kts", group, resource, "list"] = lambda: clean(api, "never", NAMESPACE)
        found["kts", group, resource, "create"] = lambda kind=kind: api.create(examples[kind])
        found["kts", group, resource, "delete"] = lambda kind=kind: api.delete(kind, "never", NAMESPACE)
    return found


def without(role: Object, rule: Rule) -> Object:
    """The role, less one verb on one resource."""
    _, group, resource, verb = rule
    left = []
    for entry in role["rules"]:
        if group in entry["apiGroups"] and resource in entry["resources"] and verb in entry["verbs"]:
            others = [name for name in entry["resources"] if name != resource]
            verbs = [name for name in entry["verbs"] if name != verb]
            left += [{**entry, "resources": others}] if others else []
            left += [{**entry, "resources": [resource], "verbs": verbs}] if verbs else []
        else:
            left.append(entry)
    return {**copy.deepcopy(role), "rules": left}


def test_no_rule_can_be_left_out(user: Api, conductor: Api, tmp_path: Path) -> None:
    """Else users would be given more than they need."""
    (tmp_path / "small.yaml").write_text(EXPERIMENT, encoding="utf-8")
    roles = {obj["metadata"]["name"]: obj for obj in objects() if obj["kind"] in ("Role", "ClusterRole")}
    stated = {
        (name, group, resource, verb)
        for name, role in roles.items()
        for entry in role["rules"]
        for group in entry["apiGroups"]
        for resource in entry["resources"]
        for verb in entry["verbs"]
    }
    calls = uses(user, conductor, tmp_path)
    assert calls.keys() == stated
    if _release(user) < (1, 35):  # there a WebSocket needs no more than get
        del calls["kts-forward", "", "pods/portforward", "create"]
    # The role that may be left out grants some of what the first one does.
    optional = roles["kts-neighbours-e2e"]
    kubectl("apply", "-f", "-", given={**optional, "rules": []})
    for rule, call in sorted(calls.items(), key=lambda item: item[0]):
        name, group, resource, verb = rule
        namespace = "" if name.endswith("-e2e") else NAMESPACE
        plain, _, subresource = resource.partition("/")
        if name == optional["metadata"]["name"]:
            kubectl("apply", "-f", "-", given=optional)

        def allowed() -> bool:
            who = conductor if name == "kts-conductor-e2e" else user  # noqa: B023 - called in this round only
            return who.allowed(verb, group, plain, namespace, subresource)  # noqa: B023

        until(allowed, f"{rule} is not granted")
        kubectl("apply", "-f", "-", given=without(roles[name], rule))
        until(lambda: not allowed(), f"{rule} is granted by something else, too")
        with pytest.raises(SetupError, match="not allowed"):
            call()
        kubectl("apply", "-f", "-", given=roles[name])


def _release(api: Api) -> tuple[int, ...]:
    """The server's, e.g. (1, 34)."""
    return tuple(int(part) for part in api.version().removeprefix("v").split(".")[:2])


def test_more_is_not_granted(user: Api, conductor: Api) -> None:
    """Else the role would reach beyond its namespace, or could make one; or the pod's token were worth stealing."""
    assert conductor.allowed("list", "", "pods")
    for resource, verb in (("pods", "get"), ("pods", "create"), ("secrets", "list"), ("nodes", "list")):
        assert not conductor.allowed(verb, "", resource)
        assert not conductor.allowed(verb, "", resource, NAMESPACE)
    assert not user.allowed("create", "", "namespaces")
    assert not user.allowed("get", "", "secrets", "default")
    assert not user.allowed("create", "", "pods", "default")
    assert not user.allowed("create", "", "pods", NAMESPACE, "exec")
    assert user.list("ConfigMap", NAMESPACE, {LABEL_APP: APP}) == []
