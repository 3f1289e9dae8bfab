"""The conductor's pod as a process, real workers that join it, and its results fetched over HTTP. No cluster."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers_conduct import SilentWatcher
from tests.helpers_conductor import DEADLINE_S, RUN, TOKEN, ConductorProcess, small_plan
from tests.helpers_wait import until

from kts.k8s.cluster.api import Unavailable
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.session import Session
from kts.k8s.objects import runnames
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN, LABEL_TENANT
from kts.k8s.objects.settings import ClusterSettings
from kts.k8s.pod.status import Status
from kts.model.mode import SharingMode
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.store import open_run
from kts.store.mirror import Mirror

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux"),
]

LONG = small_plan(iterations=100_000, rounds=2)
VERDICT = Outcome(kind="failed", reason="no free slot for tenant b", remedy="wait until one is free", exit_code=4)


def starting(status: Status) -> bool:
    """The workers' port is open."""
    return status.progress is not None


def in_a_block(status: Status) -> bool:
    """Something is being measured."""
    return any(tenant.iterations > 0 for tenant in status.progress.tenants) if status.progress else False


class StandIn:
    """An API server of one run whose pods are processes: as much of `kts.k8s.cluster.api.Api` as a session asks of it.

    ``unplaced``: a tenant whose pod the scheduler finds no place for.
    """

    def __init__(self, pod: ConductorProcess, plan: Plan, unplaced: str = "") -> None:
        self.pod, self.plan, self.unplaced = pod, plan, unplaced

    def version(self) -> str:
        return "v0"

    def get(self, *_: str) -> None:
        return None

    def logs(self, name: str, namespace: str, *, container: str) -> list[bytes]:
        del container
        return [f"{namespace}/{name}\n".encode()]

    def proxy(self, method: str, namespace: str, pod: str, port: int, path: str, **what: Any) -> bytes:
        assert (namespace, pod) == ("kts", runnames.conductor_name(RUN))
        del port
        query = "&".join(f"{key}={value}" for key, value in (what.get("params") or {}).items())
        token = next(iter(what["headers"].values()))
        try:
            code, body = self.pod.ask(method, f"{path}?{query}", what.get("body", b""), token)
        except OSError as error:
            raise Unavailable(f"the pod does not answer: {error}") from error
        assert code in (200, 204)
        return body

    def list(
        self, kind: str, namespace: str | None = None, labels: object = None, fields: object = None
    ) -> list[dict[str, Any]]:
        del namespace, labels, fields
        if kind != "Pod":
            return []
        state = "Running" if self.pod.process.poll() is None else "Succeeded"
        conductor = self._pod(runnames.conductor_name(RUN), {LABEL_ROLE: "conductor"}, {"phase": state})
        return [conductor, *(self._tenant(tenant.name) for tenant in self.plan.tenants)]

    def _tenant(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = {"phase": "Running"}
        if name == self.unplaced:
            why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
            status = {"phase": "Pending", "conditions": [why]}
        return self._pod(runnames.job_name(RUN, name), {LABEL_ROLE: "tenant", LABEL_TENANT: name}, status)

    def _pod(self, name: str, labels: dict[str, str], status: dict[str, Any]) -> dict[str, Any]:
        meta = {"name": name, "namespace": "kts", "labels": {LABEL_RUN: RUN, **labels}}
        return {"kind": "Pod", "metadata": meta, "spec": {"containers": []}, "status": status}


def session(pod: ConductorProcess, plan: Plan, directory: Path, unplaced: str = "") -> Session:
    """Follows the run of ``pod`` into ``directory``."""
    mirror = Mirror.create(directory, plan=plan, mode=SharingMode(recorded="cpu-scheduler"), experiment_text="")
    api: Any = StandIn(pod, plan, unplaced)
    return Session(api, RUN, plan=plan, settings=ClusterSettings(resource=""), uid="u", token=TOKEN, mirror=mirror)


def test_a_run_is_conducted_followed_fetched_and_let_go(tmp_path: Path) -> None:
    """Else a cluster would be needed to see that the pod does its work."""
    plan = small_plan()
    with ConductorProcess(tmp_path, plan) as pod:
        pod.join("a", "b")
        following, watcher = session(pod, plan, tmp_path / "here"), SilentWatcher()
        outcome = following.follow(watcher, Interrupts())
        following.finish(outcome)
        following.close()
        assert pod.process.poll() is None, "the pod did not wait for its results to be fetched"
        following.done()
        code, printed = pod.end()
    assert (outcome.kind, code) == ("complete", 0), printed
    assert [worker.returncode for worker in pod.workers] == [0, 0]
    assert watcher.seen
    run = open_run(tmp_path / "here")
    assert run.damage == ()
    assert (run.info.backend, run.info.outcome) == ("k8s", outcome)
    assert len(run.blocks) == 6
    assert watcher.seen[-1].foretold == run.info.foretold[-1]
    assert all("p99" in one.refused for one in run.info.foretold[0].expected)
    for block in run.blocks:
        assert block.valid
        assert all(len(run.records(tenant, block.index)) == count > 0 for tenant, count in block.counts.items())


def test_a_tenant_without_a_place_ends_the_run_with_that_reason(tmp_path: Path) -> None:
    """Else the run's own description would say that the user stopped it."""
    with ConductorProcess(tmp_path, LONG) as pod:
        pod.join("a")
        following = session(pod, LONG, tmp_path / "here", unplaced="b")
        outcome = following.follow(SilentWatcher(), Interrupts())
        following.close()
        assert pod.run_json().outcome == outcome
        following.done()
        assert pod.end()[0] == outcome.exit_code == 4
    assert (outcome.kind, outcome.reason) == ("failed", "no place for tenant b: no room")
    assert open_run(tmp_path / "here").info.outcome == outcome


def test_a_signal_before_the_run_ends_it_in_order(tmp_path: Path) -> None:
    """Else a pod deleted while it starts would die at once, or, as its container's first process, not at all."""
    os.mkfifo(tmp_path / "plan.json")
    with ConductorProcess(tmp_path, None) as pod:
        pipe = -1

        def is_reading() -> bool:
            nonlocal pipe
            try:
                pipe = os.open(pod.plan_file, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return False  # nobody reads the plan yet
            return True

        until(is_reading, "it reads")
        pod.signal()
        os.write(pipe, msgspec.json.encode(LONG))
        os.close(pipe)
        info = pod.when_over()
        assert (info.outcome.kind, info.outcome.exit_code) == ("failed", 5)
        assert "told to end (SIGTERM)" in info.outcome.reason
        pod.ask("POST", "/v1/done")
        assert pod.end()[0] == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_tenants_are_awaited_ends_the_run(number: signal.Signals, tmp_path: Path) -> None:
    """Else a drained node would leave a run that is 'running' for ever."""
    with ConductorProcess(tmp_path, LONG) as pod:
        pod.when(starting)
        pod.signal(number)
        outcome = pod.when_over().outcome
        assert (outcome.kind, number.name in outcome.reason) == ("failed", True)
        pod.ask("POST", "/v1/done")
        assert pod.end()[0] == 5


def test_a_signal_in_a_block_keeps_the_pod_until_fetched_and_a_second_one_ends_that(tmp_path: Path) -> None:
    """Else deleting the pod would cost what its watcher could still fetch, or a pod that nobody watches would stay."""
    with ConductorProcess(tmp_path, LONG) as pod:
        pod.join("a", "b")
        pod.when(in_a_block)
        pod.signal()
        info = pod.when_over()
        assert info.outcome.kind == "incomplete"
        assert [(block.valid, block.reason) for block in info.blocks] == [(False, info.outcome.reason)]
        assert pod.ask("GET", "/v1/files/run.json")[0] == 200
        pod.signal()
        assert pod.end()[0] == 5
    assert [worker.returncode for worker in pod.workers] == [0, 0]


def test_a_signal_when_the_run_is_over_ends_the_waiting(tmp_path: Path) -> None:
    """Else a pod would outlive its deletion until it is killed."""
    with ConductorProcess(tmp_path, small_plan(), KTS_KEEP_S="3600") as pod:
        pod.join("a", "b")
        assert pod.when_over().outcome.kind == "complete"
        pod.signal()
        assert pod.end()[0] == 0
    assert pod.run_json().outcome.kind == "complete"


def test_a_stop_with_a_reason_is_the_runs_outcome(tmp_path: Path) -> None:
    """Else only the kts that watched would know why the run was stopped."""
    with ConductorProcess(tmp_path, LONG) as pod:
        pod.join("a", "b")
        pod.when(in_a_block)
        assert pod.ask("POST", "/v1/stop", msgspec.json.encode(VERDICT))[0] == 204
        assert pod.ask("POST", "/v1/stop")[0] == 204  # asked again by who does not wait: the first reason stays
        info = pod.when_over()
        assert info.outcome == msgspec.structs.replace(VERDICT, kind="incomplete")
        assert info.blocks[-1].reason == VERDICT.reason
        assert pod.process.poll() is None
        pod.ask("POST", "/v1/done")
        assert pod.end()[0] == 4


def test_without_the_token_nothing_is_told_and_nobody_joins(tmp_path: Path) -> None:
    """Else any pod of the cluster could stop the run, or take part in it."""
    with ConductorProcess(tmp_path, LONG, KTS_KEEP_S="0") as pod:
        pod.when(starting)
        for method, path in (("GET", "/v1/status"), ("GET", "/v1/files/run.json"), ("POST", "/v1/stop")):
            assert pod.ask(method, path, token="guess") == (401, b"")
        pod.join("a", token="guess")
        _, printed = pod.workers[0].communicate(timeout=DEADLINE_S)
        assert pod.workers[0].returncode != 0
        assert "token" in printed
        status = pod.status()
        assert status is not None
        assert status.outcome is None
        pod.ask("POST", "/v1/stop")
        assert pod.end()[0] == 130
    assert "guess" not in (pod.folder / "data" / RUN / "events.jsonl").read_text(encoding="utf-8")


def test_tenants_that_never_join_are_named(tmp_path: Path) -> None:
    """Else a pod that nobody starts would keep the run waiting."""
    with ConductorProcess(tmp_path, LONG, KTS_JOIN_S="1", KTS_KEEP_S="0") as pod:
        code, printed = pod.end()
    assert code == 4
    assert "not there after 1 s: a, b" in printed
    assert pod.run_json().outcome.kind == "failed"


def test_what_is_set_up_wrongly_is_one_line(tmp_path: Path) -> None:
    """Else the pod's log would hold a traceback."""
    with ConductorProcess(tmp_path, None) as pod:
        code, printed = pod.end()
    assert code == 4
    assert printed.splitlines() == [
        f"kts.conductor: error: {pod.plan_file}: No such file or directory; try: the run's ConfigMap is mounted there"
    ]
