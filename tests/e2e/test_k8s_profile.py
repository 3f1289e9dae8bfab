"""`kts profile --on k8s` against a cluster in memory whose pods are processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers_cluster_here import ClusterHere, Object

from kts import app
from kts.errors import KtsError, MeasurementError, SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.objects.settings import ClusterSettings

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="its pods are processes as Linux has them"),
]

SETTINGS = ClusterSettings(runtime_class="", resource="")


class Here(ClusterHere):
    """One that is closed as an API is."""

    def close(self) -> None:
        """As an API's."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """The cluster that is connected to."""
    with Here(tmp_path / "cluster") as here:
        monkeypatch.setattr(Api, "connect", classmethod(lambda *_: here))
        yield here


TEXT = """\
name: small
device: cpu
tenants:
  a: {workload: fft, size: 32, iterations: 10}
  b: {workload: fft, size: 64, iterations: 10}
  no: {workload: command, command: [/nowhere]}
"""


def profiled(out: Path, *tenants: str) -> None:
    """Profiles these."""
    app.profile_on_cluster(TEXT, SETTINGS, out, tenants=tenants, seconds=0.3, image="x", extra="cpu")


def left(cluster: ClusterHere) -> list[str]:
    """What of kts is in the cluster."""
    return [name for kind, name in cluster.objects if kind != "Event"]


def test_each_tenant_is_profiled_in_a_pod_of_its_own_and_nothing_is_left(cluster: Here, tmp_path: Path) -> None:
    """Else who has a GPU only in pods could predict nothing."""
    profiled(tmp_path / "out", "a", "b")
    for name, size in (("a", 32), ("b", 64)):
        made = json.loads((tmp_path / "out" / f"{name}.profile.json").read_text(encoding="utf-8"))
        assert (made["tenant"], made["size"], made["gpu"]["kind"]) == (name, size, "cpu")
        assert made["solo_service"]["n"] > 0
    assert len(cluster.created) == 2
    assert left(cluster) == []


def test_a_tenant_that_fails_is_told_in_its_own_words(cluster: Here, tmp_path: Path) -> None:
    """Else the reason would stay in the log of a pod that is gone."""
    with pytest.raises(MeasurementError, match="tenant no: command not found: /nowhere"):
        profiled(tmp_path / "out", "no")
    assert left(cluster) == []


def test_what_was_profiled_before_a_tenant_fails_is_kept(cluster: Here, tmp_path: Path) -> None:
    """Else the last of ten tenants would cost the other nine."""
    with pytest.raises(KtsError):
        profiled(tmp_path / "out", "a", "no")
    assert (tmp_path / "out" / "a.profile.json").exists()
    assert left(cluster) == []


def test_a_pod_that_is_deleted_ends_the_profile(cluster: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a drained node would be waited for until the Job's own end."""
    pods = iter([True])

    def listed(kind: str, *args: object, **kwargs: object) -> list[Object]:
        found = ClusterHere.list(cluster, kind, *args, **kwargs)  # type: ignore[arg-type]
        if kind == "Pod" and found and not next(pods, False):
            process = cluster.processes.pop(found[0]["metadata"]["name"])
            process.kill()
            process.wait()
            del cluster.objects["Pod", found[0]["metadata"]["name"]]
            return []
        return found

    monkeypatch.setattr(cluster, "list", listed)
    with pytest.raises(MeasurementError, match="was deleted before its profile was read"):
        profiled(tmp_path / "out", "a")


def test_what_cannot_be_made_leaves_nothing(cluster: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a quota that refuses the Job would leave a Secret in the namespace."""
    create = cluster.create

    def refused(obj: Object) -> Object:
        if obj["kind"] == "Job":
            raise SetupError("the quota is used up", "ask for more")
        return create(obj)

    monkeypatch.setattr(cluster, "create", refused)
    with pytest.raises(SetupError, match="quota"):
        profiled(tmp_path / "out", "a")
    assert left(cluster) == []
