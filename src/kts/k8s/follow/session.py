"""One run on a cluster, seen from the user's machine: start it, follow it, fetch it, leave nothing behind.

Nothing here measures. The conductor's pod does, and goes on if this process dies; `attach` finds it again.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from kts import files
from kts.conduct.ports import Progress, Watcher
from kts.conduct.stop import BY_USER
from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster.api import Api, Missing, Unavailable
from kts.k8s.cluster.creation import clean, create, create_namespace, placed
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.podwatch import PodWatch
from kts.k8s.objects import manifests, podstate
from kts.k8s.objects.names import STATUS_PORT, TOKEN_HEADER
from kts.k8s.objects.podstate import PodExit
from kts.k8s.objects.settings import ClusterSettings
from kts.k8s.pod.status import Status
from kts.model.plan import Plan
from kts.model.run import Outcome, RunInfo
from kts.store import layout
from kts.store.mirror import GROWING, Mirror

POLL_S = 1.0
LOOK_S = 1.0
"""Between looks at the pods."""
NEIGHBOURS_S = 5.0
PATIENCE_S = 120.0
"""For an API server that is away."""
STOPPING_S = 20.0
"""For a run that was told to stop."""


def new_run_id(name: str) -> str:
    """A DNS label of at most 30 characters, unique enough for a cluster."""
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")[:12].strip("-")
    return f"{plain or 'run'}-{datetime.now(UTC):%m%d-%H%M%S}-{secrets.token_hex(2)}"


def start(
    api: Api, plan: Plan, settings: ClusterSettings, experiment_text: str, directory: Path, *, run: str, overwrite: bool
) -> Session:
    """Creates the run's objects; on failure none of them is left. Errors name what was refused and why."""
    settings = placed(api, len(plan.tenants), settings)
    mode = manifests.mode_of(plan, settings)
    mirror = Mirror.create(directory, plan=plan, mode=mode, experiment_text=experiment_text, overwrite=overwrite)
    token = secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    objects = manifests.render(
        plan, run=run, token=token, settings=settings, experiment_text=experiment_text, created=created
    )
    session = Session(api, run, plan=plan, settings=settings, token=token, mirror=mirror)
    try:
        if settings.create_namespace:
            create_namespace(api, objects[0])
        owner = next(o for o in objects if o["kind"] == "ConfigMap")
        uid = api.create(owner)["metadata"]["uid"]
        for obj in manifests.owned(objects, uid):
            create(api, obj)
    except BaseException:
        mirror.close()
        with contextlib.suppress(SetupError):
            clean(api, run, settings.namespace)
        raise
    return session


def attach(
    api: Api, plan: Plan, settings: ClusterSettings, experiment_text: str, directory: Path, *, run: str, token: str
) -> Session:
    """The session of a run that goes on in the cluster."""
    if (directory / layout.RUN).exists():
        mirror = Mirror.resume(directory)
    else:
        mirror = Mirror.create(directory, plan=plan, mode="unknown", experiment_text=experiment_text)
    return Session(api, run, plan=plan, settings=settings, token=token, mirror=mirror)


class Session:
    """A run that is there. `follow` to its end, `collect` once, then `finish`; `close` in any case."""

    def __init__(
        self, api: Api, run: str, *, plan: Plan, settings: ClusterSettings, token: str, mirror: Mirror
    ) -> None:
        self.run, self.plan, self.settings = run, plan, settings
        self._api, self._mirror = api, mirror
        self._headers = {TOKEN_HEADER: token}
        self._watch = PodWatch(api, run, settings, mirror.note)
        self._told: set[str] = set()
        self._started = time.monotonic()

    # following

    def follow(self, watcher: Watcher) -> Outcome:
        """Until the run is over, whichever way; everything measured so far is then in the directory.

        KeyboardInterrupt stops the run in order, a second one passes through. Unavailable after PATIENCE_S
        without an answer: the run goes on without us.
        """
        with Interrupts() as interrupts:
            try:
                return self._follow(watcher, interrupts, None)
            except KeyboardInterrupt:
                self._post("/v1/stop")
                return self._follow(watcher, interrupts, BY_USER)

    def _follow(self, watcher: Watcher, interrupts: Interrupts, fallback: Outcome | None) -> Outcome:
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
                if now >= next_neighbours and self._watch.pods:
                    next_neighbours = now + NEIGHBOURS_S
                    self._watch.look_around()
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
            verdict = self._watch.verdict
            if verdict is None and self._conductor_gone():
                verdict = self._without_conductor()
            if verdict is not None and status is None:
                return verdict
            if verdict is not None and stop_by is None:
                self._post("/v1/stop", msgspec.json.encode(verdict))
                fallback, stop_by = verdict, time.monotonic() + STOPPING_S
            if stop_by is not None and fallback is not None and time.monotonic() > stop_by:
                return fallback
            if status is None and self._watch.verdict is None:
                watcher.progress(_waiting(self._watch.waiting_for(), now - self._started))
            interrupts.pause(POLL_S)

    def _status(self) -> Status | None:
        """What the conductor says; None while its pod is not there, or does not answer."""
        conductor = self._watch.pods.get(manifests.conductor_name(self.run))
        if conductor is None or podstate.phase(conductor) != "Running":
            return None
        try:
            return files.decode(
                self._get("/v1/status"), Status, "the conductor's answer", "not a status", "use one kts version"
            )
        except (Missing, Unavailable):
            self._api.version()  # Unavailable if it is the server that is away, and not only the pod
            return None

    def _look(self, now: float) -> None:
        """Reads the pods, and tells the conductor which tenants ended."""
        pods = self._watch.look(now)
        gone = [podstate.tenant(self._watch.pods[name]) for name in sorted(self._watch.gone)]
        exits = [ended for pod in pods if (ended := podstate.exit_of(pod)) and ended.tenant not in self._told]
        deleted = [name for name in gone if name and name not in self._told]
        exits += [PodExit(tenant=name, code=137, reason="its pod was deleted") for name in deleted]
        if exits and self._post("/v1/exits", msgspec.json.encode(exits)):
            self._told |= {ended.tenant for ended in exits}

    def _conductor_gone(self) -> bool:
        conductor = self._watch.pods.get(manifests.conductor_name(self.run))
        return conductor is not None and (podstate.name(conductor) in self._watch.gone or podstate.over(conductor))

    def _without_conductor(self) -> Outcome:
        conductor = self._watch.pods.get(manifests.conductor_name(self.run))
        end = "deleted" if manifests.conductor_name(self.run) in self._watch.gone else podstate.phase(conductor or {})
        reason = (conductor or {}).get("status", {}).get("reason", "")
        return Outcome(
            kind="incomplete",
            reason=f"the conductor's pod ended before its run did ({reason or end})",
            remedy="what was fetched before is kept; see logs/conductor.log and cluster.json",
            exit_code=MeasurementError.exit_code,
        )

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
        for name, pod in self._watch.pods.items():
            short = podstate.tenant(pod) or "conductor"
            try:
                (logs / f"{short}.log").write_bytes(b"".join(self._api.logs(name, self.settings.namespace)))
            except SetupError as error:
                self._watch.note(f"the log of pod {name} could not be fetched: {error.what}")
        info = self._mirror.finish(outcome)
        proven = self._watch.proven(info)
        jobs = [manifests.job_name(self.run, tenant.name) for tenant in self.plan.tenants]
        wall_s = time.monotonic() - self._started
        self._watch.write_cluster(self._mirror.directory, info, proven, jobs, wall_s)
        return self._mirror.finish(outcome)

    def collect(self) -> RunInfo:
        """What there is now, without ending anything. SetupError if the conductor's pod cannot be asked."""
        self._look(time.monotonic())
        status = self._status()
        if status is None:
            raise SetupError(
                f"the conductor of run {self.run} does not answer: {self._watch.waiting_for()}", "wait, or kts clean it"
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


def _waiting(text: str, done_s: float) -> Progress:
    return Progress(phase="starting", text=text, done_s=done_s, left_s=None)
