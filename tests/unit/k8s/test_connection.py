"""Who acts, and where: what a server that speaks TLS is shown by requests of a kubeconfig's user."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from tests.helpers_apiserver import NAME, ApiServer, Authority, Cluster, data, proxying, serving

from kts.errors import SetupError
from kts.k8s.cluster.api import Unavailable


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ({}, ""),
        ({"token": "t"}, "Bearer t"),
        ({"username": "ann", "password": "bö"}, "Basic YW5uOmLDtg=="),
        ({"token": "t", "tokenFile": "token"}, "Bearer of-the-file"),
    ],
)
def test_who_acts_is_who_the_kubeconfig_names(
    cluster: Cluster, server: ApiServer, user: dict[str, Any], shown: str
) -> None:
    """Else kts would act as nobody, and the cluster refuse what kubectl may do."""
    (cluster.folder / "token").write_text("of-the-file\n")
    assert cluster.connected(user).version() == "v1.34.0"
    assert [one.who for one in server.asked] == [shown]


def test_a_token_file_is_read_anew(cluster: Cluster, server: ApiServer) -> None:
    """Else a pod's account, whose token the kubelet replaces, would be refused an hour into a run."""
    token = cluster.folder / "token"
    token.write_text("one")
    api = cluster.connected({"tokenFile": "token"})
    api.version()
    token.write_text("two")
    api.version()
    token.unlink()  # between two tokens
    api.version()
    assert [one.who for one in server.asked] == ["Bearer one", "Bearer two", "Bearer two"]


def test_an_empty_file_is_not_nobody(cluster: Cluster, server: ApiServer, authority: Authority) -> None:
    """Else a file that is being replaced would make a request one of nobody."""
    token, empty = cluster.folder / "token", cluster.folder / "empty"
    empty.touch()
    _, key = authority.signed("ann")
    for user in (
        {"tokenFile": "empty"},
        {"client-certificate": "empty", "client-key": str(key)},
    ):
        with pytest.raises(SetupError, match="empty: is empty"):
            cluster.connected(user)
    token.write_bytes(b"a\nb")
    with pytest.raises(SetupError, match="token: holds no token that can be sent"):
        cluster.connected({"tokenFile": "token"})
    token.write_text("one")
    api = cluster.connected({"tokenFile": "token"})
    token.write_text(" \n")
    api.version()
    cluster.connected({"tokenFile": "empty", "token": "own"}).version()
    assert [one.who for one in server.asked] == ["Bearer one", "Bearer own"]


@pytest.mark.parametrize("kept_as", ["files", "data"])
def test_a_client_certificate_is_shown(cluster: Cluster, server: ApiServer, authority: Authority, kept_as: str) -> None:
    """Else kts would be nobody where kubectl is an administrator."""
    certificate, key = authority.signed("ann")
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    if kept_as == "data":
        user = {"client-certificate-data": data(certificate), "client-key-data": data(key)}
    cluster.connected(user).version()
    assert [(one.client, one.who) for one in server.asked] == [("ann", "")]


def test_a_client_certificate_that_is_replaced_counts_from_the_next_request_on(
    cluster: Cluster, server: ApiServer, authority: Authority
) -> None:
    """Else a run would go on with a certificate until it has expired."""
    mine = [cluster.folder / "my.crt", cluster.folder / "my.key"]

    def put(name: str, *which: int) -> None:
        for number in which:
            mine[number].write_bytes(authority.signed(name)[number].read_bytes())

    put("ann", 0, 1)
    api = cluster.connected({"client-certificate": "my.crt", "client-key": "my.key"})
    api.version()
    ben = authority.signed("ben")
    mine[0].write_bytes(ben[0].read_bytes())
    api.version()  # the key is still the former one's
    mine[1].write_bytes(ben[1].read_bytes())
    api.version()
    assert [one.client for one in server.asked] == ["ann", "ann", "ben"]


def test_a_certificate_that_cannot_be_used_is_one_line(cluster: Cluster, authority: Authority) -> None:
    """Else ssl's own words, or a question for a passphrase, would reach the user."""
    (ann, key), (_, other) = authority.signed("ann"), authority.signed("ben")
    locked = cluster.folder / "locked.key"
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:abcd", "-out", locked], check=True)
    for file, why in ((other, "cannot be used"), (locked, "the key has a passphrase"), (ann, "cannot be used")):
        with pytest.raises(SetupError, match=why) as error:
            cluster.connected({"client-certificate": str(ann), "client-key": str(file)})
        assert "context 'c'" in error.value.what
        assert error.value.what.isprintable()


def test_every_request_is_one_of_the_user_who_is_acted_as(cluster: Cluster, server: ApiServer) -> None:
    """Else some requests of a run would be allowed, or refused, as somebody else."""
    user = {"token": "t", "as": "änn", "as-groups": ["dev", "ops"], "as-user-extra": {"a/b": ["c"]}}
    api = cluster.connected(user)
    api.version()
    api.proxy("GET", "ns", "pod", 80, "/x")
    list(api.logs("pod", "ns"))
    assert len(server.asked) == 3
    for one in server.asked:
        assert one.who == "Bearer t"
        assert one.headers["impersonate-user"] == ["änn".encode().decode("latin-1")]
        assert one.headers["impersonate-group"] == ["dev", "ops"]
        assert one.headers["impersonate-extra-a%2fb"] == ["c"]


def test_the_servers_name_is_asked_for_and_checked(cluster: Cluster, server: ApiServer) -> None:
    """Else a cluster behind a shared address would be another one, or not be trusted."""
    cluster.connected({}, tls_server_name=NAME).version()
    assert server.asked[-1].sni == NAME
    with pytest.raises(SetupError, match=r"not trusted: Hostname mismatch.*other\.example") as error:
        cluster.connected({}, tls_server_name="other.example").version()
    assert "tls-server-name" in error.value.remedy
    assert not isinstance(error.value, Unavailable)


def test_a_server_is_trusted_by_its_authority_alone(
    cluster: Cluster, server: ApiServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else anybody could answer as the cluster and be shown the credentials."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(SetupError, match=r"not trusted: .*certificate"):
        cluster.connected({"token": "t"}, certificate_authority_data=None).version()
    assert not server.asked
    cluster.connected({}, certificate_authority_data=None, certificate_authority=str(authority.ca)).version()
    cluster.connected({}, certificate_authority_data=None, insecure_skip_tls_verify=True).version()
    around = cluster.folder / "around.pem"
    around.write_bytes("Änn's authority\n".encode() + authority.ca.read_bytes() + b"the end\n")
    cluster.connected({}, certificate_authority_data=data(around)).version()
    own = data(authority.ca.with_name("server.crt"))  # as for Go, any certificate of the file ends the chain
    cluster.connected({}, certificate_authority_data=own).version()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    cluster.connected({}, certificate_authority_data=None).version()
    with pytest.raises(SetupError, match="true beside a certificate-authority"):
        cluster.connected({}, insecure_skip_tls_verify=True)


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
@pytest.mark.parametrize("by", ["proxy-url", "environment"])
def test_a_proxy_is_gone_through(cluster: Cluster, server: ApiServer, authority: Authority, kind: str, by: str) -> None:
    """Else a cluster behind a proxy would be said to be down. The proxy looks up the name, and sees no credentials."""
    far = f"https://{NAME}:{server.url.rpartition(':')[2]}"
    with proxying(kind, authority) as (url, asked):
        given = {"proxy_url": url} if by == "proxy-url" else {"env": {"HTTPS_PROXY": url}}
        api = cluster.connected({"token": "t"}, server=far, **given)
        api.version()
        api.version()
        api.close()
    assert asked == [far.removeprefix("https://")]
    assert [(one.who, one.sni) for one in server.asked] == [("Bearer t", NAME)] * 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore2 leaves the socket to Python
def test_a_proxy_that_is_none_is_said_to_be_the_reason(cluster: Cluster) -> None:
    """Else the user would look at the cluster, or see another library's assertion."""
    with (
        proxying("none") as (url, _),
        pytest.raises(Unavailable, match="through its proxy: the proxy does not speak SOCKS5"),
    ):
        cluster.connected({}, proxy_url=url).version()
    with pytest.raises(Unavailable, match="cannot be reached through its proxy: ") as error:
        cluster.connected({}, proxy_url=url.replace("socks5://", "http://me:secret@")).version()
    assert "secret" not in error.value.what + error.value.remedy


def test_without_tls_credentials_are_sent_to_this_machine_alone(cluster: Cluster) -> None:
    """Else they could be read on the way; or a tunnel that begins on this machine would not know the user."""
    with serving(None) as plain:
        cluster.connected({"token": "t"}, server=plain.url, certificate_authority_data=None).version()
        assert plain.asked[0].who == "Bearer t"
        far = plain.url.replace("127.0.0.1", NAME)
        with pytest.raises(SetupError, match=r"cluster\.server is http://, over which credentials would be read"):
            cluster.connected({"token": "t"}, server=far, certificate_authority_data=None)


def test_a_servers_path_and_query(cluster: Cluster, server: ApiServer) -> None:
    """Else clusters behind Rancher and the like, whose API has a path, would not be found."""
    cluster.connected({}, server=f"{server.url}/k8s/clusters/c-1/?x=1#y").version()
    assert server.asked[-1].path == "/k8s/clusters/c-1/version"
