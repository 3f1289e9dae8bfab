"""Which server, and as whom, as frozen values: the entries of a kubeconfig, checked; what counts is as for kubectl.

A field that kts does not know is refused, because without it another user might act, or another server answer.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from kts.errors import SetupError
from kts.k8s.cluster import proxies
from kts.k8s.cluster.kubefields import Fields, content
from kts.shown import shown, visible

AUTHENTICATION = "client.authentication.k8s.io"
NEVER, IF_AVAILABLE, ALWAYS = "Never", "IfAvailable", "Always"
_VERSIONS = (f"{AUTHENTICATION}/v1", f"{AUTHENTICATION}/v1beta1")
_CLUSTER = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority",
    "certificate-authority-data",
    "proxy-url",
)
_USER = (
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "token",
    "tokenFile",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
    "username",
    "password",
    "auth-provider",
    "exec",
)
_EXEC = ("apiVersion", "command", "args", "env", "installHint", "provideClusterInfo", "interactiveMode")
_HARMLESS = ("extensions", "name", "disable-compression", "api-version")
_SUCCESSORS = {
    "gcp": "use gke-gcloud-auth-plugin: gcloud container clusters get-credentials",
    "azure": "use kubelogin: kubelogin convert-kubeconfig",
    "oidc": "use an exec plugin such as kubelogin (kubectl oidc-login)",
}
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PLAIN = frozenset("!#$&'*+-.^_`|~")


class Server(msgspec.Struct, frozen=True):
    """Where the API server is, and how it proves itself."""

    url: str
    authority: str = ""
    """Certificates (PEM) that it is trusted by; empty: the machine's own."""
    insecure: bool = False
    name: str = ""
    """The name in its certificate, also sent as SNI; empty: the host of ``url``."""
    proxy: str = ""
    """URL of the proxy before it; empty for none."""


class Plugin(msgspec.Struct, frozen=True):
    """A command that gives credentials (client-go's exec plugins)."""

    command: str
    version: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    interactive: str = NEVER
    hint: str = ""
    """How it is installed."""
    cluster: dict[str, Any] | None = None
    """What it is told of the cluster; None: nothing."""


class User(msgspec.Struct, frozen=True):
    """What a request shows. Of several ways, those that are empty are not used."""

    token: str = ""
    token_file: Path | None = None
    """Holds the token of the moment, and counts before ``token``."""
    name: str = ""
    password: str = ""
    certificate: bytes | Path | None = None
    key: bytes | Path | None = None
    plugin: Plugin | None = None
    acting: tuple[tuple[str, str], ...] = ()
    """Impersonate-* headers: as whom the request is to be taken."""


class Access(msgspec.Struct, frozen=True):
    """One cluster, as one user."""

    origin: str
    """Where this was read, for messages."""
    server: Server
    user: User
    namespace: str = ""


def server(cluster: Fields, env: Mapping[str, str]) -> Server:
    """The server of a cluster entry. ``env`` may name a proxy. SetupError."""
    cluster.only(_CLUSTER, _HARMLESS)
    url = _url(cluster)
    insecure = cluster.flag("insecure-skip-tls-verify")
    authority = _authority(cluster)
    if insecure and authority:
        raise cluster.fault("insecure-skip-tls-verify", "is true beside a certificate-authority; kubectl refuses that")
    proxy = cluster.text("proxy-url")
    place = f"kubeconfig {visible(str(cluster.path))}: cluster.proxy-url"
    if not proxy:
        place, proxy = proxies.of_environment(url, env)
    if proxy:
        _check_proxy(proxy, place)
    return Server(url, authority, insecure, cluster.text("tls-server-name"), proxy)


def user(entry: Fields, cluster: Fields, where: Server) -> User:
    """Who acts, by a user entry, on the server of the entry ``cluster``. SetupError."""
    entry.only(_USER, _HARMLESS)
    _check_provider(entry)
    if entry.given("username") != entry.given("password"):
        raise entry.fault("username", "and password need each other; kts asks for neither")
    token, token_file = entry.header("token"), entry.file("tokenFile")
    if token and entry.given("username"):
        raise entry.fault("token", "and username are both given; kubectl refuses that")
    certificate, key = entry.pem("client-certificate"), entry.pem("client-key")
    if (certificate is None) != (key is None):
        raise entry.fault("client-certificate", "is there without its key, or a key without its certificate")
    plugin = _plugin(entry, cluster, where)
    if token or token_file or certificate or entry.given("username"):
        plugin = None  # as for kubectl: what is there is not asked for
    known = User(
        token, token_file, entry.text("username"), entry.text("password"), certificate, key, plugin, _acting(entry)
    )
    address = urlsplit(where.url)
    if address.scheme == "http" and not proxies.is_here(address.hostname or "") and known != User():
        raise cluster.fault("server", "is http://, over which credentials would be read by others", "use https://")
    return known


def _url(cluster: Fields) -> str:
    """The server's address, without a query."""
    given = cluster.text("server")
    if not _usable(given, ("http", "https")):
        raise cluster.fault("server", f"is {shown(given)}, not a URL with https://")
    if urlsplit(given).username is not None:
        raise cluster.fault("server", "names a user; that belongs into user.username and user.password")
    return urlsplit(given)._replace(query="", fragment="").geturl()


def _usable(url: str, schemes: Collection[str]) -> bool:
    """Whether a request can be sent to the URL."""
    try:
        parts = urlsplit(url)
        httpx2.URL(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and " " not in url
    except (ValueError, httpx2.InvalidURL):
        return False


def _authority(cluster: Fields) -> str:
    """The certificates of the entry, and nothing that may stand around them."""
    given = cluster.pem("certificate-authority")
    if given is None:
        return ""
    key = "certificate-authority" + ("" if isinstance(given, Path) else "-data")
    found = _CERTIFICATE.findall(content(given) if isinstance(given, Path) else given)
    text = b"\n".join(found).decode("ascii", "replace")
    try:
        ssl.create_default_context(cadata=text or "none")
    except (ssl.SSLError, ValueError) as error:
        raise cluster.fault(key, f"is no certificate: {error if found else 'it holds none'}") from error
    return text


def _check_proxy(proxy: str, place: str) -> None:
    if not _usable(proxy, proxies.SCHEMES):  # never shown: it may hold a password
        raise SetupError(f"{place} is no URL of a proxy with http, https or socks5", "correct or remove it")


def _check_provider(entry: Fields) -> None:
    if (provider := entry.inner("auth-provider")) is not None:
        name = provider.text("name")
        remedy = _SUCCESSORS.get(name, "use an exec plugin, or a context without it: --context")
        raise entry.fault("auth-provider", f"{shown(name)} is not supported; exec plugins took its place", remedy)


def _plugin(entry: Fields, cluster: Fields, where: Server) -> Plugin | None:
    """The command that gives credentials; one with a folder in it from the kubeconfig's folder on."""
    exec_ = entry.inner("exec")
    if exec_ is None:
        return None
    exec_.only(_EXEC, ())
    command, version = exec_.text("command"), exec_.text("apiVersion")
    if not command:
        raise exec_.fault("command", "is missing")
    if version not in _VERSIONS:
        renew = "renew the kubeconfig with your cluster's own tool, such as aws eks update-kubeconfig"
        raise exec_.fault("apiVersion", f"is {shown(version)}, not {' or '.join(_VERSIONS)}", renew)
    mode = exec_.text("interactiveMode") or (IF_AVAILABLE if version == _VERSIONS[1] else "")
    if mode not in (NEVER, IF_AVAILABLE, ALWAYS):
        raise exec_.fault("interactiveMode", f"is {shown(mode)}, not {NEVER}, {IF_AVAILABLE} or {ALWAYS}")
    if os.sep in command:
        command = str(exec_.path.absolute().parent / command)
    variables = []
    for one in exec_.items("env"):
        if not one.text("name") or set("=\0") & set(one.text("name")) or "\0" in one.text("value"):
            raise one.fault("name", "is missing, or cannot be that of a variable")
        variables.append((one.text("name"), one.text("value")))
    told = _told(cluster, where) if exec_.flag("provideClusterInfo") else None
    return Plugin(command, version, exec_.texts("args"), tuple(variables), mode, exec_.text("installHint"), told)


def _told(cluster: Fields, where: Server) -> dict[str, Any]:
    """spec.cluster of KUBERNETES_EXEC_INFO; bytes become base64 in its JSON."""
    own = {
        "tls-server-name": where.name,
        "insecure-skip-tls-verify": where.insecure,
        "certificate-authority-data": where.authority.encode(),
        "proxy-url": cluster.text("proxy-url"),
        "disable-compression": cluster.flag("disable-compression"),
    }
    extensions = {one.text("name"): one.anything("extension") for one in cluster.items("extensions")}
    return {
        "server": where.url,
        **{key: value for key, value in own.items() if value},
        "config": extensions.get(f"{AUTHENTICATION}/exec"),
    }


def _acting(entry: Fields) -> tuple[tuple[str, str], ...]:
    """The headers by which one user acts as another, as client-go sends them."""
    name, uid, groups = entry.header("as"), entry.header("as-uid"), entry.headers("as-groups")
    extra = entry.of_texts("as-user-extra")
    if not name:
        if uid or groups or extra:
            raise entry.fault("as", "is missing beside as-uid, as-groups or as-user-extra; kubectl refuses that")
        return ()
    return (
        ("Impersonate-User", name),
        *((("Impersonate-Uid", uid),) if uid else ()),
        *(("Impersonate-Group", group) for group in groups),
        *((f"Impersonate-Extra-{_escaped(key)}", one) for key, values in extra.items() for one in values),
    )


def _escaped(key: str) -> str:
    """A key as part of a header's name: bytes that cannot stand there in percent notation, and % itself."""
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in _PLAIN) else f"%{byte:02X}"
        for byte in key.encode()
    )
