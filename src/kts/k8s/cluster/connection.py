"""HTTP to one API server, as one user: TLS, the proxy before it, and credentials that change while a run goes on."""

from __future__ import annotations

import ssl
import tempfile
from threading import Lock

import httpx2

from kts.errors import SetupError
from kts.k8s.cluster.credentials import SHOWN, Credentials
from kts.k8s.cluster.execplugin import Credential
from kts.k8s.cluster.identity import Access, Server


def client(access: Access, timeout_s: float) -> httpx2.Client:
    """A client whose requests reach the server as the user; paths are relative to the server's URL.

    Sends nothing, and asks no plugin yet. SetupError, one line, for certificates that cannot be used.
    """
    credentials = Credentials(access.user)
    transport = Transport(access)
    if access.user.plugin is None:
        transport.pool(credentials.current())
    return httpx2.Client(
        base_url=access.server.url,
        auth=credentials,
        headers=[(name.encode(), value.encode()) for name, value in access.user.acting],
        timeout=timeout_s,
        transport=transport,
        trust_env=False,  # proxies are chosen as kubectl chooses them, and are in the server
    )


class Transport(httpx2.BaseTransport):
    """Connections that show the client certificate of the moment: where it changes, new ones take their place."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = Lock()
        self._pair: tuple[bytes, bytes] | None = None
        self._pools: list[httpx2.HTTPTransport] = []

    def pool(self, credential: Credential) -> httpx2.HTTPTransport:
        """The connections that show this credential's certificate. SetupError if it cannot be used."""
        pair = (credential.certificate, credential.key)
        with self._lock:
            if pair != self._pair:
                try:
                    self._pools.append(_pool(self._access, credential))
                except SetupError:
                    if not self._pools:
                        raise
                    return self._pools[-1]  # of two files only one is replaced so far
                self._pair = pair
                for old in self._pools[:-2]:  # what was sent before the last change has its answer
                    old.close()
                del self._pools[:-2]
            return self._pools[-1]

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the server. httpx2's errors, and SetupError."""
        if name := self._access.server.name:
            request.extensions = {**request.extensions, "sni_hostname": name}
        pool = self.pool(request.extensions[SHOWN])
        try:
            return pool.handle_request(request)
        except httpx2.TransportError:
            raise
        except Exception as error:  # a SOCKS proxy's nonsense ends in assertions and errors of another library
            if not self._access.server.proxy.startswith("socks"):
                raise
            raise httpx2.ProxyError(f"the proxy does not speak SOCKS5: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Closes all connections."""
        for pool in self._pools:
            pool.close()


def _pool(access: Access, credential: Credential) -> httpx2.HTTPTransport:
    server = access.server
    context = trust(server)
    if credential.certificate:
        with tempfile.NamedTemporaryFile(prefix="kts-") as file:  # ssl takes keys from files alone
            file.write(credential.certificate + b"\n" + credential.key)
            file.flush()
            try:
                context.load_cert_chain(file.name, password="")  # else OpenSSL would ask the terminal
            except (ssl.SSLError, ValueError) as error:
                encrypted = ": the key has a passphrase" if b"ENCRYPTED" in credential.key else ""
                raise SetupError(
                    f"{access.origin}: the client certificate cannot be used{encrypted} ({error})",
                    "check that certificate and key belong together; log in to the cluster again",
                ) from error
    proxy = None
    if server.proxy:
        secure = server.proxy.startswith("https://")
        proxy = httpx2.Proxy(server.proxy, ssl_context=trust(server, publicly=True) if secure else None)
    return httpx2.HTTPTransport(verify=context, proxy=proxy, trust_env=False)


def trust(server: Server, publicly: bool = False) -> ssl.SSLContext:
    """Whom to believe: the server's authority, else those that this machine trusts; ``publicly``: those as well.

    As Go does, and Python from 3.13 on does not, it takes certificates without every extension that RFC 5280 asks for,
    and any certificate of the authority's file as the end of the chain.
    """
    own = not server.authority or publicly
    context = httpx2.create_ssl_context(verify=not server.insecure) if own else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if server.authority:
        context.load_verify_locations(cadata=server.authority)
    context.verify_flags = (context.verify_flags & ~ssl.VERIFY_X509_STRICT) | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
