"""kubeconfig as kubectl has it; whatever is wrong with one is one line that names the file."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kts.errors import SetupError
from kts.k8s.cluster import kubeconfig
from kts.k8s.cluster.api import Api, Unavailable

PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n").decode()


def config(name: str = "one", server: str = "http://127.0.0.1:1", **changes: Any) -> dict[str, Any]:
    """One cluster, user and context of that name; ``cluster``, ``user``: their fields; the rest as given."""
    cluster = {"server": server, **changes.pop("cluster", {})}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": changes.pop("user", {})}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": f"of-{name}"}}],
        **changes,
    }


def write(path: Path, content: object) -> Path:
    """The file, with this content: bytes, text, or what JSON makes of it."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def opened(*files: Path, context: str | None = None) -> Any:
    """What the files, as KUBECONFIG lists them, come to."""
    return kubeconfig.access(context, {"KUBECONFIG": os.pathsep.join(map(str, files))}).single


def test_of_several_files_the_first_counts(tmp_path: Path) -> None:
    """Else kts would talk to another cluster than kubectl does."""
    empty, absent = write(tmp_path / "empty", ""), tmp_path / "absent"
    first = write(tmp_path / "first", config("one", "http://first:1", **{"current-context": ""}))
    second = config("one", "http://second:1", **{"current-context": "two"})
    for kind, entries in config("two", "http://two:1").items():
        if isinstance(entries, list):
            second[kind] += entries
    files = (empty, absent, first, write(tmp_path / "second", second))
    assert (opened(*files).context_name, opened(*files).cluster.server) == ("two", "http://two:1")
    chosen = opened(*files, context="one")
    assert (chosen.cluster.server, chosen.namespace) == ("http://first:1", "of-one")


def test_entries_may_stand_in_several_files_and_paths_start_at_theirs(tmp_path: Path) -> None:
    """Else the usual split into one file per cluster would end in 'not found'."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "token", f"{folder}\n")
    whole = config(user={"tokenFile": "token"})
    places = write(tmp_path / "a" / "config", {**whole, "users": None})
    people = write(tmp_path / "b" / "config", {"users": whole["users"]})
    assert opened(places, people).user.token_file == str(tmp_path / "b" / "token")


def test_empty_parts_of_the_list_are_no_files(tmp_path: Path) -> None:
    """Else a trailing colon, which shells make, would name the current folder."""
    path = write(tmp_path / "c", config())
    assert kubeconfig.access(None, {"KUBECONFIG": f":{path}:"}).single.context_name == "one"


def test_without_any_file_that_is_there_it_says_which_were_looked_for(tmp_path: Path) -> None:
    """Else the user would not see the mistyped path."""
    with pytest.raises(SetupError, match=r"no kubeconfig .*/x, .*/y"):
        opened(tmp_path / "x", tmp_path / "y")


FAULTS: dict[str, tuple[Any, str]] = {
    "a tab": ("clusters:\n\t- name: a\n", "not YAML"),
    "nul": (b"\x00\x01\x02", "not YAML"),
    "binary": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a text file in UTF-8"),
    "utf-16": ("clusters: []".encode("utf-16"), "not a text file in UTF-8"),
    "deep": ("a: " + "[" * 3000, "not YAML"),
    "words": ("just words", "no mapping"),
    "a list": ([config()], "no mapping"),
    "a page": ("<html><body>log in</body></html>", "no mapping"),
    "a key twice": ("users: []\nusers: []\n", "users stands twice, in lines 1 and 2"),
    "no current context": (config(**{"current-context": None}), "no current context"),
    "current context as a list": (config(**{"current-context": ["a"]}), "current-context is no text"),
    "a context that is gone": (config(**{"current-context": "gone"}), r"no context 'gone' \(there are: one\)"),
    "no cluster of the context": (config(clusters=[]), "no cluster 'one'"),
    "no user of the context": (config(users=[]), "no user 'one'"),
    "contexts as a mapping": (config(contexts={"one": {}}), "contexts is no list"),
    "an entry without a name": (config(users=[{"user": {}}]), r"users\[0\] is no mapping with name and user"),
    "a user as a list": (config(users=[{"name": "one", "user": ["token"]}]), r"users\[0\] is no mapping"),
    "a cluster as text": (config(clusters=[{"name": "one", "cluster": "x"}]), r"clusters\[0\] is no mapping"),
    "an entry as text": (config(clusters=["one"]), r"clusters\[0\] is no mapping"),
    "no server": (config(server=""), "cluster.server is ''"),
    "a server without a scheme": (config(server="10.0.0.1:6443"), "not a URL"),
    "a server as a list": (config(cluster={"server": ["a"]}), "server is no text"),
    "a port that is none": (config(server="https://x:port"), "cannot be used"),
    "ca not base64": (config(cluster={"certificate-authority-data": "???"}), "authority-data is no certificate"),
    "ca of other bytes": (config(cluster={"certificate-authority-data": "aGVsbG8="}), "authority-data is no"),
    "ca as a mapping": (config(cluster={"certificate-authority-data": {"a": 1}}), "authority-data is no text"),
    "ca that ssl refuses": (config(cluster={"certificate-authority-data": PEM}), "is no certificate: "),
    "ca file that is gone": (config(cluster={"certificate-authority": "gone.pem"}), "gone.pem: No such file"),
    "a certificate without its key": (config(user={"client-certificate-data": PEM}), "without its key"),
    "a key file that is gone": (
        config(user={"client-certificate-data": PEM, "client-key": "gone.key"}),
        "gone.key: No such file",
    ),
    "a token file that is gone": (config(user={"tokenFile": "gone"}), "tokenFile: .*gone: No such file"),
    "insecure as text": (config(cluster={"insecure-skip-tls-verify": "maybe"}), "Expected `bool`"),
    "a name without a password": (config(user={"username": "ann"}), "without a password"),
    "act as another": (config(user={"token": "t", "as": "root"}), "user.as is not supported"),
    "act in groups": (config(user={"token": "t", "as-groups": ["x"]}), "user.as-groups is not supported"),
    "an auth provider": (config(user={"auth-provider": {"name": "oidc"}}), "user.auth-provider is not supported"),
    "another server name": (config(cluster={"tls-server-name": "x"}), "cluster.tls-server-name is not supported"),
    "a socks proxy": (config(cluster={"proxy-url": "gopher://x:1"}), "cannot be used"),
    "an exec plugin of the future": (
        config(user={"exec": {"apiVersion": "client.authentication.k8s.io/v9", "command": "x"}}),
        "user.exec.apiVersion is",
    ),
    "an exec plugin as text": (config(user={"exec": "aws eks get-token"}), "user.exec is no mapping with a command"),
    "an exec plugin that asks for the cluster": (
        config(
            user={
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "x",
                    "provideClusterInfo": True,
                }
            }
        ),
        "provideClusterInfo is not supported",
    ),
}


@pytest.mark.parametrize(("content", "why"), FAULTS.values(), ids=FAULTS)
def test_a_kubeconfig_that_cannot_be_used_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, why: str
) -> None:
    """Else the user would see another library's traceback, or kts would act as somebody else."""
    path = write(tmp_path / "my config", content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(SetupError, match=why) as error:
        Api.connect()
    assert "my config" in error.value.what
    assert "\n" not in error.value.what
    assert error.value.exit_code == 4
    assert error.value.remedy


def test_a_folder_is_no_kubeconfig(tmp_path: Path) -> None:
    """Else it would be an internal error."""
    with pytest.raises(SetupError, match="Is a directory"):
        opened(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """Else k3s' file, which only root reads, would be an internal error."""
    path = write(tmp_path / "c", config())
    path.chmod(0)
    with pytest.raises(SetupError, match="Permission denied"):
        opened(path)


def test_what_is_wrong_with_entries_that_are_not_used_does_not_matter(tmp_path: Path) -> None:
    """Else one stale cluster would lock the user out of all others."""
    content = config()
    content["clusters"].append({"name": "old", "cluster": {"server": "?", "certificate-authority-data": "?"}})
    content["users"].append({"name": 1, "user": None})
    assert opened(write(tmp_path / "c", "\ufeff" + json.dumps(content))).cluster.server == "http://127.0.0.1:1"


def test_a_context_without_a_user_is_nobody(tmp_path: Path) -> None:
    """Else clusters that let everybody in could not be used."""
    content = config(contexts=[{"name": "one", "context": {"cluster": "one"}}])
    with pytest.raises(Unavailable):
        connected(write(tmp_path / "c", content)).version()


def connected(path: Path) -> Api:
    """The API of the file's current context."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(path))
        return Api.connect()


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """An API server, or a proxy before one: (its URL, what it was asked and with which credentials)."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(200)
            body = b'{"gitVersion": "v1.34.0"}'
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()
        thread.join()


Server = tuple[str, list[tuple[str, str]]]


def test_a_proxy_is_gone_through(tmp_path: Path, server: Server) -> None:
    """Else a cluster behind a proxy would be said to be down."""
    url, asked = server
    path = write(tmp_path / "c", config(server="http://far.example:6443", cluster={"proxy-url": url}))
    assert connected(path).version() == "v1.34.0"
    assert asked[0][0] == "http://far.example:6443/version"


PLUGIN = """\
import json, os
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = {"token": os.environ["MINE"]}
print(json.dumps({"kind": "ExecCredential", "apiVersion": asked["apiVersion"], "status": status}))
"""


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_an_exec_plugin_is_asked_for_a_token(tmp_path: Path, server: Server, version: str) -> None:
    """Else users of managed clusters could not use kts."""
    url, asked = server
    plugin = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": sys.executable,
        "args": ["-c", PLUGIN],
        "env": [{"name": "MINE", "value": "abc"}],
        "interactiveMode": "IfAvailable",
    }
    connected(write(tmp_path / "c", config(server=url, user={"exec": plugin}))).version()
    assert asked == [("/version", "Bearer abc")]


@pytest.mark.parametrize(
    ("command", "args", "why"),
    [
        ("kts-no-such-plugin", [], "kts-no-such-plugin"),
        ("./plugins/none", [], "plugins/none"),
        (sys.executable, ["-c", "print('log in first')"], "gave no token"),
        (sys.executable, ["-c", "print('{}')"], "gave no token"),
        (sys.executable, ["-c", "print('[1]')"], "gave no token"),
        (sys.executable, ["-c", "import sys; sys.exit('session\\nexpired')"], "session expired"),
    ],
)
def test_an_exec_plugin_that_gives_no_token_is_one_line(
    tmp_path: Path, server: Server, command: str, args: list[str], why: str
) -> None:
    """Else a login that ran out would be an internal error."""
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": command, "args": args}
    api = connected(write(tmp_path / "c", config(server=server[0], user={"exec": plugin})))
    with pytest.raises(SetupError, match=why) as error:
        api.version()
    assert "\n" not in error.value.what


@pytest.mark.parametrize(("user", "sent"), [({"token": "t"}, "Bearer t"), ({"token": 7}, "Bearer 7"), ({}, "")])
def test_who_acts_is_who_the_file_names(tmp_path: Path, server: Server, user: dict[str, Any], sent: str) -> None:
    """Else kts would act as nobody, and the cluster refuse what kubectl may do."""
    connected(write(tmp_path / "c", config(server=server[0], user=user))).version()
    assert server[1] == [("/version", sent)]


def test_a_pod_uses_its_own_account_only_without_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else kts in a pod would ignore the KUBECONFIG it was given."""
    for name, content in (("token", "t"), ("namespace", "ours"), ("ca.crt", "")):
        write(tmp_path / name, content)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")):
        monkeypatch.setenv(name, value)
    inside = {"KUBERNETES_SERVICE_HOST": "fd00::1"}
    single = kubeconfig.access(None, inside).single
    assert (single.cluster.server, single.namespace) == ("https://[fd00::1]:443", "ours")
    path = write(tmp_path / "c", config())
    assert kubeconfig.access(None, {**inside, "KUBECONFIG": str(path)}).single.context_name == "one"
    (tmp_path / "token").unlink()
    with pytest.raises(SetupError, match="no service account"):
        kubeconfig.access(None, inside)
