"""A node's own kubelet, asked which pods it runs: what ``get nodes/pods`` allows, and no more."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kts.errors import SetupError
from kts.k8s.objects.podnames import NamesKnown, of_pods

PORT = 10250
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token, and its authority's certificate."""
DOCS = "see docs/watch-rights.md"
_TIMEOUT_S = 1.0
_MOST_BYTES = 64 << 20


class Kubelet:
    """The kubelet at ``host``. ``account``: the folder with ``token``, read at each request since it is renewed.

    ``authorities``: certificates of which one must vouch for the kubelet's, else it is sent no token; none: any
    certificate will do. That is for a kubelet that signs its own, asked at its own node's address: the way there does
    not leave the node.
    """

    def __init__(
        self, host: str, account: Path = ACCOUNT, *, port: int = PORT, authorities: Sequence[Path] | None = None
    ) -> None:
        self._host, self._port, self._account = host, port, account
        self._authorities = [account / "ca.crt"] if authorities is None else list(authorities)

    def names(self) -> NamesKnown:
        """Of all containers that it runs, or ran a moment ago. SetupError, in one line, where it refuses."""
        place = f"the kubelet at {self._host}:{self._port}"
        try:
            status, body = self._pods()
        except ssl.SSLCertVerificationError as error:
            raise SetupError(
                f"{place} is not trusted: {error.verify_message}",
                f"let the cluster sign kubelets' certificates (serverTLSBootstrap), or do without it: {DOCS}",
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SetupError(f"{place} cannot be asked: {error or type(error).__name__}", DOCS) from error
        if status in (401, 403):
            lacks = "does not know this account" if status == 401 else "does not let this account get nodes/pods"
            raise SetupError(f"{place} {lacks}", f"Kubernetes 1.33 or newer, with the ClusterRole of kts watch: {DOCS}")
        try:
            if status == 200:
                return of_pods(msgspec.json.decode(body)["items"])
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            pass
        raise SetupError(f"{place} answers {status}, and no list of pods", DOCS)

    def _pods(self) -> tuple[int, bytes]:
        token = (self._account / "token").read_text(encoding="utf-8").strip()
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_S, context=self._context())
        try:
            connection.request("GET", "/pods", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read(_MOST_BYTES)
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not self._authorities:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as old clusters make certificates; Go takes them, too
        for path in self._authorities:
            context.load_verify_locations(path)
        return context
