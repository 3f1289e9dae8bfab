"""One block of the classic design on a cluster: its Jobs, their pods' logs, and what is kept of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from kts.conduct.ports import TenantProgress
from kts.k8s.cluster.api import Api, Conflict
from kts.k8s.cluster.creation import create
from kts.k8s.follow.classic_telemetry import Beside
from kts.k8s.follow.logfollow import LogFollower
from kts.k8s.follow.podwatch import PodWatch
from kts.k8s.follow.tenancy import Tenancy
from kts.k8s.objects import Object, classic_jobs, manifests, podstate
from kts.k8s.objects.names import LABEL_BLOCK, LABEL_RUN
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Block
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.store.writer import RunWriter

NO_POD_S = 45.0
"""For Kubernetes to make a Job's pod."""
LAST_LINES_S = 30.0
"""From a pod's end to the end of its log."""
CALIBRATE_S = 120.0
SILENT_S = 30.0
SILENT_SOLO_DURATIONS = 50
SILENT_THINK_TIMES = 4
CHUNK_RECORDS = 1 << 16


class BlockRun:
    """``fault``: why the block is invalid, empty while it may become a valid one; ``refused``: it must not be measured
    here at all; ``lost``: lines are missing. ``over``: whole, and valid."""

    def __init__(
        self,
        api: Api,
        run: str,
        block: Block,
        settings: ClusterSettings,
        uid: str,
        *,
        watch: PodWatch,
        tenancy: Tenancy,
        writer: RunWriter,
        logs: Path,
        known: Mapping[str, bytes],
        beside: Beside | None,
    ) -> None:
        """``logs``: where the tenants' logs are kept; ``known``: those that an earlier kts kept, by file name;
        ``beside``: what samples beside the run, if anything does."""
        self.block, self.over, self.fault, self.refused, self.lost = block, False, "", False, False
        self._api, self._run, self._settings, self._uid = api, run, settings, uid
        self._watch, self._tenancy, self._writer, self._logs = watch, tenancy, writer, logs
        self._beside = beside
        self._tenants = {name: _TenantLog(name, known.get(self.log_name(name), b"")) for name in block.tenants}
        self._created_s: float | None = None

    # its Jobs

    def create(self) -> None:
        """Makes those of its Jobs that are not there. May be called again, also after an error."""
        if self._created_s is not None:
            return
        there = {
            podstate.name(job): job for job in self._api.list("Job", self._settings.namespace, {LABEL_RUN: self._run})
        }
        plan = self._tenancy.plan
        for tenant in self.block.tenants:
            name = classic_jobs.job_name(plan, self.block, tenant, self._run)
            if name in there and not there[name]["spec"].get("suspend"):
                continue
            if name in there:  # as `kts k8s render` makes them, when the sizes are not known yet
                self._api.delete("Job", name, self._settings.namespace)
            job = classic_jobs.job(plan, self.block, tenant, self._run, self._pinned())
            asked_ns = time.time_ns()
            with contextlib.suppress(Conflict):
                create(self._api, manifests.owned_by(job, manifests.object_name(self._run), self._uid))
                self._tenants[tenant].asked_ns = asked_ns
        self._writer.event("block", block=self.block.index, condition=self.block.condition)
        self._created_s = time.monotonic()

    def _pinned(self) -> ClusterSettings:
        """The settings with the node of the blocks before."""
        return msgspec.structs.replace(self._settings, node=self._settings.node or self._watch.node_name())

    def log_name(self, tenant: str) -> str:
        """File name of a tenant's log of this block."""
        return f"{tenant}-{self.block.condition}.log"

    # its logs

    def advance(self, now: float) -> None:
        """Takes what came since the last call, and decides whether the block is over or at fault."""
        for tenant, log in self._tenants.items():
            pod = self._pod(tenant)
            if log.follower is None and pod is not None and _has_started(pod):
                log.follower = self._follower(pod, log)
                log.follower.start()
            if log.follower is not None:
                if pod is not None and (podstate.over(pod) or podstate.name(pod) in self._watch.gone):
                    log.follower.pod_is_over()
                self._keep(log)
            self._object(self._tenancy.kubelet(podstate.name(pod), podstate.gpus(pod)) if pod else "", refuse=True)
        for log in self._tenants.values():
            self._object(self._fault_of(log, now))
        self.over = not self.fault and all(log.done for log in self._tenants.values())

    def read_once(self) -> None:
        """Takes what is there now; ``over`` if that is the whole block. SetupError."""
        now = time.monotonic()
        for tenant, log in self._tenants.items():
            pod = self._pod(tenant)
            if pod is not None and _has_started(pod):
                log.follower = self._follower(pod, log)
                log.follower.read_once()
                self._keep(log)
                self._object(self._fault_of(log, now) if podstate.over(pod) else "")
        self.over = not self.fault and all(log.done for log in self._tenants.values())

    def _follower(self, pod: Object, log: _TenantLog) -> LogFollower:
        return LogFollower(self._api, podstate.name(pod), self._settings.namespace, log.tenant, log.known)

    def _object(self, what: str, *, refuse: bool = False) -> None:
        if what and not self.fault:
            self.fault, self.refused = what, refuse

    def _pod(self, tenant: str) -> Object | None:
        """The pod of this block's tenant, as last seen."""
        index = str(self.block.index)
        mine = (p for p in self._watch.pods.values() if podstate.labelled(p, LABEL_BLOCK) == index)
        return next((pod for pod in mine if podstate.tenant(pod) == tenant), None)

    def _keep(self, log: _TenantLog) -> None:
        """Writes what came: lines to the tenant's log, records to the store once the header tells their clock."""
        assert log.follower is not None
        records, lines = log.follower.take()
        if lines:
            with (self._logs / self.log_name(log.tenant)).open("ab") as file:
                file.write(lines)
        if len(records):
            log.waiting.append(records)
        meta = log.follower.reader.meta
        if meta is None:
            return
        if not log.met:
            log.met = True
            self._meet(log)
        if self.refused or not log.waiting:
            return
        offset = meta.clock.monotonic_ns - meta.clock.realtime_ns
        found = np.concatenate(log.waiting)
        log.waiting = []
        for name in ("due_ns", "submit_ns", "retire_ns"):
            found[name] += offset
        for first in range(0, len(found), CHUNK_RECORDS):
            self._write(log, found[first : first + CHUNK_RECORDS])

    def _meet(self, log: _TenantLog) -> None:
        assert log.follower is not None
        meta = log.follower.reader.meta
        assert meta is not None
        before = self._tenancy.plan
        self._object(self._tenancy.meet(log.tenant, self.block.condition, meta), refuse=True)
        for note in self._tenancy.notes:
            self._watch.note(note)
        if worker := self._tenancy.worker(log.tenant):
            self._writer.worker(worker)
            if self._beside is not None and not self.refused:
                self._beside.meet(worker, meta.clock, log.asked_ns)
        self._writer.environment(meta.environment)
        if self._tenancy.plan is not before:
            self._writer.frozen(self._tenancy.plan)

    def _write(self, log: _TenantLog, records: Records) -> None:
        self._writer.records(log.tenant, self.block.index, log.chunks, records)
        log.chunks += 1
        log.count += len(records)
        log.first_ns = min(log.first_ns, int(records["submit_ns"][0]))
        log.last_ns = max(log.last_ns, int(records["retire_ns"][-1]))

    # judging

    def _fault_of(self, log: _TenantLog, now: float) -> str:
        """Why the tenant spoils the block; empty if it does not. Sets ``log.done`` once all of it is there."""
        pod, follower, who = self._pod(log.tenant), log.follower, f"tenant {log.tenant}"
        if pod is None:
            return self._no_pod(log, now)
        name, ended = podstate.name(pod), podstate.exit_of(pod)
        gone = name in self._watch.gone and podstate.phase(pod) != "Succeeded"
        if ended is None and not gone:
            return f"{who}: {why}" if follower and (why := self._lost_or_silent(log, follower, now)) else ""
        log.ended_s = log.ended_s or now
        if follower is not None and not follower.finished and now - log.ended_s < LAST_LINES_S:
            return ""
        words = follower.reader.last_words() if follower else ""
        if gone or ended is None:
            return f"{who}: its pod was deleted"
        if ended.code or podstate.phase(pod) != "Succeeded":
            return f"{who}: {ended.reason}{f'; it said: {words}' if words else ''}"
        problem = self._incomplete(log) if follower else ""
        log.done = follower is not None and not problem
        return f"{who}: {problem}" if problem else ""

    def _incomplete(self, log: _TenantLog) -> str:
        """What is missing of a tenant whose pod ended well."""
        assert log.follower is not None
        reader, wanted = log.follower.reader, self.block.quotas[log.tenant].iterations
        if not log.follower.finished:
            return "its log could not be read to its end"
        problem = reader.problem()
        self.lost = self.lost or bool(problem)
        return problem or (
            f"it ran {reader.count} iterations of {wanted}" if wanted not in (None, reader.count) else ""
        )

    def _lost_or_silent(self, log: _TenantLog, follower: LogFollower, now: float) -> str:
        if follower.finished and follower.reader.hopeless:
            self.lost = True
            return follower.reader.problem()
        limit_s = self._longest_silence_s(log)
        if follower.away_since is None and now - follower.heard > limit_s:
            return f"it printed nothing for {limit_s:.0f} s"
        return ""

    def _longest_silence_s(self, log: _TenantLog) -> float:
        assert log.follower is not None
        meta = log.follower.reader.meta
        think_s = classic_jobs.pacing(self._tenancy.plan.tenant(log.tenant)).think_ms / 1e3
        if meta is None:
            return max(CALIBRATE_S, self._settings.join_s)
        solo_s = (meta.solo_ms or 0) / 1e3
        return max(SILENT_S, SILENT_SOLO_DURATIONS * solo_s, SILENT_THINK_TIMES * think_s) + classic_jobs.ECHO_S

    def _no_pod(self, log: _TenantLog, now: float) -> str:
        if self._created_s is None or now - self._created_s < NO_POD_S:
            return ""
        job = classic_jobs.job_name(self._tenancy.plan, self.block, log.tenant, self._run)
        told = [
            " ".join(str(event.get("message", "")).split())
            for event in self._api.list("Event", self._settings.namespace)
            if event.get("involvedObject", {}).get("name") == job and event.get("type") == "Warning"
        ]
        return f"tenant {log.tenant}: Job {job} has no pod{f': {told[-1]}' if told else ' (any more)'}"

    # its end

    def forgive(self) -> None:
        """The API server was away: nothing could be heard."""
        for log in self._tenants.values():
            if log.follower is not None:
                log.follower.heard = time.monotonic()

    def away_s(self, now: float) -> float:
        """How long a log could not be reached (s)."""
        since = [log.follower.away_since for log in self._tenants.values() if log.follower]
        return max((now - s for s in since if s is not None), default=0.0)

    def stop(self) -> None:
        """No longer follows, and keeps what came."""
        for log in self._tenants.values():
            if log.follower is not None:
                log.follower.stop()
                self._keep(log)

    def record(self, reason: str) -> bool:
        """Writes how the block went, ``reason`` if it is invalid; True if it is valid. Without records: nothing."""
        logs = [log for log in self._tenants.values() if log.count]
        for log in logs:
            assert log.follower is not None
            if healed := log.follower.reader.healed:
                lines = f"{healed} line{'s' if healed > 1 else ''} of {log.tenant}'s log of {self.block.condition}"
                self._watch.note(f"{lines} came only as echo: the log was rotated")
        if not logs:
            return False
        metas = [log.follower.reader.meta for log in logs if log.follower is not None]
        self._writer.block(
            BlockOutcome(
                index=self.block.index,
                round=self.block.round,
                condition=self.block.condition,
                start_ns=min(log.first_ns for log in logs),
                end_ns=max(log.last_ns for log in logs),
                valid=not reason,
                counts={log.tenant: log.count for log in logs},
                reason=reason,
                clocks=tuple(meta.clock for meta in metas if meta is not None),
            )
        )
        return not reason

    def progress(self) -> tuple[TenantProgress, ...]:
        """Iterations so far of each of its tenants."""
        return tuple(
            TenantProgress(
                tenant=log.tenant, active=not log.done, iterations=log.follower.reader.count if log.follower else 0
            )
            for log in self._tenants.values()
        )


class _TenantLog:
    """What came of a tenant in this block. ``asked_ns``: our CLOCK_REALTIME before its Job was made, if we did."""

    def __init__(self, tenant: str, known: bytes) -> None:
        self.tenant, self.known = tenant, known
        self.follower: LogFollower | None = None
        self.waiting: list[Records] = []
        self.met = self.done = False
        self.chunks = self.count = 0
        self.first_ns, self.last_ns = 2**63 - 1, 0
        self.ended_s: float | None = None
        self.asked_ns: int | None = None


def _has_started(pod: Object) -> bool:
    """True once there may be a log: not of a pod that was refused before its container ran."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any(status.get("containerID") for status in statuses)
