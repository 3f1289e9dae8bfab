"""Why a pod ended, and what to do: a wrong cause sends its reader to the wrong place, as "see its log" did for all.

Statuses and events are those of Kubernetes 1.34.2, as a cluster gave them, but for what one node cannot show (a node
that is lost, its pressure, a taint): these are in the words of its sources.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.helpers_stats import make_plan

from kts.errors import SetupError
from kts.k8s.follow.ends import why, with_logs
from kts.k8s.objects import podend, podstate
from kts.k8s.objects.names import APP, LABEL_APP, LABEL_JOB, LABEL_ROLE, LABEL_RUN, LABEL_TENANT
from kts.model.plan import Program, Tenant
from kts.model.run import Outcome

Object = dict[str, Any]


def pod(tenant: str = "fft", *, deleted: bool = False, **status: Any) -> Object:
    """A pod of run r1 on node n: a tenant's, or the conductor's without one."""
    role = {LABEL_ROLE: "tenant", LABEL_TENANT: tenant, LABEL_JOB: "job"} if tenant else {LABEL_ROLE: "conductor"}
    meta: Object = {"name": "p", "namespace": "team", "labels": {LABEL_APP: APP, LABEL_RUN: "r1", **role}}
    container = {"name": "worker" if tenant else "conductor", "resources": {"limits": {"memory": "64Mi"}}}
    return {
        "metadata": meta | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        "spec": {"nodeName": "n", "containers": [container]},
        "status": status,
    }


def ended(code: int, reason: str, name: str = "worker", **more: str) -> list[Object]:
    """The statuses of one container that has ended."""
    return [{"name": name, "state": {"terminated": {"exitCode": code, "reason": reason, **more}}}]


def disrupted(reason: str, message: str) -> list[Object]:
    """The conditions of a pod that somebody ends."""
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


def event(name: str, reason: str, message: str) -> Object:
    """One of the namespace's."""
    return {"involvedObject": {"name": name}, "reason": reason, "message": message}


PREEMPTING = "default-scheduler: preempting to accommodate a higher priority pod"
CASES: dict[str, tuple[Object, str, str]] = {
    "memory": (
        pod(phase="Failed", containerStatuses=ended(137, "OOMKilled")),
        "OOMKilled (exit code 137), its limit is 64Mi",
        "more than 64Mi: --pod-memory",
    ),
    "memory of a process of its own": (
        pod(phase="Failed", containerStatuses=ended(1, "OOMKilled")),
        "OOMKilled (exit code 1), its limit is 64Mi",
        "--pod-memory",
    ),
    "memory of the conductor": (
        pod("", phase="Failed", containerStatuses=ended(137, "OOMKilled", "conductor")),
        "OOMKilled",
        "--pod-template with spec: {containers: [{name: conductor",
    ),
    "the node's memory": (
        pod(
            phase="Failed",
            reason="Evicted",
            message="The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. Container "
            "worker was using 600Mi, request is 100Mi, has larger consumption of memory. ",
            containerStatuses=ended(137, "Error"),
        ),
        "Evicted: The node was low on resource: memory.",
        "free some on node n, or choose another one: --node; or ask for as much as tenants use: --pod-memory",
    ),
    "the node's disk": (
        pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage. "),
        "ephemeral-storage",
        "free some on node n",
    ),
    "a pressure of the node before it began": (
        pod(phase="Failed", reason="Evicted", message="The node had condition: [DiskPressure]. "),
        "[DiskPressure]",
        "node n",
    ),
    "its own disk": (
        pod(
            phase="Failed",
            reason="Evicted",
            message="Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ",
            containerStatuses=ended(137, "Error"),
        ),
        "Evicted: Pod ephemeral local storage usage exceeds",
        "limit of ephemeral-storage",
    ),
    "its deadline": (
        pod(
            phase="Failed",
            reason="DeadlineExceeded",
            message="Pod was active on the node longer than the specified deadline",
            containerStatuses=ended(0, "Completed"),
        ),
        "DeadlineExceeded: Pod was active",
        "max_seconds",
    ),
    "no room any more": (
        pod(phase="Failed", reason="OutOfcpu", message="Pod was rejected: Node didn't have enough resource: cpu"),
        "OutOfcpu",
        "others leave room on node n",
    ),
    "a lost node": (
        pod(deleted=True, phase="Running", reason="NodeLost", message="Node n which was running pod p is unresponsive"),
        "NodeLost: Node n",
        "kubectl describe node n",
    ),
    "a node that shuts down": (
        pod(phase="Failed", reason="Terminated", message="Pod was terminated in response to imminent node shutdown."),
        "imminent node shutdown",
        "until node n is up again",
    ),
    "drain": (
        pod(deleted=True, phase="Running", conditions=disrupted("EvictionByEvictionAPI", "Eviction API: evicting")),
        "EvictionByEvictionAPI: Eviction API: evicting",
        "kubectl drain, an autoscaler",
    ),
    "preemption": (
        pod(
            deleted=True,
            phase="Succeeded",
            conditions=disrupted("PreemptionByScheduler", PREEMPTING),
            containerStatuses=ended(0, "Completed"),
        ),
        "PreemptionByScheduler",
        "priorityClassName",
    ),
    "a taint": (
        pod(
            deleted=True,
            phase="Running",
            conditions=disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        ),
        "NoExecute taint",
        "--toleration KEY:NoExecute",
    ),
    "its container would not start": (
        pod(
            phase="Failed",
            containerStatuses=ended(128, "StartError", message='exec: "python3": executable file not found in $PATH'),
        ),
        "StartError (exit code 128): exec:",
        "--image",
    ),
    "somebody": (pod(deleted=True, phase="Running"), "deleted, and no event says why", "see who deletes pods"),
    "a crash without a word": (
        pod(phase="Failed", containerStatuses=ended(139, "Error")),
        "exit code 139: SIGSEGV",
        "printed nothing",
    ),
    "a kill by another": (
        pod(phase="Failed", containerStatuses=ended(137, "Error")),
        "exit code 137: SIGKILL",
        "printed nothing",
    ),
    "an end before the run's": (
        pod(phase="Succeeded", containerStatuses=ended(0, "Completed")),
        "exit code 0",
        "cluster.json",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_end_has_its_own_cause_and_remedy(case: str) -> None:
    """Else a pod that was evicted, or out of memory, would be looked for in a log that says nothing."""
    subject, reason, remedy = CASES[case]
    end = podend.end_of(subject)
    assert reason in end.reason
    assert remedy in end.remedy


def test_a_living_tenant_has_not_ended() -> None:
    """Else the conductor would drop a tenant that measures."""
    assert not podstate.over(pod(phase="Running", containerStatuses=[{"name": "worker", "state": {"running": {}}}]))


def test_a_sidecars_end_is_not_the_tenants() -> None:
    """Else a mesh's proxy that ends with 0 would hide that the worker crashed."""
    statuses = [*ended(0, "Completed", "istio-proxy"), *ended(3, "Error")]
    assert podend.end_of(pod(phase="Failed", containerStatuses=statuses)).code == 3


GONE: dict[str, tuple[Object, str, str]] = {
    "preempted": (event("p", "Preempted", "Preempted by pod 1 on node n"), "Preempted by pod 1", "priorityClassName"),
    "out of time": (event("job", "DeadlineExceeded", "Job was active longer than"), "DeadlineExceeded", "max_seconds"),
    "tainted": (event("p", "TaintManagerEviction", "Marking for deletion"), "TaintManagerEviction", "--toleration"),
    "of another": (event("other", "Preempted", "Preempted by pod 1"), "no event says why", "see who deletes"),
    "told nothing": (event("p", "Killing", "Stopping container worker"), "no event says why", "see who deletes"),
}


class Server:
    """What is asked of a pod that ended."""

    def __init__(self, events: list[Object], phase: str = "Active", log: bytes | None = None) -> None:
        self.events, self.phase, self.log = events, phase, log

    def list(self, kind: str, namespace: str) -> list[Object]:
        assert (kind, namespace) == ("Event", "team")
        return self.events

    def get(self, kind: str, name: str) -> Object:
        assert (kind, name) == ("Namespace", "team")
        return {"status": {"phase": self.phase}}

    def logs(self, name: str, namespace: str, *, tail: int, container: str) -> list[bytes]:
        assert (name, namespace, tail > 0, container) == ("p", "team", True, "worker")
        if self.log is None:
            raise SetupError("not found: p")
        return [self.log]


@pytest.mark.parametrize("case", GONE)
def test_of_a_pod_that_was_gone_first_its_events_tell(case: str) -> None:
    """Else what a scheduler or a Job's deadline did would be called somebody's deletion."""
    told, reason, remedy = GONE[case]
    end = why(Server([told]), pod(phase="Running"), "fft.log")  # type: ignore[arg-type]
    assert reason in end.reason
    assert remedy in end.remedy


def test_a_namespace_that_goes_away_is_named() -> None:
    """Else the user would look for who deleted one pod of many."""
    end = why(Server([], "Terminating"), pod(deleted=True, phase="Running"), "fft.log")  # type: ignore[arg-type]
    assert end.reason == "deleted with its namespace team"


def test_a_crash_is_told_by_its_last_line_and_points_to_the_log_only_if_there_is_one() -> None:
    """Else a remedy would name a file that is not there."""
    crashed = pod(phase="Failed", containerStatuses=ended(1, "Error"))
    end = why(Server([], log=b"Traceback\nModuleNotFoundError: no\n\n"), crashed, "fft-solo.log")  # type: ignore[arg-type]
    assert (end.reason, end.remedy) == (
        "exit code 1: ModuleNotFoundError: no",
        "see logs/fft-solo.log in the run directory",
    )
    assert "logs/" not in why(Server([]), crashed, "fft.log").remedy  # type: ignore[arg-type]


def test_what_a_program_was_given_in_secret_is_not_in_why_its_pod_ended() -> None:
    """Else a crash that prints its token, here where the line is cut, puts it into run.json for all to read."""
    token = "hunter2-" * 20
    work = Program(command=("serve", "--token", token), env={"PASSWORD": "open sesame"})
    plan = msgspec.structs.replace(make_plan(), tenants=(Tenant(name="fft", work=work, iterations=1),))
    crashed = pod(phase="Failed", containerStatuses=ended(1, "Error"))
    log = f"no such user: open sesame {token} {'x' * 150}\n".encode()
    end = why(Server([], log=log), crashed, "fft.log", plan)  # type: ignore[arg-type]
    assert end.reason == f"exit code 1: no such user: *** *** {'x' * 150}"
    said = pod(phase="Failed", containerStatuses=ended(128, "StartError", message=f"exec: {token}: not found"))
    assert "hunter2" not in why(Server([]), said, "fft.log", plan).reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remedy", "kept"),
    [
        ("see the log of fft in the run directory", True),
        ("see the log of gemm in the run directory", False),
        ("see logs/fft-solo.log in the run directory", True),
        ("see logs/conductor.log", False),
        ("see their logs in the run directory", True),
        ("wait until one is free", True),
    ],
)
def test_no_remedy_names_a_log_that_was_not_kept(remedy: str, kept: bool) -> None:
    """Else a user would look for the log of a pod that never was."""
    outcome = with_logs(Outcome(kind="failed", remedy=remedy), {"fft-solo.log"})
    assert (outcome.remedy == remedy) == kept
    assert kept or "no log" in outcome.remedy
    assert "no log" in with_logs(Outcome(kind="failed", remedy="see their logs"), set()).remedy
