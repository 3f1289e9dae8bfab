"""`kts probe` on this machine's CPU, and on a simulated GPU's readings."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tests.helpers_cli import KTS, errors, kts
from tests.helpers_probe import readings, sharing
from tests.helpers_wait import until

from kts.model.run import DeviceInfo
from kts.physics.files import decode_fingerprint
from kts.physics.probe import findings
from kts.worker.probe.gaps import count, turns
from kts.worker.probe.neighbours import Neighbourhood, ProbeProcess, cores_for, gather
from kts.worker.probe.serve import Order
from kts.worker.probe.session import ProbeEffort, measure
from kts.worker.probe.traces import BLIP_NS, Looks

pytestmark = pytest.mark.e2e

DEADLINE_S = 8.0
BLIP = BLIP_NS["cpu"]
_POD = (sys.executable, "-m", "kts.worker.probe", "--device", "cpu")


@pytest.fixture
def first_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the scheduler prefer the probes' sessions where that is allowed: else a busy machine is in every figure."""
    opened = ProbeProcess.opened

    def prefer(self: ProbeProcess) -> DeviceInfo:
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/autogroup").write_text("-15")
        return opened(self)

    monkeypatch.setattr(ProbeProcess, "opened", prefer)


def _quiet(deadline: float) -> None:
    """Waits until nobody else uses the core for a moment; skips where that does not come."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core: whoever watches the probes would be on it, too")
    with Neighbourhood("cpu", 0, cores_for("cpu")) as here:
        while time.monotonic() < deadline:
            away = turns(here.watcher.trace(Order(do="watch", seconds=0.15, threshold_ns=20_000)), 20_000).away
            if away < 0.08:
                return
    pytest.skip(f"other programs took {away:.0%} of the core just now")


@pytest.mark.alone
@pytest.mark.usefixtures("first_served")
def test_a_cpu_cores_neighbours_are_counted() -> None:
    """Else the probe does not see what it puts there itself: 0, 1 and 2 spinning neighbours on one core."""
    _quiet(time.monotonic() + DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    wrong: list[tuple[int, int]] = []
    with Neighbourhood("cpu", 2, cores_for("cpu")) as here:
        while time.monotonic() < deadline:
            wrong = []
            for n in range(3):
                gather(here.neighbours[:n], Order(do="saturate", threshold_ns=20_000))
                trace = here.watcher.trace(Order(do="watch", seconds=0.6, threshold_ns=20_000))
                gather(here.neighbours[:n], Order(do="stop"))
                seen = Looks(device=here.device, mode="cpu-scheduler", blip_ns=BLIP, kind="watch", looks=(trace,))
                found = count(seen).neighbours
                if found != n:
                    wrong.append((n, found))
            if not wrong:
                return
    _quiet(time.monotonic() + 1.0)  # skips where others came meanwhile
    raise AssertionError(f"(neighbours, counted): {wrong}")


@pytest.mark.alone
@pytest.mark.usefixtures("first_served")
def test_a_cpu_core_has_a_slice() -> None:
    """Else the same probe does not read the kernel scheduler's slice."""
    _quiet(time.monotonic() + DEADLINE_S)
    taken = measure(
        "cpu", "cpu-scheduler", effort=ProbeEffort(seconds=0.5, most=2, pulses=0), cores=cores_for("cpu"), anyway=True
    )
    found = findings(taken)
    mark = found.fingerprint
    assert mark.gpu.kind == "cpu"
    assert "not a GPU" in mark.gpu.label
    assert 0.5 < mark.slice_ms.value < 30  # Linux grants 0.7 to 3 ms, rounded up to its tick
    assert 0 <= mark.preempt_ms[0].value < mark.slice_ms.value / 2
    assert [crowd.counted for crowd in found.crowds] == [1, 2] or found.notes
    assert mark.timer_resolution_ns is not None


def test_a_pod_needs_no_command_line(tmp_path: Path) -> None:
    """Else "who is on my GPU" cannot be asked with the worker's image, which lacks the command line's libraries."""
    blocked = "typer pydantic rich pyarrow scipy numba altair yaml httpx2"
    program = (
        f"import sys\nfor name in '{blocked}'.split(): sys.modules[name] = None\n"
        "from kts.worker.probe.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    known = tmp_path / "f.json"
    known.write_text('{"slice_ms": {"value": 4.0}, "preempt_ms": [{"value": 0.01}]}')
    done = subprocess.run(
        [sys.executable, "-c", program, "--who", "--device", "cpu", "--looks", "1", "--fingerprint", str(known)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["is_gpu"] is False
    assert found["count"]["slice_ms"] == 4.0
    assert done.stderr.strip() == found["sentence"]
    assert "not a GPU" in found["sentence"]


@pytest.mark.parametrize("arguments", [("--who", "--looks", "100"), ("--anyway",)])
def test_ctrl_c_leaves_nothing_behind(arguments: tuple[str, ...]) -> None:
    """Else an interrupted probe goes on taking everybody's turns."""
    process = subprocess.Popen(
        [*_POD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    children: set[int] = set()
    try:
        children = until(lambda: _children(process.pid), "it starts a probe", living=process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 130
    _all_end(children)


@pytest.mark.parametrize(("arguments", "processes"), [(("--anyway",), 5), (("--who", "--watch", "300"), 1)])
def test_a_killed_driver_leaves_nothing_behind(arguments: tuple[str, ...], processes: int) -> None:
    """Else kill -9 leaves neighbours that keep the device busy for ever, or a watch that nobody waits for."""
    process = subprocess.Popen([*_POD, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: set[int] = set()

    def begun() -> bool:
        nonlocal children
        children = _children(process.pid)
        return len(children) >= processes and any(map(_spinning, children))

    try:
        until(begun, f"{processes} probes run, one of them busy", living=process)
    finally:
        process.kill()
        process.communicate()
    _all_end(children)


def _all_end(children: set[int]) -> None:
    """Their stdin has ended; one that was just being started first has to come so far as to read it."""
    assert children
    until(lambda: not any(map(_alive, children)), "the probes end")


def _children(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children")
    return {int(child) for child in text.read_text().split()} if text.exists() else set()


def _spinning(pid: int) -> bool:
    """Whether it has used a second of processor time: it is past its start."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[11]) + int(fields[12]) > os.sysconf("SC_CLK_TCK")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_readings_become_a_fingerprint_that_is_kept_and_listed(tmp_path: Path) -> None:
    """Else what a pod measured cannot be used, or kts predict does not find it again."""
    file = tmp_path / "readings.json"
    file.write_bytes(msgspec.json.encode(readings(sharing(), ms=120.0, most=2)))
    env = {"XDG_DATA_HOME": str(tmp_path / "data")}
    told = kts("probe", "--from", file, **env)
    assert told.returncode == 0, told.stderr
    assert "NVIDIA H, time-slicing, driver 580" in told.stdout
    assert "time slice        2.09 ms [" in told.stdout
    kept = tmp_path / "data" / "kts" / "fingerprints" / "GPU-1+580+time-slicing.json"
    assert decode_fingerprint(kept.read_bytes(), "f").slice_ms.value == pytest.approx(2.087, rel=0.01)
    assert "GPU-1+580+time-slicing.json: NVIDIA H" in kts("probe", "--list", **env).stdout
    out = tmp_path / "mine.json"
    as_json = kts("probe", "--from", file, "--out", out, "--json", **env)
    body = json.loads(as_json.stdout)
    assert body["file"] == str(out)
    assert [crowd["counted"] for crowd in body["crowds"]] == [1, 2]
    assert out.read_bytes() == kept.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("--device", "tpu"), 2, "no device 'tpu'"),
        (("--who", "--list"), 2, "exclude each other"),
        (("--watch", "1"), 2, "belong to --who"),
        (("--from", "nowhere.json"), 6, "nowhere.json: No such file"),
        (("--who", "--fingerprint", "nowhere.json", "--device", "cpu"), 6, "nowhere.json"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], code: int, what: str, tmp_path: Path) -> None:
    """Else they end in a traceback, or are passed over."""
    done = kts("probe", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert what in errors(done)[0]


def test_the_command_line_asks_who(tmp_path: Path) -> None:
    """Else `kts probe --who` differs from what the pod's way says."""
    done = subprocess.run(
        [*KTS, "probe", "--who", "--device", "cpu", "--looks", "1", "--json"],
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["kind"] == "cpu"
