"""What a run or a fleet left of itself in the cluster: the ConfigMap that owns it, and the Secret with its token."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from kts import files
from kts.errors import DataError, SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.objects import Object, runnames

_T = TypeVar("_T")
_REMEDY = "use the kts that started it"


def owner_of(api: Api, what: str, name: str, namespace: str) -> Object:
    """The ConfigMap. SetupError where there is none. ``what``: run or fleet, for messages here and below."""
    owner = api.get("ConfigMap", runnames.object_name(name), namespace)
    if owner is None:
        raise SetupError(f"no {what} {name} in namespace {namespace}", "kts runs --on k8s lists what is there")
    return owner


def token_of(api: Api, what: str, name: str, namespace: str) -> str:
    """What its conductor is shown. SetupError where the Secret is not there, DataError where it holds none."""
    secret = api.get("Secret", runnames.object_name(name), namespace)
    if secret is None:
        raise SetupError(
            f"{what} {name} cannot be reached: its Secret {runnames.object_name(name)} was never made, or is deleted",
            f"kts clean {name} removes the rest",
        )
    with readable(what, name):
        return base64.b64decode(secret["data"]["token"]).decode()


def decoded(owner: Object, key: str, kind: type[_T]) -> _T:
    """What the ConfigMap holds under ``key``. DataError; use within `readable`."""
    return files.decode(str(owner["data"][key]).encode(errors="replace"), kind, key, f"not a {key}", _REMEDY)


@contextmanager
def readable(what: str, name: str) -> Iterator[None]:
    """DataError for what another kts, or nobody, has written."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{what} {name} cannot be read ({error})", f"{_REMEDY}, or kts clean it") from error
