"""`kts profile` of programs whose calls are seen, on the stand-in for a GPU, and what is predicted of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers_cli import kts
from tests.helpers_tracer import standin

from kts.physics.files import decode_profile
from kts.physics.kinds import kind_of
from kts.physics.simulate import SharingModel, Stream, simulate
from kts.physics.values import Iterations, Profile, bursts

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

SLICE_MS, PREEMPT_MS, YIELD_MS = 2.0, 0.2, 0.1
SHARING = SharingModel(slice_ms=SLICE_MS, preempt_ms=(PREEMPT_MS,), yield_ms=(YIELD_MS,), wake_ms=(YIELD_MS,))


def profiled(folder: Path, seconds: float, *options: str, **shape: Any) -> Profile:
    """The profile of a program of that shape."""
    gpu = standin()
    env = {**gpu.env(), "KTS_CUPTI": str(gpu.cupti)}
    tenant = {"workload": "command", "command": gpu.argv(iterations=0, **shape), "env": env, "trace": "calls"}
    other = {"workload": "fft", "size": 32}
    asked = {"device": "cpu", "tenants": {"search": tenant, "other": other}}
    (folder / "x.yaml").write_text(json.dumps(asked), encoding="utf-8")
    arguments = ("x.yaml", "--tenant", "search", "--seconds", seconds, "--out", "made", "--overwrite", *options)
    done = kts("profile", *map(str, arguments), cwd=folder)
    assert done.returncode == 0, done.stderr
    return decode_profile((folder / "made" / "search.profile.json").read_bytes(), "search")


def test_a_program_with_two_round_trips_has_their_launches_and_waits_and_not_its_slow_start(tmp_path: Path) -> None:
    """Else such programs are predicted as one burst that waits once, and as slow as they begin."""
    made = profiled(tmp_path, 1.5, trips="1,22", kernel_us=40, host_us=50, slow_first=200, slow_factor=4)
    assert made.method == "launches", made.how
    assert kind_of(made) == "trips"
    them = made.iterations
    assert set(np.diff(them.first).tolist()) == {23}
    assert them.wait_ms is not None
    assert np.isfinite(them.wait_ms).sum() == them.n
    assert np.median(them.busy_ms) == pytest.approx(23 * 0.04, rel=0.05)
    assert them.duration_ms.max() < 2 * 0.04, "kernels of its slow start take 0.16 ms"
    solo = made.solo_service.ms
    assert np.median(solo[:50]) < 2 * np.median(solo)
    _beside_one_that_never_rests(them)


def _beside_one_that_never_rests(them: Iterations, n: int = 2000) -> None:
    """Each round trip waits for slices of the other: as many as its host lets pass until it hands the next one over."""
    mine = Stream(them, np.arange(n) % them.n, think_ms=np.zeros(n))
    other = Stream(bursts(np.full(n, 50.0), 0.0), np.arange(n), think_ms=np.zeros(n))
    done = simulate([mine, other], SHARING).tenants[0]
    assert them.wait_ms is not None
    assert them.notice_ms is not None
    first = them.first[:-1]
    middle = them.notice_ms[first] + them.offset_ms[first + 1] - them.wait_ms[first]
    between = them.retire_ms + np.roll(them.offset_ms[first], -1)
    slices = np.maximum(np.ceil((np.array([middle, between]) - YIELD_MS) / SLICE_MS), 1)
    expected = them.busy_ms + (slices * SLICE_MS + PREEMPT_MS + YIELD_MS).sum(axis=0)
    cycles = np.diff(done.submit_ms)
    assert np.median(cycles) == pytest.approx(np.median(expected), rel=0.01)
    assert np.mean(cycles) == pytest.approx(expected.mean(), rel=0.03)


def test_threads_that_wait_each_for_itself_have_hosts_of_their_own(tmp_path: Path) -> None:
    """Else one's wait stops the other's launches, and beside a neighbour each wait of either costs both a slice."""
    made = profiled(tmp_path, 1.5, threads=2, trips="4", kernel_us=100, host_us=200, think_us=500)
    assert len(made.threads) == 2, made.how
    for thread in made.threads:
        assert thread.process == 0
        assert set(np.diff(thread.iterations.first).tolist()) == {4}
        assert np.median(thread.iterations.busy_ms) == pytest.approx(4 * 0.1, rel=0.05)
        assert 0.4 < np.median(thread.pause_ms) < 1.2, "its own pause is 0.5 ms, and its wait for a core comes to it"
    lanes = [set(thread.iterations.lane.tolist()) for thread in made.threads if thread.iterations.lane is not None]
    assert lanes in ([{0}, {1}], [{1}, {0}])
