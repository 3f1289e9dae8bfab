"""The pods of one run, as the API server tells: which there are, which will never run, and who is beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from kts import files
from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.cluster.preflight import ONE_GPU
from kts.k8s.follow import evidence
from kts.k8s.follow.waits import Waits
from kts.k8s.objects import Object, around, pending, podstate, slots
from kts.k8s.objects.names import LABEL_RUN
from kts.k8s.objects.pending import Wait
from kts.k8s.objects.settings import ClusterSettings
from kts.model.neighbours import Look
from kts.model.run import Outcome, RunInfo
from kts.store import layout
from kts.units import NS_PER_S

BY_KTS = "a kts that followed the run"
_DIFFERENT = f"{ONE_GPU}; or allow it with --allow-different-gpus"


class PodWatch:
    """``pods``: all that were ever seen, by name, as last seen; ``gone``: those that were deleted since.

    ``verdict``: why the run cannot go on, once a pod will never run. ``note`` is told what a reader must know, each
    text once.
    """

    def __init__(
        self,
        api: Api,
        run: str,
        settings: ClusterSettings,
        note: Callable[[str], None],
        *,
        allow_different_gpus: bool = False,
    ) -> None:
        self.pods: dict[str, Object] = {}
        self.gone: set[str] = set()
        self.verdict: Outcome | None = None
        self._api, self._run, self._settings = api, run, settings
        self._tell = note
        self._allow_different_gpus = allow_different_gpus
        self._waits = Waits(api, settings)
        self._gpus: dict[str, str] = {}
        self._noted: set[str] = set()

    def look(self, now: float) -> list[Object]:
        """Reads the pods; those that are there. ``now``: monotonic seconds."""
        pods = self._api.list("Pod", self._settings.namespace, {LABEL_RUN: self._run})
        self.pods |= {podstate.name(pod): pod for pod in pods}
        self.gone = self.pods.keys() - {podstate.name(pod) for pod in pods}
        self._judge(now)
        self._compare_gpus(pods)
        return pods

    def expect(self, job: str) -> None:
        """A Job that was made now: without a pod it will never do anything."""
        self._waits.expect(job)

    def lacks(self, objects: Iterable[str]) -> None:
        """What the run cannot do without and is not there, as "Kind name"."""
        self._waits.lacks(objects)

    def _compare_gpus(self, pods: Iterable[Object]) -> None:
        """Sets the verdict where the kubelet gave two tenants two GPUs: the workers' word is not all."""
        for pod in pods:
            if podstate.tenant(pod) and len(given := podstate.gpus(pod)) == 1:
                self._gpus.setdefault(podstate.name(pod), given[0])
        if len(set(self._gpus.values())) <= 1:
            return
        what = "the kubelet gave " + ", ".join(f"{pod} {gpu}" for pod, gpu in self._gpus.items())
        if self._allow_different_gpus:
            self.note(f"NOT ONE DEVICE, allowed by the user: {what}")
        else:
            self._fail(f"the tenants are not on one device: {what}", _DIFFERENT)

    def _fail(self, what: str, remedy: str) -> None:
        failed = Outcome(kind="failed", reason=what, remedy=remedy, exit_code=SetupError.exit_code)
        self.verdict = self.verdict or failed

    def _judge(self, now: float) -> None:
        """Sets the verdict where a pod waits for what does not come."""
        self._waits.look(self.pods, self.gone, now)
        if (wait := self._waits.over) is not None and self.verdict is None:
            self._fail(*self._explained(wait))

    def _explained(self, wait: Wait) -> tuple[str, str]:
        """(what, remedy) of a wait that lasted too long; where slots lack, with who holds them; where a taint keeps
        pods off that the scheduler does not name, with how to tolerate it."""
        resource = self._settings.resource
        if wait.place and pending.hides_taint(wait.what):
            taints = dict.fromkeys(taint for room in self._rooms() for taint in room.taints)
            return wait.what, "; ".join(f"--toleration {taint}" for taint in taints) or wait.remedy
        if not (wait.place and resource and f"Insufficient {resource}" in wait.what):
            return wait.what, wait.remedy
        room = next(iter(self._rooms()), None)
        held = f"{room.words()}; " if room else ""
        more = "wait until one is free (--wait), or offer more: kts k8s time-slicing"
        return f"no free slot; {held}{wait.what}", more

    def _rooms(self) -> list[slots.Room]:
        try:
            return slots.rooms(self._api.list("Node"), self._api.list("Pod"), self._settings)
        except SetupError:
            return []

    def look_around(self, every_s: float, *, pods: bool = True) -> Look | None:
        """Who else is on the run's node, and whether the node lost slots, for the run's conductor to keep; None while
        no pod has a node. Without ``pods`` only the latter. Unavailable."""
        node = self.node_name()
        if not node:
            return None
        every_ns = round(every_s * NS_PER_S)
        scope = around.Scope(
            run=self._run,
            namespace=self._settings.namespace,
            node=node,
            resource=self._settings.resource,
            claim=self._settings.claim,
        )
        try:
            # Of the node alone: this goes on for the whole run, and clusters have ten thousand pods.
            there = self._api.list("Pod", fields={"spec.nodeName": node}) if pods else []
        except Unavailable:
            raise
        except SetupError as error:
            return Look(by=BY_KTS, every_ns=every_ns, node=node, problem=f"pods could not be listed: {error.what}")
        look = around.look(there, scope, by=BY_KTS, every_ns=every_ns, node=self._node(node))
        return msgspec.structs.replace(look, whole=pods)

    def _node(self, name: str) -> Object | None:
        """None where it may not be read."""
        try:
            return self._api.get("Node", name)
        except Unavailable:
            raise
        except SetupError:
            return None

    def note(self, text: str) -> None:
        """Tells it, unless it was told before."""
        if text not in self._noted:
            self._noted.add(text)
            self._tell(text)

    def busy(self, block: int) -> bool:
        """True while a pod of another block is there and has not ended."""
        there = [pod for name, pod in self.pods.items() if name not in self.gone and podstate.tenant(pod)]
        return any(podstate.block(pod) != block and not podstate.ended(pod) for pod in there)

    @property
    def waits_for(self) -> str:
        """Which pods have waited for a while, and why as the cluster tells; else empty."""
        return self._waits.words()

    def waiting_for(self) -> str:
        """Which pods have not started yet, and why as far as the cluster tells; empty if all have."""
        if told := self.waits_for:
            return f"waiting for {told}"
        waiting = sorted(name for name, pod in self.pods.items() if podstate.phase(pod) == "Pending")
        return f"waiting for {', '.join(waiting) or 'pods'}" if waiting or not self.pods else ""

    def node_name(self) -> str:
        """The node of the run; empty while no pod has one."""
        return next((n for pod in self.pods.values() if (n := pod.get("spec", {}).get("nodeName"))), "")

    def proven(self, info: RunInfo) -> dict[str, Object]:
        """Which GPU each tenant had, by both sources; what a reader must know of that is noted."""
        found = evidence.proof(info, list(self.pods.values()))
        if self._settings.resource or self._settings.claim:
            for text in evidence.proof_notes(found):
                self.note(text)
        return found

    def write_cluster(
        self,
        directory: Path,
        info: RunInfo,
        proven: dict[str, Object],
        jobs: Iterable[str],
        *,
        times: dict[str, float],
        reached_by: str,
    ) -> None:
        """cluster.json, as far as the cluster tells. ``jobs``: names of the run's Jobs, for their events.
        ``times``: see `evidence.times`; ``reached_by``: `kts.k8s.follow.conductor.Conductor.way`."""
        node, events, version = None, [], ""
        with contextlib.suppress(SetupError):
            version = self._api.version()
            mine = self.pods.keys() | set(jobs)
            events = [
                event
                for event in self._api.list("Event", self._settings.namespace)
                if event.get("involvedObject", {}).get("name") in mine
            ]
            node = self._api.get("Node", self.node_name()) if self.node_name() else None
        content = evidence.describe(
            version=version,
            reached_by=reached_by,
            pods=list(self.pods.values()),
            node=node,
            events=events,
            proven=proven,
            altered=info.altered,
            times=times,
        )
        files.replace(directory / layout.CLUSTER, files.encode(content), durably=False)
