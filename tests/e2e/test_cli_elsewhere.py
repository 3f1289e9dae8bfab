"""Measuring needs Linux; reporting runs anywhere Python does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers_cli import DEADLINE_S

pytestmark = pytest.mark.e2e

RESULT = Path(__file__).parents[2] / "examples" / "results" / "h200-agents-2"

# Another system as far as Python code can tell: without Linux's modules and calls.
_ELSEWHERE = """
import os, sys, sysconfig
sysconfig.get_config_vars()
for module in ("fcntl", "resource", "pwd", "grp"):
    sys.modules[module] = None
for call in ("sched_getaffinity", "sched_setaffinity", "posix_fallocate", "fork", "killpg", "waitid", "fdatasync"):
    if hasattr(os, call):
        delattr(os, call)
sys.platform = "freebsd14"
from kts.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def _elsewhere(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_a_run_brought_from_linux_is_reported_in_full(tmp_path: Path) -> None:
    """Else whoever measured on a server could not read the result on a laptop."""
    done = _elsewhere("report", RESULT, "--out", tmp_path / "report", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tenants"]["fft"]["response"]["df"]["p99"]["estimate"] > 1.5
    assert (tmp_path / "report" / "plots" / "degradation.png").stat().st_size > 10_000


def test_measuring_says_what_it_needs(tmp_path: Path) -> None:
    """Else it would end in a traceback about a missing module."""
    done = _elsewhere("run", "demo", "--out", tmp_path / "run")
    assert done.returncode == 4
    assert "measuring needs Linux" in done.stderr
    assert not (tmp_path / "run").exists()
