"""`kts k8s watch install` on a real cluster, scraped by a real Prometheus: of a recording, and of pods as they compute.

The pod runs this checkout, which it finds where it is: the node must be this machine. The programs' libcuda is a
stand-in.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from tests.helpers_cli import kts
from tests.helpers_cluster import DEADLINE_S, on_a_cluster
from tests.helpers_conductor import free_port
from tests.helpers_tracer import standin
from tests.helpers_wait import until
from tests.helpers_watch import recording

from kts.errors import SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import create, create_namespace
from kts.k8s.follow import watching as follow
from kts.k8s.follow.watching import WatchedNodes
from kts.k8s.objects import podstate, watching
from kts.k8s.objects.names import WATCH_PORT
from kts.k8s.objects.watching import WatchSettings

ROOT = Path(__file__).parents[3]
NAMESPACE = "kts-e2e-watch-served"
TEAMS = ("kts-e2e-watch-a", "kts-e2e-watch-b")
PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    *on_a_cluster("KTS_CLUSTER_STATE"),
    pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on this machine (Debian: prometheus)"),
]


@pytest.fixture(scope="module")
def image() -> str:
    """One that holds Python."""
    return os.environ.get("KTS_E2E_IMAGE") or kts("k8s", "image", "--extra", "cpu").stdout.strip()


@pytest.fixture
def api() -> Iterator[Api]:
    """The cluster, as the administrator, who takes away what was put there."""
    found = Api.connect()
    yield found
    follow.remove(found, NAMESPACE)
    until(lambda: found.get("Namespace", NAMESPACE) is None, "the namespace stays")
    found.close()


def of_this_checkout(objects: list[Any], folder: Path) -> list[Any]:
    """The objects, whose pods run this checkout with its packages, and see ``folder``."""
    spec = objects[-1]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    found = [str(ROOT / "src"), sysconfig.get_path("purelib")]
    for k, path in enumerate([*found, str(folder)]):
        spec["volumes"].append({"name": f"here-{k}", "hostPath": {"path": path}})
        container["volumeMounts"].append({"name": f"here-{k}", "mountPath": path, "readOnly": True})
    container["command"] = ["python3", "-m", "kts"]
    of_image = {
        "PYTHONPATH": ":".join(found),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        "NUMBA_CACHE_DIR": "/tmp",
    }
    container["env"] += [{"name": name, "value": value} for name, value in of_image.items()]
    container["readinessProbe"] |= {"periodSeconds": 1}
    return objects


def address(api: Api) -> str:
    """Where the one pod serves."""
    (pod,) = api.list("Pod", NAMESPACE, watching.SELECTED)
    assert podstate.ready(pod)
    return f"{pod['status']['podIP']}:{WATCH_PORT}"


@pytest.fixture
def install(api: Api, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WatchedNodes]:
    """`kts k8s watch install`, with more arguments of kts watch. Its pod sees ``tmp_path``."""
    render = watching.render
    monkeypatch.setattr(watching, "render", lambda asked: of_this_checkout(render(asked), tmp_path))
    return lambda *arguments: follow.install(
        api, WatchSettings(image=image, namespace=NAMESPACE, arguments=arguments), within_s=DEADLINE_S
    )


@pytest.fixture
def tracefs() -> Iterator[Path]:
    """The node's, mounted where a node's init mounts it. Skips where its kernel has no probes."""
    folder = Path(watching.TRACEFS)
    mounted = not (folder / "README").exists()
    if mounted and os.getuid() == 0:
        subprocess.run(["mount", "-t", "tracefs", "nodev", str(folder)], check=False, capture_output=True)
    try:
        if not os.access(folder / "uprobe_events", os.W_OK):
            pytest.skip("this node's kernel has no probes, or we are not root")
        yield folder
    finally:
        if mounted and (folder / "README").exists():
            subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def computing(api: Api, image: str) -> Iterator[set[str]]:
    """Units of two pods without any rights, in namespaces of their own, of which each makes round trips of 1 and 3
    launches."""
    argv = standin().argv(iterations=0, trips="1,3", kernel_us=500, think_us=2000, lines=0, api="driver")
    folder = str(standin().cuda)
    container = {
        "name": "program",
        "image": image,
        "imagePullPolicy": "Never",
        "command": [str(word) for word in argv],
        "env": [{"name": "LD_LIBRARY_PATH", "value": folder}],
        "volumeMounts": [{"name": "cuda", "mountPath": folder, "readOnly": True}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "cuda", "hostPath": {"path": folder}}],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10007},
    }
    try:
        for name in TEAMS:
            create_namespace(api, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            meta = {"name": "computes", "namespace": name}
            create(api, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        yield {f"{name}/computes/program" for name in TEAMS}
    finally:
        for name in TEAMS:
            api.delete("Namespace", name)
        until(lambda: not any(api.get("Namespace", name) for name in TEAMS), "a namespace stays")


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Callable[[str], Any]]:
    """A Prometheus that scrapes the target, and has our alerts; asked by its API."""
    rules = yaml.safe_load((ROOT / "deploy" / "watch" / "rules.yaml").read_text(encoding="utf-8"))["spec"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "kts-watch", "honor_labels": True, "static_configs": [{"targets": [target]}]},
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    at = f"127.0.0.1:{free_port()}"
    command = [
        str(PROMETHEUS),
        "--config.file=prometheus.yaml",
        f"--web.listen-address={at}",
        "--storage.tsdb.path=data",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:

        def ask(path: str) -> Any:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                with urllib.request.urlopen(f"http://{at}/api/v1/{path}", timeout=10) as answer:
                    return json.load(answer)["data"]
            except OSError:  # it starts
                return {"alerts": [], "result": []}

        try:
            yield ask
        finally:
            process.kill()


def test_prometheus_scrapes_the_daemonset_and_its_alert_fires(
    api: Api, install: Callable[..., WatchedNodes], tmp_path: Path
) -> None:
    """Else nothing in a cluster would tell who pays for sharing: the pod would not run with the rights it has, not be
    found ready, not be read by Prometheus, or nobody would be called."""
    file = recording(tmp_path / "recording")
    tmp_path.chmod(0o755)
    assert install("--from", str(file), "--pace", "0") == (1, 1)
    asked = urlencode({"query": 'group by (unit) ({job="kts-watch", unit!=""})'})
    with prometheus(tmp_path, address(api)) as ask:
        units = until(lambda: {one["metric"]["unit"] for one in ask(f"query?{asked}")["result"]}, "nothing is scraped")
        assert {"shop/api/main", "shop/train/main"} <= units
        until(
            lambda: (
                ("KtsNewNeighbour", "firing")
                in {(one["labels"]["alertname"], one["state"]) for one in ask("alerts")["alerts"]}
            ),
            "no alert fires",
        )


def test_pods_of_two_namespaces_are_seen_as_they_compute(
    api: Api, install: Callable[..., WatchedNodes], tmp_path: Path, tracefs: Path, computing: set[str]
) -> None:
    """Else the rights that it has would do for a recording, and not for a node; or its probes would stay."""
    assert install() == (1, 1)
    asked = urlencode({"query": 'group by (unit) (kts_watch_round_trips_per_second{job="kts-watch"} > 0)'})
    with prometheus(tmp_path, address(api)) as ask:
        until(
            lambda: computing <= {one["metric"]["unit"] for one in ask(f"query?{asked}")["result"]}, "they are not seen"
        )
    assert "kts_" in (tracefs / "uprobe_events").read_text()
    follow.remove(api, NAMESPACE)
    assert "kts_" not in (tracefs / "uprobe_events").read_text()
    assert not list((tracefs / "instances").glob("kts_*"))


def test_what_cannot_watch_is_said_with_its_own_words(install: Callable[..., WatchedNodes]) -> None:
    """Else an administrator would wait for a pod that ends again and again."""
    with pytest.raises(SetupError, match=r"kts watch ends: .*/nowhere"):
        install("--from", "/nowhere")
