"""The HTTP door of the conductor's pod."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kts.backends.pods import PodsBackend
from kts.conduct.ports import Endpoint
from kts.conduct.stop import StopRequest
from kts.errors import SetupError
from kts.k8s.objects.around import MOST_SEEN
from kts.k8s.objects.names import TOKEN_HEADER
from kts.k8s.objects.podend import PodExit
from kts.k8s.pod.conductor import main
from kts.k8s.pod.door import Desk, serve
from kts.k8s.pod.status import BODY_BYTES, PART_BYTES, TEXT_CHARACTERS, Status, stop_reason
from kts.model.neighbours import Look, Seen
from kts.model.run import Outcome
from kts.plan import build
from kts.spec import load_text
from kts.store import layout

TOKEN = "secret"
PLAN = build(
    load_text(
        "name: x\ntenants:\n  a: {workload: fft, size: 8}\n  b: {workload: fft, size: 8}\n", source="test"
    ).experiment
)


class Door:
    """A server on a free port, and requests to it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.server = serve(desk, "127.0.0.1", 0)

    def ask(self, method: str, path: str, body: bytes = b"", token: str = TOKEN) -> tuple[int, bytes]:
        """(status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=400)
        try:
            connection.request(method, path, body=body, headers={TOKEN_HEADER: token})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    backend = PodsBackend()
    backend.start(PLAN, Endpoint(host="", port=1, token=TOKEN))
    made = Door(Desk("r1", tmp_path, TOKEN, backend, StopRequest(), looks=deque()))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("path", ["/v1/status", "/v1/files/run.json", "/v1/stop", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_has_no_token_learns_and_does_nothing(door: Door, method: str, path: str) -> None:
    """Else any pod of the cluster could read or stop the run."""
    assert door.ask(method, path, token="guess") == (401, b"")
    assert not door.desk.done.is_set()
    assert door.desk.stop.take() is None


def test_files_come_in_parts_from_any_byte(door: Door) -> None:
    """Else a copy could not go on where it stopped."""
    content = bytes(range(256)) * 8192
    (door.desk.directory / layout.JOURNAL).write_bytes(content)
    status = msgspec.json.decode(door.ask("GET", "/v1/status")[1], type=Status)
    assert status.files == {layout.JOURNAL: len(content)}
    code, part = door.ask("GET", f"/v1/files/{layout.JOURNAL}?offset=1000")
    assert (code, part) == (200, content[1000 : 1000 + PART_BYTES])
    assert door.ask("GET", f"/v1/files/{layout.JOURNAL}?offset={len(content)}") == (200, b"")


@pytest.mark.parametrize("name", ["../token", "logs", "run.lock", "%2e%2e/token", "/etc/passwd"])
def test_other_files_are_not_there(door: Door, name: str) -> None:
    """Else the door would hand out the pod's files, its token among them."""
    assert door.ask("GET", f"/v1/files/{name}")[0] == 404


def test_ends_of_pods_reach_the_run_once(door: Door) -> None:
    """Else a killed pod would only be a connection that closed, or end the run twice."""
    body = msgspec.json.encode(
        [PodExit(tenant="a", code=137, reason="OOMKilled"), PodExit(tenant="zz", code=1, reason="")]
    )
    for _ in range(2):
        assert door.ask("POST", "/v1/exits", body)[0] == 204
    assert [(e.tenant, e.reason) for e in door.desk.backend.poll()] == [("a", "OOMKilled")]
    assert door.desk.backend.poll() == []


def test_a_stop_carries_its_reason_and_an_empty_one_is_the_users(door: Door) -> None:
    """Else run.json would blame the user for what the cluster refused."""
    why = Outcome(kind="failed", reason="no free slot", remedy="wait", exit_code=4)
    assert door.ask("POST", "/v1/stop", msgspec.json.encode(why))[0] == 204
    assert door.desk.stop.take() == why
    assert stop_reason(b"") == Outcome(kind="interrupted", reason="stopped by the user", exit_code=130)


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff", b"[]", b'{"kind": "complete"}', b'{"kind": "running"}', b'{"kind": "failed", "exit_code": 0}'],
)
def test_what_is_no_end_of_a_stopped_run_stops_nothing(door: Door, body: bytes) -> None:
    """Else a run could be called complete from outside."""
    assert door.ask("POST", "/v1/stop", body)[0] == 400
    assert door.desk.stop.take() is None


def test_a_reason_is_cut_to_what_a_reader_reads(door: Door) -> None:
    """Else whoever has the token could blow up run.json."""
    long = Outcome(kind="failed", reason="x" * 9000, remedy="y" * 9000, exit_code=4)
    assert door.ask("POST", "/v1/stop", msgspec.json.encode(long))[0] == 204
    taken = door.desk.stop.take()
    assert taken is not None
    assert (len(taken.reason), len(taken.remedy)) == (TEXT_CHARACTERS, TEXT_CHARACTERS)


def test_a_look_is_stamped_when_it_comes_and_cut_to_what_a_reader_reads(door: Door) -> None:
    """Else another machine's clock would say when a neighbour was there, or a long list fill run.json."""
    others = (Seen(who="x" * 900), *(Seen(who=str(n)) for n in range(MOST_SEEN + 50)))
    told = Look(by="a kts", every_ns=5, at_ns=1, others=others)
    began_ns = time.time_ns()
    assert door.ask("POST", "/v1/look", msgspec.json.encode(told))[0] == 204
    (kept,) = door.desk.looks
    assert began_ns <= kept.at_ns <= time.time_ns()
    assert (len(kept.others), len(kept.others[0].who)) == (MOST_SEEN, TEXT_CHARACTERS)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"by": "x"}', b'{"by": "x", "every_ns": -1}', b'{"by":"x","every_ns":1e18}']
)
def test_what_is_no_look_is_refused(door: Door, body: bytes) -> None:
    """Else whoever has the token could make a watch of a day out of one look."""
    assert door.ask("POST", "/v1/look", body)[0] == 400
    assert not door.desk.looks


def test_a_body_too_long_is_refused_unread(door: Door) -> None:
    """Else a request could fill the pod's memory."""
    assert door.ask("POST", "/v1/exits", b"x" * (BODY_BYTES + 1))[0] == 413


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(["GET", "POST"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    st.binary(max_size=200),
)
def test_whatever_is_asked_is_answered(door: Door, method: str, path: str, body: bytes) -> None:
    """Else one odd request could take the door away from the run."""
    code, _ = door.ask(method, "/v1/exits" if len(path) % 3 == 0 else f"/{path}", body)
    assert code in (200, 204, 400, 404, 413)
    assert door.ask("GET", "/v1/status")[0] == 200


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"KTS_RUN": "Not An Id"}, "KTS_RUN"),
        ({"KTS_PLAN": "nowhere.json"}, "nowhere.json"),
        ({"KTS_TOKEN_FILE": "nowhere"}, "nowhere"),
        ({"KTS_STATUS_PORT": "many"}, "KTS_STATUS_PORT"),
    ],
)
def test_a_pod_that_is_set_up_wrongly_says_what_is_wrong(tmp_path: Path, changed: dict[str, str], what: str) -> None:
    """Else its log would hold a traceback, which says nothing to who made the pod."""
    with pytest.raises(SetupError, match=what):
        main(environment(tmp_path) | changed, StopRequest())


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    """Else the door would be open to all who send none."""
    env = environment(tmp_path)
    Path(env["KTS_TOKEN_FILE"]).write_text("\n", encoding="utf-8")
    with pytest.raises(SetupError, match="empty"):
        main(env, StopRequest())


def environment(folder: Path) -> dict[str, str]:
    """What the pod is given, in files of its own."""
    (folder / "plan.json").write_bytes(msgspec.json.encode(PLAN))
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    return {
        "KTS_RUN": "r1",
        "KTS_PLAN": str(folder / "plan.json"),
        "KTS_TOKEN_FILE": str(folder / "token"),
        "KTS_DATA": str(folder / "data"),
        "KTS_PORT": "0",
        "KTS_STATUS_PORT": "0",
        "KTS_KEEP_S": "0",
    }


NOT_IN_THE_IMAGE = ("yaml", "pydantic", "typer", "rich", "wsproto", "httpx2", "pyarrow", "altair", "numba")
PARTS = ("backends.pods", "conduct.driver", "k8s.pod.door", "stats.stopping", "store.creation", "telemetry.choice")


def test_the_conductors_pod_needs_no_more_than_its_image_holds() -> None:
    """Else every run on a cluster ends before it began, and only a run on a cluster shows it."""
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({NOT_IN_THE_IMAGE}))
import kts.k8s.pod.conductor
for part in {PARTS}:
    importlib.import_module("kts." + part)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
