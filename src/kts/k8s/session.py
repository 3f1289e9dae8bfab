"""One run on a cluster, seen from the user's machine: start it, follow it, fetch it, leave nothing behind.

Nothing here measures. The conductor's pod does, and goes on if this process dies; `Session.attach` finds it again.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from kts.conduct.ports import Progress, Watcher
from kts.errors import DataError, Interrupted, MeasurementError, SetupError
from kts.k8s import evidence, manifests, podstate, slots
from kts.k8s.api import Api, Conflict, Forbidden, Missing, Unavailable
from kts.k8s.names import APP, LABEL_APP, LABEL_ROLE, LABEL_RUN, STATUS_PORT, TOKEN_HEADER
from kts.k8s.settings import ClusterSettings
from kts.k8s.status import PodExit, Status
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo
from kts.store import layout
from kts.store.mirror import GROWING, Mirror

Object = dict[str, Any]

POLL_S = 1.0
LOOK_S = 1.0
"""Between looks at the pods."""
NEIGHBOURS_S = 5.0
STUCK_S = 6.0
"""How long a pod may lack a place, or fail to start, before that is final: a slot of a run that just ended is free
again sooner, and so is a Secret that the node has not seen yet."""
PATIENCE_S = 120.0
"""For an API server that is away."""
FRESH_S = 15.0
"""For a new namespace to become usable."""

STOPPING_S = 20.0
"""For a run that was told to stop."""

CLUSTER = "cluster.json"


def new_run_id(name: str) -> str:
    """A DNS label of at most 30 characters, unique enough for a cluster."""
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")[:12].strip("-")
    return f"{plain or 'run'}-{datetime.now(UTC):%m%d-%H%M%S}-{secrets.token_hex(2)}"


def start(
    api: Api, plan: Plan, settings: ClusterSettings, experiment_text: str, directory: Path, *, run: str, overwrite: bool
) -> Session:
    """Creates the run's objects; on failure none of them is left. Errors name what was refused and why."""
    settings = _placed(api, plan, settings)
    mode = "cpu-scheduler" if plan.device == "cpu" else "dra" if settings.claim else "time-slicing"
    mirror = Mirror.create(directory, plan=plan, mode=mode, experiment_text=experiment_text, overwrite=overwrite)
    token = secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    objects = manifests.render(
        plan, run=run, token=token, settings=settings, experiment_text=experiment_text, created=created
    )
    session = Session(api, run, plan=plan, settings=settings, token=token, mirror=mirror)
    try:
        if settings.create_namespace and api.get("Namespace", settings.namespace) is None:
            with contextlib.suppress(Conflict):
                api.create(objects[0])
        owner = next(o for o in objects if o["kind"] == "ConfigMap")
        uid = api.create(owner)["metadata"]["uid"]
        for obj in manifests.owned(objects, uid):
            _create(api, obj)
    except BaseException:
        mirror.close()
        with contextlib.suppress(SetupError):
            clean(api, run, settings.namespace)
        raise
    return session


def _create(api: Api, obj: Object) -> None:
    """Creates it; a namespace made a moment ago refuses pods until it has its service account."""
    deadline = time.monotonic() + FRESH_S
    while True:
        try:
            api.create(obj)
            return
        except Forbidden as error:
            if "serviceaccount" not in error.what or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S / 4)


def attach(api: Api, run: str, namespace: str, directory: Path) -> Session:
    """The session of a run that goes on in the cluster. SetupError if there is no such run."""
    owner = api.get("ConfigMap", manifests.object_name(run), namespace)
    secret = api.get("Secret", manifests.object_name(run), namespace)
    if owner is None or secret is None:
        raise SetupError(f"no run {run} in namespace {namespace}", "kts runs --on k8s lists the runs that are there")
    try:
        plan = msgspec.json.decode(owner["data"]["plan.json"], type=Plan)
        settings = msgspec.json.decode(owner["data"]["settings.json"], type=ClusterSettings)
        token = _decoded(secret["data"]["token"])
    except (KeyError, msgspec.DecodeError, ValueError) as error:
        raise DataError(
            f"run {run} cannot be read ({error})", "use the kts that started it, or kts clean it"
        ) from error
    if (directory / layout.RUN).exists():
        mirror = Mirror.resume(directory)
    else:
        text = owner["data"].get("experiment.yaml", "")
        mirror = Mirror.create(directory, plan=plan, mode="unknown", experiment_text=text)
    return Session(api, run, plan=plan, settings=settings, token=token, mirror=mirror)


class Session:
    """A run that is there. `follow` to its end, `collect` once, then `finish`; `close` in any case."""

    def __init__(
        self, api: Api, run: str, *, plan: Plan, settings: ClusterSettings, token: str, mirror: Mirror
    ) -> None:
        self.run, self.plan, self.settings = run, plan, settings
        self._api, self._mirror = api, mirror
        self._headers = {TOKEN_HEADER: token}
        self._pods: dict[str, Object] = {}
        self._gone: set[str] = set()
        self._told: set[str] = set()
        self._noted: set[str] = set()
        self._started = time.monotonic()
        self._stuck: dict[str, float] = {}
        self._verdict: Outcome | None = None

    # following

    def follow(self, watcher: Watcher) -> Outcome:
        """Until the run is over, whichever way; everything measured so far is then in the directory.

        KeyboardInterrupt stops the run in order, a second one passes through. Unavailable after PATIENCE_S
        without an answer: the run goes on without us.
        """
        try:
            return self._follow(watcher, None)
        except KeyboardInterrupt:
            self._post("/v1/stop")
            fallback = Outcome(kind="interrupted", reason="stopped by the user", exit_code=Interrupted.exit_code)
            return self._follow(watcher, fallback)

    def _follow(self, watcher: Watcher, fallback: Outcome | None) -> Outcome:
        """``fallback``: the outcome of a run that was told to stop and does not."""
        next_look = next_neighbours = 0.0
        last_answer = time.monotonic()
        stop_by = time.monotonic() + STOPPING_S if fallback else None
        while True:
            now = time.monotonic()
            try:
                if now >= next_look:
                    next_look = now + LOOK_S
                    self._look(now)
                if now >= next_neighbours and self._pods:
                    next_neighbours = now + NEIGHBOURS_S
                    self._look_around()
                status = self._status()
                last_answer = time.monotonic()
            except Unavailable:
                if now - last_answer > PATIENCE_S:
                    raise
                status = None
                watcher.progress(_waiting(f"the API server is away ({now - last_answer:.0f} s)", now - self._started))
            if status is not None:
                fetched = self._fetch(status)
                watcher.progress(status.progress or _waiting("starting", now - self._started))
                if status.outcome is not None and fetched:
                    return status.outcome
            verdict = self._verdict
            if verdict is None and self._conductor_gone():
                verdict = self._without_conductor()
            if verdict is not None and status is None:
                return verdict
            if verdict is not None and stop_by is None:
                self._post("/v1/stop", msgspec.json.encode(verdict))
                fallback, stop_by = verdict, time.monotonic() + STOPPING_S
            if stop_by is not None and fallback is not None and time.monotonic() > stop_by:
                return fallback
            if status is None and self._verdict is None:
                watcher.progress(_waiting(self._waiting_for(), now - self._started))
            time.sleep(POLL_S)

    def _status(self) -> Status | None:
        """What the conductor says; None while its pod is not there, or does not answer."""
        conductor = self._pods.get(manifests.conductor_name(self.run))
        if conductor is None or podstate.phase(conductor) != "Running":
            return None
        try:
            return msgspec.json.decode(self._get("/v1/status"), type=Status)
        except (Missing, Unavailable):
            self._api.version()  # Unavailable if it is the server that is away, and not only the pod
            return None
        except msgspec.DecodeError as error:
            raise DataError(f"the conductor's answer cannot be read ({error})", "use one kts version") from error

    def _look(self, now: float) -> None:
        """Reads the pods, and tells the conductor which tenants ended."""
        pods = self._api.list("Pod", self.settings.namespace, {LABEL_RUN: self.run})
        there = {podstate.name(pod) for pod in pods}
        self._pods |= {podstate.name(pod): pod for pod in pods}
        self._gone = self._pods.keys() - there
        gone = [podstate.tenant(self._pods[name]) for name in sorted(self._gone)]
        exits = [ended for pod in pods if (ended := podstate.exit_of(pod)) and ended.tenant not in self._told]
        deleted = [name for name in gone if name and name not in self._told]
        exits += [PodExit(tenant=name, code=137, reason="its pod was deleted") for name in deleted]
        if exits and self._post("/v1/exits", msgspec.json.encode(exits)):
            self._told |= {ended.tenant for ended in exits}
        for pod in pods:
            self._judge(pod, now)

    def _judge(self, pod: Object, now: float) -> None:
        """Sets the verdict where a pod will never run."""
        name = podstate.name(pod)
        never = podstate.hopeless(pod)
        why = podstate.unschedulable(pod) if podstate.tenant(pod) else ""
        if not (never or why):
            self._stuck.pop(name, None)
        elif now - self._stuck.setdefault(name, now) >= STUCK_S:
            self._decide(*(never or self._no_place(podstate.tenant(pod), why)))

    def _no_place(self, tenant: str, why: str) -> tuple[str, str]:
        resource = self.settings.resource
        if resource and f"Insufficient {resource}" in why:
            room = next(iter(self._rooms()), None)
            where = f"; {room.words()}" if room else ""
            return (
                f"no free slot for tenant {tenant}{where}",
                "wait until one is free, or offer more: kts k8s time-slicing",
            )
        return f"no place for tenant {tenant}: {why}", "see what the scheduler says; kts doctor --on k8s"

    def _rooms(self) -> list[slots.Room]:
        try:
            return slots.rooms(self._api.list("Node"), self._api.list("Pod"), self.settings)
        except SetupError:
            return []

    def _decide(self, what: str, remedy: str) -> None:
        if self._verdict is None:
            self._verdict = Outcome(kind="failed", reason=what, remedy=remedy, exit_code=SetupError.exit_code)

    def _look_around(self) -> None:
        """Notes who else is on the node: an uninvited neighbour changes what is measured."""
        node = self._node_name()
        if not node:
            return
        try:
            others = podstate.neighbours(self._api.list("Pod"), self.run, node, self.settings.resource)
        except Unavailable:
            raise
        except SetupError:
            self._note("other pods of the node could not be listed: whether the run had neighbours is not known")
            return
        for other in others:
            self._note(f"uninvited neighbour on node {node}: pod {other} was there during this run")

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._mirror.note(text)

    def _conductor_gone(self) -> bool:
        conductor = self._pods.get(manifests.conductor_name(self.run))
        return conductor is not None and (podstate.name(conductor) in self._gone or podstate.over(conductor))

    def _without_conductor(self) -> Outcome:
        conductor = self._pods.get(manifests.conductor_name(self.run))
        end = "deleted" if manifests.conductor_name(self.run) in self._gone else podstate.phase(conductor or {})
        reason = (conductor or {}).get("status", {}).get("reason", "")
        return Outcome(
            kind="incomplete",
            reason=f"the conductor's pod ended before its run did ({reason or end})",
            remedy="what was fetched before is kept; see logs/conductor.log and cluster.json",
            exit_code=MeasurementError.exit_code,
        )

    def _waiting_for(self) -> str:
        pending = sorted(name for name, pod in self._pods.items() if podstate.phase(pod) == "Pending")
        return f"waiting for {', '.join(pending) or 'pods'}"

    def _node_name(self) -> str:
        return next((n for pod in self._pods.values() if (n := pod.get("spec", {}).get("nodeName"))), "")

    # fetching

    def _fetch(self, status: Status) -> bool:
        """Brings the copy up to what ``status`` says is there: the growing files first, so that run.json, which
        names their blocks, is never ahead of them. False if an answer failed: the next round brings the rest."""
        try:
            run = self._get(f"/v1/files/{layout.RUN}")
            status = self._status() or status
            for name in GROWING:
                have = self._mirror.size(name)
                while have < status.files.get(name, 0):
                    part = self._get(f"/v1/files/{name}", {"offset": str(have)})
                    if not part:
                        break
                    have = self._mirror.append(name, part, have)
            self._mirror.replace_run(run)
        except (Unavailable, Missing):
            return False
        return True

    def finish(self, outcome: Outcome | None) -> RunInfo:
        """Logs, cluster.json and the end of the copy; what the cluster no longer tells is left out, and named."""
        logs = self._mirror.directory / layout.LOGS
        for name, pod in self._pods.items():
            short = podstate.tenant(pod) or "conductor"
            try:
                (logs / f"{short}.log").write_bytes(b"".join(self._api.logs(name, self.settings.namespace)))
            except SetupError as error:
                self._note(f"the log of pod {name} could not be fetched: {error.what}")
        info = self._mirror.finish(outcome)
        proven = evidence.proof(info, list(self._pods.values()))
        if self.settings.resource or self.settings.claim:
            for note in evidence.proof_notes(proven):
                self._note(note)
        self._write_cluster(info, proven)
        return self._mirror.finish(outcome)

    def _write_cluster(self, info: RunInfo, proven: dict[str, Object]) -> None:
        blocks_s = sum(block.end_ns - block.start_ns for block in info.blocks) / 1e9
        wall_s = time.monotonic() - self._started
        node, events, version = None, [], ""
        with contextlib.suppress(SetupError):
            version = self._api.version()
            mine = set(self._pods) | {manifests.job_name(self.run, t.name) for t in self.plan.tenants}
            events = [
                event
                for event in self._api.list("Event", self.settings.namespace)
                if event.get("involvedObject", {}).get("name") in mine
            ]
            node = self._api.get("Node", self._node_name()) if self._node_name() else None
        content = evidence.describe(
            version=version,
            pods=list(self._pods.values()),
            node=node,
            events=events,
            proven=proven,
            times={"wall": round(wall_s, 3), "blocks": round(blocks_s, 3), "overhead": round(wall_s - blocks_s, 3)},
        )
        path = self._mirror.directory / CLUSTER
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")

    def collect(self) -> RunInfo:
        """What there is now, without ending anything. SetupError if the conductor's pod cannot be asked."""
        self._look(time.monotonic())
        status = self._status()
        if status is None:
            raise SetupError(
                f"the conductor of run {self.run} does not answer: {self._waiting_for()}", "wait, or kts clean it"
            )
        self._fetch(status)
        return self.finish(status.outcome)

    def done(self) -> None:
        """Lets the conductor's pod go; best effort."""
        self._post("/v1/done")

    def close(self) -> None:
        """Lets others write the directory."""
        self._mirror.close()

    def _get(self, path: str, params: dict[str, str] | None = None) -> bytes:
        return self._api.proxy(
            "GET",
            self.settings.namespace,
            manifests.conductor_name(self.run),
            STATUS_PORT,
            path,
            headers=self._headers,
            params=params,
        )

    def _post(self, path: str, body: bytes = b"") -> bool:
        """True if the conductor took it."""
        name = manifests.conductor_name(self.run)
        try:
            self._api.proxy("POST", self.settings.namespace, name, STATUS_PORT, path, headers=self._headers, body=body)
        except SetupError:
            return False
        return True


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a cluster, for a list. ``state``: what its pods say together."""

    run: str
    namespace: str
    experiment: str
    state: str
    age_s: float


def runs(api: Api, namespace: str | None) -> list[RunState]:
    """The runs of a namespace (None: of all), the youngest first."""
    owners = api.list("ConfigMap", namespace, {LABEL_APP: APP, LABEL_ROLE: "owner"})
    pods = api.list("Pod", namespace, {LABEL_APP: APP})
    found = []
    for owner in owners:
        run = podstate.labelled(owner, LABEL_RUN)
        mine = [pod for pod in pods if podstate.labelled(pod, LABEL_RUN) == run]
        found.append(
            RunState(
                run=run,
                namespace=owner["metadata"]["namespace"],
                experiment=(owner["metadata"].get("annotations") or {}).get("kts.dev/experiment", ""),
                state=_state(mine),
                age_s=podstate.age_s(owner, time.time()),
            )
        )
    return sorted(found, key=lambda state: state.age_s)


def clean(
    api: Api, run: str, namespace: str, *, patience_s: float = 30.0, pause: Callable[[float], None] = time.sleep
) -> int:
    """Deletes everything that bears the run's label, and waits until it is gone; how many objects there were.

    SetupError naming what is left after ``patience_s``.
    """
    labels = {LABEL_RUN: run}
    kinds = ("ConfigMap", "Job", "Pod", "Secret", "Service", "NetworkPolicy")
    seen: set[str] = set()
    deadline = time.monotonic() + patience_s
    while True:
        left = [(kind, podstate.name(obj)) for kind in kinds for obj in api.list(kind, namespace, labels)]
        if not left:
            return len(seen)
        if time.monotonic() > deadline:
            names = ", ".join(f"{kind} {name}" for kind, name in left)
            raise SetupError(
                f"still there after {patience_s:.0f} s: {names}", f"kts clean {run} again, or kubectl delete"
            )
        for kind, name in left:
            if f"{kind}/{name}" not in seen:
                seen.add(f"{kind}/{name}")
                api.delete(kind, name, namespace)
        pause(0.3)


def _state(pods: list[Object]) -> str:
    conductor = next((pod for pod in pods if podstate.is_conductor(pod)), None)
    if conductor is None:
        return "no conductor"
    tenants = [podstate.phase(pod) for pod in pods if podstate.tenant(pod)]
    if podstate.phase(conductor) == "Running" and tenants and all(p in ("Succeeded", "Failed") for p in tenants):
        return "over, to be collected"
    return {"Running": "running", "Pending": "pending", "Succeeded": "over", "Failed": "failed"}.get(
        podstate.phase(conductor), "unknown"
    )


def _placed(api: Api, plan: Plan, settings: ClusterSettings) -> ClusterSettings:
    """The settings with a node that has room. Where nodes may not be listed the scheduler decides."""
    try:
        nodes, pods = api.list("Node"), api.list("Pod")
    except Unavailable:
        raise
    except SetupError:
        return settings
    if settings.claim:
        return settings
    node = slots.choose(slots.rooms(nodes, pods, settings), len(plan.tenants), settings)
    return msgspec.structs.replace(settings, node=node)


def _decoded(text: str) -> str:
    import base64

    return base64.b64decode(text).decode()


def _waiting(text: str, done_s: float) -> Progress:
    return Progress(phase="starting", text=text, done_s=done_s, left_s=None)
