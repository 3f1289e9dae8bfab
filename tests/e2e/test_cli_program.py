"""`kts run -- PROGRAM ARGS`, whole: a program without a file."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from tests.helpers_cli import DEADLINE_S, errors, kts, start
from tests.helpers_tracer import standin
from tests.helpers_wait import until

from kts.app import run as measured
from kts.spec import beside

pytestmark = pytest.mark.e2e

PROGRAM = """\
import sys, time
assert sys.argv[1:] == ["--out", "y", "--json"], sys.argv
i = 0
while True:
    begin = time.time_ns()
    sum(range(20_000))
    end = time.time_ns()
    print(f"KTS_APP,v1,OWN,{i},{begin},{end},nan,", flush=True)
    i += 1
    time.sleep(0.001)
"""
OPTIONS = ("--device", "cpu", "--no-figures", "--no-telemetry")
OWN = ("--", sys.executable, "own.py", "--out", "y", "--json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def test_a_program_is_measured_alone_and_in_each_company(folder: Path) -> None:
    """Else the shortest way to an answer would not lead to one; and its options would be taken for kts's."""
    short = ("--rounds", "2", "--iterations", "60", "--precision", "none")
    done = kts("run", *OPTIONS, *short, "--out", "run", "--json", *OWN, cwd=folder)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["subject"], list(summary["tenants"]), summary["is_gpu"]) == ("own", ["own"], False)
    assert [mix["beside"] for mix in summary["mixes"]] == [["light"], ["copy"], ["heavy"]]
    assert all(mix["tenants"]["own"]["response"]["n"] > 30 for mix in summary["mixes"])
    assert summary["tenants"]["own"]["response"]["solo"]["n"] > 30
    for word in ("not a GPU", "alone", "beside light", "beside heavy", "beside copy", "own has "):
        assert word in done.stderr
    again = kts("report", folder / "run", "--no-figures", "--json")
    assert json.loads(again.stdout) == summary


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import time; time.sleep(600)", ("has no iterations", "KTS_APP")),
        ("", ("ends at once",)),
        ("print('bad luck'); raise SystemExit(3)", ("exit code 3", "bad luck")),
    ],
)
def test_a_program_of_which_there_is_nothing_to_measure_is_told(
    program: str, words: tuple[str, ...], folder: Path
) -> None:
    """Else minutes would pass for a table without a figure, or the end would be a riddle."""
    done = kts("run", *OPTIONS, "--", sys.executable, "-c", program, cwd=folder, KTS_SETTLE_S="2")
    assert done.returncode == 4, done.stderr
    assert all(word in done.stderr for word in words)
    assert "  try: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_says_nothing_is_measured_by_its_round_trips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else programs as people write them would have to print lines for kts. The GPU is made of arithmetic here, so that
    the device is said to be a core, and tracing is asked for."""
    gpu = standin()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(gpu.cuda))
    monkeypatch.setenv("KTS_CUPTI", str(gpu.cupti))
    text = beside(gpu.argv(iterations=0, trips="1,4", kernel_us=100, host_us=50, think_us=1000))
    traced = text.replace("workload: command\n", "workload: command\n    trace: calls\n")
    run = measured(traced, tmp_path / "run", device="cpu", telemetry=False, rounds=2, iterations=40, precision=None)
    assert run.failure is None
    assert run.summary.subject == "program"
    assert any(note == "program: an iteration is 2 round trips: 1 launch, then 4" for note in run.summary.notes)
    records = run.records("program")
    assert len(records) > 100
    assert set(records["launches"].tolist()) == {5}
    assert (run.latencies_ms("program") >= 0.5).all()


def test_a_program_that_is_not_there_is_told(folder: Path) -> None:
    """Else a typing mistake would look like a fault of kts."""
    done = kts("run", *OPTIONS, "--", "no-such-program", "x", cwd=folder)
    assert done.returncode == 4
    assert "command not found: no-such-program" in errors(done)[0]


def test_ctrl_c_keeps_what_was_measured_and_ends_the_program(folder: Path) -> None:
    """Else an impatient user would lose everything, or leave programs on the device."""
    process = start("run", *OPTIONS, "--rounds", "20", "--iterations", "800", "--out", "run", *OWN, cwd=folder)
    events = folder / "run" / "events.jsonl"
    until(
        lambda: events.exists() and events.read_text(encoding="utf-8").count('"block-ended"') >= 4,
        "four blocks",
        living=process,
    )
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    summary = json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["tenants"]["own"]["response"]["solo"]["n"] > 20
    assert not [line for line in _commands() if str(folder) in line]


def _commands() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if b"own.py" in (entry / "cmdline").read_bytes():
                found.append(str((entry / "cwd").readlink()))
        except OSError:
            continue
    return found
