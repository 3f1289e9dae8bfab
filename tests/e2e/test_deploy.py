"""What deploy/ brings into a cluster: valid objects, of one ServiceAccount, and a gate that is red and green."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests import helpers_cli
from tests.helpers_cli import record

from kts.k8s.objects import rules
from kts.spec import load_text

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = ("rbac.yaml", "in-cluster.yaml", "cronjob.yaml")
KUBERNETES = "1.34"


def objects(*files: str) -> list[Any]:
    """What they hold."""
    return [obj for name in files for obj in yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8"))]


def data() -> dict[str, str]:
    """The CronJob's files: the experiment, and the gate."""
    (found,) = (obj["data"] for obj in objects("cronjob.yaml") if obj["kind"] == "ConfigMap")
    return dict(found)


def pod() -> Any:
    (cron,) = (obj for obj in objects("cronjob.yaml") if obj["kind"] == "CronJob")
    return cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_every_object_is_one_that_kubernetes_takes() -> None:
    """Else `kubectl apply` of what we publish would fail, or drop a misspelt field."""
    for obj in objects(*FILES):
        kubernetes_validate.validate(obj, KUBERNETES, strict=True)


def bound(name: str, kind: str) -> set[tuple[str, str, str]]:
    """The roles that a file gives to users or to ServiceAccount kts: kind of the binding, kind and name of the role."""
    return {
        (obj["kind"], obj["roleRef"]["kind"], obj["roleRef"]["name"])
        for obj in objects(name)
        for subject in obj.get("subjects", ())
        if subject["kind"] == kind and (kind == "User" or subject["name"] == pod()["serviceAccountName"])
    }


def test_the_service_account_may_do_what_a_user_of_kts_may_and_no_more() -> None:
    """Else a pod of kts could not run it, or could do more than a user of it."""
    assert bound("in-cluster.yaml", "ServiceAccount") == bound("rbac.yaml", "User") != set()
    assert {obj["kind"] for obj in objects("in-cluster.yaml")} == {
        "ServiceAccount",
        "RoleBinding",
        "ClusterRoleBinding",
    }


def test_the_experiment_is_one_and_its_image_can_be_loaded() -> None:
    """Else the first run of a week would end with a spelling mistake of ours."""
    assert load_text(data()["experiment.yaml"], source="cronjob.yaml").experiment.name == "weekly"
    for container in (*pod()["containers"], *pod()["initContainers"]):
        assert rules.loadable("image", container["image"])


def gate(folder: Path, run: Path) -> tuple[int, str]:
    """Its exit code, and what it printed."""
    script = folder / "gate.py"
    script.write_text(data()["gate.py"], encoding="utf-8")
    command = [sys.executable, str(script), str(run), str(folder / "baseline")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_the_gate_is_green_until_a_figure_is_higher_than_the_baseline_s(tmp_path: Path) -> None:
    """Else a slower driver would pass, or noise would fail a week's run."""
    first, same, slower = (tmp_path / name for name in ("first", "same", "slower"))
    assert gate(tmp_path, record(first)) == (0, "first is the baseline from now on\nGREEN\n")
    code, told = gate(tmp_path, record(same, seed=1))
    assert (code, told.splitlines()[-1]) == (0, "GREEN")
    assert told.startswith("same against first: ")
    code, told = gate(tmp_path, record(slower, alone=2.0, seed=2))
    assert code == 1
    assert "RED fft: response solo p50: 2." in told
    assert (tmp_path / "baseline").resolve() == first


def test_a_broken_promise_is_red_and_no_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a bad first week would be what later weeks are measured by."""
    monkeypatch.setattr(helpers_cli, "TINY", helpers_cli.TINY.replace("deadline_ms: 50", "p99_ms: 0.01"))
    code, told = gate(tmp_path, record(tmp_path / "run"))
    assert (code, told) == (1, "RED fft: response p99 is not within 0.01 ms when shared\n")
    assert not (tmp_path / "baseline").exists()
