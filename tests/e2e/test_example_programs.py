"""examples/programs: short, offline, and those whose libraries are there run. KTS_PROGRAMS_PYTHON: a Python that
has more of these than this one."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest
import yaml
from msgspec import UNSET

import kts
from kts.physics.files import decode_prediction, decode_profile
from kts.plan import build
from kts.report.modes import table
from kts.spec import load

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "programs"
PROGRAMS = sorted(FOLDER.glob("*.py"))
MIXES = [*sorted(FOLDER.glob("development*.yaml")), *sorted(FOLDER.glob("evaluation*.yaml"))]
PYTHON = os.environ.get("KTS_PROGRAMS_PYTHON", sys.executable)
FIRST_LINE_S = 240
OPTIONAL = {"cupy"}
"""Libraries without which a program runs, too."""


def _imported(program: Path) -> set[str]:
    tree = ast.parse(program.read_text(encoding="utf-8"), filename=str(program))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - OPTIONAL


def test_there_are_ten_and_the_readme_tells_of_each() -> None:
    """Else one would be there that nobody finds, or be promised and not there."""
    told = re.findall(r"^\| `(\w+\.py)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == [program.name for program in PROGRAMS]
    assert len(PROGRAMS) >= 10


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_each_is_short_and_neither_knows_kts_nor_downloads(program: Path) -> None:
    """Else they would not be what people run, or would not run where there is no network."""
    text = program.read_text(encoding="utf-8")
    compile(text, str(program), "exec")
    assert len(text.splitlines()) < 60
    assert "kts" not in text.lower()
    assert "from_pretrained" not in text


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_each_whose_libraries_are_there_runs(program: Path) -> None:
    """Else an example would be code that never ran."""
    needed = sorted(_imported(program))
    asks = f"import importlib.util as u; print([n for n in {needed} if u.find_spec(n) is None])"
    missing = subprocess.run([PYTHON, "-c", asks], capture_output=True, text=True, check=True).stdout.strip()
    if missing != "[]":
        pytest.skip(f"{program.name} needs {missing}")
    process = subprocess.Popen(
        [PYTHON, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    end = threading.Timer(FIRST_LINE_S, os.killpg, (process.pid, signal.SIGKILL))
    end.start()
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
    finally:
        end.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
    assert re.search(r"\d", first), said[-2000:]


def test_mixes_are_of_two_to_four_or_more_and_evaluation_has_kinds_that_development_has_not() -> None:
    """Else a model could be judged by what it was tuned on."""
    ran: dict[str, set[str]] = {"development": set(), "evaluation": set()}
    mixes = dict.fromkeys(ran, 0)
    for file in MIXES:
        side = file.stem.split("-")[0]
        plan = build(load(str(file)).experiment)
        assert {len(mix.tenants) for mix in plan.mixes} >= {2, 3, 4}
        mixes[side] += len(plan.mixes)
        tenants = yaml.safe_load(file.read_text(encoding="utf-8"))["tenants"].values()
        ran[side] |= {tenant["command"].split()[-1] for tenant in tenants}
    assert mixes["evaluation"] >= 20
    assert all((ROOT / program).is_file() for program in ran["development"] | ran["evaluation"])
    assert len(ran["evaluation"] - ran["development"]) >= 5
    assert ran["development"] | ran["evaluation"] <= {f"examples/programs/{program.name}" for program in PROGRAMS}


@pytest.mark.parametrize(
    ("machine", "predicted"),
    [("h200-1", "h200-1"), ("h200-2", "h200-1"), *((f"h200-{n}", f"h200-{n}") for n in range(3, 8))],
)
def test_the_published_figures_are_those_of_the_recorded_runs(machine: str, predicted: str) -> None:
    """Else the docs would claim of the sealed predictions what the data do not show."""
    results = FOLDER / "results"
    score = ROOT / "examples" / "09_programs.py"
    more = ["--predictions", str(results / predicted)]
    done = subprocess.run(
        [sys.executable, str(score), "score", str(results / machine), *more], capture_output=True, text=True, check=True
    )
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(table) == 8
    published = (ROOT / "docs" / "physics.md").read_text(encoding="utf-8")
    assert [row for row in table if row not in published] == []
    assert "Sealed before the run" in done.stdout


def test_the_gpus_time_adds_up_in_what_was_traced_on_a_gpu() -> None:
    """Else a term that the model leaves out could not be told from one that it has, and the docs would claim it."""
    folder, mixes = FOLDER / "results" / "h200-5", "graph+resnet,train+streams"
    argv = [ROOT / "examples" / "09_programs.py", "account", folder, FOLDER / "evaluation.yaml", "--only", mixes]
    done = subprocess.run([sys.executable, *map(str, argv)], capture_output=True, text=True, check=True)
    rows = done.stdout.splitlines()[2:]
    assert len(rows) == 2
    assert [row for row in rows if row not in (ROOT / "docs" / "physics.md").read_text(encoding="utf-8")] == []
    assert all(abs(float(row.split("|")[6].strip(" %"))) <= 2 for row in rows)


def test_the_published_crowd_is_that_of_the_recorded_run() -> None:
    """Else the docs would say of fifty tenants on a GPU what no run shows."""
    argv = [ROOT / "examples" / "10_modes.py", "table", ROOT / "examples" / "modes" / "h200-fifty-6.tar.xz"]
    done = subprocess.run([sys.executable, *map(str, argv)], capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 21
    assert [row for row in rows if row not in (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")] == []


def test_the_second_crowd_is_published_as_it_was_recorded() -> None:
    """Else the docs would say that two machines agree where they do not."""
    argv = [ROOT / "examples" / "10_modes.py", "table", ROOT / "examples" / "modes" / "h200-fifty-17.tar.xz"]
    done = subprocess.run([sys.executable, *map(str, argv)], capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in done.stdout.splitlines() if row.startswith("|")]
    of = {f"{row[0]}, {row[1]}": row for row in rows[2:]}
    page = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    section = page.partition("### Another machine")[2].partition("\n#")[0]
    published = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines() if row.startswith("|")]
    assert len(published) == 10
    for row in published[2:]:
        df99, rate, goodput = row[2], row[4], row[6]
        assert (df99, rate or "-") == (of[row[0]][6], of[row[0]][4] if rate else "-")
        assert goodput == of[row[0]][7].partition(" (")[0]


def test_the_mixes_measured_again_are_published_as_they_were_recorded() -> None:
    """Else the docs would say of MPS, and of what a choice is worth elsewhere, what no run shows."""
    folders = [ROOT / "examples" / "modes" / f"h200-programs-{machine}" for machine in (16, 17)]
    page = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    section = page.partition("### The ten again")[2].partition("\n#")[0]
    works = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines() if row.startswith("|")]
    argv = [ROOT / "examples" / "10_modes.py", "regret", *folders, "--slo"]
    done = subprocess.run([sys.executable, *map(str, argv)], capture_output=True, text=True, check=True)
    rows = [row.split("|") for row in done.stdout.splitlines() if row.startswith("| ") and "+" in row]
    assert [[cell.strip() for cell in row[5:7]] for row in rows] == [row[4:6] for row in works[2:13]]
    worth = next(row for row in done.stdout.splitlines() if row.startswith("| kts choose"))
    assert " | ".join(cell.strip() for cell in worth.split("|")[2:5]) in section


def test_a_programs_slower_core_is_told_of_a_recorded_run() -> None:
    """Else a host that others slow down, which no counter of a virtual machine shows, is called the launch path."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in (ROOT / "examples" / "modes" / "h200-programs-17").glob("*.tar.xz"):
            with tarfile.open(file) as tar:
                tar.extractall(scratch, filter="data")
        run = kts.load(Path(scratch) / "run").shared_as("time-slicing")
        causes = run.summary.tenants["speech"].causes
    assert causes is not UNSET
    mean = next(one for one in causes[-1].of if one.statistic == "mean")
    slow = next(part for part in mean.parts if part.cause == "slow-core")
    assert slow.lo is not None
    assert slow.lo > 0
    assert slow.data.startswith("a loop on its core took ")
    assert abs(mean.parts[-1].ms) < 0.1 * mean.added_ms


def test_the_published_modes_are_those_of_the_recorded_runs() -> None:
    """Else the docs would say of MPS on a GPU what no run shows."""
    told: list[dict[tuple[str, str], list[str]]] = []
    for name in ("h200-fast-14", "h200-fast-15"):
        modes = kts.load(ROOT / "examples" / "modes" / name).modes
        assert modes is not None
        rows = [[str(cell) for cell in row] for group in table(modes).groups for row in group]
        told.append({(row[0], row[5]): row for row in rows})
    work, energy, p99, df99, rate = 1, 3, 7, 8, 9
    published = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    for mode in ("exclusive", "time-slicing", "mps", "mps-50", "streams"):
        cells = [one[mode, "fft"][column] for column in (work, energy, p99, df99, rate) for one in told]
        cells += [one[mode, "gemm"][rate] for one in told]
        assert f"| {mode.replace('-50', ':50')} | {' | '.join(cells)} |" in published


def test_the_slow_start_of_a_real_program_is_in_no_figure_of_run_profile_or_prediction() -> None:
    """Else a Llama program, four times as slow for its first 256 tokens on an H200, would be judged by these."""
    results = FOLDER / "results" / "llama"
    run = kts.load(results / "run")
    worker = next(one for one in run.info.workers if one.tenant == "decode")
    settled = worker.settled
    assert settled is not None
    assert settled.steady
    assert settled.iterations >= 400
    assert worker.solo_ms is not None
    assert worker.solo_ms > 40
    latest = max(run.latencies_ms("decode", condition).max() for condition in run.conditions if "decode" in condition)
    profile = decode_profile((results / "profiles" / "decode.profile.json").read_bytes(), "decode")
    prediction = decode_prediction((results / "prediction.json").read_bytes(), "prediction")
    predicted = prediction.mixes[0].tenants["decode"]
    slowest = predicted.response.p999.value
    assert slowest is not None
    assert max(latest, float(profile.solo_service.ms.max()), slowest) < 30
