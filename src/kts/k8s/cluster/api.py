"""The API server, as plain Kubernetes JSON, with errors that say what to do."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import msgspec
from wsproto.utilities import generate_accept_token, generate_nonce

from kts.errors import KtsError, SetupError
from kts.k8s.cluster import connection, kubeconfig
from kts.k8s.cluster.credentials import Unrenewed
from kts.k8s.cluster.identity import Access
from kts.k8s.objects import Object
from kts.k8s.objects.refusals import ABSENT_NAMESPACE, DEAF_WEBHOOK, PERMISSION, refusal

_TIMEOUT_S = 10.0
_PATHS = {
    "Namespace": ("api/v1", "namespaces"),
    "Node": ("api/v1", "nodes"),
    "Pod": ("api/v1", "pods"),
    "ConfigMap": ("api/v1", "configmaps"),
    "Secret": ("api/v1", "secrets"),
    "Service": ("api/v1", "services"),
    "Event": ("api/v1", "events"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Job": ("apis/batch/v1", "jobs"),
    "CronJob": ("apis/batch/v1", "cronjobs"),
    "DaemonSet": ("apis/apps/v1", "daemonsets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "RuntimeClass": ("apis/node.k8s.io/v1", "runtimeclasses"),
    "ResourceQuota": ("api/v1", "resourcequotas"),
    "ResourceClaim": ("apis/resource.k8s.io/v1", "resourceclaims"),
    "ClusterRole": ("apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
}
_NAMESPACE_IN = re.compile(r"/namespaces/([^/?]+)/")
_CLUSTER_WIDE = frozenset({"Namespace", "Node", "RuntimeClass", "ClusterRole", "ClusterRoleBinding"})


class Unavailable(SetupError):  # noqa: N818 - a state, which passes
    """The server cannot be reached, or cannot answer, right now. Whoever measures tries again."""


class Conflict(SetupError):  # noqa: N818 - what is there already
    """An object of that name is there already, or was changed meanwhile."""


class Missing(SetupError):  # noqa: N818 - what is not there
    """There is no such object."""


class NotYet(SetupError):  # noqa: N818 - a state, which passes
    """The cluster refuses an object until it has made up its mind, in a moment: see `creation.create`."""


class Refused(SetupError):  # noqa: N818 - what the cluster makes of an object
    """A quota, a limit, a policy or a check of the cluster refuses that object: trying again will not help."""


class Forbidden(SetupError):  # noqa: N818 - what this user may do
    """This user may not do that."""


class Api:
    """One cluster, as one user. Every method may raise SetupError, and Unavailable where trying again may help."""

    def __init__(self, client: Any, server: str, namespace: str, *, proxied: bool = False) -> None:
        """Made by `connect`. ``client``: an HTTP client with base URL and credentials; ``proxied``: through a proxy."""
        self.server = server
        self.namespace = namespace
        self._client = client
        self._way = " through its proxy" if proxied else ""

    @classmethod
    def connect(cls, context: str | None = None) -> Api:
        """The cluster of the kubeconfig (KUBECONFIG, ~/.kube/config), or of the pod this runs in. Sends nothing yet.

        SetupError, in one line, for a kubeconfig that cannot be used.
        """
        return cls.of(kubeconfig.access(context, os.environ))

    @classmethod
    def of(cls, access: Access) -> Api:
        """The cluster, as the user. SetupError, in one line, for certificates that cannot be used."""
        server = access.server
        return cls(connection.client(access, _TIMEOUT_S), server.url, access.namespace, proxied=bool(server.proxy))

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def version(self) -> str:
        """The server's version, e.g. ``v1.34.2``."""
        return str(self._json("GET", "version")["gitVersion"])

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object; None if there is none."""
        try:
            return self._json("GET", _path(kind, namespace, name))
        except Missing:
            return None

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """Objects of a namespace (None: of all) that have all ``labels`` and ``fields``; which fields the server
        compares depends on the kind, e.g. a pod's ``spec.nodeName``."""
        params = {"labelSelector": ",".join(f"{k}={v}" if v else k for k, v in labels.items())} if labels else {}
        if fields:
            params["fieldSelector"] = ",".join(f"{k}={v}" for k, v in fields.items())
        items: list[Object] = []
        while True:
            page = self._json("GET", _path(kind, namespace or ""), params={**params, "limit": "500"})
            items += page.get("items") or []
            following = page.get("metadata", {}).get("continue")
            if not following:
                return items
            params = {**params, "continue": following}

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Creates it; as the server then has it. Conflict if there is one already.

        ``dry_run``: says what the server would make of it, through all its checks, and creates nothing.
        """
        params = {"dryRun": "All"} if dry_run else {}
        meta = obj["metadata"]
        return self._json("POST", _path(obj["kind"], meta.get("namespace", "")), params=params, body=obj)

    def apply(self, obj: Object) -> Object:
        """Makes it be so, whether it is there or not (server-side apply, as ``kts``); as the server then has it. Fields
        that an earlier apply set and this does not are taken away."""
        meta = obj["metadata"]
        path = _path(obj["kind"], meta.get("namespace", ""), meta["name"])
        params = {"fieldManager": "kts", "force": "true"}
        return self._json("PATCH", path, params=params, body=obj, content_type="application/apply-patch+yaml")

    def patch(self, kind: str, name: str, namespace: str, body: Object) -> Object:
        """JSON merge patch."""
        return self._json("PATCH", _path(kind, namespace, name), body=body, content_type="application/merge-patch+json")

    def delete(self, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> bool:
        """Deletes it and what it owns; False if there was none. ``grace_s``: for a pod to end by itself; by default
        what it says."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            self._json("DELETE", _path(kind, namespace, name), body=body)
        except Missing:
            return False
        return True

    def logs(
        self, pod: str, namespace: str, *, tail: int | None = None, container: str = "", previous: bool = False
    ) -> Iterator[bytes]:
        """What the pod's container printed so far, in pieces; of its last ``tail`` lines. ``container``: which one,
        where it has several. ``previous``: before it was started again."""
        path = f"{_path('Pod', namespace, pod)}/log"
        params = {} if tail is None else {"tailLines": str(tail)}
        params |= {"container": container} if container else {}
        params |= {"previous": "true"} if previous else {}
        with self._named(path), self._client.stream("GET", path, params=params) as answer:
            if answer.status_code >= 400:
                answer.read()
                _check(answer, "GET", path)
            yield from answer.iter_bytes()

    def proxy(
        self,
        method: str,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = _TIMEOUT_S,
    ) -> bytes:
        """An HTTP request to a port of a pod, through the API server. Unavailable while the pod does not answer."""
        full = f"{_path('Pod', namespace, f'http:{pod}:{port}')}/proxy{path}"
        with self._named(full):
            answer = self._client.request(
                method,
                full,
                headers=dict(headers or {}),
                params=dict(params or {}),
                content=body,
                timeout=httpx2.Timeout(timeout_s),
            )
        _check(answer, method, full)
        return bytes(answer.content)

    @contextmanager
    def upgraded(
        self, namespace: str, pod: str, port: int, protocol: str, timeout_s: float = _TIMEOUT_S
    ) -> Iterator[Any]:
        """The connection that leads to a port of a pod, past the server's answer: a WebSocket that speaks ``protocol``,
        as a stream of httpcore's. See `kts.k8s.cluster.forward`."""
        path = f"{_path('Pod', namespace, pod)}/portforward"
        nonce = generate_nonce()
        asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        asked |= {"Sec-WebSocket-Key": nonce.decode(), "Sec-WebSocket-Protocol": protocol}
        with ExitStack() as stack:
            with self._named(path):
                answer = stack.enter_context(
                    self._client.stream(
                        "GET", path, params={"ports": str(port)}, headers=asked, timeout=httpx2.Timeout(timeout_s)
                    )
                )
                if answer.status_code != 101:
                    answer.read()
                    _check(answer, "GET", path)
            told = answer.headers.get("Sec-WebSocket-Accept", ""), answer.headers.get("Sec-WebSocket-Protocol", "")
            if answer.status_code != 101 or told != (generate_accept_token(nonce).decode(), protocol):
                raise SetupError(
                    f"{self.server} does not port-forward to pods by {protocol}", "ask for a newer cluster"
                )
            yield answer.extensions["network_stream"]

    def user(self) -> str:
        """Who acts, as the server has it (SelfSubjectReview); empty where it does not tell."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._json("POST", "apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
        except (Missing, Forbidden):
            return ""
        return str(answer.get("status", {}).get("userInfo", {}).get("username", ""))

    def allowed(self, verb: str, group: str, resource: str, namespace: str = "", subresource: str = "") -> bool:
        """Whether this user may (SelfSubjectAccessReview)."""
        attributes = {"verb": verb, "group": group, "resource": resource}
        attributes |= {"namespace": namespace} if namespace else {}
        attributes |= {"subresource": subresource} if subresource else {}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._json("POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        return bool(answer.get("status", {}).get("allowed"))

    def _json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        content = msgspec.json.encode(body) if body is not None else None
        with self._named(path):
            answer = self._client.request(method, path, params=dict(params or {}), content=content, headers=headers)
        _check(answer, method, path)
        try:
            return dict(msgspec.json.decode(answer.content))
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            raise SetupError(
                f"{self.server} does not answer as Kubernetes does: {error}", "check the server's address"
            ) from error

    @contextmanager
    def _named(self, path: str) -> Iterator[None]:
        """HTTP's and the credentials' errors as ours."""
        try:
            yield
        except Unrenewed as error:
            raise Unavailable(error.what, error.remedy) from error
        except httpx2.ReadTimeout as error:
            raise Unavailable(f"{self.server} does not answer: {path}", "check that the cluster is well") from error
        except httpx2.TransportError as error:
            if (why := _distrust(error)) is not None:
                raise SetupError(
                    f"{self.server} is not trusted: {why}",
                    "check certificate-authority and tls-server-name of the kubeconfig's cluster",
                ) from error
            why = str(error) or type(error).__name__
            raise Unavailable(
                f"{self.server} cannot be reached{self._way}: {why}",
                "check that the cluster is up: kubectl version",
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SetupError(f"{self.server}/{path}: {error}", "check the kubeconfig") from error


def _distrust(error: BaseException | None) -> str | None:
    """Why the server's certificate is not taken; None if that is not what is wrong."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


def _path(kind: str, namespace: str, name: str = "") -> str:
    group, plural = _PATHS[kind]
    place = "" if kind in _CLUSTER_WIDE or not namespace else f"/namespaces/{namespace}"
    return f"/{group}{place}/{plural}" + (f"/{name}" if name else "")


def _check(answer: Any, method: str, path: str) -> None:
    """The error that an HTTP status stands for."""
    code = int(answer.status_code)
    if code < 400:
        return
    raise _error(code, f"{method} {path}", _message(answer))


def _message(answer: Any) -> str:
    try:
        return str(msgspec.json.decode(answer.content).get("message") or answer.reason_phrase)
    except (msgspec.DecodeError, AttributeError):
        return " ".join(answer.text.split())[:200] or str(answer.reason_phrase)


def _error(code: int, what: str, message: str) -> KtsError:
    """``what``: method and path of the request."""
    named = _NAMESPACE_IN.search(what)
    found = refusal(message, named[1] if named else "")
    remedy = found.remedy if found else ""
    if found and found.by == PERMISSION:
        return Forbidden(f"not allowed: {message}", remedy)
    if found and found.by not in (ABSENT_NAMESPACE, DEAF_WEBHOOK):
        return (NotYet if found.passes else Refused)(f"refused: {message}", remedy)
    kind, words, usual = _BY_CODE.get(code, _AWAY if code >= 500 else _OTHER)
    return kind(words.format(code=code, what=what, message=message), remedy or usual)


_AWAY = (Unavailable, "the cluster cannot answer now ({code}): {message}", "wait, and try again")
_OTHER = (SetupError, "refused ({code}) {what}: {message}", "see the message; nothing was changed")
_BY_CODE: dict[int, tuple[type[SetupError], str, str]] = {
    401: (SetupError, "the cluster does not know you: {message}", "log in again, or renew the kubeconfig"),
    403: (Forbidden, "not allowed: {message}", "kts doctor --on k8s lists what a run must be allowed"),
    404: (Missing, "not found: {message}", "check the name and the namespace"),
    409: (Conflict, "in the way: {message}", "delete it, or choose another name"),
    429: _AWAY,
}
