"""`kts selfcheck`: is what kts says true? With simulated runs, whose truth is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kts.cli.options import Json
from kts.errors import KtsError, UsageError

if TYPE_CHECKING:
    from kts.physics.rehearsal import Finding
    from kts.physics.selfcheck import TenantCheck, Truth
    from kts.physics.synthetic import Pair

FULL, QUICK = 300, 5
LONG, SHORT = 2_000_000, 200_000
"""Iterations behind the truth."""
PORTION = 10
"""Runs that a process makes at a time."""


def selfcheck(
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Runs on a simulated GPU, whose true DF99 is known.")
    ] = False,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs and repetitions: half a minute.")] = False,
    repetitions: Annotated[
        int | None,
        typer.Option(min=1, help=f"Runs per pair. Default: {FULL}, or {QUICK} with --quick.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first run of each pair; the others follow it.", min=0)] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one per core; 1 with --quick.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the whole way from plan to verdict.

    Simulated pairs whose true DF99 is known, through the real schedule, stop rule and analysis. Exits with 1 if a
    figure is off by more than chance explains.
    """
    if not simulated:
        raise UsageError(
            "the instrument itself cannot be checked yet, only the way from plan to verdict",
            "kts selfcheck --simulated",
        )
    from kts.cli.output import console, print_json, say
    from kts.physics.selfcheck import SelfCheck
    from kts.physics.synthetic import PAIRS
    from kts.report.selfcheck import print_selfcheck
    from kts.store import origin

    pairs = [pair for pair in PAIRS if pair.quick or not quick]
    runs = repetitions or (QUICK if quick else FULL)
    found: list[TenantCheck] = []
    for number, checks in enumerate(_checked(pairs, range(seed, seed + runs), quick, jobs), start=1):
        say(f"{number} of {len(pairs)}: {checks[0].pair}")
        found += checks
    passed = all(check.state != "failed" for tenant in found for check in tenant.checks)
    result = SelfCheck(provenance=origin.here(), repetitions=runs, seed=seed, passed=passed, tenants=tuple(found))
    if as_json:
        print_json(result)
    print_selfcheck(result, console(stderr=as_json))
    if not passed:
        raise typer.Exit(KtsError.exit_code)


def _checked(
    pairs: Sequence[Pair], seeds: Sequence[int], quick: bool, jobs: int | None
) -> Iterator[tuple[TenantCheck, ...]]:
    """One pair after the other, in order; the same whatever the number of processes."""
    from kts.physics.selfcheck import judge

    portions = [seeds[k : k + PORTION] for k in range(0, len(seeds), PORTION)]
    with _processes(jobs or (1 if quick else os.cpu_count() or 1)) as begin:
        known = [begin(_truth, pair.name, SHORT if quick else LONG) for pair in pairs]
        parts = [[begin(_rehearsed, pair.name, portion) for portion in portions] for pair in pairs]
        for pair, true, portion in zip(pairs, known, parts, strict=True):
            yield judge(pair, true(), [run for part in portion for run in part()])


@contextmanager
def _processes(jobs: int) -> Iterator[Callable[..., Callable[[], Any]]]:
    """What begins a call and returns what waits for its result; one job needs no other process."""
    if jobs == 1:
        yield partial
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        try:
            yield lambda *call: pool.submit(*call).result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _truth(name: str, iterations: int) -> dict[str, Truth]:
    from kts.physics.selfcheck import truth

    return truth(_pair(name), 0, iterations)


def _rehearsed(name: str, seeds: Sequence[int]) -> list[dict[str, Finding]]:
    from kts.physics.rehearsal import rehearse

    return [rehearse(_pair(name), seed) for seed in seeds]


def _pair(name: str) -> Pair:
    from kts.physics.synthetic import PAIRS

    return next(pair for pair in PAIRS if pair.name == name)
