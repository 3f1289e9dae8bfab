"""What the pods of a run wait for, since when, and when that has lasted too long (`kts.k8s.objects.pending`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from kts.k8s.cluster.api import Api, Forbidden
from kts.k8s.objects import Object, pending, podstate
from kts.k8s.objects.names import LABEL_JOB
from kts.k8s.objects.pending import Wait
from kts.k8s.objects.settings import ClusterSettings

GAP_S = 5.0
"""The most that counts between two looks: while the API server is away nobody knows how a pod is."""
ASK_S = 1.5
"""A wait of that length is worth asking for events, and each such time again."""
_SHOWN = 200


class Waits:
    """``over``: what waited too long, and what to do, once something did."""

    def __init__(self, api: Api, settings: ClusterSettings) -> None:
        self.over: Wait | None = None
        self._api, self._settings = api, settings
        self._seen_s = 0.0
        self._last: float | None = None
        self._jobs: set[str] = set()
        self._lacking: list[str] = []
        self._now: dict[str, Wait] = {}
        self._since: dict[str, tuple[str, float]] = {}
        self._first: dict[str, float] = {}
        self._events: list[Object] = []
        self._asked_s = 0.0

    def expect(self, job: str) -> None:
        """A Job that is there: without a pod it will never do anything."""
        self._jobs.add(job)

    def lacks(self, objects: Iterable[str]) -> None:
        """What the run cannot do without and is not there, as "Kind name"."""
        self._lacking += objects

    def look(self, pods: Mapping[str, Object], gone: Iterable[str], now: float) -> None:
        """``pods``: all that were ever seen; ``gone``: those that are no more; ``now``: monotonic seconds."""
        self._seen_s += min(now - self._last, GAP_S) if self._last is not None else 0.0
        self._last = now
        tried = {podstate.labelled(pod, LABEL_JOB) for pod in pods.values()}
        self._jobs -= tried
        there = {f"Pod {name}" for name in pods} | {f"Job {job}" for job in tried}
        self._lacking = [name for name in self._lacking if name not in there]
        here = [pod for name, pod in pods.items() if name not in set(gone)]
        self._read_events()
        found = {f"Job {job}": pending.of_job(job, self._events, self._settings) for job in self._jobs}
        found |= {name: pending.of_lacking(name) for name in self._lacking}
        for pod in here:
            if self._follows(pod, here):
                continue
            if wait := pending.of_pod(pod, self._events, self._settings):
                found[f"pod {podstate.name(pod)}"] = wait
        self._now = found
        self._first = {name: self._first.get(name, self._seen_s) for name in found}
        self._since = {name: self._began(name, wait) for name, wait in found.items()}
        self.over = self.over or next((wait for name, wait in found.items() if self._too_long(name, wait)), None)

    def words(self) -> str:
        """Who waits for what, in short; empty if nobody does, or not for long enough to say it."""
        told = {wait.short: name for name, wait in self._now.items() if wait.short and self._lasts_s(name) >= ASK_S}
        text = "; ".join(f"{name}: {short}" for short, name in told.items())
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

    def _follows(self, pod: Object, here: Iterable[Object]) -> bool:
        """True for a conductor that is to go where the tenants are, as long as none of these has a place: theirs is
        the reason."""
        if self._settings.node or not podstate.is_conductor(pod) or pod["spec"].get("nodeName"):
            return False
        tenants = [one for one in here if podstate.tenant(one)]
        return bool(tenants or self._jobs) and not any(one["spec"].get("nodeName") for one in tenants)

    def _began(self, name: str, wait: Wait) -> tuple[str, float]:
        kind, since = self._since.get(name, ("", 0.0))
        return (kind, since) if kind == wait.kind else (wait.kind, self._seen_s)

    def _lasts_s(self, name: str) -> float:
        return self._seen_s - self._first[name]

    def _too_long(self, name: str, wait: Wait) -> bool:
        return self._seen_s - self._since[name][1] >= wait.limit_s or self._lasts_s(name) >= pending.start_s(
            self._settings
        )

    def _read_events(self) -> None:
        """As far as they may be read, and only while somebody waits. Unavailable."""
        longest_s = max((self._lasts_s(name) for name in self._first), default=0.0)
        if longest_s < ASK_S or self._seen_s - self._asked_s < ASK_S:
            return
        self._asked_s = self._seen_s
        with contextlib.suppress(Forbidden):
            self._events = self._api.list("Event", self._settings.namespace)
