"""What each request shows of who sends it: read, asked for and renewed as time passes, for runs that take hours."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import httpx2

from kts.errors import SetupError
from kts.k8s.cluster.execplugin import Credential, ask
from kts.k8s.cluster.identity import Plugin, User
from kts.k8s.cluster.kubefields import content
from kts.shown import visible

REFUSED_AGAIN_S = 10.0
"""A plugin whose credentials the server does not take is not asked more often than this: it may open a browser."""


SHOWN = "kts.shown"
"""The request's extension that holds its `Credential`."""


class Unrenewed(SetupError):  # noqa: N818 - a state, which passes
    """Credentials that were there ran out, and new ones cannot be had right now."""


class Credentials(httpx2.Auth):
    """Those of one user, for requests from several threads.

    Files are read each time, since others replace them; of one that cannot be read the last content counts. A plugin is
    asked when its answer has expired, and once when the server does not take it.
    """

    def __init__(
        self,
        user: User,
        asked: Callable[[Plugin], Credential] = ask,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._user = user
        self._asked = asked
        self._now = now
        self._clock = clock
        self._lock = Lock()
        self._given: Credential | None = None
        self._refused_s = float("-inf")
        self._last: dict[Path, bytes] = {}

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """The request with its credentials, and once more where the server does not take them and there are others."""
        shown = self.current()
        self._put(request, shown)
        answer = yield request
        if answer.status_code == 401 and (renewed := self.current(refused=shown)) != shown:
            self._put(request, renewed)
            yield request

    def current(self, refused: Credential | None = None) -> Credential:
        """Those of this moment. ``refused``: those that the server does not take. SetupError; Unrenewed if there were
        some before."""
        with self._lock:
            if self._user.plugin is not None:
                return self._of_plugin(self._user.plugin, refused)
            token = self._token(self._user.token_file) if self._user.token_file else self._user.token
            certificate, key = self._user.certificate, self._user.key
            return Credential(token, self._content(certificate or b""), self._content(key or b""))

    def _of_plugin(self, plugin: Plugin, refused: Credential | None) -> Credential:
        now_s, given = self._clock(), self._given
        if given is None:
            self._given = self._asked(plugin)
            return self._given
        again = refused == given and now_s - self._refused_s >= REFUSED_AGAIN_S
        if again or (given.expires is not None and self._now() > given.expires):
            self._refused_s = now_s if again else self._refused_s
            try:
                self._given = self._asked(plugin)
            except SetupError as error:
                raise Unrenewed(error.what, error.remedy) from error
        return self._given or given

    def _token(self, file: Path) -> str:
        """Of the file; where that never held one, the kubeconfig's own."""
        try:
            token = self._content(file).decode("ascii", "replace").strip()
        except SetupError:
            if not self._user.token:
                raise
            return self._user.token
        if not token.isascii() or not token.isprintable():
            raise SetupError(f"{visible(str(file))}: holds no token that can be sent", "check the kubeconfig")
        return token

    def _content(self, source: bytes | Path) -> bytes:
        if isinstance(source, bytes):
            return source
        try:
            read = content(source)
            if not read.strip():
                raise OSError(None, "is empty")  # else requests would be those of nobody
            self._last[source] = read
        except OSError as error:
            if source not in self._last:
                why = error.strerror or str(error)
                raise SetupError(f"{visible(str(source))}: {why}", "check the kubeconfig") from error
        return self._last[source]

    def _put(self, request: httpx2.Request, shown: Credential) -> None:
        request.extensions = {**request.extensions, SHOWN: shown}  # for the connection, which shows the certificate
        if shown.token:
            request.headers["Authorization"] = f"Bearer {shown.token}"
        elif self._user.name:
            pair = base64.b64encode(f"{self._user.name}:{self._user.password}".encode()).decode()
            request.headers["Authorization"] = f"Basic {pair}"
