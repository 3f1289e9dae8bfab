"""Real processes that die, or hit a real limit, while they write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers_store import make_writer

from kts.errors import SetupError
from kts.model.run import Outcome
from kts.store import open_run

ROOT = Path(__file__).parents[2]

ENDLESS = """
import sys
from pathlib import Path
from tests.helpers_store import make_outcome, make_records, make_writer
writer = make_writer(Path(sys.argv[1]))
for seq in range(5):
    writer.records("fft", 0, seq, make_records(100, 100 * seq))
writer.block(make_outcome(0, {"fft": 500}))
seq = 0
while True:
    writer.records("gemm", 1, seq, make_records(100, 100 * seq))
    seq += 1
    print(seq, flush=True)
"""

LIMITED = """
import resource, sys
from pathlib import Path
from kts.errors import MeasurementError
from kts.model.run import Outcome
from tests.helpers_store import make_records, make_writer
writer = make_writer(Path(sys.argv[1]))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
kept = 0
try:
    while True:
        writer.records("fft", 0, kept, make_records(100, 100 * kept))
        kept += 1
except MeasurementError as error:
    print(kept, error.what, error.remedy)
writer.close(Outcome(kind="incomplete", reason="stopped", exit_code=5))
"""


def test_sigkill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A kill -9 of the command would lose measurements, or an unfinished block would count."""
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path / "run"], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = 0
    try:
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged == 20:
                live = open_run(tmp_path / "run")
                assert live.info.outcome.kind == "running"
                assert any("still running" in note for note in live.info.notes)
                assert live.blocks[-1].reason == "this block is still running"
                with pytest.raises(SetupError, match="another kts"):
                    make_writer(tmp_path / "run", overwrite=True)
                process.kill()
    finally:
        process.kill()
        process.wait()
    process.stdout.close()
    run = open_run(tmp_path / "run")
    assert run.info.outcome.kind == "incomplete"
    assert run.info.outcome.reason == "kts was killed while measuring"
    assert [(block.index, block.valid) for block in run.blocks] == [(0, True), (1, False)]
    assert run.blocks[1].reason == "run ended inside this block"
    assert run.blocks[1].condition in {"solo-fft", "solo-gemm", "shared-fft+gemm"}
    assert len(run.records("fft", 0)) == 500
    assert len(run.records("gemm", 1)) >= 100 * acknowledged
    assert json.loads((tmp_path / "run" / "run.json").read_text())["outcome"]["kind"] == "running"


def test_real_file_size_limit_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """The system's own refusal would end in a traceback or a signal instead of a readable directory."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "run"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kept, _, text = done.stdout.partition(" ")
    assert "larger than files may be" in text
    assert "ulimit" in text
    run = open_run(tmp_path / "run")
    assert len(run.records("fft", 0)) == 100 * int(kept)
    assert run.damage == ()
    assert run.info.outcome.reason == "stopped"


def test_a_run_killed_before_its_first_block_opens(tmp_path: Path) -> None:
    """`kts report` would end in a traceback."""
    code = "import os, sys; from pathlib import Path; from tests.helpers_store import make_writer\n"
    code += "make_writer(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], cwd=ROOT, check=False)
    assert killed.returncode == -9
    run = open_run(tmp_path / "run")
    assert run.blocks == ()
    assert run.info.outcome.kind == "incomplete"
    make_writer(tmp_path / "run", overwrite=True).close(Outcome(kind="complete"))
