"""Bad input on disk: one clear line and its exit code, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.helpers_cli import DEADLINE_S, KTS, TINY, errors, kts, record

from kts.cli.main import main
from kts.report import writing

pytestmark = pytest.mark.e2e

BIG = """\
design: classic
tenants:
  a: {workload: fft, size: 2, iterations: 130000}
  b: {workload: gemm, size: 2, iterations: 130000}
"""
LIMIT = 4 << 20
"""Bytes a file may have: what kts sets aside at the start just fits; 116,000 iterations do not."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return record(tmp_path_factory.mktemp("recorded") / "run")


def _complaint(code: int, arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs kts in this process; checks code and form; returns the first error line."""
    assert main([str(argument) for argument in arguments]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "  try: "))]
    assert lines[0].startswith("error: ")
    assert lines[-1].startswith("  try: ")
    return lines[0]


def test_a_run_directory_of_a_newer_schema(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else an old kts would misread a newer run."""
    shutil.copytree(recorded, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    info = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**info, "schema": 99}), encoding="utf-8")
    assert "99" in _complaint(6, ["report", tmp_path / "run"], capsys)


def test_a_truncated_parquet(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else half a file would be reported as if it were whole."""
    shutil.copytree(recorded, tmp_path / "run")
    file = tmp_path / "run" / "records.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "records.parquet" in _complaint(6, ["report", tmp_path / "run"], capsys)


@pytest.mark.parametrize("command", ["report", "compare"])
def test_no_such_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a wrong path would end in a traceback."""
    nowhere = tmp_path / "nowhere"
    arguments: list[str | Path] = [command, nowhere, *([nowhere] if command == "compare" else [])]
    assert f"{nowhere}: no such directory" in _complaint(6, arguments, capsys)


@pytest.mark.parametrize(
    ("text", "what"),
    [("{", "not a summary.json"), ("[]", "not a summary.json"), ('{"schema": 99}', "written by a newer kts")],
)
def test_a_summary_that_is_none(text: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else `kts compare` would fail with the words of a JSON library."""
    file = tmp_path / "summary.json"
    file.write_text(text, encoding="utf-8")
    assert what in _complaint(6, ["compare", file, file], capsys)


def test_no_permission_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the user would wait for a measurement that cannot be kept."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "/proc/kts" in _complaint(4, ["run", "demo", "--out", "/proc/kts"], capsys)
    assert "file is in the way" in _complaint(4, ["run", "demo", "--out", tmp_path / "file" / "x"], capsys)
    assert "/dev/full" in _complaint(4, ["run", "demo", "--out", "/dev/full"], capsys)


def test_a_folder_of_other_files_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else `--overwrite` with a wrong path would destroy the user's files."""
    (tmp_path / "thesis.txt").write_text("years", encoding="utf-8")
    assert "is not a kts run" in _complaint(2, ["run", "demo", "--out", tmp_path, "--overwrite"], capsys)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years"


@pytest.mark.parametrize(
    ("where", "number"), [((tempfile, "TemporaryFile"), errno.EROFS), ((writing, "_replace"), errno.ENOSPC)]
)
def test_a_directory_that_cannot_be_written_is_still_reported(
    where: tuple[object, str],
    number: int,
    recorded: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else a run on a read-only or full disk could not be looked at."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*where, refuse)
    before = {path: path.stat().st_mtime_ns for path in recorded.rglob("*")}
    assert main(["report", str(recorded), "--no-figures", "--json"]) == 0
    shown = capsys.readouterr()
    assert os.strerror(number) in shown.err
    assert json.loads(shown.out)["tenants"]
    assert {path: path.stat().st_mtime_ns for path in recorded.rglob("*")} == before


def test_a_report_that_was_to_be_written_and_cannot_be_is_shown_and_is_an_error(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a script would believe in a report that is not there, or the figures would be gone with it."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    arguments = ["report", str(recorded), "--no-figures", "--json", "--out", str(tmp_path / "file" / "x")]
    assert main(arguments) == 4
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["exit_code"] == 4
    assert "DF99" in shown.err


def test_closed_output_is_no_error_and_spoils_no_file(recorded: Path, tmp_path: Path) -> None:
    """Else `kts run >&-` would fail, or write its table into the first file that it opens."""
    command = ["sh", "-c", '"$@" >&- 2>&- <&-', "sh", *KTS, "report", str(recorded), "--no-figures", "--out"]
    assert subprocess.run([*command, str(tmp_path / "out")], timeout=DEADLINE_S, check=False).returncode == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["tenants"]


def test_disk_full_while_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a full disk would lose the run, or pass as success."""
    done = _run_out_of_space(BIG, tmp_path)
    assert done.returncode == 5, done.stderr
    assert len(errors(done)) == 1
    assert "records.journal" in errors(done)[0]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "records.journal").stat().st_size > LIMIT // 2
    assert "nothing to report" in _complaint(6, ["report", tmp_path / "out"], capsys)


def test_a_run_that_ends_badly_shows_its_earlier_blocks_and_one_json_document(tmp_path: Path) -> None:
    """Else what was measured before is not shown, or a script that reads stdout gets a table."""
    done = _run_out_of_space(BIG.replace("130000", "60000"), tmp_path, "--json")
    assert done.returncode == 5, done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == 5
    assert "DF99" in done.stderr


def _run_out_of_space(text: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "big.yaml").write_text(text, encoding="utf-8")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))

    return subprocess.run(
        [*KTS, "run", "big.yaml", "--out", "out", "--device", "cpu", "--no-figures", *options],
        cwd=folder,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    """Else a typing mistake in a command would show as a hanging run."""
    file = tmp_path / "x.yaml"
    text = TINY.replace(
        "{workload: gemm, size: 48, think_ms: 1, iterations: 400}", "{workload: command, command: nope-x}"
    )
    file.write_text(text, encoding="utf-8")
    done = kts("run", file, "--out", tmp_path / "out", "--device", "cpu", "--no-figures")
    assert done.returncode in (4, 5), done.stderr
    assert "nope-x" in errors(done)[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux")
@pytest.mark.parametrize("device", ["cuda"])
def test_a_device_that_is_not_there(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else a run without a GPU would end after a minute, or measure something else."""
    from kts.worker.detect import cuda_devices

    if cuda_devices():
        pytest.skip("this machine has a GPU")
    assert "no CUDA device" in _complaint(4, ["run", "demo", "--device", device, "--out", tmp_path / "out"], capsys)
    assert not (tmp_path / "out").exists()
