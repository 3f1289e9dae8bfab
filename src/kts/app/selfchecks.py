"""Is what kts says true? With simulated runs, whose truth is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

from kts.app.printing import Say, elements, silent
from kts.physics.rehearsal import Finding, rehearse
from kts.physics.selfcheck import SelfCheck, TenantCheck, Truth, judge, truth
from kts.physics.synthetic import PAIRS, TenantPair
from kts.report.selfcheck import selfcheck_elements
from kts.store import origin

FULL, QUICK = 300, 5
LONG, SHORT = 2_000_000, 200_000
"""Iterations behind the truth."""
PORTION = 10
"""Runs that a process makes at a time."""
_SAFE_PATH = "PYTHONSAFEPATH"

elements.register(SelfCheck, selfcheck_elements)


def selfcheck(
    *, quick: bool = False, repetitions: int | None = None, seed: int = 1, jobs: int | None = None, say: Say = silent
) -> SelfCheck:
    """The whole way from plan to verdict, over simulated pairs of tenants whose true DF99 is known.

    ``quick``: fewer pairs and repetitions. ``repetitions``: runs per pair. ``seed``: of the first run of each.
    ``jobs``: processes; by default one per core, 1 with ``quick``. `SelfCheck.passed` says whether every figure is
    off by no more than chance explains.
    """
    pairs = [pair for pair in PAIRS if pair.quick or not quick]
    runs = repetitions or (QUICK if quick else FULL)
    tenants: list[TenantCheck] = []
    for number, checks in enumerate(checked(pairs, range(seed, seed + runs), quick, jobs), start=1):
        say(f"{number} of {len(pairs)}: {checks[0].pair}")
        tenants += checks
    passed = all(check.state != "failed" for tenant in tenants for check in tenant.checks)
    return SelfCheck(provenance=origin.here(), repetitions=runs, seed=seed, passed=passed, tenants=tuple(tenants))


def checked(
    pairs: Sequence[TenantPair], seeds: Sequence[int], quick: bool, jobs: int | None
) -> Iterator[tuple[TenantCheck, ...]]:
    """One pair after the other, in order; the same whatever the number of processes."""
    portions = [seeds[k : k + PORTION] for k in range(0, len(seeds), PORTION)]
    with _processes(jobs or (1 if quick else os.cpu_count() or 1)) as begin:
        truths = [begin(_truth, pair.name, SHORT if quick else LONG) for pair in pairs]
        parts = [[begin(_rehearsed, pair.name, portion) for portion in portions] for pair in pairs]
        for pair, true, portion in zip(pairs, truths, parts, strict=True):
            yield judge(pair, true(), [run for part in portion for run in part()])


@contextmanager
def _processes(jobs: int) -> Iterator[Callable[..., Callable[[], Any]]]:
    """What begins a call and returns what waits for its result; one job needs no other process."""
    if jobs == 1:
        yield partial
        return
    with _only_our_code(), ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        try:
            yield lambda *call: pool.submit(*call).result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _only_our_code() -> Iterator[None]:
    """Processes that are started meanwhile do not search the current folder, whose ``socket.py`` they would run."""
    former = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if former is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = former


def _truth(name: str, iterations: int) -> dict[str, Truth]:
    return truth(_pair(name), 0, iterations)


def _rehearsed(name: str, seeds: Sequence[int]) -> list[dict[str, Finding]]:
    return [rehearse(_pair(name), seed) for seed in seeds]


def _pair(name: str) -> TenantPair:
    return next(pair for pair in PAIRS if pair.name == name)
