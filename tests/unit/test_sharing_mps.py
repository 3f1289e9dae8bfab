"""MPS daemons of our own: begun, proven, and gone afterwards whatever happens; nobody else's is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.helpers_stats import make_plan
from tests.helpers_wait import PATIENCE_S, until

from kts.backends.local import LocalBackend
from kts.errors import SetupError
from kts.model.mode import MPS, TIME_SLICING, Mode
from kts.model.run import DeviceInfo
from kts.plan import in_modes
from kts.sharing import end_orphans, folders, mps, parse, prepared, turns
from kts.worker.detect import CudaDevice
from kts.worker.sharing import PIPE, ask_daemon, seen_from

STANDIN = Path(__file__).parent.parent / "standin"
GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="Test GPU", label="Test GPU", library="torch")


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where folders are made. The stand-in is on the path, and what a test leaves is ended."""
    monkeypatch.setenv("PATH", f"{STANDIN}:{os.environ['PATH']}")
    monkeypatch.delenv(PIPE, raising=False)
    with tempfile.TemporaryDirectory(prefix="kts-t-", dir="/tmp") as short:  # a socket's path has 108 characters
        monkeypatch.setattr(folders, "_base", lambda: Path(short))
        yield Path(short)
        for folder in Path(short).iterdir():
            mps.end(folder)


ARMS = in_modes(make_plan(), parse("mps")).modes


@contextmanager
def begun() -> Iterator[dict[str, str]]:
    """MPS as the tenants of one mode have it."""
    with mps.prepared(ARMS) as held:
        yield dict(held.env["fft@mps"])


def made(base: Path) -> list[Path]:
    return list(base.iterdir())


def test_a_daemon_answers_while_it_is_prepared_and_leaves_nothing() -> None:
    """Else a run would measure without MPS, or leave a daemon that every later program on the GPU joins."""
    with begun() as env:
        pipe = Path(env[PIPE])
        assert ask_daemon("get_server_list", pipe) is not None
        assert mps.processes(pipe)
    assert not mps.processes(pipe)
    assert not pipe.parent.exists()


def test_what_goes_wrong_meanwhile_leaves_nothing_either(base: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begun() as env:
        raise KeyboardInterrupt
    assert not mps.processes(Path(env[PIPE]))
    assert not made(base)


def test_a_daemon_that_does_not_hear_is_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_MPS_STUBBORN", "1")
    monkeypatch.setattr(mps, "ENDS_S", 0.3)
    with begun() as env:
        pipe = Path(env[PIPE])
    assert not mps.processes(pipe)


def test_a_daemon_that_ends_at_once_is_an_error_with_its_own_words(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_MPS_ENDS", "MPS is only supported on Volta and later")
    with pytest.raises(SetupError, match="only supported on Volta"), begun():
        pass
    assert not made(base)


def test_without_the_daemon_on_the_machine_the_error_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SetupError, match="is not on this machine"), begun():
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from kts.model.plan import InMode
from kts.model.mode import Mode
from kts.sharing import folders, mps
from kts.worker.tenants import process
folders._base = lambda: Path(sys.argv[1])
start = process.ChildProcess
def kept(*given):
    global daemon
    daemon = start(*given)
    return daemon
process.ChildProcess = kept
with mps.prepared([InMode(mode=Mode(name="mps", kind="mps"), tenants={"a": "a"}, mixes={})]) as held:
    print(held.env["a"]["CUDA_MPS_PIPE_DIRECTORY"], flush=True)
    if sys.argv[2] == "both":
        os.kill(daemon._keeper.pid, signal.SIGSTOP)  # it ends nothing before it is killed itself
        os.kill(daemon._keeper.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(base: Path, who: str) -> Path:
    """The pipes of a run that was killed; ``both``: together with its keeper."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(base), who],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    return Path(done.stdout.strip())


def test_the_daemon_of_a_killed_run_ends_with_it(base: Path) -> None:
    """A daemon that stays would make clients of programs that never asked for MPS."""
    pipe = killed(base, "kts")
    until(lambda: not mps.processes(pipe), "the daemon ends with its run")
    assert end_orphans() == [pipe.parent]
    assert not made(base)


def test_what_a_killed_run_left_is_ended_by_the_next_and_nothing_else(base: Path, tmp_path: Path) -> None:
    """Somebody's daemon, and that of a run that goes on, are not touched."""
    other = tmp_path / "others"
    other.mkdir()
    env = {**os.environ, PIPE: str(other)}
    somebodys = subprocess.Popen([STANDIN / "nvidia-cuda-mps-control", "-f"], env=env, stdin=subprocess.DEVNULL)
    left: subprocess.Popen[bytes] | None = None
    try:
        pipe = killed(base, "both")
        until(lambda: not mps.processes(pipe), "the kernel ends a daemon with its keeper")
        (pipe / "control").unlink()  # now one that lived on, as a server of MPS may
        ours = {**os.environ, PIPE: str(pipe)}
        left = subprocess.Popen([STANDIN / "nvidia-cuda-mps-control", "-f"], env=ours, stdin=subprocess.DEVNULL)
        until(lambda: left.pid in mps.processes(pipe), "the daemon that is left starts", living=left)
        with begun() as mine:
            assert end_orphans() == [pipe.parent]
            assert left.wait(PATIENCE_S) < 0
            assert made(base) == [Path(mine[PIPE]).parent]
            assert end_orphans() == [], "it would end what a living run uses"
            assert ask_daemon("get_server_list", Path(mine[PIPE])) is not None
        assert somebodys.poll() is None
        assert ask_daemon("get_server_list", other) is not None
    finally:
        for process in (somebodys, left):
            if process is not None:
                process.kill()
                process.wait()


def test_a_number_that_another_process_has_now_does_not_keep_an_orphan(base: Path) -> None:
    """Else a folder, and its daemon, would stay for as long as anybody has that number."""
    folder = base / f"{folders._prefix(mps.KIND)}{os.getpid()}-1-x"
    foreign = base / f"{folders._prefix(mps.KIND)}of-somebody"
    folder.mkdir()
    foreign.mkdir()
    assert end_orphans() == [folder]
    assert made(base) == [foreign], "what has another name is not ours"


def test_a_daemon_that_is_killed_in_a_run_is_named_in_it(base: Path, tmp_path: Path) -> None:
    """Else the reason given would be that of whichever tenant falls first."""
    plan = in_modes(make_plan(), parse("time-slicing,mps"))
    with prepared(plan) as held:
        backend = LocalBackend(tmp_path / "logs", trouble=held.trouble)

        def told() -> list[str]:
            """Of the run's own daemon: the machine may have others just now, and each is told of as well."""
            return [note for note in backend.notes() if "that kts started" in note]

        assert not told()
        (daemon,) = mps.processes(Path(held.env["fft@mps"][PIPE]))
        os.kill(daemon, signal.SIGKILL)
        said = until(told, "the daemon's end is told")
    assert said == [
        "MPS: the daemon that kts started ended while the run went on (killed by SIGKILL): its clients fall with it"
    ]
    assert not made(base)


def test_a_pipe_that_a_dead_daemon_left_is_nobodys_daemon(tmp_path: Path) -> None:
    """Tenants that have no MPS are sent elsewhere, and a pipe alone proves nothing."""
    stale = tmp_path / "stale"
    stale.mkdir()
    (stale / "control").touch()
    assert ask_daemon("get_server_list", stale) is None
    (told,) = seen_from("fft", GPU, {PIPE: str(stale)}, nothing)
    assert (told.mode, told.told) == (MPS, True)
    with prepared(in_modes(make_plan(), parse("time-slicing"))) as held:
        assert not seen_from("fft", GPU, held.env["fft"], nothing)


def test_a_client_is_proven_by_the_daemons_own_list_and_nobody_else_is() -> None:
    """Else "mps" would stand where CUDA silently gave the process a context of its own."""
    with begun() as env:
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
        with turns.prepared(ARMS) as apart:
            (beside,) = seen_from("fft", GPU, apart.env["fft@mps"], lambda: Nvml(own=2, clients=2))
        assert beside.mode == TIME_SLICING, "clients beside it make it one"


def test_with_mps_alone_who_runs_alone_is_still_in_a_context_of_its_own() -> None:
    plan = in_modes(make_plan(), parse("mps,half=mps:50"))
    with prepared(plan) as held:
        env = held.env
        pipes = {name: Path(one[PIPE]) for name, one in env.items()}
        assert not list(pipes["fft"].iterdir())
        assert (pipes["fft@mps"] / "control").exists()
        assert pipes["fft@mps"] == pipes["gemm@half"]
        assert env["fft@half"][mps.PERCENT] == "50"
        assert mps.PERCENT not in env["fft@mps"]


def test_settings_are_the_clients_variables() -> None:
    """As NVIDIA's documentation of MPS names them; a wrong name would be ignored without a word."""
    (mode,) = parse("mps:50:memory=8G:above=fft")
    assert mps.variables(mode, "fft") == {
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=8192M",
        "CUDA_MPS_CLIENT_PRIORITY": "0",
    }
    assert mps.variables(mode, "gemm")["CUDA_MPS_CLIENT_PRIORITY"] == "1"
    assert mps.variables(Mode(name="mps", kind=MPS), "fft") == {}


@pytest.mark.parametrize(
    ("setting", "command"),
    [("memory=8G", "get_default_device_pinned_mem_limit"), ("above=fft", "get_default_client_priority")],
)
def test_a_setting_that_the_daemon_does_not_have_is_refused(
    setting: str, command: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that does not know a variable ignores it: figures of no limit would stand under a limit's name."""
    arms = in_modes(make_plan(), parse(f"mps:{setting}")).modes
    monkeypatch.setenv("STANDIN_MPS_COMMANDS", "get_server_list\nquit\n")
    with pytest.raises(SetupError, match="the MPS of this driver has no"), mps.prepared(arms):
        pass
    assert not made(base)
    monkeypatch.setenv("STANDIN_MPS_COMMANDS", f"get_server_list\n{command} [dev]\n")
    with mps.prepared(arms) as held:
        assert set(held.env) == {"fft@" + arms[0].mode.name, "gemm@" + arms[0].mode.name}


def test_every_tenant_has_a_static_partition_of_its_own(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under static partitioning a client without one cannot compute, and two in one would share its SMs."""
    device = CudaDevice(index=0, name="Test GPU", uuid="GPU-1", memory_bytes=1)
    monkeypatch.setattr(mps, "cuda_devices", lambda: [device])
    with mps.prepared(in_modes(make_plan(), parse("mps,s=mps:chunks=4")).modes) as held:
        assert [held.env[f"{name}@s"][mps.PARTITION] for name in ("fft", "gemm")] == ["GPU-1/Dx1", "GPU-1/Dx2"]
        assert mps.PARTITION not in held.env["fft@mps"]
        assert held.env["fft@mps"][PIPE] != held.env["fft@s"][PIPE], "without a partition nobody computes there"
        assert len(made(base)) == 2
    assert not made(base)
    with (
        pytest.raises(SetupError, match=r"no static partition of 5 chunks: Failed .* 3 chunks are free"),
        mps.prepared(in_modes(make_plan(), parse("s=mps:chunks=5")).modes),
    ):
        pass
    assert not made(base)


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
