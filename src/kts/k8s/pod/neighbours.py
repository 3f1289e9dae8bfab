"""The conductor's pod looks who else is on its node, where it was given a service account that may list pods.

Only the standard library speaks to the API server here: the worker image holds no client.
"""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from kts.errors import SetupError
from kts.k8s.objects import Object, around
from kts.model.neighbours import Look
from kts.units import NS_PER_S

BY = "the conductor's pod"
EVERY_S = 3.0
_TIMEOUT_S = 5.0
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MOST_BYTES = 64 << 20

Lister = Callable[[str], list[Object]]
"""The pods of the node of that name. SetupError, OSError, HTTPException where they cannot be had."""


def scope(env: Mapping[str, str]) -> around.Scope:
    """Which run this pod conducts, and what it shares."""
    return around.Scope(
        run=env.get("KTS_RUN", ""),
        namespace=env.get("KTS_NAMESPACE", ""),
        node=env.get("KTS_NODE", ""),
        resource=env.get("KTS_RESOURCE", ""),
        claim=env.get("KTS_CLAIM", ""),
    )


def lister(env: Mapping[str, str] = os.environ, account: Path = _ACCOUNT) -> Lister | None:
    """Asks the API server with the token that is mounted in ``account``; None where there is none."""
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (account / "token").exists():
        return None

    def pods(node: str) -> list[Object]:
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        connection = http.client.HTTPSConnection(host, int(port), timeout=_TIMEOUT_S, context=context)
        # Read each time: the kubelet renews it.
        token = (account / "token").read_text(encoding="utf-8").strip()
        try:
            return pods_of(connection, node, token)
        finally:
            connection.close()

    return pods


def pods_of(connection: http.client.HTTPConnection, node: str, token: str) -> list[Object]:
    """The pods of a node, from the API server's own memory (resourceVersion 0), as the kubelet has them."""
    query = urlencode({"fieldSelector": f"spec.nodeName={node}", "resourceVersion": "0"})
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    connection.request("GET", f"/api/v1/pods?{query}", headers=headers)
    answer = connection.getresponse()
    body = answer.read(_MOST_BYTES)
    if answer.status != 200:
        raise SetupError(f"the API server answers {answer.status} {answer.reason}", "see deploy/rbac.yaml")
    return list(msgspec.json.decode(body)["items"])


class Lookout:
    """A thread that looks every ``every_s`` seconds, until `close`, and tells each look."""

    def __init__(
        self, pods: Lister, told: Callable[[Look], None], of: around.Scope, *, every_s: float = EVERY_S
    ) -> None:
        self.sees = False
        """Whether the last look succeeded, so that nobody else needs to look."""
        self._pods, self._told, self._of, self._every_s = pods, told, of, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="neighbours", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No look begins after this."""
        self._over.set()

    def look(self) -> Look:
        """Who is there now; a look with a ``problem`` where that cannot be told. Raises nothing."""
        at_ns, every_ns = time.time_ns(), round(self._every_s * NS_PER_S)
        try:
            seen = around.look(self._pods(self._of.node), self._of, by=BY, every_ns=every_ns)
            return msgspec.structs.replace(seen, at_ns=at_ns)
        except SetupError as error:
            problem = error.what
        except Exception as error:  # a run must not end because of who looks beside it
            problem = f"{type(error).__name__}: {error}"
        return Look(by=BY, every_ns=every_ns, at_ns=at_ns, node=self._of.node, problem=" ".join(problem.split())[:300])

    def _run(self) -> None:
        while True:
            look = self.look()
            self.sees = not look.problem
            self._told(look)
            if self._over.wait(self._every_s):
                return
