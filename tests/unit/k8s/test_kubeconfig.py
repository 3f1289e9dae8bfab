"""kubeconfig as kubectl has it; whatever is wrong with one is one line that names the file."""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from kts.errors import SetupError
from kts.k8s.cluster import kubeconfig, kubefields
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.identity import Access, User

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


def plugin(**changes: Any) -> dict[str, Any]:
    """A kubeconfig whose user is an exec plugin with these fields."""
    fields = {"apiVersion": "client.authentication.k8s.io/v1", "command": "x", "interactiveMode": "Never", **changes}
    return config(user={"exec": {key: value for key, value in fields.items() if value is not None}})


def write(path: Path, content: object) -> Path:
    """The file, with this content: bytes, text, or what JSON makes of it."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def opened(*files: Path, context: str | None = None, **env: str) -> Access:
    """What the files, as KUBECONFIG lists them, come to."""
    return kubeconfig.access(context, {"KUBECONFIG": os.pathsep.join(map(str, files)), **env})


def test_of_several_files_the_first_counts(tmp_path: Path) -> None:
    """Else kts would talk to another cluster than kubectl does."""
    empty, absent = write(tmp_path / "empty", ""), tmp_path / "absent"
    first = write(tmp_path / "first", config("one", "http://first:1", **{"current-context": ""}))
    second = config("one", "http://second:1", **{"current-context": "two"})
    for kind, entries in config("two", "http://two:1").items():
        if isinstance(entries, list):
            second[kind] += entries
    files = (empty, absent, first, write(tmp_path / "second", second))
    assert (opened(*files).server.url, opened(*files).namespace) == ("http://two:1", "of-two")
    chosen = opened(*files, context="one")
    assert (chosen.server.url, chosen.namespace) == ("http://first:1", "of-one")


def test_entries_may_stand_in_several_files_and_paths_start_at_theirs(tmp_path: Path) -> None:
    """Else the usual split into one file per cluster would end in 'not found'."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "token", f"{folder}\n")
    whole = config(user={"tokenFile": "token"})
    places = write(tmp_path / "a" / "config", {**whole, "users": None})
    people = write(tmp_path / "b" / "config", {"users": whole["users"]})
    assert opened(places, people).user.token_file == tmp_path / "b" / "token"


def test_empty_parts_of_the_list_are_no_files(tmp_path: Path) -> None:
    """Else a trailing colon, which shells make, would name the current folder."""
    path = write(tmp_path / "c", config())
    assert kubeconfig.access(None, {"KUBECONFIG": f":{path}:"}).namespace == "of-one"


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
    "a port that is none": (config(server="https://x:port"), "not a URL"),
    "a server with a line break": (config(server="https://x\n"), "not a URL"),
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
    "insecure as text": (config(cluster={"insecure-skip-tls-verify": "maybe"}), "is 'maybe', not true or false"),
    "a name without a password": (config(user={"username": "ann"}), "username and password need each other"),
    "a password without a name": (config(user={"password": "x"}), "username and password need each other"),
    "a token and a name": (
        config(user={"token": "t", "username": "a", "password": "b"}),
        "token and username are both",
    ),
    "a token of two lines": (config(user={"token": "a\nb"}), "token holds control characters"),
    "acting in groups of nobody": (config(user={"as-groups": ["x"]}), "user.as is missing beside"),
    "a server with a user": (config(server="https://ann:secret@x"), "cluster.server names a user; that belongs"),
    "a host that is no name": (config(server="https://☃.example"), "not a URL"),
    "half a character": (config(user={"as": "\ud800"}), "user.as holds half a character"),
    "many contexts": (
        config(contexts=[{"name": f"c{number:03}", "context": {}} for number in range(300)]),
        r"c018, c019 and 280 more\)",
    ),
    "a long name": (config("x" * 5000, contexts=[]), r"no context 'x{10,60}\.\.\. \(there are: none"),
    "a number for a token": (config(user={"token": 7}), "user.token is a number, which needs quotes"),
    "a number for a user": (config(user={"as": 0o7}), "user.as is a number, which needs quotes"),
    "white space around a user": (config(user={"as": " ann"}), "user.as has white space around it"),
    "a line break after a group": (
        config(user={"as": "a", "as-groups": ["x\n"]}),
        "as-groups holds control characters",
    ),
    "acting as a list": (config(user={"as": ["root"]}), "user.as is no text"),
    "groups as text": (config(user={"as": "a", "as-groups": "x"}), "as-groups is no list of words"),
    "groups of numbers": (config(user={"as": "a", "as-groups": [1]}), "as-groups is no list of words"),
    "extra as a list": (config(user={"as": "a", "as-user-extra": ["x"]}), "as-user-extra is no mapping"),
    "extra without lists": (config(user={"as": "a", "as-user-extra": {"k": "x"}}), "as-user-extra.k is no list"),
    "a header in a name": (config(user={"as": "a\r\nImpersonate-Group: x"}), "user.as holds control characters"),
    "a field of the future": (config(user={"token": "t", "as-tenant": "x"}), "user has a field 'as-tenant' that kts"),
    "a field in another spelling": (
        config(cluster={"certificate_authority": "x"}),
        "cluster has a field 'certificate_authority' .* did you mean 'certificate-authority'",
    ),
    "a field of a context": (
        config(contexts=[{"name": "one", "context": {"cluster": "one", "user": "one", "as": "x"}}]),
        "context 'one' has a field 'as'",
    ),
    "an auth provider": (config(user={"auth-provider": {"name": "oidc"}}), "user.auth-provider 'oidc' is not supp"),
    "an auth provider as text": (config(user={"auth-provider": "gcp"}), "auth-provider is no mapping"),
    "another kind of proxy": (config(cluster={"proxy-url": "gopher://x:1"}), "cluster.proxy-url is no URL of a proxy"),
    "a proxy without a scheme": (config(cluster={"proxy-url": "proxy:3128"}), "cluster.proxy-url is no URL of a proxy"),
    "a proxy without a host": (config(cluster={"proxy-url": "http://:8080"}), "cluster.proxy-url is no URL of a proxy"),
    "credentials over plain http": (config(server="http://far:1", user={"token": "t"}), "server is http://, over"),
    "an exec plugin of the future": (plugin(apiVersion="client.authentication.k8s.io/v9"), "user.exec.apiVersion is"),
    "an exec plugin of the past": (plugin(apiVersion="client.authentication.k8s.io/v1alpha1"), "exec.apiVersion is"),
    "an exec plugin as text": (config(user={"exec": "aws eks get-token"}), "user.exec is no mapping"),
    "an exec plugin without a command": (plugin(command=""), "user.exec.command is missing"),
    "v1 without a mode": (plugin(interactiveMode=None), "exec.interactiveMode is '', not Never, IfAvailable or Always"),
    "another mode": (plugin(interactiveMode="never"), "exec.interactiveMode is 'never'"),
    "arguments as text": (plugin(args="--token"), "exec.args is no list of words"),
    "arguments as numbers": (plugin(args=[1]), "exec.args is no list of words"),
    "variables as a mapping": (plugin(env={"A": "b"}), "exec.env is no list"),
    "a variable without a name": (plugin(env=[{"value": "b"}]), r"exec.env\[0\].name is missing"),
    "cluster info as text": (plugin(provideClusterInfo="yes"), "exec.provideClusterInfo is 'yes'"),
    "a field of an exec plugin": (plugin(stdinUnavailable=True), "user.exec has a field 'stdinUnavailable'"),
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
    assert opened(write(tmp_path / "c", "\ufeff" + json.dumps(content))).server.url == "http://127.0.0.1:1"


def test_a_context_without_a_user_is_nobody(tmp_path: Path) -> None:
    """Else clusters that let everybody in could not be used."""
    content = config(contexts=[{"name": "one", "context": {"cluster": "one"}}])
    assert opened(write(tmp_path / "c", content)).user == User()


POD = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a pod with a service account; the folder of its home, without a kubeconfig."""
    account = tmp_path / "account"
    account.mkdir()
    for name, content in (("token", "t"), ("namespace", "ours\n"), ("ca.crt", "")):
        write(account / name, content)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", account)
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


def test_a_pod_without_a_kubeconfig_uses_its_own_account(pod: Path) -> None:
    """Else kts could not run in a cluster."""
    for kubeconfigs in ({}, {"KUBECONFIG": ""}, {"KUBECONFIG": ":"}):
        access = kubeconfig.access(None, {**POD, **kubeconfigs})
        assert (access.server.url, access.namespace) == ("https://[fd00::1]:6443", "ours")
        assert access.user.token_file == pod.parent / "account" / "token"
    (pod.parent / "account" / "token").unlink()
    with pytest.raises(SetupError, match="no service account for fd00::1"):
        kubeconfig.access(None, POD)


@pytest.mark.parametrize("said", ["", "\n---\n", "{}", "apiVersion: v1\nkind: Config\npreferences: {}\nusers: []\n"])
def test_in_a_pod_a_kubeconfig_that_says_nothing_is_none(pod: Path, said: str) -> None:
    """Else KUBECONFIG=/dev/null, and the empty file that kubectl config leaves, would end where kubectl goes on."""
    path = write(pod / ".kube" / "config", said)
    for env in (POD, {**POD, "KUBECONFIG": str(path)}, {**POD, "KUBECONFIG": f"{path}:/dev/null:{path}-gone"}):
        assert kubeconfig.access(None, env).namespace == "ours"
    with pytest.raises(SetupError, match=r"kubeconfig .*config is empty"):
        kubeconfig.access("one", POD)
    with pytest.raises(SetupError, match=r"kubeconfig .*config is empty"):
        kubeconfig.access(None, {"KUBECONFIG": str(path)})


def test_in_a_pod_a_kubeconfig_counts_before_its_own_account(pod: Path, tmp_path: Path) -> None:
    """Else kts in a CI pod would act on the pod's cluster instead of the one it was given."""
    given = {**POD, "KUBECONFIG": str(write(tmp_path / "c", config("one")))}
    assert kubeconfig.access(None, given).namespace == "of-one"
    write(pod / ".kube" / "config", config("home"))
    assert kubeconfig.access(None, POD).namespace == "of-home"
    assert kubeconfig.access(None, given).namespace == "of-one"
    with pytest.raises(SetupError, match="no context 'other'"):
        kubeconfig.access("other", POD)


@pytest.mark.usefixtures("pod")
def test_in_a_pod_a_mistyped_kubeconfig_is_not_taken_for_the_pods_own() -> None:
    """Else a typing error would send a run to another cluster."""
    with pytest.raises(SetupError, match=r"no kubeconfig /no/such; the pod's own account is not used"):
        kubeconfig.access(None, {**POD, "KUBECONFIG": "/no/such"})
    with pytest.raises(SetupError, match=r"no kubeconfig ~/\.kube/config$"):
        kubeconfig.access("one", POD)


def test_without_a_home_there_is_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a container whose user has no entry in /etc/passwd would end in an internal error."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    with pytest.raises(SetupError, match=r"no kubeconfig ~/\.kube/config$"):
        kubeconfig.access(None, {})


def test_a_pipe_is_read_to_its_end_and_once(tmp_path: Path) -> None:
    """Else KUBECONFIG=<(command) would be empty for the second of a command's requests, or wait for ever."""
    pipe, text = tmp_path / "pipe", json.dumps(config())
    os.mkfifo(pipe)

    def slowly() -> None:
        with pipe.open("w") as file:
            for start in range(0, len(text), 100):
                file.write(text[start : start + 100])
                file.flush()

    thread = threading.Thread(target=slowly)
    thread.start()
    assert opened(pipe).namespace == "of-one"
    thread.join()
    assert opened(pipe).namespace == "of-one"


def test_a_pipe_that_nobody_writes_to_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else kts would hang without a word."""
    monkeypatch.setattr(kubefields, "PIPE_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SetupError, match=r"pipe: a pipe that nobody wrote to the end within 0\.05 s"):
        opened(tmp_path / "pipe")


def test_what_is_larger_than_any_kubeconfig_is_not_read(tmp_path: Path) -> None:
    """Else a wrong name, or /dev/zero, would fill the memory."""
    for path in (write(tmp_path / "huge", b"#" * (kubefields.MAX_BYTES + 1)), Path("/dev/zero")):
        with pytest.raises(SetupError, match="larger than 8 MiB"):
            opened(path)


def test_a_terminal_is_no_kubeconfig() -> None:
    """Else KUBECONFIG=/dev/stdin would wait without a word."""
    leader, follower = os.openpty()
    try:
        with pytest.raises(SetupError, match="is a terminal, not a file"):
            opened(Path(os.ttyname(follower)))
    finally:
        os.close(leader)
        os.close(follower)


def test_what_a_message_quotes_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    """Else the name of a context could hide what is said."""
    content = config("one\x1b[2J\n", **{"current-context": "two\x1b[2J\n"})
    with pytest.raises(SetupError) as error:
        opened(write(tmp_path / "c", content))
    assert error.value.what.isprintable()


def test_acting_as_another_user_is_what_client_go_sends(tmp_path: Path) -> None:
    """Else the API server would take the requests for those of another user, or of other groups."""
    user = {"as": "ann", "as-uid": "u-1", "as-groups": ["dev", "ops"], "as-user-extra": {"Scope/of %": ["a", "b"]}}
    assert opened(write(tmp_path / "c", config(user=user))).user.acting == (
        ("Impersonate-User", "ann"),
        ("Impersonate-Uid", "u-1"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-Scope%2Fof%20%25", "a"),
        ("Impersonate-Extra-Scope%2Fof%20%25", "b"),
    )


@pytest.mark.parametrize("way", [{"token": "t"}, {"username": "a", "password": "b"}, {"tokenFile": "token"}])
def test_a_plugin_is_not_asked_beside_other_credentials(tmp_path: Path, way: dict[str, str]) -> None:
    """Else who acts would differ from who acts for kubectl."""
    write(tmp_path / "token", "t")
    content = plugin()
    content["users"][0]["user"].update(way)
    assert opened(write(tmp_path / "c", content)).user.plugin is None


def test_a_command_with_a_folder_in_it_starts_at_the_kubeconfigs(tmp_path: Path) -> None:
    """Else a plugin beside the kubeconfig would only work in that folder."""
    for command, meant in (("aws", "aws"), ("./bin/aws", str(tmp_path / "bin" / "aws")), ("/bin/aws", "/bin/aws")):
        found = opened(write(tmp_path / "c", plugin(command=command))).user.plugin
        assert found is not None
        assert found.command == meant


@pytest.mark.parametrize(
    ("server", "env", "proxy"),
    [
        ("https://far:6443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://far:6443", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://far:6443", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://p:1"),
        ("https://far:6443", {"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, ""),
        ("http://far:6443", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://127.3.2.1:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://[::1]:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        *(
            ("https://10.9.8.7:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": entries}, proxy)
            for entries, proxy in (
                ("10.0.0.0/8", ""),
                ("x, 10.9.8.7", ""),
                ("10.9.8.7:6443", ""),
                ("10.9.8.7:443", "http://p:1"),
                ("*", ""),
                ("9.8.7,10.9.0.0/99,fd00::/8", "http://p:1"),
            )
        ),
        *(
            ("https://api.far.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": entries}, proxy)
            for entries, proxy in (
                ("far.example", ""),
                ("FAR.example", ""),
                (".far.example", ""),
                ("*.far.example", ""),
                ("api.far.example:443", ""),
                ("api.far.example:6443", "http://p:1"),
                (".api.far.example", "http://p:1"),
                ("r.example", "http://p:1"),
                (",,:80,[", "http://p:1"),
            )
        ),
        ("https://[fd00::1]", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[fd00::1]:443"}, ""),
        ("https://[fd00::1]", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "fd00::/16"}, ""),
    ],
)
def test_the_environments_proxies_count_as_for_kubectl(
    tmp_path: Path, server: str, env: dict[str, str], proxy: str
) -> None:
    """Else a cluster that kubectl reaches would be said to be down, or traffic take another way."""
    path = write(tmp_path / "c", config(server=server))
    assert opened(path, **env).server.proxy == proxy
    given = write(tmp_path / "d", config(server=server, cluster={"proxy-url": "socks5://own:1"}))
    assert opened(given, **env).server.proxy == "socks5://own:1"


def test_a_broken_proxy_of_the_environment_is_named_without_its_password(tmp_path: Path) -> None:
    """Else the user would look into the kubeconfig, and the log hold a password."""
    path = write(tmp_path / "c", config(server="https://far"))
    with pytest.raises(SetupError, match=r"^HTTPS_PROXY is no URL of a proxy") as error:
        opened(path, HTTPS_PROXY="ftp://me:secret@p:1")
    assert "secret" not in error.value.what + error.value.remedy
