"""MPS daemons of our own: begun, proven, and gone afterwards whatever happens; nobody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers_stats import make_plan

from kts.errors import SetupError
from kts.model.mode import MPS, TIME_SLICING, Mode
from kts.model.run import DeviceInfo
from kts.plan import in_modes
from kts.sharing import mps, parse, prepared, turns
from kts.worker.sharing import PIPE, ask_daemon, seen_from

STANDIN = Path(__file__).parent.parent / "standin"
GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="Test GPU", label="Test GPU", library="torch")


@pytest.fixture(autouse=True)
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in is on the path, and what a test leaves is ended."""
    monkeypatch.setenv("PATH", f"{STANDIN}:{os.environ['PATH']}")
    monkeypatch.delenv(PIPE, raising=False)
    base = tmp_path / "b"
    base.mkdir()
    monkeypatch.setattr(mps, "_base", lambda: base)
    yield
    for folder in base.iterdir():
        mps.end(folder)


def folders(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "b").iterdir())


def test_a_daemon_answers_while_it_is_prepared_and_leaves_nothing() -> None:
    """Else a run would measure without MPS, or leave a daemon that every later program on the GPU joins."""
    with mps.prepared() as env:
        pipe = Path(env[PIPE])
        assert ask_daemon("get_server_list", pipe) is not None
        assert mps._daemons(pipe)
    assert not mps._daemons(pipe)
    assert not pipe.parent.exists()


def test_what_goes_wrong_meanwhile_leaves_nothing_either(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), mps.prepared() as env:
        raise KeyboardInterrupt
    assert not mps._daemons(Path(env[PIPE]))
    assert not folders(tmp_path)


def test_a_daemon_that_does_not_hear_is_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_MPS_STUBBORN", "1")
    monkeypatch.setattr(mps, "ENDS_S", 0.3)
    with mps.prepared() as env:
        pipe = Path(env[PIPE])
    assert not mps._daemons(pipe)


def test_a_daemon_that_ends_at_once_is_an_error_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_MPS_ENDS", "MPS is only supported on Volta and later")
    with pytest.raises(SetupError, match="only supported on Volta"), mps.prepared():
        pass
    assert not folders(tmp_path)


def test_without_the_daemon_on_the_machine_the_error_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="is not on this machine"), mps.prepared():
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from kts.sharing import mps
mps._base = lambda: Path(sys.argv[1])
with mps.prepared() as env:
    print(env["CUDA_MPS_PIPE_DIRECTORY"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_ended_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    """A daemon that stays would make clients of programs that never asked for MPS."""
    base = tmp_path / "b"
    other = tmp_path / "others"
    other.mkdir()
    env = {**os.environ, PIPE: str(other)}
    somebodys = subprocess.Popen([STANDIN / "nvidia-cuda-mps-control", "-f"], env=env, stdin=subprocess.DEVNULL)
    try:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(base)], capture_output=True, text=True, check=False, timeout=60
        )
        assert killed.returncode == -signal.SIGKILL
        pipe = Path(killed.stdout.strip())
        assert mps._daemons(pipe), "it was ended with its owner: then nothing is to be shown here"
        with mps.prepared() as mine:
            assert not mps._daemons(pipe)
            assert not pipe.parent.exists()
            assert folders(tmp_path) == [Path(mine[PIPE]).parent]
            assert mps.end_orphans() == [], "it would end what a living run uses"
        assert somebodys.poll() is None
        assert ask_daemon("get_server_list", other) is not None
    finally:
        somebodys.kill()
        somebodys.wait()


def test_a_number_that_another_process_has_now_does_not_keep_an_orphan(tmp_path: Path) -> None:
    folder = tmp_path / "b" / f"{mps._prefix()}x"
    folder.mkdir()
    (folder / mps.OWNER).write_text(json.dumps({"pid": os.getpid(), "began": "1"}))
    assert mps.end_orphans() == [folder]


def test_a_client_is_proven_by_the_daemons_own_list_and_nobody_else_is() -> None:
    """Else "mps" would stand where CUDA silently gave the process a context of its own."""
    with mps.prepared() as env:
        assert MPS not in {one.mode for one in seen_from("fft", GPU, env, nothing) if not one.told}
        (Path(env[PIPE]) / "clients").write_text(f"1\n{os.getpid()}\n")
        (evidence,) = seen_from("fft", GPU, env, nothing)
        assert (evidence.mode, evidence.told) == (MPS, False)
        assert str(os.getpid()) in evidence.seen
        with subprocess.Popen(["sleep", "600"]) as program:
            (Path(env[PIPE]) / "clients").write_text(f"1\n{program.pid}\n")
            (evidence,) = seen_from("own", GPU, env, nothing)
            program.kill()
        assert (evidence.mode, evidence.told) == (MPS, False), "of a program, which is the worker's descendant"
        with turns.prepared() as apart:
            (beside,) = seen_from("fft", GPU, apart, lambda: Nvml(own=2, clients=2))
        assert beside.mode == TIME_SLICING, "clients beside it make it one"


def test_with_mps_alone_who_runs_alone_is_still_in_a_context_of_its_own() -> None:
    plan = in_modes(make_plan(), parse("mps,half=mps:50"))
    with prepared(plan) as env:
        pipes = {name: Path(one[PIPE]) for name, one in env.items()}
        assert not list(pipes["fft"].iterdir())
        assert (pipes["fft@mps"] / "control").exists()
        assert pipes["fft@mps"] == pipes["gemm@half"]
        assert env["fft@half"][mps.PERCENT] == "50"
        assert mps.PERCENT not in env["fft@mps"]


def test_a_limit_of_threads_is_the_clients_variable() -> None:
    assert mps.variables(Mode(name="mps-50", kind=MPS, threads_percent=50)) == {
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"
    }
    assert mps.variables(Mode(name="mps", kind=MPS)) == {}


def nothing() -> object:
    raise ImportError


class Nvml:
    """As much of pynvml as is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, own: int, clients: int) -> None:
        self._own, self._clients = own, clients

    def __getattr__(self, name: str) -> object:
        return lambda *_: (0, 0)

    def nvmlDeviceGetComputeRunningProcesses(self, _: object) -> list[int]:  # noqa: N802 - NVML's name
        return list(range(self._own))

    def nvmlDeviceGetMPSComputeRunningProcesses(self, _: object) -> list[int]:  # noqa: N802
        return list(range(self._clients))
