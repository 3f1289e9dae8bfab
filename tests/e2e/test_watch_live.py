"""The live source on this machine's own kernel, where it has probes and this user may: a stand-in for the driver."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.helpers_tracer import standin

pytestmark = pytest.mark.e2e
_ROOT = Path(__file__).parents[2]
_PRIVATELY = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tracefs nodev "$0" && test -w "$0/uprobe_events" && exec "$@"',
)
_OPENED = """
import os, subprocess, sys, time
from pathlib import Path
from kts.watch.source import LiveSource
from kts.watch.source.tracefs import Tracefs
tracefs = Tracefs(Path(sys.argv[1]))
with LiveSource(tracefs=tracefs) as source:
"""
_COUNTED = (
    _OPENED
    + """
    program = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
    calls, ours = {}, []
    deadline = time.monotonic() + 60
    for piece in source.pieces():
        assert time.monotonic() < deadline, "the calls do not come"
        ours += [one.number for one in piece.processes if one.pid == program.pid]
        for number, *which in piece.calls[["process", "function", "returned"]].tolist():
            if number in ours:
                calls[tuple(which)] = calls.get(tuple(which), 0) + 1
        if program.returncode is None and calls.get((22, 1), 0) >= 200:
            program.send_signal(19)
            os.waitid(os.P_PID, program.pid, os.WSTOPPED)
            program.kill()
            program.returncode = -9
            until_ns = time.monotonic_ns()
        if program.returncode is not None and piece.until_ns > until_ns:
            break
    lines = program.stdout.read().count("KTS_APP")
    print(lines, calls.get((0, 0), 0), calls.get((22, 0), 0), calls.get((22, 1), 0))
print((tracefs.root / "uprobe_events").read_text().count(tracefs.name), tracefs.instance.exists())
"""
)
_KILLED = _OPENED + "    print(tracefs.name, flush=True)\n    os.kill(os.getpid(), 9)\n"
_COMMAND = """
import os, sys
from kts.cli.main import main
os.environ["KTS_TRACEFS"] = sys.argv[1]
sys.exit(main(sys.argv[2:]))
"""
_NEXT = (
    _OPENED.replace("with LiveSource(tracefs=tracefs) as source:", "").rstrip()
    + "\nprint(*tracefs.remove_left())\n"
    + "left = (tracefs.root / 'uprobe_events').read_text() + ' '.join(os.listdir(tracefs.root / 'instances'))\n"
    + "print(sys.argv[2] in left)\n"
)


def _on_the_kernel(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` where ``folder`` is the kernel's tracefs, and for nobody else."""
    env = {**standin().env(), "PYTHONPATH": os.pathsep.join([str(_ROOT / "src"), str(_ROOT)])}
    argv = [*_PRIVATELY, str(folder), sys.executable, "-c", textwrap.dedent(code), str(folder), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=400, env=env)


@pytest.fixture
def tracefs(tmp_path: Path) -> Path:
    """Where it can be mounted. Skips where the kernel, or this user's rights, allow no probes."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("probes in this machine's kernel need root and unshare")
    if str(Path("/proc/self/ns/pid").readlink()) != "pid:[4026531836]":
        pytest.skip("this container has process numbers of its own; the kernel tells the machine's")
    folder = tmp_path / "tracing"
    folder.mkdir()
    if (tried := _on_the_kernel("", folder)).returncode:
        pytest.skip(f"this machine's kernel allows no probes here: {tried.stderr.strip() or 'no uprobe_events'}")
    return folder


def test_what_the_kernel_tells_is_what_the_program_says(tracefs: Path) -> None:
    """Else the way from the kernel's pages to calls would be right only on pages of our own making."""
    program = standin().argv(iterations=0, trips="1,3", kernel_us=500, think_us=2000, lines=1, api="driver")
    holder = subprocess.Popen(["sleep", "300"], env={**os.environ, "LD_PRELOAD": str(standin().cuda / "libcuda.so.1")})
    try:
        done = _on_the_kernel(_COUNTED, tracefs, *program)
    finally:
        holder.kill()
        holder.wait()
    assert done.returncode == 0, done.stderr
    counts, left = done.stdout.splitlines()
    lines, launches, waits, ends = map(int, counts.split())
    assert lines <= ends / 2 <= lines + 1  # the last iteration may be one that has no line yet
    assert 0 <= waits - ends <= 1
    assert 2 * lines <= launches / 2 <= 2 * (lines + 1)
    assert left == "0 False"


def test_what_a_killed_one_left_in_the_kernel_is_removed_by_the_next(tracefs: Path) -> None:
    """Else kill -9 would leave probes in every program's driver until the node is started anew."""
    holder = subprocess.Popen(["sleep", "300"], env={**os.environ, "LD_PRELOAD": str(standin().cuda / "libcuda.so.1")})
    try:
        killed = _on_the_kernel(_KILLED, tracefs)
    finally:
        holder.kill()
        holder.wait()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    name = killed.stdout.strip()
    done = _on_the_kernel(_NEXT, tracefs, name)
    assert done.returncode == 0, done.stderr
    removed, left = done.stdout.splitlines()
    assert name in removed
    assert left == "False"


def test_the_command_says_what_a_program_says_of_itself(tracefs: Path, tmp_path: Path) -> None:
    """Else the way from the kernel to the table would be tried in parts alone."""
    program = subprocess.Popen(
        standin().argv(iterations=0, trips="1,3", kernel_us=500, think_us=2000, lines=1, api="driver"),
        env={**os.environ, **standin().env()},
        stdout=subprocess.DEVNULL,
    )
    try:
        done = _on_the_kernel(_COMMAND, tracefs, "watch", "--for", "3", "--out", str(tmp_path / "out"), "--json")
    finally:
        program.kill()
        program.wait()
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    (unit,) = (one for one in state["units"] if f"({program.pid})" in one["unit"])
    assert unit["trips"] > 0
    assert unit["launches"] > unit["trips"]
    again = subprocess.run(
        [sys.executable, "-m", "kts", "watch", "--from", str(tmp_path / "out"), "--window", "3", "--json"],
        capture_output=True,
        check=True,
        timeout=400,
    )
    (same,) = (one for one in json.loads(again.stdout)["units"] if one["unit"] == unit["unit"])
    assert all(same[figure] == unit[figure] for figure in ("p50_ms", "p99_ms", "trips", "launches", "in_flight"))
