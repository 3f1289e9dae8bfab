"""The conductor's pod as a process of this machine, and workers that join it, for tests without a cluster."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from kts.backends.pods import PodsBackend
from kts.conduct.ports import Endpoint, WorkerExit
from kts.k8s.objects.names import TOKEN_HEADER
from kts.k8s.pod.status import Status
from kts.model.plan import Plan
from kts.model.run import RunInfo
from kts.plan import build
from kts.spec import load_text
from tests.helpers_wait import until

RUN = "r1"
TOKEN = "the-token-of-this-run"
DEADLINE_S = 240.0


def small_plan(iterations: int = 100, rounds: int = 2) -> Plan:
    """Two tenants on the CPU device."""
    tenant = f"{{workload: fft, size: 32, think_ms: 1, iterations: {iterations}}}"
    text = f"name: small\ndevice: cpu\nrounds: {rounds}\nprecision: null\ntenants:\n  a: {tenant}\n  b: {tenant}\n"
    return build(load_text(text, source="test").experiment)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class ConductorProcess:
    """`python -m kts.k8s.pod.conductor` with its files in ``folder``. Ends all its processes on exit.

    ``environment``: further variables of the conductor. Without ``plan`` its file is not written.
    """

    def __init__(self, folder: Path, plan: Plan | None, **environment: str) -> None:
        self.folder = folder
        self.plan_file = folder / "plan.json"
        if plan is not None:
            self.plan_file.write_bytes(msgspec.json.encode(plan))
        (folder / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
        self.port, self.status_port = free_port(), free_port()
        self.workers: list[subprocess.Popen[str]] = []
        own = {
            "KTS_RUN": RUN,
            "KTS_MODE": '{"asked": "cpu-scheduler"}',
            "KTS_PLAN": str(self.plan_file),
            "KTS_TOKEN_FILE": str(folder / "token"),
            "KTS_DATA": str(folder / "data"),
            "KTS_PORT": str(self.port),
            "KTS_STATUS_PORT": str(self.status_port),
            "KTS_KEEP_S": "600",
        }
        self.process = _start("kts.k8s.pod.conductor", env=own | environment)

    def __enter__(self) -> ConductorProcess:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for process in (self.process, *self.workers):
            process.kill()
            process.communicate()

    def join(self, *tenants: str, token: str = TOKEN) -> None:
        """Starts their workers, as Jobs would."""
        self.workers += [_start_worker(tenant, "127.0.0.1", self.port, token, join_s=120) for tenant in tenants]

    def ask(self, method: str, path: str, body: bytes = b"", token: str = TOKEN) -> tuple[int, bytes]:
        """(HTTP status, body). OSError while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.status_port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, body=body, headers={TOKEN_HEADER: token})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self) -> Status | None:
        """None while nobody listens."""
        try:
            return msgspec.json.decode(self.ask("GET", "/v1/status")[1], type=Status)
        except OSError:
            return None

    def when(self, condition: Callable[[Status], bool]) -> Status:
        """The first status for which ``condition`` holds."""

        def holds() -> Status | None:
            assert self.process.poll() is None, self.process.communicate()[1]
            status = self.status()
            return status if status is not None and condition(status) else None

        found: Status = until(holds, "a status as asked for")
        return found

    def when_over(self) -> RunInfo:
        """run.json, once the run is over."""
        self.when(lambda status: status.outcome is not None)
        return self.run_json()

    def run_json(self) -> RunInfo:
        """As it is in the pod now."""
        return msgspec.json.decode((self.folder / "data" / RUN / "run.json").read_bytes(), type=RunInfo)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends it to the conductor."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """The conductor's exit code and what it printed, once it has ended by itself; its workers have, too."""
        _, printed = self.process.communicate(timeout=DEADLINE_S)
        deadline = time.monotonic() + DEADLINE_S
        for worker in self.workers:
            worker.wait(timeout=max(0.0, deadline - time.monotonic()))
        return self.process.returncode, printed


class PodsHere(PodsBackend):
    """A `PodsBackend` with a cluster: Jobs are processes of this machine, and who watches their pods is a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[str, subprocess.Popen[str]] = {}
        self._watchers: list[threading.Thread] = []

    def start(self, plan: Plan, endpoint: Endpoint) -> None:
        """The run's objects are created."""
        super().start(plan, endpoint)
        for tenant in plan.tenants:
            self._jobs[tenant.name] = _start_worker(tenant.name, endpoint.host, endpoint.port, endpoint.token, join_s=0)
            self._watchers.append(threading.Thread(target=self._watch, args=(tenant.name,)))
            self._watchers[-1].start()

    def stop(self, grace_s: float) -> None:
        """The run's objects are deleted."""
        super().stop(grace_s)
        for job in self._jobs.values():
            job.kill()
        for watcher in self._watchers:
            watcher.join()

    def _watch(self, tenant: str) -> None:
        _, printed = self._jobs[tenant].communicate()
        code = self._jobs[tenant].returncode
        last = next((line for line in reversed(printed.splitlines()) if line), "nothing printed")
        for _ in range(2):  # a watcher that starts again tells again
            self.exited(WorkerExit(tenant=tenant, code=code, reason=f"exit code {code}: {last}"))


def _start_worker(tenant: str, host: str, port: int, token: str, join_s: int) -> subprocess.Popen[str]:
    own = {"KTS_CONDUCTOR": f"{host}:{port}", "KTS_TOKEN": token, "KTS_TENANT": tenant, "KTS_CORES": "last"}
    return _start("kts.worker", "--join", env={**own, "KTS_JOIN_S": str(join_s)})


def _start(module: str, *arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
