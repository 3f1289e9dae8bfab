"""Which old images are removed, and which never; engines and runtimes are scripts that note what they were told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import cast

import pytest

from kts.errors import KtsError, SetupError
from kts.k8s.cluster import prune
from kts.k8s.cluster.api import Api
from kts.k8s.objects import Object, imagenames

NOW, OLD, OLDER, BUSY = (f"localhost/kts-worker:cpu-{digit * 12}" for digit in "0123")
FULL = f"localhost/kts:cpu-{'1' * 12}-{'f' * 12}"
"""Starts pods of OLD."""
SCRIPT = """#!/bin/sh
echo "{name} $*" >> "{log}"
case "$*" in
    "images "*"label=dev.kts.content="*) test ! -e "{folder}/${{3##*=}}" || {cat} "{folder}/${{3##*=}}" ;;
    "images "*) {cat} "{folder}/all" ;;
    *{busy}*) echo "image is in use by a container"; exit 2 ;;
esac
"""


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *((name, True) for name in (NOW, FULL)),
        *(
            (name, False)
            for name in ("localhost/kts-worker:v1", "localhost/kts:v1", f"{NOW}-x", f"x/{NOW}", "sha256:0")
        ),
        (f"localhost/kts:cpu-{'1' * 12}", False),
    ],
)
def test_only_names_that_kts_made_are_its_own(name: str, ours: bool) -> None:
    """Else a tag that somebody's Jobs name would be removed from under them."""
    assert imagenames.is_ours(name) == ours


def test_what_anything_names_is_kept_with_what_it_starts() -> None:
    """Else a weekly run would find its image, or its workers', gone."""
    told = [[NOW], [OLD], [OLDER, "localhost/kts-worker@sha256:ab"], [FULL], [BUSY, "mine:v1"], []]
    assert imagenames.unneeded(told, {NOW}) == [[OLD], [OLDER], [FULL]]
    assert imagenames.unneeded(told, {NOW, FULL}) == [[OLDER]]  # a CronJob's, which starts OLD
    assert imagenames.unneeded([[OLD], [OLDER], [FULL, "localhost/kts:v1"]], {NOW}) == [[OLDER]]


def pod(image: str, phase: str = "Running") -> Object:
    return {"spec": {"initContainers": [{"image": image}], "containers": [{"image": "x"}]}, "status": {"phase": phase}}


def test_pods_jobs_and_cronjobs_name_images_until_they_are_over() -> None:
    """Else a suspended Job would lose its image, or one that is long over would keep it for ever."""
    template = {"spec": {"template": pod(OLD)}}
    over = {**template, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert imagenames.named_in([pod(NOW), pod(OLDER, "Failed"), over]) == {NOW, "x"}
    assert OLD in imagenames.named_in([template])
    assert OLD in imagenames.named_in([{"spec": {"jobTemplate": template}}])


class Machine:
    """A PATH with scripts, and what they were told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.log, self.said = folder, folder / "log", list[str]()
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", str(folder / "bin"))
        for name in ("KTS_IMAGE_LOADER", prune.REMOVER):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(prune, "current", lambda base: {NOW} if base else set())
        self.install("podman")

    def install(self, name: str) -> None:
        cat = shutil.which("cat", path=os.defpath)
        path = self.folder / "bin" / name
        text = SCRIPT.format(name=name, log=self.log, folder=self.folder, cat=cat, busy=BUSY)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def has(self, *rows: tuple[str, str], content: str = "all") -> None:
        """What the engine lists: (ID, name)."""
        text = "".join(f"{identity}\t{name}\t324 MB\n" for identity, name in rows)
        (self.folder / content).write_text(text, encoding="utf-8")

    def removed(self) -> list[str]:
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [line for line in lines if " images --filter " not in line]

    def prune(self, api: object = None) -> None:
        prune.prune("base", cast("Api | None", api), self.said.append)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


class Cluster:
    """One node that tells of these images, and these pods."""

    def __init__(self, images: list[list[str]], pods: list[Object]) -> None:
        self.images, self.pods = images, pods

    def list(self, kind: str) -> list[Object]:
        told = [{"names": names} for names in self.images]
        return {"Node": [{"status": {"images": told}}], "Pod": self.pods}.get(kind, [])


class Closed(Cluster):
    """The same for a user who may not see it."""

    def list(self, kind: str) -> list[Object]:
        raise SetupError(f"listing {kind} is forbidden", "ask")


def test_the_builder_keeps_what_is_current_or_in_use_or_named_by_a_user(machine: Machine) -> None:
    """Else the next run would build anew, or a user's image would be gone."""
    machine.has(
        *(("a", NOW), ("b", OLD), ("c", OLDER), ("c", "localhost/kts-worker:v1"), ("d", BUSY)),
        *(("e", "<none>:<none>"), ("f", "<none>:<none>")),
    )
    machine.has(("a", NOW), ("e", "<none>:<none>"), content=NOW.partition(":")[2])
    machine.prune()
    assert machine.removed() == [f"podman rmi {OLD}", f"podman rmi {BUSY}", "podman rmi f"]
    assert machine.said == [
        f"removed {OLD}",
        f"kept {BUSY} (exit code 2) image is in use by a container",
        "removed f",
        "podman: 2 old images of kts removed, 0.6 GB with the layers that they share",
    ]


def test_nodes_lose_what_no_pod_names(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else disks of nodes would fill, or a pod would find its image gone."""
    machine.has(("a", NOW))
    monkeypatch.setenv(prune.REMOVER, "sudo crictl rmi")
    machine.install("sudo")
    machine.prune(Cluster([[NOW], [OLD], [OLDER], [BUSY]], [pod(OLDER)]))
    assert machine.removed() == [f"sudo crictl rmi {OLD}", f"sudo crictl rmi {BUSY}"]
    assert machine.said[-1] == "nodes: 1 old image of kts removed"


def test_each_node_of_kind_is_asked(machine: Machine) -> None:
    """Else images would pile up where the loader put them."""
    machine.has(("a", NOW))
    machine.install("docker")
    kind = machine.folder / "bin" / "kind"
    kind.write_text("#!/bin/sh\necho n1\necho n2\n", encoding="utf-8")
    kind.chmod(0o755)
    machine.prune(Cluster([[OLD]], []))
    assert machine.removed() == [f"docker exec {node} crictl rmi {OLD}" for node in ("n1", "n2")]


@pytest.mark.parametrize("variable", ["", "KTS_IMAGE_LOADER"])
def test_nodes_out_of_reach_are_named_with_what_to_do(
    variable: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else images of another machine's runtime would be removed, or the user would think that all is done."""
    machine.has(("a", NOW))
    if variable:
        monkeypatch.setenv(variable, "copy-to-node")
        machine.install("k3s")
    machine.prune(Cluster([[OLD]], []))
    assert machine.removed() == []
    assert f"nodes: 1 old images of kts, and no known way to remove them: {OLD}" in machine.said
    assert prune.REMOVER in machine.said[-1]


def test_where_use_is_not_known_nodes_keep_all(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a user who sees one namespace would remove the images of another's runs."""
    machine.has(("b", OLD))
    monkeypatch.setenv(prune.REMOVER, "crictl rmi")
    machine.prune(Closed([[OLD]], []))
    assert machine.removed() == [f"podman rmi {OLD}"]
    assert "on nodes nothing is removed" in machine.said[0]


def test_a_build_says_when_many_old_images_lie_there(machine: Machine) -> None:
    """Else a disk would fill unseen."""
    old = [(digit, f"localhost/kts-worker:cpu-{digit * 12}") for digit in "abcdef"]
    machine.has(("0", NOW), *old[: prune.MANY - 1])
    prune.hint("base", machine.said.append)
    assert machine.said == []
    machine.has(("0", NOW), *old[: prune.MANY])
    prune.hint("base", machine.said.append)
    assert machine.said == ["podman has 5 older images of kts (1.6 GB): kts k8s image --prune removes them"]


@pytest.mark.parametrize("size", ["324 MB", "324MB", "0.324 GB", "324000 kB"])
def test_engines_sizes_are_read(size: str, machine: Machine) -> None:
    """Else what is freed would be told a thousand times too large."""
    (machine.folder / "all").write_text(f"a\t{OLD}\t{size}\n", encoding="utf-8")
    assert [image.size_bytes for image in prune.built("podman")] == pytest.approx([324e6])


def test_an_engine_that_does_not_tell_is_named(machine: Machine) -> None:
    """Else nothing would be removed, and the user told that nothing is there."""
    (machine.folder / "bin" / "podman").write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    with pytest.raises(KtsError, match="podman does not tell its images"):
        machine.prune()
