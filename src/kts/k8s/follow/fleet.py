"""A fleet on a cluster, seen from the user's machine: begin it, follow its nodes, fetch each, leave nothing behind.

Nothing here measures. The pods of the fleet's Job do, and go on if this process dies; `attach` finds them again.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from kts import __version__
from kts.conduct.ports import Progress, Watcher
from kts.conduct.stop import BY_USER
from kts.errors import KtsError, MeasurementError, SetupError, UsageError
from kts.k8s.cluster import creation
from kts.k8s.cluster.api import Api, Forbidden, Unavailable
from kts.k8s.follow import ends, stored
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.members import Member
from kts.k8s.objects import Object, fleet, manifests, pending, podstate, runnames
from kts.k8s.objects.fleet import FleetSpec
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN, SERVICE_ACCOUNT
from kts.k8s.objects.podend import PodEnd
from kts.k8s.objects.refusals import refusal
from kts.model.fleet import OPEN, Fleet, FleetNode
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.store import fleetfile

POLL_S = 1.0
PATIENCE_S = 120.0
"""For an API server that is away."""
STOPPING_S = 10.0
"""For what follows, once a fleet's pods had their time to end."""
ACCOUNT_REMEDY = "kubectl apply -f deploy/rbac.yaml -f deploy/in-cluster.yaml"


def check_account(api: Api, namespace: str) -> None:
    """SetupError where the ServiceAccount that a fleet's pods need is not there. Who may not look is let pass."""
    with contextlib.suppress(Forbidden):
        if api.get("ServiceAccount", SERVICE_ACCOUNT, namespace) is None:
            raise SetupError(
                f"no ServiceAccount {SERVICE_ACCOUNT} in namespace {namespace}: a fleet's pods run kts as that",
                ACCOUNT_REMEDY,
            )


def start(api: Api, spec: FleetSpec, plan: Plan, experiment_text: str, directory: Path) -> FleetSession:
    """Creates the fleet's objects; on failure none of them is left. Errors name what was refused and why."""
    fleetfile.check_new(directory)
    token = secrets.token_urlsafe(32)
    created = datetime.fromtimestamp(spec.created_ns / 1e9, UTC).isoformat(timespec="seconds")
    objects = fleet.render(spec, plan, token=token, experiment_text=experiment_text, created=created)
    fleetfile.write(directory, _begun(spec))
    try:
        uid = api.create(objects[0])["metadata"]["uid"]
        for obj in manifests.owned(objects, uid):
            creation.create(api, obj)
    except BaseException:
        with contextlib.suppress(SetupError):
            creation.clean(api, spec.id, spec.settings.namespace)
        raise
    return FleetSession(api, spec, token, directory)


def attach(api: Api, name: str, namespace: str, directory: Path) -> FleetSession:
    """The session of a fleet that goes on in the cluster. SetupError if there is none, UsageError if ``directory``
    holds another one, or a run."""
    owner = stored.owner_of(api, "fleet", name, namespace)
    if not is_fleet(owner):
        raise UsageError(f"{name} is one run, not a fleet", f"kts attach {name}")
    token = stored.token_of(api, "fleet", name, namespace)
    with stored.readable("fleet", name):
        spec = stored.decoded(owner, fleet.SPEC, FleetSpec)
    if not fleetfile.is_fleet(directory):
        fleetfile.check_new(directory)
        fleetfile.write(directory, _begun(spec))
    elif fleetfile.read(directory).id != name:
        raise UsageError(f"{directory}: holds another fleet", "choose another directory with --out")
    return FleetSession(api, spec, token, directory)


def is_fleet(owner: Object) -> bool:
    """Whether that ConfigMap is a fleet's."""
    return podstate.labelled(owner, LABEL_ROLE) == fleet.ROLE


def clean(api: Api, name: str, namespace: str, told: Callable[[str], None] | None = None) -> int:
    """Removes a fleet, and then the runs that its pods left; how many objects there were. As `creation.clean`."""
    removed = creation.clean(api, name, namespace, told=told)
    owners = api.list("ConfigMap", namespace, {LABEL_ROLE: "owner"})
    for run in (podstate.labelled(owner, LABEL_RUN) for owner in owners):
        if fleet.is_of(run, name):
            removed += creation.clean(api, run, namespace, told=told)
    return removed


def _begun(spec: FleetSpec) -> Fleet:
    """fleet.json of a fleet of which nothing is there yet."""
    waiting = (FleetNode(node=node, run=spec.run_id(k)) for k, node in enumerate(spec.nodes))
    return Fleet(
        id=spec.id,
        kts=__version__,
        experiment=spec.experiment,
        selector=spec.selector,
        namespace=spec.settings.namespace,
        created_ns=spec.created_ns,
        nodes=tuple(sorted((*waiting, *spec.skipped), key=lambda one: one.node)),
    )


class FleetSession:
    """A fleet that is there. `follow` to its end; `close` in any case. ``fleet``: as fleet.json has it now."""

    def __init__(self, api: Api, spec: FleetSpec, token: str, directory: Path) -> None:
        self.spec, self.directory = spec, directory
        self.fleet = fleetfile.read(directory)
        self._api, self._token = api, token
        self._members: dict[int, Member] = {}
        self._pods: dict[int, Object] = {}
        self._texts: dict[str, str] = {}
        self._stuck: dict[str, float] = {}
        self._began = self._due = time.monotonic()
        self._had_pods = False
        self._stopping = False

    def follow(self, watcher: Watcher) -> Fleet:
        """Until every node is over, whichever way; what was measured is then in the directory.

        KeyboardInterrupt ends all runs in order, a second one passes through. Unavailable after PATIENCE_S without
        an answer: the fleet goes on without us.
        """
        with Interrupts(fleet.GRACE_S + STOPPING_S) as interrupts:
            try:
                self._follow(watcher, interrupts, None)
            except KeyboardInterrupt:
                if interrupts.insisted:
                    raise
                self._stopping = True
                self._api.delete("Job", runnames.object_name(self.spec.id), self._namespace)
                self._follow(watcher, interrupts, time.monotonic() + fleet.GRACE_S)
        return self.fleet

    def close(self) -> None:
        """Lets others write the directories."""
        for member in self._members.values():
            member.close()

    @property
    def _namespace(self) -> str:
        return self.spec.settings.namespace

    def _follow(self, watcher: Watcher, interrupts: Interrupts, stop_by: float | None) -> None:
        last_answer = time.monotonic()
        while self._open():
            now = time.monotonic()
            text = ""
            try:
                text = self._look(now)
                last_answer = now
            except Unavailable:
                if now - last_answer > PATIENCE_S:
                    raise
                text = f"the API server is away ({now - last_answer:.0f} s)"
            if stop_by is not None and now > stop_by:
                self._end_all(BY_USER)
            watcher.progress(self._progress(text, now))
            if self._open():
                interrupts.pause(POLL_S)

    def _open(self) -> list[int]:
        """Indices of the nodes that are not over."""
        by_name = {node.node: node for node in self.fleet.nodes}
        return [k for k, name in enumerate(self.spec.nodes) if by_name[name].state in OPEN]

    def _look(self, now: float) -> str:
        """Reads the pods and the Job, and fetches what there is; what it waits for, in words."""
        pods = fleet.newest(self._api.list("Pod", self._namespace, {LABEL_RUN: self.spec.id}))
        jobs = self._api.list("Job", self._namespace, {LABEL_RUN: self.spec.id})
        self._had_pods = self._had_pods or bool(pods)
        for index in self._open():
            pod = pods.get(index)
            if pod is not None:
                self._pods[index] = pod
                self._look_at(index, pod, now)
            elif index in self._members:
                self._end(index, self._gone(ends.why(self._api, self._pods[index], "")))
            elif not jobs or _is_over(jobs[0]):
                self._end(index, self._not_begun(jobs))
        if jobs and not self._had_pods and self._open():
            return self._without_pods(jobs[0], now)
        return ""

    def _look_at(self, index: int, pod: Object, now: float) -> None:
        node = self.spec.nodes[index]
        if podstate.phase(pod) == "Running":
            member = self._member(index, podstate.name(pod))
            if (status := member.fetched(pod)) is not None:
                self._texts[node] = status.progress.text if status.progress is not None else "starting"
                if member.outcome is not None:
                    self._end(index, member.outcome)
                    member.done()
            elif error := member.unreachable:
                failed = Outcome(kind="failed", reason=error.what, remedy=error.remedy, exit_code=error.exit_code)
                self._end(index, failed)
        elif podstate.ended(pod):
            self._end(index, self._gone(ends.why(self._api, pod, "")))
        else:
            self._pending(index, pod, now)

    def _member(self, index: int, pod: str) -> Member:
        if index not in self._members:
            directory = self.directory / self._node(index).directory
            self._members[index] = Member(self._api, self._namespace, pod, self._token, directory)
            self._note(replace(self._node(index), state="running", started_ns=time.time_ns()))
        return self._members[index]

    def _pending(self, index: int, pod: Object, now: float) -> None:
        """Ends the fleet where its pods cannot start: they are all alike."""
        never, why = podstate.hopeless(pod), podstate.unschedulable(pod)
        self._texts[self.spec.nodes[index]] = why or "waiting for its pod"
        if not (never or why):
            self._stuck.pop(podstate.name(pod), None)
            return
        if now - self._stuck.setdefault(podstate.name(pod), now) >= (pending.STUCK_S if never else pending.FOLLOWER_S):
            what, remedy = never or (f"no place for pod {podstate.name(pod)}: {why}", "see what the scheduler says")
            self._end_all(Outcome(kind="failed", reason=what, remedy=remedy, exit_code=SetupError.exit_code))

    def _without_pods(self, job: Object, now: float) -> str:
        """Ends the fleet where Kubernetes makes no pods of its Job, unless a queue has it wait."""
        events = pending.events_of(self._api.list("Event", self._namespace), "Job", podstate.name(job))
        suspended = bool(job["spec"].get("suspend"))
        if suspended and (queued := [pending.said(event) for event in events if not _is_by_kubernetes(event)]):
            self._due = now
            return f"waiting to be admitted by queue {self.spec.queue or '(none)'}: {queued[-1]}"
        if now - self._due > pending.NO_POD_S:
            self._end_all(self._never(job, [pending.said(e) for e in events if e.get("type") == "Warning"], suspended))
        return "waiting for Kueue" if suspended else "waiting for the Job's pods"

    def _never(self, job: Object, told: list[str], suspended: bool) -> Outcome:
        """Why there will be no pods: nobody looks after a suspended Job, or Kubernetes says why it makes none."""
        remedy = f"kubectl describe job {podstate.name(job)} --namespace {self._namespace}"
        if suspended:
            what = f"the fleet's Job is suspended, and nobody took it up in {pending.NO_POD_S:.0f} s"
            remedy = "install Kueue, or leave --queue out"
        else:
            what = f"the fleet's Job has no pod{f': {told[-1]}' if told else ''}"
            if told and "serviceaccount" in told[-1]:
                remedy = ACCOUNT_REMEDY
            elif told and (why := refusal(told[-1], self._namespace)) is not None:
                remedy = why.remedy
        return Outcome(kind="failed", reason=what, remedy=remedy, exit_code=SetupError.exit_code)

    def _gone(self, end: PodEnd) -> Outcome:
        if self._stopping:
            return BY_USER
        return Outcome(
            kind="incomplete",
            reason=f"the pod that followed its run ended before its results were fetched: {end.reason}",
            remedy=end.remedy or "measure that node again; what was fetched before is kept",
            exit_code=MeasurementError.exit_code,
        )

    def _not_begun(self, jobs: list[Object]) -> Outcome:
        if self._stopping or not jobs:
            return replace(BY_USER, reason="not begun: the fleet was stopped")
        told: Object = next((c for c in jobs[0]["status"].get("conditions") or () if c.get("type") == "Failed"), {})
        reason = f"not begun: the fleet's Job ended ({told.get('reason') or 'its pod is gone'})"
        return Outcome(kind="failed", reason=reason, remedy="measure that node again", exit_code=SetupError.exit_code)

    def _end_all(self, outcome: Outcome) -> None:
        for index in self._open():
            self._end(index, outcome)

    def _end(self, index: int, outcome: Outcome) -> None:
        """The end of one node's run, in its directory and in fleet.json."""
        member = self._members.get(index)
        try:
            has_run = member is not None and member.finish(outcome)
        except KtsError as error:
            has_run = True
            outcome = Outcome(kind="incomplete", reason=error.what, remedy=error.remedy, exit_code=error.exit_code)
        self._note(replace(self._node(index).ended(outcome, time.time_ns()), has_run=has_run))

    def _node(self, index: int) -> FleetNode:
        return next(node for node in self.fleet.nodes if node.node == self.spec.nodes[index])

    def _note(self, node: FleetNode) -> None:
        nodes = tuple(node if one.node == node.node else one for one in self.fleet.nodes)
        self.fleet = replace(self.fleet, nodes=nodes)
        fleetfile.write(self.directory, self.fleet)

    def _progress(self, text: str, now: float) -> Progress:
        over = sum(node.state not in OPEN for node in self.fleet.nodes)
        waiting = (self.spec.nodes[k] for k in self._open())
        running = [f"{node}: {said}" for node in waiting if (said := self._texts.get(node))]
        parts = [f"{over} of {len(self.fleet.nodes)} nodes over", text, *running[:3]]
        return Progress(
            phase="fleet", text="; ".join(filter(None, parts)), done_s=max(now - self._began, 0.0), left_s=None
        )


def _is_over(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(c.get("type") in ("Complete", "Failed") and c.get("status") == "True" for c in conditions)


def _is_by_kubernetes(event: Object) -> bool:
    """By the Job's own controller; else by whoever admits Jobs."""
    told = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
    return bool(told == "job-controller")
