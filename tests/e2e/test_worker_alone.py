"""`python -m kts.worker fft|gemm` as a stranger runs it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys

import pytest

from kts.wire.appline import parse_line

pytestmark = pytest.mark.e2e


def _worker(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kts.worker", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.parametrize("workload", ["fft", "gemm"])
def test_it_prints_one_line_per_iteration_and_nothing_else(workload: str) -> None:
    """Otherwise scripts made for the published system cannot read our lines."""
    ended = _worker(
        workload,
        "--device",
        "cpu",
        ITERATIONS="4",
        MATRIX_SIZE="64",
        SLEEP_MS="2",
        KTS_PHASE="solo",
        KTS_CORES=str(min(os.sched_getaffinity(0))),
    )
    assert ended.returncode == 0, ended.stderr
    lines = [parse_line(text) for text in ended.stdout.splitlines()]
    assert [line and (line.app, line.i, line.phase) for line in lines] == [
        (workload.upper(), i, "solo") for i in range(4)
    ]
    starts = [line.start_ns for line in lines if line]
    assert min(b - a for a, b in itertools.pairwise(starts)) >= 2_000_000
    assert "not a GPU" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "code", "text"),
    [
        (["nonsense"], {}, 2, "nonsense"),
        ([], {}, 2, "required"),
        (["fft"], {"ITERATIONS": "many"}, 3, "ITERATIONS"),
        (["fft"], {"KTS_CORES": "x"}, 2, "KTS_CORES"),
        (["gemm", "--device", "cpu"], {"MATRIX_SIZE": "900000"}, 5, "bytes"),
        (["--join"], {}, 2, "KTS_CONDUCTOR"),
        (["--join"], {"KTS_CONDUCTOR": "nowhere", "KTS_TOKEN": "t", "KTS_TENANT": "a"}, 2, "host:port"),
        (["--join"], {"KTS_CONDUCTOR": "127.0.0.1:1", "KTS_TOKEN": "t", "KTS_TENANT": "a"}, 5, "no conductor"),
    ],
)
def test_bad_input_ends_with_a_clear_line_and_its_code(
    arguments: list[str], env: dict[str, str], code: int, text: str
) -> None:
    """Otherwise a wrong call gives a traceback."""
    ended = _worker(*arguments, **env)
    assert ended.returncode == code, ended.stderr
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_sigterm_ends_it_with_143_and_one_line() -> None:
    """Otherwise a pod that is deleted looks like a crash."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kts.worker", "fft", "--device", "cpu"],
        env={**os.environ, "MATRIX_SIZE": "64", "SLEEP_MS": "60000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("KTS_APP,v1,FFT,0,")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=400)
    assert process.returncode == 143
    assert stderr.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in stderr
