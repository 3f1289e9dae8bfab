"""Names of a node's containers: by its kubelet's list, by the links to its logs, and when somebody is asked again."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.helpers_apiserver import ApiServer, Authority

from kts.errors import SetupError, UsageError
from kts.k8s.cluster import nodefiles
from kts.k8s.cluster.kubelet import Kubelet
from kts.k8s.cluster.podnames import EVERY_S, REFUSED_S, NodeNames, names_here
from kts.k8s.objects.podnames import LONGEST, NamesKnown, PodName, of_logs, of_pods
from kts.watch.calls import WatchedProcess

UID, OTHER = "7c5b7a4e-0001-4000-8000-000000000001", "7c5b7a4e-0001-4000-8000-000000000002"
ID, SECOND = "a1" * 32, "b2" * 32
POD = {
    "metadata": {"namespace": "team-a", "name": "llm-0", "uid": UID},
    "status": {
        "initContainerStatuses": [{"name": "fetch", "containerID": f"containerd://{SECOND}"}],
        "containerStatuses": [{"name": "serve", "containerID": f"cri-o://{ID}"}, {"name": "starts"}],
    },
}
PODS = {"kind": "PodList", "items": [POD]}
SERVE = PodName("team-a", "llm-0", "serve")


def process(uid: str = UID, container: str = ID) -> WatchedProcess:
    return WatchedProcess(number=1, pid=10, began_ticks=5, command="python3", container=container, pod_uid=uid)


def linked(folder: Path, *, pod: str = "llm-0", container: str = "serve", name: str = ID) -> Path:
    """A log's link as the kubelet makes it; it leads to what is not there, as in a pod that sees the folder alone."""
    link = folder / (f"{pod}_team-a_{container}-{name}"[:LONGEST] + ".log")
    link.symlink_to(f"/var/log/pods/team-a_{pod}_{UID}/{container}/0.log")
    return link


@pytest.fixture
def account(tmp_path: Path, authority: Authority) -> Path:
    """What Kubernetes mounts in a pod."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_bytes(authority.ca.read_bytes())
    return tmp_path


@pytest.fixture
def kubelet(account: Path, server: ApiServer) -> Kubelet:
    server.body = json.dumps(PODS).encode()
    return Kubelet("127.0.0.1", account, port=urlsplit(server.url).port or 0)


def test_a_container_is_found_by_its_id_and_its_pod_by_its_uid() -> None:
    """Else figures would name the wrong container, or none while its status lags behind its start."""
    known = of_pods([POD, {"metadata": {}}, {"metadata": {"namespace": "x", "name": "new"}, "status": None}])
    assert known.get(UID, ID) == SERVE
    assert known.get(UID, SECOND) == PodName("team-a", "llm-0", "fetch")
    assert known.get(UID, "c3" * 32) == PodName("team-a", "llm-0")
    assert known.get(OTHER, "c3" * 32) is None
    assert known.get("", "") is None


def test_a_static_pod_is_found_by_what_its_cgroup_bears() -> None:
    """Else pods of the node's own folder would have no name: the API server's UID is another one."""
    meta = {"namespace": "a", "name": "b", "uid": OTHER, "annotations": {"kubernetes.io/config.hash": "0f" * 16}}
    assert of_pods([{"metadata": meta}]).get("0f" * 16, "") == PodName("a", "b")


def test_links_to_logs_tell_the_same_as_the_kubelet(tmp_path: Path) -> None:
    """Else the way that needs no rights would give other names."""
    linked(tmp_path)
    linked(tmp_path, container="fetch", name=SECOND)
    (tmp_path / "a-file.log").write_text("")
    (tmp_path / "elsewhere.log").symlink_to("/var/log/syslog")
    known, by_kubelet = nodefiles.names(tmp_path), of_pods([POD])
    for container in (ID, SECOND, "c3" * 32):
        assert known.get(UID, container) == by_kubelet.get(UID, container)
    assert len(known.pods) == 1


def test_a_name_too_long_for_a_file_costs_the_container_not_the_pod(tmp_path: Path) -> None:
    """Else a pod with a long name would have none, or another container's."""
    long = "p" * 180
    link = linked(tmp_path, pod=long)
    assert len(link.name) == 255
    assert nodefiles.names(tmp_path).get(UID, ID) == PodName("team-a", long)
    assert of_logs([(f"p_a_c-{'A1' * 32}.log", "/var/log/pods/a_p_u/c/0.log")]).containers == {}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Else pods would silently have no names."""
    with pytest.raises(SetupError, match="pods have no names"):
        nodefiles.names(tmp_path / "none")


def test_the_kubelet_is_asked_with_the_token_of_the_moment(kubelet: Kubelet, account: Path, server: ApiServer) -> None:
    """Else names would end an hour after the start, when the first token does."""
    assert kubelet.names().get(UID, ID) == SERVE
    (account / "token").write_text("second")
    kubelet.names()
    assert [(one.path, one.who) for one in server.asked] == [("/pods", "Bearer first"), ("/pods", "Bearer second")]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, b"Forbidden", "does not let this account get nodes/pods"),
        (401, b"Unauthorized", "does not know this account"),
        (200, b"<html>", "answers 200, and no list of pods"),
        (200, b"[]", "answers 200, and no list of pods"),
        (200, b'{"items": [3]}', "answers 200, and no list of pods"),
        (500, b"{}", "answers 500"),
    ],
)
def test_a_refusal_is_a_sentence(kubelet: Kubelet, server: ApiServer, status: int, body: bytes, words: str) -> None:
    """Else a missing right would be a traceback, or look like a node without pods."""
    server.status, server.body = status, body
    with pytest.raises(SetupError, match=words) as caught:
        kubelet.names()
    assert "docs/watch-rights.md" in caught.value.remedy


def test_no_token_is_shown_to_whom_nobody_vouches_for(
    account: Path, server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Else whoever listens at the kubelet's port would get the token; unless that was asked for."""
    (account / "ca.crt").write_bytes(Authority(tmp_path_factory.mktemp("another")).ca.read_bytes())
    port = urlsplit(server.url).port or 0
    server.body = json.dumps(PODS).encode()
    with pytest.raises(SetupError, match="is not trusted"):
        Kubelet("127.0.0.1", account, port=port).names()
    assert server.asked == []
    assert Kubelet("127.0.0.1", account, port=port, authorities=()).names().get(UID, ID) == SERVE


def test_nobody_there_and_no_token_are_sentences(account: Path) -> None:
    """Else a node without a kubelet would end watching."""
    with pytest.raises(SetupError, match="cannot be asked"):
        Kubelet("127.0.0.1", account, port=1).names()
    with pytest.raises(SetupError, match="cannot be asked"):
        Kubelet("127.0.0.1", account / "none", port=1).names()


class Told:
    """A way to names that is counted, and refuses on order; and a clock."""

    def __init__(self) -> None:
        self.asked, self.now_s, self.refuses = 0, 100.0, ""
        self.known = NamesKnown({}, {})

    def __call__(self) -> NamesKnown:
        self.asked += 1
        if self.refuses:
            raise SetupError(self.refuses)
        return self.known


def test_a_container_that_is_new_is_asked_for_again_but_not_all_the_time() -> None:
    """Else a container that started would never have a name, or the kubelet would be asked for every process."""
    told = Told()
    names = NodeNames([told], now=lambda: told.now_s)
    host = process("", "")
    assert names(host) == host
    assert told.asked == 0
    assert names(process()).pod == names(process()).pod == ""
    assert told.asked == 1
    told.known, told.now_s = NamesKnown({}, {UID: PodName("team-a", "llm-0")}), told.now_s + EVERY_S
    named = names(process())
    assert (named.unit, told.asked) == ("team-a/llm-0", 2)
    told.known, told.now_s = of_pods([POD]), told.now_s + EVERY_S
    assert names(named).unit == "team-a/llm-0/serve"
    told.now_s += 100
    assert names(process()).unit == "team-a/llm-0/serve"
    assert told.asked == 3


def test_the_next_way_is_taken_where_one_refuses_and_that_is_said() -> None:
    """Else one missing right would cost all names, or nobody would learn of it."""
    first, second = Told(), Told()
    first.refuses, second.known = "the kubelet does not let us", of_pods([POD])
    names = NodeNames([first, second], now=lambda: first.now_s)
    assert (names(process()).unit, names.problem) == ("team-a/llm-0/serve", "the kubelet does not let us")
    second.refuses, first.now_s = "no folder", first.now_s + EVERY_S
    new = process(OTHER, "d4" * 32)
    assert names(new) == new
    assert names.problem == "the kubelet does not let us; no folder"
    first.now_s += REFUSED_S - 1
    names(new)
    assert first.asked == 2
    first.now_s, first.refuses = first.now_s + 1, ""
    names(new)
    assert (first.asked, names.problem) == (3, "")


def test_who_is_asked_is_the_environment_s(tmp_path: Path, account: Path) -> None:
    """Else a DaemonSet without a token would wait for a kubelet, or a slip of the pen would mean no names."""
    logs = tmp_path / "logs"
    assert names_here({}, logs, account)(process()).pod == ""
    logs.mkdir()
    linked(logs)
    assert names_here({}, logs, account)(process()).unit == "team-a/llm-0/serve"
    assert names_here({"KTS_NAMES": "none"}, logs, account)(process()).pod == ""
    fallen = names_here({"KTS_NAMES": "kubelet", "KTS_HOST_IP": "127.0.0.1", "KTS_KUBELET_CA": ""}, logs, account)
    assert fallen(process()).unit == "team-a/llm-0/serve"
    assert "the kubelet at 127.0.0.1:10250" in fallen.problem
    with pytest.raises(UsageError, match="KTS_NAMES='kublet'"):
        names_here({"KTS_NAMES": "kublet"}, logs, account)
