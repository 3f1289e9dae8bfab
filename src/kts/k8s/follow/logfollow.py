"""Follows the log of one pod from its first line, in a thread, through every loss of the connection."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from kts.errors import KtsError
from kts.k8s.cluster.api import Api, Missing, Silent, Unavailable
from kts.k8s.follow.logreader import LogReader
from kts.model.records import Records
from kts.units import NS_PER_S

SILENCE_S = 20.0
"""A connection over which nothing comes for so long is made anew: it may be dead."""
_PAUSE_S = 0.5


class LogFollower:
    """The log of ``pod`` as records; what it tells may be asked from any thread.

    ``heard`` is the monotonic second of the last new line, ``away_since`` that since when the log cannot be
    reached (None while it can).
    """

    def __init__(self, api: Api, pod: str, namespace: str, app: str, known: bytes = b"") -> None:
        """``known``: lines that an earlier follower kept; `take` gives their records, and not the lines again."""
        self.pod = pod
        self.heard = time.monotonic()
        self.away_since: float | None = None
        self.finished = False
        self._api, self._namespace = api, namespace
        self._reader = LogReader(app)
        self._reader.feed(known)
        self._reader.take_lines()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pod_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"log of {pod}", daemon=True)

    def start(self) -> None:
        """Begins to follow. Only for a pod whose container has started."""
        self._thread.start()

    def pod_is_over(self) -> None:
        """The pod has ended: nothing more is printed, and what is there is all."""
        self._pod_over.set()

    def stop(self) -> None:
        """No longer follows; what was read stays."""
        self._stopped.set()

    def read_once(self) -> None:
        """Reads what is there now, and does not follow. SetupError."""
        self._read(follow=False)
        self.finished = True

    def take(self) -> tuple[Records, bytes]:
        """(records, lines as printed) since the last call."""
        with self._lock:
            return self._reader.take(), self._reader.take_lines()

    @property
    def reader(self) -> LogReader:
        """What is known so far; its plain values may be read at any time."""
        return self._reader

    def _follow(self) -> None:
        while not self._stopped.is_set():
            was_over = self._pod_over.is_set()
            try:
                ended = self._read(follow=True)
                if self._reader.whole and ended:
                    break
                if self._reader.hopeless or (was_over and ended):
                    self._read(follow=False)
                    if self._reader.hopeless or was_over:
                        break
            except Silent:
                pass
            except Missing:
                break
            except Unavailable:
                self._away()
            except KtsError:
                if was_over:
                    break
                self._away()
            self._stopped.wait(_PAUSE_S)
        self.finished = True

    def _away(self) -> None:
        self.heard = time.monotonic()
        self.away_since = self.away_since or self.heard

    def _read(self, *, follow: bool) -> bool:
        """Reads until the log's end; False if it broke off itself, because what is missing will not come.

        Without ``follow`` all that the node still has of it, from the first line.
        """
        with self._lock:
            self._reader.connected()
            since = _since(self._reader.mark_ns) if follow else ""
        for piece in self._api.logs(
            self.pod, self._namespace, follow=follow, timestamps=True, since=since, silence_s=SILENCE_S
        ):
            self.away_since = None
            with self._lock:
                before_ns = self._reader.mark_ns
                self._reader.feed(piece)
                if self._reader.mark_ns > before_ns:  # a new connection repeats lines, which is no sign of life
                    self.heard = time.monotonic()
                hopeless = self._reader.hopeless
            if self._stopped.is_set() or (follow and hopeless):
                return False
        return True


def _since(mark_ns: int) -> str:
    """The second of ``mark_ns`` as RFC 3339; empty for the beginning."""
    return datetime.fromtimestamp(mark_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if mark_ns else ""
