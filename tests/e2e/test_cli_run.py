"""`kts run`, whole: real workers, real files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.helpers_cli import DEADLINE_S, TINY, kts, start
from tests.helpers_wait import until

from kts.app.catalog import schema
from kts.cli.main import main

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A tiny experiment that has run once."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    return folder / "out", kts("run", "tiny.yaml", "--out", "out", "--device", "cpu", "--json", cwd=folder)


def test_a_run_ends_with_a_summary_that_fits_the_published_schema(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Else nothing that kts promises to other programs would hold."""
    directory, done = finished
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    jsonschema.validate(summary, schema("summary"))
    assert json.loads((directory / "summary.json").read_text(encoding="utf-8")) == summary
    assert list(summary["tenants"]) == ["fft", "gemm"]
    for tenant in summary["tenants"].values():
        assert tenant["response"]["solo"]["n"] >= 400
        assert tenant["response"]["df"]["p50"]["estimate"] > 0
        df99 = tenant["response"]["df"]["p99"]  # where others took the core now and then, rounds differ and refuse it
        assert (df99["estimate"] is None) is bool(df99["refused"])
        assert tenant["verdict"]["sentence"]
    assert summary["is_gpu"] is False
    assert summary["mode"] == "cpu-scheduler"
    assert summary["outcome"] == "complete"


def test_the_run_directory_says_how_it_was_made(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Else nobody could repeat the measurement."""
    info = json.loads((finished[0] / "run.json").read_text(encoding="utf-8"))
    assert info["experiment"] == TINY
    assert {"python", "kernel", "cpu_model", "library_numpy"} <= set(info["environment"])
    assert info["plan"]["rounds"] == 2


def test_figures_tables_and_pages_are_written(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Else a run would end without the picture that it promises."""
    names = {path.name for path in finished[0].rglob("*")}
    assert {"records.parquet", "summary.csv", "results.md"} <= names
    assert any(name.endswith(".png") for name in names)


def test_a_report_of_the_same_run_has_the_same_figures(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a figure could not be reproduced from its run."""
    directory, done = finished
    assert main(["report", str(directory), "--out", str(tmp_path / "again"), "--no-figures", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(done.stdout)
    assert not list((tmp_path / "again").rglob("*.png"))


def test_a_run_compared_with_itself_shows_no_change(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Else differences between runs could not be trusted."""
    directory = finished[0]
    assert main(["compare", str(directory), str(directory / "summary.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_run_is_never_replaced_unasked(
    finished: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a second run of the same command would destroy the first one's data."""
    directory = finished[0]
    before = (directory / "records.parquet").read_bytes()
    assert main(["run", "demo", "--out", str(directory)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (directory / "records.parquet").read_bytes() == before


def test_a_recorded_run_replays_to_the_same_figures(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Else the path from worker to report would change what it carries."""
    directory, original = finished
    done = kts("run", directory, "--on", "replay", "--out", tmp_path / "again", "--no-figures", "--json")
    assert done.returncode == 0, done.stderr
    replayed, first = json.loads(done.stdout), json.loads(original.stdout)
    assert replayed["backend"] == "replay"
    for name, tenant in first["tenants"].items():
        assert replayed["tenants"][name]["response"]["df"] == tenant["response"]["df"]


# Killed and stopped runs


LONG = TINY.replace("rounds: 2", "rounds: 40").replace("iterations: 400", "iterations: 8000")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A run of which at least two rounds are recorded, and which would go on for minutes."""
    (tmp_path / "long.yaml").write_text(LONG, encoding="utf-8")
    process = start("run", "long.yaml", "--out", "out", "--device", "cpu", "--no-figures", cwd=tmp_path)
    try:
        events = tmp_path / "out" / "events.jsonl"
        until(lambda: _blocks_ended(events) >= 6, "two rounds", living=process)
        yield tmp_path / "out", process
    finally:
        for pid in (process.pid, *_workers(tmp_path / "out")):
            _end(pid)
        process.communicate(timeout=DEADLINE_S)


def test_ctrl_c_keeps_and_reports_what_was_measured(running: tuple[Path, subprocess.Popen[str]]) -> None:
    """Else an impatient user would lose everything, or leave workers that disturb the next run."""
    directory, process = running
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, shown
    assert "error: " in shown
    assert "Traceback" not in shown
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    assert summary["outcome"] == "interrupted"
    assert summary["tenants"]["fft"]["response"]["solo"]["n"] > 100
    until(lambda: not any(map(_alive, _workers(directory))), "the workers end")


def test_a_run_that_was_killed_can_be_reported(running: tuple[Path, subprocess.Popen[str]]) -> None:
    """Else a crash or a power failure would cost the whole measurement."""
    directory, process = running
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=DEADLINE_S)
    until(lambda: not any(map(_alive, _workers(directory))), "the workers end")
    done = kts("report", directory, "--no-figures", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["outcome"] == "incomplete"
    assert summary["tenants"]["gemm"]["response"]["solo"]["n"] > 100


def _blocks_ended(events: Path) -> int:
    return events.read_text(encoding="utf-8").count('"block-ended"') if events.exists() else 0


def _workers(directory: Path) -> list[int]:
    run = directory / "run.json"
    if not run.exists():
        return []
    return [worker["pid"] for worker in json.loads(run.read_text(encoding="utf-8"))["workers"]]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _end(pid: int) -> None:
    if _alive(pid):
        os.kill(pid, signal.SIGKILL)


SCARCE = """
name: scarce
device: cpu
rounds: 3
precision: 0.1
max_seconds: 3
tenants:
  fft: {workload: fft, size: 64, think_ms: 2, iterations: 600}
  gemm: {workload: gemm, size: 64, think_ms: 8, iterations: 150}
"""


def test_a_run_says_at_its_start_what_it_will_refuse_and_refuses_that(tmp_path: Path) -> None:
    """Else who gave it too little time would learn that at its end. However fast the machine is, pauses alone let 3 s
    hold less than three rounds, of 50 iterations of gemm alone each."""
    (tmp_path / "scarce.yaml").write_text(SCARCE, encoding="utf-8")
    done = kts("run", "scarce.yaml", "--out", "out", "--no-figures", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = done.stderr.split("measuring: round 1")[0]
    told = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["foretold"]
    first, last = ({(one["tenant"], one["condition"]): one for one in each["expected"]} for each in (told[0], told[-1]))
    assert re.search(r"^foretold: .+ in about .+ \(the time limit\) cannot decide all", before, re.MULTILINE), before
    assert f"  gemm: no p99 or DF99: {first['gemm', 'solo-gemm']['n']} of 368 iterations alone" in before
    assert "  enough: --max-seconds " in before
    summary = json.loads(done.stdout)
    gemm = summary["tenants"]["gemm"]["response"]
    for expected in (first, last):
        assert "p99" in expected["gemm", "solo-gemm"]["refused"]
        assert "df99" in expected["gemm", "shared-fft+gemm"]["refused"]
    assert gemm["solo"]["n"] < 150
    assert gemm["solo"]["p99"]["refused"].startswith("p99 needs 368 iterations")
    assert gemm["df"]["p99"]["refused"]
    assert {
        (one["tenant"], one["condition"], one["figure"], one["n"], one["expected_n"], one.get("refused", ""))
        for one in summary.get("foretold", {"otherwise": []})["otherwise"]
    } == set(_otherwise(last, summary["tenants"]))


def _otherwise(
    told: dict[tuple[str, str], Any], tenants: dict[str, Any]
) -> Iterator[tuple[str, str, str, int, int, str]]:
    """What a slower machine, or a busy one, makes come otherwise than foretold; nothing on most."""
    for (name, condition), one in told.items():
        response = tenants[name]["response"]
        side = response["solo" if condition == f"solo-{name}" else "shared"]
        df = {} if side is response["solo"] else {"df99": response["df"]["p99"]}
        for figure, came in ({key: side[key] for key in ("p50", "p95", "p99", "p999")} | df).items():
            why = came.get("refused") or ""
            if figure not in one.get("open", []) and (figure in one.get("refused", [])) is not bool(why):
                yield name, condition, figure, side["n"], one["n"], why
