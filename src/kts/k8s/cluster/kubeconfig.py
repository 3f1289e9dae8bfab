"""Which cluster, and as whom: kubeconfig files as kubectl reads them.

KUBECONFIG may list files: those that are missing are skipped, of two entries of one name the first counts, and paths
are relative to the file they stand in. A kubeconfig counts before the service account of the pod that kts runs in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kts.errors import SetupError
from kts.k8s.cluster import identity
from kts.k8s.cluster.identity import Access, Server, User
from kts.k8s.cluster.kubefields import REMEDY, Fields, content, fault
from kts.shown import LONGEST, first_few, shown, visible
from kts.spec.yamltree import TreeError, parse

DEFAULT = "~/.kube/config"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LISTS = {"clusters": "cluster", "contexts": "context", "users": "user"}
_MOST_NAMED = 20
_CONTEXT = ("cluster", "user", "namespace")
Entry = dict[str, Any]


class _Config(msgspec.Struct):
    """Several files as one; each entry with the file it stands in, for messages and relative paths."""

    where: str
    current: str = ""
    entries: dict[str, dict[str, tuple[Path, Entry]]] = {}

    def __bool__(self) -> bool:
        return bool(self.current or any(self.entries.values()))


def access(context: str | None, env: Mapping[str, str]) -> Access:
    """The cluster of ``context``, or of the current one; in a pod whose kubeconfig is absent or empty, the pod's own.

    SetupError, one line with the file and its fault, if it cannot be used.
    """
    listed = [_expanded(part) for part in env.get("KUBECONFIG", "").split(os.pathsep) if part]
    files = [path for path in listed or [_expanded(DEFAULT)] if _there(path)]
    config = _merged(files)
    if not config and context is None and env.get("KUBERNETES_SERVICE_HOST") and (files or not listed):
        return _of_pod(env)
    if not files:
        pod = "; the pod's own account is not used, as KUBECONFIG is set" if env.get("KUBERNETES_SERVICE_HOST") else ""
        where = ", ".join(visible(str(path)) for path in listed) or DEFAULT
        raise SetupError(f"no cluster to talk to: there is no kubeconfig {where}{pod if listed else ''}", REMEDY)
    if not config:
        raise SetupError(f"no cluster to talk to: kubeconfig {config.where} is empty", REMEDY)
    name = context or config.current
    if not name:
        raise SetupError(f"kubeconfig {config.where}: no current context", REMEDY)
    return _of_context(config, name, env)


def _expanded(path: str) -> Path:
    """With the home folder for ``~``; as it is where there is no home, as for some users of containers."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - the other one raises an error


def _there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        pass  # reading says why
    return True


def _of_pod(env: Mapping[str, str]) -> Access:
    """The cluster in whose pod this runs, as the pod's service account. Its token is replaced from time to time."""
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT", "443")
    token = SERVICE_ACCOUNT / "token"
    try:
        content(token)
        authority = content(SERVICE_ACCOUNT / "ca.crt").decode("ascii", "replace")
        namespace = content(SERVICE_ACCOUNT / "namespace").decode().strip()
    except (OSError, ValueError) as error:
        raise SetupError(f"no cluster to talk to: no kubeconfig, and no service account for {host}", REMEDY) from error
    url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return Access("the pod's service account", Server(url, authority), User(token_file=token), namespace)


def _of_context(config: _Config, name: str, env: Mapping[str, str]) -> Access:
    path, chosen = _entry(config, "contexts", name)
    fields = Fields(path, f"context {shown(name)}", chosen)
    fields.only(_CONTEXT, ("extensions", "name"))
    cluster = Fields(*_placed(config, "clusters", fields.name("cluster")))
    where = identity.server(cluster, env)
    user_name = fields.name("user")
    entry = Fields(*_placed(config, "users", user_name)) if user_name else Fields(path, "user", {})
    origin = f"kubeconfig {visible(str(path))}: context {shown(name)}"
    return Access(origin, where, identity.user(entry, cluster, where), fields.name("namespace"))


def _placed(config: _Config, kind: str, name: str) -> tuple[Path, str, Entry]:
    path, entry = _entry(config, kind, name)
    return path, _LISTS[kind], entry


def _merged(files: list[Path]) -> _Config:
    config = _Config(", ".join(visible(str(path)) for path in files), entries={kind: {} for kind in _LISTS})
    for path in files:
        tree = _read(path)
        config.current = config.current or Fields(path, "", tree).name("current-context")
        for kind, inner in _LISTS.items():
            for name, entry in _named(tree.get(kind), kind, inner, path).items():
                config.entries[kind].setdefault(name, (path, entry))
    return config


def _read(path: Path) -> Entry:
    """The file's mapping; empty for an empty file."""
    try:
        tree = parse(content(path).decode("utf-8-sig"))
    except OSError as error:
        raise fault(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise fault(path, "not a text file in UTF-8") from error
    except TreeError as error:
        raise fault(path, f"not YAML: {error.message}{f' (line {error.line})' if error.line else ''}") from error
    if tree.repeated:
        place, first, second = tree.repeated[0]
        raise fault(path, f"{visible('.'.join(map(str, place))[:LONGEST])} stands twice, in lines {first} and {second}")
    if tree.data is None:
        return {}
    if not isinstance(tree.data, dict):
        raise fault(path, "no kubeconfig: it is no mapping with clusters, contexts and users")
    return tree.data


def _named(items: object, kind: str, inner: str, path: Path) -> dict[str, Entry]:
    """Entries of a list by name; the first of a name counts."""
    if items is None:
        return {}
    if not isinstance(items, list):
        raise fault(path, f"{kind} is no list")
    entries: dict[str, Entry] = {}
    for number, item in enumerate(items):
        entry = item.get(inner) if isinstance(item, dict) else item
        if not isinstance(item, dict) or not isinstance(entry, dict | None) or "name" not in item:
            raise fault(path, f"{kind}[{number}] is no mapping with name and {inner}")
        entries.setdefault(str(item["name"]), entry or {})
    return entries


def _entry(config: _Config, kind: str, name: str) -> tuple[Path, Entry]:
    try:
        return config.entries[kind][name]
    except KeyError:
        there = [visible(one[:LONGEST]) for one in sorted(config.entries[kind])]
        listed = first_few(there, _MOST_NAMED) or "none"
        raise SetupError(
            f"kubeconfig {config.where}: no {_LISTS[kind]} {shown(name)} (there are: {listed})", REMEDY
        ) from None
