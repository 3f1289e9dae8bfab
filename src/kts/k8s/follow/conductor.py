"""The conductor's pod, asked from outside: by the API server's pod proxy, and where that does not reach it through the
kubelet. A private control plane often reaches its nodes' kubelets and nothing else."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from kts import files
from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden, Missing, Unavailable
from kts.k8s.cluster.forward import Tunnel
from kts.k8s.objects import Object, podstate
from kts.k8s.objects.names import STATUS_PORT, TOKEN_HEADER
from kts.k8s.pod.status import Status
from kts.store import layout
from kts.store.mirror import GROWING, Mirror

PROXY, FORWARD = "pod proxy", "port-forward"
FORWARD_AFTER_S = 3.0
"""For the pod proxy to reach a pod that listens, before the other way is tried."""
REACH_S = 15.0
"""For either way to reach a pod that listens."""
UNREADY_S = 8.0
"""After which a container that runs is taken to listen though the kubelet does not say so: its probe may be blocked."""
START_S = 120.0
"""For either way to reach a pod of which the kubelet does not say that it listens."""
_ATTEMPT_S = 4.0
"""For one request, until one was answered: a packet that a firewall drops is never answered."""
_ANSWER_S = 10.0


class Conductor:
    """``way``: by which it answered last, `PROXY` or `FORWARD`; empty before. ``note`` is told of the unusual one."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        token: str,
        *,
        note: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.way = ""
        self._api, self._namespace, self._headers, self._note, self._now = (
            api,
            namespace,
            {TOKEN_HEADER: token},
            note,
            now,
        )
        self._ready = self._reached = False
        self._running_since: float | None = None
        self._failing_since: float | None = None
        self._faults: dict[str, str] = {}
        self._tunnel: Tunnel | None = None

    def see(self, pod: Object) -> None:
        """Its pod, which runs, as it is now."""
        self._ready = podstate.ready(pod)
        if self._running_since is None:
            self._running_since = self._now()

    def status(self) -> Status:
        """What it says. Unavailable, or Missing, while it does not answer."""
        answer = self.ask("GET", "/v1/status")
        return files.decode(answer, Status, "the conductor's answer", "not a status", "use one kts version")

    def post(self, path: str, body: bytes = b"") -> bool:
        """True if it took it."""
        try:
            self.ask("POST", path, body=body)
        except SetupError:
            return False
        return True

    def ask(self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
        """The answer's body. Unavailable, or Missing, if there is none; other SetupErrors from the API server."""
        if self.way == FORWARD:
            try:
                return self._by_forward(method, path, params or {}, body)
            except Unavailable:
                self.way = ""
        began = self._now()
        try:
            answer = self._by_proxy(method, path, params or {}, body)
        except (Unavailable, Forbidden) as error:
            if not self._may_listen():
                raise
            if self._failing_since is None:
                self._failing_since = began
            self._faults[PROXY] = error.what
            if self._now() - self._failing_since < FORWARD_AFTER_S and isinstance(error, Unavailable):
                raise
            try:
                answer = self._by_forward(method, path, params or {}, body)
            except Missing:
                raise
            except SetupError as other:
                self._faults[FORWARD] = other.what
                raise error from None
            self._note(f"the conductor was asked by {FORWARD}: the {PROXY} did not reach it ({self._faults[PROXY]})")
            self.way = FORWARD
        else:
            self.way = PROXY
        self._reached, self._failing_since = True, None
        return answer

    def bring_up(self, mirror: Mirror) -> None:
        """Brings the copy of a run that goes on up to what is there. Unavailable, or Missing, while it does not answer.

        run.json is read first and put last: the sizes are asked for after it, so it is never ahead of the files whose
        blocks it names.
        """
        run = self.ask("GET", f"/v1/files/{layout.RUN}")
        sizes = self.status().files
        for name in GROWING:
            have = mirror.size(name)
            while have < sizes.get(name, 0):
                part = self.ask("GET", f"/v1/files/{name}", params={"offset": str(have)})
                if not part:
                    break
                have = mirror.append(name, part, have)
        mirror.replace_run(run)

    @property
    def trouble(self) -> str:
        """In words, while it listens and does not answer; else empty."""
        if self._failing_since is None:
            return ""
        ways = " and ".join(self._faults)
        return f"the conductor listens and is not reached by {ways} ({self._now() - self._failing_since:.0f} s)"

    @property
    def unreachable(self) -> SetupError | None:
        """What a user must do where neither way ever led to a conductor that listens; None while one did, or may."""
        since = self._failing_since
        if self._reached or since is None or FORWARD not in self._faults:
            return None
        if self._now() - since < (REACH_S if self._ready else START_S):
            return None
        tried = "; ".join(f"{way}: {fault}" for way, fault in self._faults.items())
        return SetupError(
            f"the conductor's pod is {'ready' if self._ready else 'running'}, and nothing leads to it: {tried}",
            f"let the control plane reach port {STATUS_PORT} of pods (firewall, NetworkPolicy), "
            "or port 10250 of nodes, and grant pods/portforward (deploy/rbac.yaml)",
        )

    def _may_listen(self) -> bool:
        since = self._running_since
        return self._ready or (since is not None and self._now() - since >= UNREADY_S)

    def close(self) -> None:
        """Closes the way to it."""
        if self._tunnel is not None:
            self._tunnel.close()
        self._tunnel = None

    def _by_proxy(self, method: str, path: str, params: Mapping[str, str], body: bytes) -> bytes:
        return self._api.proxy(
            method,
            self._namespace,
            self.name,
            STATUS_PORT,
            path,
            headers=self._headers,
            params=params,
            body=body,
            timeout_s=_ANSWER_S if self.way else _ATTEMPT_S,
        )

    def _by_forward(self, method: str, path: str, params: Mapping[str, str], body: bytes) -> bytes:
        """By the tunnel that is open, or a new one; a request to a tunnel that ended meanwhile is made again."""
        if self._tunnel is not None:
            try:
                return self._through(self._tunnel, method, path, params, body)
            except Unavailable:
                self.close()
        self._tunnel = Tunnel(self._api, self._namespace, self.name, STATUS_PORT, timeout_s=_ATTEMPT_S)
        try:
            return self._through(self._tunnel, method, path, params, body)
        except Unavailable:
            self.close()
            raise

    def _through(self, tunnel: Tunnel, method: str, path: str, params: Mapping[str, str], body: bytes) -> bytes:
        connection = http.client.HTTPConnection(self.name, STATUS_PORT)
        connection.sock = tunnel.near
        target = f"{path}?{urlencode(params)}" if params else path
        try:
            tunnel.near.settimeout(_ANSWER_S)
            connection.request(method, target, body=body, headers=self._headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = tunnel.fault or str(error) or type(error).__name__
            raise Unavailable(f"the conductor does not answer: {why}", "wait, and try again") from error
        if answer.status == 404:
            raise Missing(f"not found: {path}", "use one kts version")
        if answer.status >= 400:
            raise SetupError(f"refused ({answer.status}) {method} {path}", "use one kts version")
        return content
