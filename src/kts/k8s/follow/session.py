"""One run on a cluster, seen from the user's machine: follow it, fetch it. `kts.k8s.follow.begin` and
`kts.k8s.follow.attach` make sessions, `kts.k8s.follow.removal` leaves nothing behind.

Nothing here measures. The conductor's pod does, and goes on if this process dies.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kts import files
from kts.conduct.ports import Progress, Watcher
from kts.conduct.stop import BY_USER
from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster.api import Api, Conflict, Missing, Unavailable
from kts.k8s.cluster.creation import create
from kts.k8s.follow import ends, evidence
from kts.k8s.follow.conductor import Conductor
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.podwatch import PodWatch
from kts.k8s.objects import Object, classic_jobs, manifests, podend, podstate, runnames
from kts.k8s.objects.changes import changes
from kts.k8s.objects.names import DEFAULT_NAMESPACE, LABEL_BLOCK, LABEL_RUN
from kts.k8s.objects.podend import PodEnd
from kts.k8s.objects.settings import ClusterSettings
from kts.k8s.pod.status import TOLD_TO_END, Status
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo
from kts.store import layout, runfile
from kts.store.mirror import Mirror
from kts.store.reader import concluded_ns
from kts.units import ns_to_s

POLL_S = 1.0
LOOK_S = 1.0
"""Between looks at the pods."""
NEIGHBOURS_S = 5.0
PATIENCE_S = 120.0
"""For an API server that is away, and for a conductor that answered and does not any more."""
STARTING = "the conductor starts"
STOPPING_S = 20.0
"""For a run that was told to stop."""
HURRIED_POLL_S = 0.2
"""As POLL_S, once somebody waits for the end."""
CLEANING_S = 2.0
"""Of what an interrupted run may still take: for fetching what is left, and for removing it from the cluster."""


class Session:
    """A run that is there. `follow` to its end, `collect` once, then `finish`; `close` in any case."""

    def __init__(
        self,
        api: Api,
        run: str,
        *,
        plan: Plan,
        settings: ClusterSettings,
        uid: str,
        token: str,
        mirror: Mirror,
        began: float | None = None,
        created_s: float = 0.0,
    ) -> None:
        """``uid``: of the run's owner, ``created_s``: when that was created, as the cluster says. ``began``: monotonic
        seconds before that, if this process did it, so that nobody else has a use for what the run holds."""
        self.run, self.plan, self.settings = run, plan, settings
        self._api, self._uid, self._mirror = api, uid, mirror
        self._watch = PodWatch(api, run, settings, mirror.note, allow_different_gpus=plan.allow_different_gpus)
        self._conductor_name = runnames.conductor_name(run)
        self._conductor = Conductor(api, settings.namespace, self._conductor_name, token, note=self._watch.note)
        names = (tenant.name for tenant in plan.tenants)
        self._asked = dict(zip(names, manifests.pod_specs(plan, settings)[1:], strict=True))
        self._supplied: set[int] = set()
        self._told: set[str] = set()
        self._last_fetch: float | None = None
        self._stop_told = False
        self._began, self._created_s = began, created_s
        self._started = time.monotonic() if began is None else began

    def expect(self, jobs: Iterable[str]) -> None:
        """Names of Jobs that were made just now."""
        for name in jobs:
            self._watch.expect(name)

    def lacks(self, objects: Iterable[str]) -> None:
        """What the run cannot do without and is not there, as "Kind name"."""
        self._watch.lacks(objects)

    # following

    def follow(self, watcher: Watcher, interrupts: Interrupts) -> Outcome:
        """Until the run is over, whichever way; everything measured so far is then in the directory.

        The first signal stops the run in order; KeyboardInterrupt if somebody insists. Unavailable after PATIENCE_S
        without an answer: the run goes on without us.
        """
        try:
            return self._follow(watcher, interrupts, None)
        except KeyboardInterrupt:
            if interrupts.insisted:
                raise
        self._stop_told = False
        return self._follow(watcher, interrupts, BY_USER) if self._conductor.way else BY_USER

    def _follow(self, watcher: Watcher, interrupts: Interrupts, fallback: Outcome | None) -> Outcome:
        """``fallback``: the outcome of a run that was told to stop and does not."""
        next_look = next_neighbours = 0.0
        last_answer = time.monotonic()
        stop_by = time.monotonic() + min(STOPPING_S, interrupts.left_s() - CLEANING_S)
        while True:
            now = time.monotonic()
            try:
                if now >= next_look:
                    next_look = now + LOOK_S
                    self._look(now)
                status = self._status()
                if now >= next_neighbours and status is not None:
                    next_neighbours = now + NEIGHBOURS_S
                    self._look_around(status)
                self._supply(status)
                last_answer = time.monotonic()
            except Unavailable:
                if now - last_answer > PATIENCE_S:
                    raise
                status = None
                watcher.progress(_waiting(f"the API server is away ({now - last_answer:.0f} s)", now - self._started))
            if status is not None:
                fetched = self._fetch()
                self._last_fetch = now if fetched else self._last_fetch or now
                watcher.progress(self._progress(status, now))
                if status.outcome is not None and fetched:
                    return self._explained(status.outcome)
            verdict = self._watch.verdict or self._cut_off()
            if verdict is None and self._conductor_gone():
                verdict = self._without_conductor()
            if verdict is not None and status is None:
                return verdict
            if verdict is not None and fallback is None:
                fallback, stop_by = verdict, now + STOPPING_S
            if fallback is not None and (not self._stopping(fallback) or now > stop_by):
                return fallback
            if status is None:
                text = self._conductor.trouble or self._watch.waiting_for() or STARTING
                watcher.progress(_waiting(text, now - self._started))
            self._be_patient(now)
            interrupts.pause(HURRIED_POLL_S if interrupts.came else POLL_S)

    def _stopping(self, outcome: Outcome) -> bool:
        """Tells the conductor once to end with ``outcome``; False if its pod does not run, so that nobody can hear."""
        self._stop_told = self._stop_told or self._conductor.post("/v1/stop", msgspec.json.encode(outcome))
        return podstate.phase(self._watch.pods.get(self._conductor_name, {})) == "Running"

    def _be_patient(self, now: float) -> None:
        """Unavailable once a conductor that answered has been silent for too long."""
        if self._last_fetch is not None and now - self._last_fetch > PATIENCE_S:
            raise Unavailable(
                f"nothing could be fetched from the conductor's pod for {PATIENCE_S:.0f} s; its run may go on",
                f"see whether its node is well: kubectl describe node {self._watch.node_name()}",
            )

    def _progress(self, status: Status, now: float) -> Progress:
        """What the conductor says, with what the cluster says of those it waits for."""
        said = status.progress or _waiting(STARTING, now - self._started)
        why = self._watch.waits_for if said.phase == "starting" else ""
        return msgspec.structs.replace(said, text=f"{said.text}: {why}") if why else said

    def _status(self) -> Status | None:
        """What the conductor says; None while its pod is not there, or does not answer."""
        conductor = self._watch.pods.get(self._conductor_name)
        if conductor is None or podstate.phase(conductor) != "Running":
            return None
        self._conductor.see(conductor)
        try:
            return self._conductor.status()
        except (Missing, Unavailable):
            self._api.version()  # Unavailable if it is the server that is away, and not only the pod
            return None

    def _look(self, now: float) -> None:
        """Reads the pods, and tells the conductor which tenants ended."""
        pods = self._watch.look(now)
        for pod in pods:
            asked = self._asked.get(podstate.tenant(pod))
            if asked is not None and (how := changes(asked, pod)):
                self._mirror.altered(podstate.tenant(pod), how)
        ended = [pod for pod in pods if podstate.over(pod)] + [self._watch.pods[name] for name in self._watch.gone]
        new = {
            podstate.name(pod): podend.exit_of(pod, self._why(pod))
            for pod in ended
            if podstate.tenant(pod) and podstate.name(pod) not in self._told
        }
        if new and self._conductor.post("/v1/exits", msgspec.json.encode(list(new.values()))):
            self._told |= new.keys()

    def _look_around(self, status: Status) -> None:
        """Tells the conductor what it does not see: only what the run holds outlives this process. Unavailable."""
        if (look := self._watch.look_around(NEIGHBOURS_S, pods=not status.looks)) is not None:
            self._conductor.post("/v1/look", msgspec.json.encode(look))

    def _supply(self, status: Status | None) -> None:
        """Makes the Jobs of a block that the conductor waits for, as far as they are not there. Unavailable.

        Not before the pods of other blocks have ended: until then they hold their slots, and the device's memory.
        """
        index = status.progress.awaits if status is not None and status.progress is not None else None
        if index is None or index in self._supplied or self._watch.busy(index):
            return
        block = classic_jobs.blocks(self.plan)[index]
        labels = {LABEL_RUN: self.run, LABEL_BLOCK: str(index)}
        there = {podstate.name(job): job for job in self._api.list("Job", self.settings.namespace, labels)}
        for job in classic_jobs.jobs(self.plan, block, self.run, self.settings):
            name = podstate.name(job)
            self._watch.expect(name)
            if name in there and not there[name]["spec"].get("suspend"):
                continue
            if name in there:  # as `kts k8s render` has it
                self._api.delete("Job", name, self.settings.namespace)
            try:
                create(self._api, manifests.owned_by(job, runnames.object_name(self.run), self._uid))
            except Conflict:  # what was deleted is not gone yet
                return
        self._supplied.add(index)

    def _cut_off(self) -> Outcome | None:
        """The end of a run that was begun here and whose conductor cannot be asked. SetupError for another one, which
        goes on."""
        error = self._conductor.unreachable
        if error is None:
            return None
        if self._began is None:
            raise error
        return Outcome(kind="failed", reason=error.what, remedy=error.remedy, exit_code=error.exit_code)

    def _conductor_gone(self) -> bool:
        conductor = self._watch.pods.get(self._conductor_name)
        return conductor is not None and (podstate.name(conductor) in self._watch.gone or podstate.over(conductor))

    def _without_conductor(self) -> Outcome:
        end = self._why(self._watch.pods[self._conductor_name])
        reason = f"the conductor's pod ended before its run did: {end.reason}"
        remedy = f"{end.remedy}; what was fetched before is kept"
        return Outcome(kind="incomplete", reason=reason, remedy=remedy, exit_code=MeasurementError.exit_code)

    def _explained(self, outcome: Outcome) -> Outcome:
        """The outcome of a run whose conductor was told to end, with who told it: that the cluster knows."""
        if not outcome.reason.startswith(TOLD_TO_END):
            return outcome
        with contextlib.suppress(SetupError):
            self._watch.look(time.monotonic())
        if not self._conductor_gone():
            return outcome
        told = self._without_conductor()
        return msgspec.structs.replace(outcome, reason=told.reason, remedy=told.remedy)

    def _why(self, pod: Object) -> PodEnd:
        return ends.why(self._api, pod, self._log_name(pod), self.plan)

    # fetching

    def _fetch(self) -> bool:
        """Brings the copy up to what is there. False if an answer failed: the next round brings the rest."""
        try:
            self._conductor.bring_up(self._mirror)
        except (Unavailable, Missing):
            return False
        return True

    def finish(self, outcome: Outcome | None, interrupts: Interrupts | None = None) -> RunInfo:
        """Logs, cluster.json and the end of the copy; what the cluster no longer tells is left out, and named.

        Interrupted, it leaves out the rest of logs and cluster.json; KeyboardInterrupt if somebody insists.
        """
        interrupts = interrupts or Interrupts()
        info = self._mirror.finish(outcome)
        try:
            self._fetch_logs(interrupts)
            if outcome is not None:
                logs = (self.directory / layout.LOGS).iterdir()
                outcome = ends.with_logs(outcome, {path.name for path in logs})
            proven = self._watch.proven(info)
            jobs = classic_jobs.all_names(self.plan, self.run)
            times, way = evidence.times(info, self._wall_s()), self._conductor.way
            self._watch.write_cluster(self.directory, info, proven, jobs, times=times, reached_by=way)
        except KeyboardInterrupt:
            if interrupts.insisted:
                raise
            self._watch.note("interrupted while logs and cluster.json were fetched: they are not whole")
        return self._mirror.finish(outcome)

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self._mirror.directory

    def _wall_s(self) -> float | None:
        """From the run's creation to its end, whoever began it; None where that is not known."""
        if self._began is not None:
            return time.monotonic() - self._began
        ended_ns = concluded_ns(self._mirror.directory)
        return None if ended_ns is None else ns_to_s(ended_ns) - self._created_s

    def _fetch_logs(self, interrupts: Interrupts) -> None:
        logs = self.directory / layout.LOGS
        for name, pod in self._watch.pods.items():
            interrupts.check()
            if interrupts.left_s() < CLEANING_S:
                raise KeyboardInterrupt
            try:
                log = self._api.logs(name, self.settings.namespace, container=podstate.main_container(pod))
                files.replace(logs / self._log_name(pod), b"".join(log), durably=False)
            except Unavailable as error:  # the kubelet is not reached: nor would it be for the others
                self._watch.note(f"logs could not be fetched: {error.what}")
                return
            except SetupError as error:
                self._watch.note(f"the log of pod {name} could not be fetched: {error.what}")

    def _log_name(self, pod: Object) -> str:
        """File name of a pod's log."""
        name, index = podstate.tenant(pod) or "conductor", podstate.block(pod)
        blocks = classic_jobs.blocks(self.plan) if index is not None else ()
        which = f"-{blocks[index].condition}" if index is not None and index < len(blocks) else ""
        return f"{name}{which}.log"

    def collect(self) -> RunInfo:
        """What there is now, without ending anything. SetupError if the conductor's pod cannot be asked."""
        self._look(time.monotonic())
        while (status := self._status()) is None:
            if error := self._conductor.unreachable:
                raise error
            if self._conductor_name not in self._watch.pods:
                what = f"run {self.run} has no pod {self._conductor_name}: it was never made, or is deleted"
                raise SetupError(what, f"kts clean {self.run} removes the rest")
            if not self._conductor.trouble:
                what = f"the conductor of run {self.run} does not answer: {self._watch.waiting_for()}"
                raise SetupError(what, "wait, or kts clean it")
            time.sleep(POLL_S)
        self._fetch()
        return self.finish(status.outcome or self._going_on())

    def _going_on(self) -> Outcome:
        """What a copy says of a run that was not over when it was made."""
        whole = sum(block.valid for block in runfile.read(self.directory).blocks)
        where = "" if self.settings.namespace == DEFAULT_NAMESPACE else f" --namespace {self.settings.namespace}"
        return Outcome(
            kind="running",
            reason=f"collected while the run goes on in the cluster: this is of its first {whole} whole blocks",
            remedy=f"kts attach {self.run}{where} --out {self.directory} follows it to its end",
        )

    def done(self) -> None:
        """Lets the conductor's pod go; best effort."""
        self._conductor.post("/v1/done")
        self._conductor.close()

    def close(self) -> None:
        """Lets others write the directory."""
        self._conductor.close()
        self._mirror.close()


def _waiting(text: str, done_s: float) -> Progress:
    return Progress(phase="starting", text=text, done_s=done_s, left_s=None)
