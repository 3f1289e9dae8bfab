"""Ctrl-C and SIGTERM at every moment of a run on a cluster: each call of the API server in turn."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from tests.helpers_cluster_here import ClusterHere, Object

import kts
from kts import app
from kts.conduct.ports import Progress
from kts.conduct.stop import BY_USER
from kts.errors import Interrupted, KtsError
from kts.k8s.cluster import creation
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.follow import begin, session
from kts.k8s.follow.interrupts import ENDING_S
from kts.k8s.objects.settings import ClusterSettings
from kts.k8s.pod.status import Status
from kts.model.run import Outcome
from kts.plan import build
from kts.spec import load_text

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals as Linux has them"),
]

TEXT = """\
name: small
rounds: 2
precision: null
device: cpu
tenants:
  t0: {workload: fft, size: 32, think_ms: 1, iterations: 10}
  t1: {workload: fft, size: 32, think_ms: 1, iterations: 10}
"""
SETTINGS = ClusterSettings(runtime_class="", resource="")
MOST_CALLS = 300


class Played(ClusterHere):
    """A cluster whose pods are only said to run. The conductor starts, measures for a while, and ends in order when it
    is told to. ``at``: numbers of the calls, from 1, before which the client gets ``signal``."""

    def __init__(self, folder: Path, out: Path, at: set[int], number: signal.Signals = signal.SIGINT) -> None:
        super().__init__(folder)
        self.calls = 0
        self._out, self._at, self._number = out, at, number
        self._asked, self._outcome = 0, None

    def _answer(self) -> None:
        self.calls += 1
        if self.calls in self._at:
            signal.raise_signal(self._number)

    def _start(self, pod: Object) -> None:
        pod["spec"] = {**pod["spec"], "nodeName": "node"}
        pod["status"] = {"phase": "Running", "containerStatuses": [{"ready": True, "state": {"running": {}}}]}

    def logs(self, pod: str, namespace: str, *, container: str) -> list[bytes]:
        del pod, namespace, container
        self._answer()
        return [b"a line\n"]

    def close(self) -> None:
        """As an API's."""

    def proxy(self, method: str, namespace: str, pod: str, port: int, path: str, **what: Any) -> bytes:
        del namespace, port
        self._answer()
        self._asked += 1
        if ("Pod", pod) not in self.objects or self._asked < 3:
            raise Unavailable("connection refused", "")
        if (method, path) == ("POST", "/v1/stop"):
            self._outcome = BY_USER if not what["body"] else msgspec.json.decode(what["body"], type=Outcome)
        if path == "/v1/files/run.json":
            return (self._out / "run.json").read_bytes()
        if path != "/v1/status":
            return b""
        done = Outcome(kind="complete") if self._asked > 20 else None
        progress = Progress(phase="measuring", text="round 1/2", done_s=1.0, left_s=1.0)
        status = Status(run="r", kts=kts.__version__, progress=progress, outcome=self._outcome or done)
        return msgspec.json.encode(status)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, name in ((session, "POLL_S"), (session, "HURRIED_POLL_S"), (session, "LOOK_S"), (creation, "_PAUSE_S")):
        monkeypatch.setattr(module, name, 0.001)
    former = {number: signal.signal(number, _raise) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def _raise(*_: object) -> None:
    """As the command line has it."""
    raise KeyboardInterrupt


Begin = Callable[[list[str]], kts.Run]


def ended(begin: Begin) -> tuple[int, list[str], float]:
    """(exit code, what was said, seconds) of a command."""
    said: list[str] = []
    began = time.monotonic()
    try:
        code = begin(said).outcome.exit_code
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    except KtsError as error:
        code = error.exit_code
        said.append(error.what)
    return code, said, time.monotonic() - began


def run(out: Path, *, keep: bool = False) -> Begin:
    """`kts run --on k8s`."""

    def begin(said: list[str]) -> kts.Run:
        return app.run_on_cluster(TEXT, SETTINGS, out, image="x", extra="cpu", keep=keep, say=said.append)

    return begin


def played(
    monkeypatch: pytest.MonkeyPatch, folder: Path, at: set[int], number: signal.Signals = signal.SIGINT
) -> Played:
    """The cluster that is connected to from now on."""
    cluster = Played(folder / "cluster", folder / "out", at, number)
    monkeypatch.setattr(Api, "connect", classmethod(lambda *_: cluster))
    return cluster


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_any_call_leaves_nothing_and_takes_5_s_at_most(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else there would be a moment in which Ctrl-C, or a cancelled CI job, leaves pods on a GPU."""
    step = 1 if number == signal.SIGINT else 5
    for call in range(1, MOST_CALLS, step):
        folder = tmp_path / str(call)
        cluster = played(monkeypatch, folder, {call}, number)
        code, said, took_s = ended(run(folder / "out"))
        assert cluster.objects == {}, (call, said)
        assert took_s < ENDING_S, (call, said)
        if cluster.calls < call:
            assert code == 0
            break
        assert code == Interrupted.exit_code, (call, said)
        made = any(line.startswith("run ") for line in said)
        assert not made or "nothing is left in the cluster" in said[-1] or "nothing is left in the cluster" in said[-2]
    else:
        pytest.fail("the run never ended")
    assert call > 30


def test_with_keep_the_run_is_ended_and_its_objects_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who wants to look at the pods could not stop the run."""
    cluster = played(monkeypatch, tmp_path, {40})
    code, said, _ = ended(run(tmp_path / "out", keep=True))
    assert code == Interrupted.exit_code
    assert ("Pod", f"kts-{said[0].split()[1]}-conductor") in cluster.objects
    assert any("kept in the cluster" in line for line in said)
    assert not any("nothing is left" in line for line in said)


def test_who_insists_is_told_what_may_be_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a second Ctrl-C would leave objects that nobody knows of."""
    seen = 0
    for call in range(25, 60, 4):
        folder = tmp_path / str(call)
        cluster = played(monkeypatch, folder, {call, call + 2})
        code, said, took_s = ended(run(folder / "out"))
        assert code == Interrupted.exit_code, (call, said)
        assert took_s < ENDING_S
        named = any("kts clean" in line for line in said)
        assert named or cluster.objects == {}, (call, said)
        seen += bool(cluster.objects)
    assert seen


def test_an_api_server_that_hangs_while_the_run_ends_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Ctrl-C would last as long as the server's timeouts, and nobody would know what is left."""
    cluster = played(monkeypatch, tmp_path, {40})
    answer = cluster._answer

    def hang() -> None:
        answer()
        if cluster.calls >= 40:
            time.sleep(60)

    monkeypatch.setattr(cluster, "_answer", hang)
    code, said, took_s = ended(run(tmp_path / "out"))
    assert code == Interrupted.exit_code
    assert took_s < ENDING_S
    assert any("kts clean" in line for line in said), said


def test_ctrl_c_in_attach_ends_the_run_once_it_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else attach would stop a run that it has not even read, or not stop one that it follows."""
    for call in (1, 2, 12, 25):
        folder = tmp_path / str(call)
        cluster = played(monkeypatch, folder, set())
        plan = build(load_text(TEXT, source="test").experiment)
        made = begin.start(cast(Api, cluster), plan, SETTINGS, TEXT, folder / "first", run="r", overwrite=False)
        made.close()
        before = cluster.calls
        cluster._at = {before + call}
        code, said, _ = ended(lambda said, folder=folder: app.attach("r", folder / "out", say=said.append))  # type: ignore[misc]
        assert code == Interrupted.exit_code
        if call <= 2:
            assert ("Pod", "kts-r-conductor") in cluster.objects
            assert "goes on in the cluster" in said[-1]
        else:
            assert cluster.objects == {}
