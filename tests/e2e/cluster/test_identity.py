"""Which cluster kts acts on, and as whom, on a real one: as kubectl, by the same kubeconfig."""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.helpers_apiserver import proxying
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster

NAMESPACE = "kts-e2e"
USER = "kts-e2e-ann"
EXPERIMENT = """\
name: small
rounds: 2
precision: null
tenants:
  t0: {workload: fft, size: 32, think_ms: 1, iterations: 300}
  t1: {workload: fft, size: 32, think_ms: 1, iterations: 300}
"""
RULES = Path(__file__).parents[3] / "deploy" / "rbac.yaml"
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]

PLUGIN = """\
#!/bin/sh
echo asked >> "$COUNT"
expires=$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ)
sed "s/EXPIRES/$expires/" "$1"
"""


def kubectl(*arguments: str, given: object = None) -> str:
    """Its output."""
    text = json.dumps(given) if given is not None else None
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def granted() -> Iterator[None]:
    """What deploy/rbac.yaml grants, for the user who is acted as."""
    made = []
    for obj in yaml.safe_load_all(RULES.read_text(encoding="utf-8")):
        obj["metadata"]["name"] = NAMESPACE if obj["kind"] == "Namespace" else f"{obj['metadata']['name']}-identity"
        if "namespace" in obj["metadata"]:
            obj["metadata"]["namespace"] = NAMESPACE
        if "subjects" in obj:
            obj["roleRef"]["name"] += "-identity"
            obj["subjects"][0]["name"] = USER
        made.append(obj)
    items = {"apiVersion": "v1", "kind": "List", "items": made}
    kubectl("apply", "-f", "-", given=items)
    yield
    items["items"] = [obj for obj in made if obj["kind"] != "Namespace"]
    kubectl("delete", "--wait=false", "-f", "-", given=items)


@pytest.mark.usefixtures("granted")
def test_who_acts_is_who_acts_for_kubectl_for_a_whole_run(tmp_path: Path) -> None:
    """Else a run would be allowed what its user may not, or end when the first credential does.

    An exec plugin hands out the administrator's certificate, for two seconds each time; the run acts as another user,
    who may only do what deploy/rbac.yaml grants, and goes through a proxy.
    """
    config = yaml.safe_load(kubectl("config", "view", "--raw", "--flatten", "--minify"))
    server, admin = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]
    if "client-certificate-data" not in admin:
        pytest.skip("needs an administrator with a client certificate")
    halves = {"clientCertificateData": "client-certificate-data", "clientKeyData": "client-key-data"}
    pair = {status: b64decode(admin[field]).decode() for status, field in halves.items()}
    answer = {
        "kind": "ExecCredential",
        "apiVersion": "client.authentication.k8s.io/v1",
        "status": {**pair, "expirationTimestamp": "EXPIRES"},
    }
    (tmp_path / "answer").write_text(json.dumps(answer), encoding="utf-8")
    plugin = tmp_path / "plugin"
    plugin.write_text(PLUGIN, encoding="utf-8")
    plugin.chmod(0o755)
    user = {
        "as": USER,
        "as-groups": ["system:authenticated"],
        "as-user-extra": {"kts.dev/why not%": ["a", "b"]},
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "interactiveMode": "IfAvailable",
            "command": "./plugin",
            "args": [str(tmp_path / "answer")],
            "env": [{"name": "COUNT", "value": str(tmp_path / "count")}],
        },
    }
    with proxying("http") as (proxy, asked):
        config["clusters"][0]["cluster"]["proxy-url"] = proxy
        config["users"][0]["user"] = user
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        told = json.loads(kubectl("--kubeconfig", str(path), "auth", "whoami", "-o", "json"))["status"]["userInfo"]
        assert (told["username"], told["extra"]) == (USER, {"kts.dev/why not%": ["a", "b"]})
        here = {"KUBECONFIG": str(path)}
        elsewhere = kts("doctor", "--on", "k8s", "--namespace", "default", **here)
        assert f"as {USER}\n" in elsewhere.stdout
        assert "in namespace default you may not: create" in elsewhere.stdout
        (tmp_path / "small.yaml").write_text(EXPERIMENT, encoding="utf-8")
        image = os.environ.get("KTS_E2E_IMAGE")
        done = kts(
            *("run", tmp_path / "small.yaml", "--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu"),
            *("--extra", "cpu", *(["--image", image] if image else [])),
            *("--out", tmp_path / "out", "--no-figures"),
            **here,
        )
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert info["outcome"]["kind"] == "complete"
    assert len((tmp_path / "count").read_text(encoding="utf-8").splitlines()) >= 5  # kubectl, doctor, and in the run
    assert set(asked) == {server.removeprefix("https://")}
