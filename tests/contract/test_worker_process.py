"""The user's program as a process group: a child of the worker, or started by the launcher in a container beside it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.helpers_launcher import Beside, launcher_binary
from tests.helpers_wait import until

from kts.units import NS_PER_MS
from kts.worker.failures import BesideError, CommandError
from kts.worker.host import HostReader
from kts.worker.launcher.remote import Launcher
from kts.worker.tenants.process import ChildProcess, Launch, PrintedLine, Process


@pytest.fixture(params=["child", "launcher"])
def launch(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launch]:
    """Each way to start a program."""
    if request.param == "child":
        yield functools.partial(ChildProcess, folder=None)
        return
    beside = Beside(tmp_path, launcher_binary(tmp_path_factory.getbasetemp()))
    yield beside
    beside.close()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def _said(process: Process, lines: int = 1) -> list[PrintedLine]:
    """What it says, until it has said so many lines."""
    found: list[PrintedLine] = []
    until(lambda: bool(found.extend(process.lines(0.05)) or len(found) >= lines), "it says so")
    return found


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_whole_group_is_stopped_continued_and_ended(launch: Launch) -> None:
    """Otherwise a program's children keep the device busy in blocks where it is not active, or outlive the run."""
    code = (
        "import os, subprocess, sys; child = subprocess.Popen(['sleep', '600']);"
        "print(os.getpid(), child.pid, flush=True); child.wait()"
    )
    process = launch(_python(code), os.environ)
    pids = [int(text) for text in _said(process)[0].text.split()]
    process.pause()
    until(lambda: all(_state(pid) == "T" for pid in pids), "all are stopped")
    process.resume()
    until(lambda: all(_state(pid) in "SR" for pid in pids), "all go on")
    process.pause()
    process.kill()
    until(lambda: all(_state(pid) in ("gone", "Z") for pid in pids), "all end")
    process.kill()


def test_lines_are_whole_and_the_last_word_is_kept(launch: Launch) -> None:
    """Otherwise records are torn, or a dying program's message is lost."""
    code = (
        "import sys; w = sys.stdout.write; w('ab'); sys.stdout.flush(); w('c\\nd'); sys.stdout.flush(); w('e\\nlast');"
        "sys.stdout.flush(); sys.stderr.write('why it died\\n'); sys.exit(3)"
    )
    process = launch(_python(code), os.environ)
    lines: list[PrintedLine] = []
    until(lambda: bool(lines.extend(process.lines(0.05)) or process.exit_code() is not None), "it ends")
    lines += process.drain()
    assert [line.text for line in lines if not line.on_stderr] == ["abc\n", "de\n", "last"]
    assert process.exit_code() == 3
    assert [line.text for line in lines if line.on_stderr] == ["why it died\n"]
    process.kill()


def test_what_prints_on_ends_with_the_program_that_started_it(launch: Launch) -> None:
    """Otherwise its output never ends, nor does the run: all that is there is read before it is started again."""
    process = launch(["sh", "-c", f"yes {'x' * 500} & exit 0"], os.environ)
    until(lambda: process.exit_code() == 0, "it ends")
    process.drain()
    until(lambda: not process.drain(), "it says no more")
    process.kill()


def test_a_program_that_ends_at_once_tells_its_code(launch: Launch) -> None:
    """Otherwise, once in several times, a run waits for ever for a program that is gone."""
    for _ in range(12):
        process = launch(["sh", "-c", "exit 3"], os.environ)
        until(lambda process=process: process.exit_code() == 3, "it ends")  # type: ignore[misc]
        process.kill()


def test_what_prints_all_the_time_is_not_read_for_ever(launch: Launch) -> None:
    """Otherwise a worker hears nothing of its conductor any more."""
    process = launch(["yes", "x" * 500], os.environ)
    _said(process)
    process.drain()
    process.kill()


def test_a_program_that_dies_by_a_signal_says_which(launch: Launch) -> None:
    """Otherwise a segmentation fault looks like an exit code that the program chose."""
    process = launch(_python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"), os.environ)
    until(lambda: process.exit_code() is not None, "it ends")
    assert process.exit_code() == -signal.SIGSEGV
    process.kill()


def test_a_program_that_ignores_to_be_ended_is_killed(launch: Launch) -> None:
    """Otherwise it outlives the run and keeps its slot."""
    code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid()); time.sleep(600)"
    process = launch(_python(code), {**os.environ, "PYTHONUNBUFFERED": "1"})
    pid = int(_said(process)[0].text)
    process.kill()
    until(lambda: _state(pid) in ("gone", "Z"), "it ends")


def test_what_it_may_use_of_memory_is_told(launch: Launch) -> None:
    """Otherwise a program that was killed for memory is told to run alone."""
    process = launch(_python("import time; time.sleep(600)"), os.environ)
    limit_bytes, kills = process.memory()
    assert limit_bytes is None or limit_bytes > 0
    assert kills >= 0
    process.kill()


def test_what_cannot_be_started_says_what_to_do(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a typing error in an experiment file gives a traceback."""
    with pytest.raises(CommandError, match="not found: no-such-program"):
        launch(["no-such-program"], os.environ)
    monkeypatch.setenv("KTS_NODE", "n1")
    with pytest.raises(CommandError) as in_a_pod:
        launch(["./train.py"], os.environ)
    assert "the files of its image alone" in in_a_pod.value.remedy
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(CommandError, match="cannot be started") as caught:
        launch([str(script)], os.environ)
    assert "chmod +x" in caught.value.remedy


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Otherwise a typing error in workdir is told as a command that is not found."""
    with pytest.raises(CommandError, match=r"workdir .*gone: No such file"):
        ChildProcess(["true"], os.environ, str(tmp_path / "gone"))
    here = ChildProcess(["pwd"], os.environ, str(tmp_path))
    assert _said(here)[0].text.strip() == str(tmp_path)
    here.kill()


def test_a_program_of_a_container_that_is_gone_is_gone(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Otherwise a pod whose program's container was killed for memory would hang until its deadline."""
    beside = Beside(tmp_path, launcher_binary(tmp_path_factory.getbasetemp()))
    process = beside(_python("import time; time.sleep(600)"), os.environ)
    beside.launchers[0].kill()
    with pytest.raises(BesideError, match="gone"):
        until(lambda: process.exit_code() is not None, "it ends")
    process.kill()
    beside.close()


def test_a_launcher_ends_with_its_worker(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Otherwise the pod of a worker that died would never end."""
    beside = Beside(tmp_path, launcher_binary(tmp_path_factory.getbasetemp()))
    beside(_python("import time; time.sleep(600)"), os.environ).kill()
    beside.close()
    assert beside.launchers[0].returncode == 0


def test_a_launcher_shows_the_processes_of_its_container(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Otherwise nobody could tell what the host did with a program in an image of its own."""
    beside = Beside(tmp_path, launcher_binary(tmp_path_factory.getbasetemp()))
    program = beside(_python("print(flush=True)\nwhile True: pass"), os.environ)
    try:
        _said(program)
        there = beside._ends[0].container
        assert there is not None
        assert (there.pid, there.cores()) == (beside.launchers[0].pid, os.sched_getaffinity(0))
        begun_ns = time.monotonic_ns()
        with contextlib.closing(HostReader(own=False, container=there)) as reader:
            first_ns = reader.read().counters["running_threads"]
            assert first_ns <= time.monotonic_ns() - begun_ns + 20 * NS_PER_MS, "what ran before is not counted"
            until(lambda: reader.read().counters["running_threads"] >= 20 * NS_PER_MS, "it works")
    finally:  # it takes a core from all tests to come
        program.kill()
        beside.close()


def test_a_launcher_that_does_not_come_is_waited_for_with_an_end(tmp_path: Path) -> None:
    """Otherwise a container that never started would make the run hang."""
    pulses = []
    launcher = Launcher(tmp_path / "nobody.sock")
    with pytest.raises(BesideError, match="did not start the program's launcher"):
        launcher.join(lambda: pulses.append(1), within_s=0)
    launcher.close()
    assert pulses


def test_a_second_life_has_nothing_of_the_first(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Otherwise a program that is started again would be told to have ended before."""
    beside = Beside(tmp_path, launcher_binary(tmp_path_factory.getbasetemp()))
    first = beside(_python("print('once')"), os.environ)
    end = beside._ends[0]
    assert _said(first)[0].text == "once\n"
    second = end([sys.executable], {"MORE": "1"})
    until(lambda: second.exit_code() is not None, "it ends")
    assert (second.exit_code(), second.lines(0.05)[0].text) == (0, "once\n")
    second.kill()
    first.kill()
    beside.close()


WRAPPER = ["sh", "-c", "sleep 600 & echo $!; setsid sleep 600 & echo $!; (setsid sleep 600 & echo $!); {}"]


def _wrapped(then: str) -> list[str]:
    """A wrapper script that starts a program, one in a session of its own, and one that it has disowned."""
    return [*WRAPPER[:2], WRAPPER[2].format(then)]


@pytest.mark.parametrize("who", ["worker", "keeper"])
def test_what_a_wrapper_started_ends_with_whoever_is_killed(who: str) -> None:
    """Otherwise a program stays stopped for ever, on a GPU with its memory, once its worker is killed."""
    code = (
        "import os; from kts.worker.keeper import adopt_orphans; from kts.worker.tenants.process import ChildProcess\n"
        "adopt_orphans()\n"
        f"program = ChildProcess({_wrapped('wait')!r}, os.environ)\n"
        "said = []\n"
        "while len(said) < 3: said += program.lines(1)\n"
        "program.pause()\n"
        "print(program._keeper.pid, *[line.text.strip() for line in said], flush=True)\n"
        "while program.exit_code() is None: pass\n"
        "program.kill()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        keeper, *pids = map(int, worker.stdout.readline().split())
        assert len(pids) == 3
        until(lambda: _state(pids[0]) == "T", "it is stopped")
        os.kill(worker.pid if who == "worker" else keeper, signal.SIGKILL)
        until(lambda: all(_state(pid) in ("gone", "Z") for pid in pids), "all end")


def test_what_leaves_the_group_ends_with_the_program() -> None:
    """Otherwise each restart of a program leaves one of its helpers on the GPU."""
    for then in ("exit 0", "wait"):
        program = ChildProcess(_wrapped(then), os.environ)
        pids = [int(line.text) for line in _said(program, 3)]
        if then == "exit 0":
            until(lambda program=program: program.exit_code() == 0, "it ends")  # type: ignore[misc]
        else:
            program.kill()
        assert all(_state(pid) in ("gone", "Z") for pid in pids)
        program.kill()
