"""Which cluster, and as whom: kubeconfig files as kubectl reads them, for lightkube to connect by.

KUBECONFIG may list files: those that are missing are skipped, of two entries of one name the first counts, and paths
are relative to the file they stand in. What kts cannot do as kubectl would (act as somebody else, say) is refused,
because without it another user would act, or another server answer.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster, Context, User
from lightkube.core.exceptions import ConfigError

from kts.errors import SetupError
from kts.spec.yamltree import TreeError, parse

DEFAULT = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REMEDY = "set KUBECONFIG, or give --context; kubectl config get-contexts lists them"
_LISTS = {"clusters": "cluster", "contexts": "context", "users": "user"}
_UNSUPPORTED = {
    "cluster": ("tls-server-name",),
    "user": ("as", "as-uid", "as-groups", "as-user-extra", "auth-provider"),
}
_PATHS = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}
_CA = "certificate-authority-data"
_BASE64 = (_CA, "client-certificate-data", "client-key-data")
_INSECURE = "insecure-skip-tls-verify"
_EXEC = "client.authentication.k8s.io/"
Entry = dict[str, Any]


class Access(msgspec.Struct, frozen=True):
    """How to reach a cluster; ``proxy``: URL of an HTTP proxy to go through, empty for none."""

    single: Any  # lightkube's SingleConfig
    proxy: str = ""


class _Config(msgspec.Struct):
    """Several files as one; each entry with the file it stands in, for messages and relative paths."""

    current: str = ""
    entries: dict[str, dict[str, tuple[Path, Entry]]] = {}


def access(context: str | None, env: Mapping[str, str]) -> Access:
    """The cluster of ``context``, or of the current one; in a pod without kubeconfig, the pod's own.

    SetupError, one line with the file and its fault, if it cannot be used.
    """
    listed = [Path(part).expanduser() for part in env.get("KUBECONFIG", "").split(os.pathsep) if part]
    files = [path for path in listed or [Path(DEFAULT).expanduser()] if _there(path)]
    if not files and not listed and context is None and env.get("KUBERNETES_SERVICE_HOST"):
        return Access(_of_pod(env))
    if not files:
        where = ", ".join(map(str, listed)) or DEFAULT
        raise SetupError(f"no cluster to talk to: there is no kubeconfig {where}", REMEDY)
    config = _merged(files)
    name = context or config.current
    where = ", ".join(map(str, files))
    if not name:
        raise SetupError(f"kubeconfig {where}: no current context", REMEDY)
    path, chosen = _entry(config, "contexts", name, where)
    cluster_path, cluster = _entry(config, "clusters", _text(chosen, "cluster", path, f"context {name!r}"), where)
    user_name = _text(chosen, "user", path, f"context {name!r}")
    user_path, user = _entry(config, "users", user_name, where) if user_name else (path, {})
    _check("cluster", cluster, cluster_path)
    _check("user", user, user_path)
    server = _text(cluster, "server", cluster_path, "cluster")
    if not server.startswith(("https://", "http://")):
        raise _fault(cluster_path, f"cluster.server is {server!r}, not a URL with https://")
    return Access(
        _single(name, chosen, _placed("cluster", cluster, cluster_path), _placed("user", user, user_path), path),
        _text(cluster, "proxy-url", cluster_path, "cluster"),
    )


def _there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        pass  # reading says why
    return True


def _of_pod(env: Mapping[str, str]) -> SingleConfig:
    try:
        single = KubeConfig.from_service_account(SERVICE_ACCOUNT).get()
    except (ConfigError, OSError, KeyError, ValueError) as error:
        host = env["KUBERNETES_SERVICE_HOST"]
        raise SetupError(f"no cluster to talk to: no kubeconfig, and no service account for {host}", REMEDY) from error
    assert single is not None
    return single


def _merged(files: list[Path]) -> _Config:
    config = _Config(entries={kind: {} for kind in _LISTS})
    for path in files:
        content = _read(path)
        config.current = config.current or _text(content, "current-context", path, "")
        for kind, inner in _LISTS.items():
            for name, entry in _named(content.get(kind), kind, inner, path).items():
                config.entries[kind].setdefault(name, (path, entry))
    return config


def _read(path: Path) -> Entry:
    """The file's mapping; empty for an empty file."""
    try:
        tree = parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _fault(path, error.strerror or str(error)) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise _fault(path, "not a text file in UTF-8") from error
    except TreeError as error:
        raise _fault(path, f"not YAML: {error.message}{f' (line {error.line})' if error.line else ''}") from error
    if tree.repeated:
        place, first, second = tree.repeated[0]
        raise _fault(path, f"{'.'.join(map(str, place))} stands twice, in lines {first} and {second}")
    if tree.data is None:
        return {}
    if not isinstance(tree.data, dict):
        raise _fault(path, "no kubeconfig: it is no mapping with clusters, contexts and users")
    return tree.data


def _named(items: object, kind: str, inner: str, path: Path) -> dict[str, Entry]:
    """Entries of a list by name; the first of a name counts."""
    if items is None:
        return {}
    if not isinstance(items, list):
        raise _fault(path, f"{kind} is no list")
    entries: dict[str, Entry] = {}
    for number, item in enumerate(items):
        entry = item.get(inner) if isinstance(item, dict) else item
        if not isinstance(item, dict) or not isinstance(entry, dict | None) or "name" not in item:
            raise _fault(path, f"{kind}[{number}] is no mapping with name and {inner}")
        entries.setdefault(str(item["name"]), entry or {})
    return entries


def _entry(config: _Config, kind: str, name: str, where: str) -> tuple[Path, Entry]:
    try:
        return config.entries[kind][name]
    except KeyError:
        there = ", ".join(sorted(config.entries[kind])) or "none"
        raise SetupError(f"kubeconfig {where}: no {_LISTS[kind]} {name!r} (there are: {there})", REMEDY) from None


def _text(entry: Entry, key: str, path: Path, place: str) -> str:
    """A word of the entry; empty if absent. A number is one, too: names may look so."""
    value = entry.get(key)
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return "" if value is None else str(value)
    raise _fault(path, f"{place + '.' if place else ''}{key} is no text")


def _check(what: str, entry: Entry, path: Path) -> None:
    """SetupError for fields that kts cannot heed, and for data that is none."""
    for key in _UNSUPPORTED[what]:
        if entry.get(key):
            raise SetupError(
                f"kubeconfig {path}: {what}.{key} is not supported by kts", "use a context without it: --context"
            )
    for key in (key for key in _BASE64 if entry.get(key)):
        try:
            data = base64.b64decode("".join(_text(entry, key, path, what).split()), validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if b"-----BEGIN" not in data:
            raise _fault(path, f"{what}.{key} is no certificate or key in base64")
        if key == _CA:
            try:
                ssl.create_default_context(cadata=data.decode())
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise _fault(path, f"{what}.{key} is no certificate: {error}") from error
    if entry.get("username") and not entry.get("password"):
        raise _fault(path, "user has a username without a password, which kts does not ask for")
    halves = [
        any(entry.get(f"{half}{kind}") for kind in ("", "-data")) for half in ("client-certificate", "client-key")
    ]
    if halves[0] != halves[1]:
        raise _fault(path, "user has a client certificate without its key, or a key without its certificate")
    if (plugin := entry.get("exec")) is not None:
        _check_plugin(plugin, path)


def _check_plugin(plugin: object, path: Path) -> None:
    """SetupError for an exec plugin that cannot be asked as kubectl asks it."""
    if not isinstance(plugin, dict) or not plugin.get("command"):
        raise _fault(path, "user.exec is no mapping with a command")
    version = str(plugin.get("apiVersion"))
    if version not in (f"{_EXEC}v1", f"{_EXEC}v1beta1", f"{_EXEC}v1alpha1"):
        raise _fault(path, f"user.exec.apiVersion is {version!r}, not {_EXEC}v1 or v1beta1")
    if plugin.get("provideClusterInfo") is True:
        raise SetupError(
            f"kubeconfig {path}: user.exec.provideClusterInfo is not supported by kts",
            "use a context without it: --context",
        )
    if plugin.get("interactiveMode") == "Always":
        raise SetupError(
            f"kubeconfig {path}: user.exec.interactiveMode: Always is not supported by kts",
            "use a context without it: --context",
        )


def _placed(what: str, entry: Entry, path: Path) -> Entry:
    """The entry as lightkube takes it: paths from the file's folder, the plugin asked in its own version."""
    placed = {key: str(value) if isinstance(value, int) and key != _INSECURE else value for key, value in entry.items()}
    for key in _PATHS[what]:
        if placed.get(f"{key}-data"):
            placed.pop(key, None)
        elif placed.get(key):
            placed[key] = str(_readable(path.absolute().parent / _text(entry, key, path, what), path, f"{what}.{key}"))
    plugin = placed.get("exec")
    if isinstance(plugin, dict):
        command = str(plugin["command"])
        if os.sep in command:
            command = str(path.absolute().parent / command)
        # lightkube knows v1 not by name, but does what it asks for: tell the plugin, and take its token.
        asked = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
        env = [
            *(plugin.get("env") or []),
            {"name": "KUBERNETES_EXEC_INFO", "value": msgspec.json.encode(asked).decode()},
        ]
        placed["exec"] = {**plugin, "command": command, "env": env, "apiVersion": f"{_EXEC}v1beta1"}
    return placed


def _readable(file: Path, path: Path, key: str) -> Path:
    """``file``. SetupError that names it if it cannot be read: ssl does not."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise _fault(path, f"{key}: {file}: {error.strerror or error}") from error
    return file


def _single(name: str, context: Entry, cluster: Entry, user: Entry, path: Path) -> SingleConfig:
    try:
        return SingleConfig(
            context_name=name,
            context=Context(cluster=name, namespace=_text(context, "namespace", path, "context") or None),
            cluster=msgspec.convert(cluster, Cluster),
            user=msgspec.convert(user, User),
            fname=path.absolute(),
        )
    except msgspec.ValidationError as error:
        raise _fault(path, f"context {name!r}: {error}") from error


def _fault(path: Path, why: str) -> SetupError:
    return SetupError(f"kubeconfig {path}: {why}", REMEDY)
