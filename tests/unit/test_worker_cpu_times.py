"""CPU time of the measuring thread and its waits for a core, as the kernel counts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kts.model.records import NOT_TOLD
from kts.units import NS_PER_MS
from kts.worker import clocks
from kts.worker.clocks import CpuTimes, scheduled_ns

PATIENCE_NS = 10_000 * NS_PER_MS

needs_schedstat = pytest.mark.skipif(scheduled_ns() == (None, None), reason="this kernel has no schedstat")


@contextlib.contextmanager
def a_thief() -> Iterator[None]:
    """Another process that computes without end on the one core that this one is left with."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    thief = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert thief.stdout is not None
        thief.stdout.readline()
        yield
    finally:
        os.sched_setaffinity(0, before)
        thief.kill()
        thief.communicate()


@needs_schedstat
def test_time_without_the_core_is_told_apart_from_time_on_it() -> None:
    """Else a thief on the core would be charged to the device, or to the tenant's own work."""
    with contextlib.closing(CpuTimes()) as times, a_thief():
        begin_ns = time.monotonic_ns()
        times.begin()
        cpu_ns = wait_ns = 0
        while wait_ns < 30 * NS_PER_MS and time.monotonic_ns() - begin_ns < PATIENCE_NS:
            cpu_ns, wait_ns = times.spent(PATIENCE_NS)
        wall_ns = time.monotonic_ns() - begin_ns
    assert wait_ns >= 30 * NS_PER_MS
    assert cpu_ns > 0
    assert cpu_ns + wait_ns <= wall_ns


def test_both_together_fit_into_the_iteration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a core lost just before its submission would be a cause of an iteration that was not longer for it."""
    told = tmp_path / "schedstat"
    told.write_text("5 1000 1\n")
    monkeypatch.setattr(clocks, "_SCHEDSTAT", str(told))
    with contextlib.closing(CpuTimes()) as times:
        times.begin()
        told.write_text(f"5 {PATIENCE_NS} 2\n")
        cpu_ns, wait_ns = times.spent(PATIENCE_NS // 2)
    assert cpu_ns + wait_ns == PATIENCE_NS // 2


def test_a_sleeping_thread_neither_runs_nor_waits() -> None:
    """Else an iteration that waits for its device would look as if it lacked a core."""
    with contextlib.closing(CpuTimes()) as times:
        shortest = min(_slept(times) for _ in range(20))
    assert shortest < 2 * NS_PER_MS


def _slept(times: CpuTimes) -> int:
    times.begin()
    time.sleep(0.005)
    cpu_ns, wait_ns = times.spent(PATIENCE_NS)
    return cpu_ns + max(0, wait_ns)


@pytest.mark.parametrize("text", ["0 0 0\n", "", "words\n"])
def test_a_kernel_that_does_not_count_waits_gives_no_zero(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else "waited 0 ms for a core" would stand where nobody knows."""
    told = tmp_path / "schedstat"
    told.write_text(text)
    monkeypatch.setattr(clocks, "_SCHEDSTAT", str(told))
    with contextlib.closing(CpuTimes()) as times:
        times.begin()
        cpu_ns, wait_ns = times.spent(PATIENCE_NS)
    assert cpu_ns >= 0
    assert wait_ns == NOT_TOLD
    assert scheduled_ns() == (None, None)
    told.unlink()
    assert CpuTimes().read()[1] == NOT_TOLD
