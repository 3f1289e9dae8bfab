"""Experiments on what misses: one part of the model left out, or one thing more known, at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from msgspec.structs import replace

from kts.model.records import clock_ms
from kts.physics.fitted import TRACED_GAP_MS
from kts.physics.predict import Effort, Predictor
from kts.physics.recorded import solo
from kts.physics.values import Packed, Profile
from kts.stats.quantiles import min_samples
from kts.store import StoredRun
from kts.store.fingerprints import read
from validation_data import (
    ALONE,
    DEVELOPMENT,
    EVALUATION,
    OTHER,
    SOLO,
    Change,
    Machine,
    Way,
    errors_of,
    far,
    figures_of,
    middle,
    percent,
    predicted,
)


def why() -> str:
    """All experiments."""
    lines = []
    for machine in (DEVELOPMENT, *EVALUATION):
        lines += _hosts(machine.run, machine.name)
    return "\n".join([*lines, *_parts(), *_solo_sides(), _passed_over(DEVELOPMENT.run)])


def never(profile: Profile) -> Profile:
    """A replayed graph settles nothing."""
    return replace(profile, settles_next=False)


def as_traced(profile: Profile) -> Profile:
    """Kernels as long as their trace says, the gap to the next one counted twice."""
    if profile.method != "launches" or profile.settles_next:
        return profile
    return replace(profile, duration=Packed.of_ms(profile.iterations.duration_ms + TRACED_GAP_MS))


def _parts() -> Iterator[str]:
    """Errors with one part of the model left out, or with more that is known of the run."""
    tried: list[tuple[str, Machine, Way, Change | None]] = [
        (ALONE.label, DEVELOPMENT, ALONE, None),
        (SOLO.label, DEVELOPMENT, SOLO, None),
        (f"{ALONE.label}, kernels as traced", DEVELOPMENT, ALONE, as_traced),
        (f"{SOLO.label}, order of opening", DEVELOPMENT, replace_order(SOLO), None),
        (f"{SOLO.label}, order of opening, a graph settles nothing", DEVELOPMENT, replace_order(SOLO), never),
    ]
    for machine in EVALUATION:
        tried += [
            (f"{OTHER.label}, kernels as traced", machine, OTHER, as_traced),
            (f"{OTHER.label}, order of opening", machine, replace_order(OTHER), None),
        ]
    with ProcessPoolExecutor(2) as pool:
        jobs = [pool.submit(predicted, m, way, change=change, replicates=2) for _, m, way, change in tried]
        for (label, machine, _, _), job in zip(tried, jobs, strict=True):
            found = [job.result()]
            mean = errors_of(figures_of(found, "response", "mean"))
            cells = [f"mean {percent(float(mean.mean()))}"]
            for clock, name in (("response", "p99"), ("df", "DF99")):
                errors = errors_of(figures_of(found, clock, "p99"))
                cells.append(f"{name} {middle(errors)} (median), {far(errors)} (90 %)")
            gpu = errors_of(figures_of(found, "response", "p99", kind="gpu"))
            cells.append(f"p99 of kind gpu {middle(gpu)}, {far(gpu)}")
            yield f"{machine.name}, {label}: {', '.join(cells)}"


def replace_order(way: Way) -> Way:
    """The same with the order of opening known."""
    return Way(way.label, other=way.other, with_solo=way.with_solo, in_order=True)


def _solo_sides() -> Iterator[str]:
    """What DF99 is divided by: the p99 alone as predicted from each machine's profiles, and as each run measured it."""
    for machine in EVALUATION:
        for source in EVALUATION:
            mark = read(source.folder / "fingerprint.json")
            alone = Predictor(source.profiles, mark, Effort(iterations=5000))
            cells = []
            for name in source.profiles:
                sample, guess = solo(machine.run, name).response_ms, alone.alone(name).response.p99
                if len(sample) >= min_samples(0.99) and guess is not None:
                    cells.append(f"{name} {100 * (guess / np.quantile(sample, 0.99) - 1):+.0f} %")
            yield f"run of {machine.name}, profiles of {source.name}: p99 alone off by {', '.join(cells)}"


def _passed_over(run: StoredRun) -> str:
    """graph-p comes behind graph-s in the circle of all nine tenants: when must it have submitted to be next?"""
    lead_ms, then_ms = [], []
    for block in run.blocks:
        if len(run.info.plan.condition(block.condition).tenants) < len(run.info.plan.tenants):
            continue
        before = run.records("graph-s", block.index)["retire_ns"]
        for row in run.records("graph-p", block.index):
            k = int(np.searchsorted(before, row["submit_ns"]))
            if k < len(before):
                lead_ms.append((int(before[k]) - int(row["submit_ns"])) / 1e6)
                then_ms.append((int(row["retire_ns"]) - int(before[k])) / 1e6)
    lead, following = np.array(lead_ms), np.array(then_ms) < 0.5
    late, early = lead < 0.6, (lead >= 0.6) & (lead < 2.0)
    return (
        f"development, all nine: graph-p followed graph-s at once in {(following & late).sum()} of {late.sum()} cases "
        f"where it submitted less than 0.6 ms before graph-s was done, and in {(following & early).sum()} of "
        f"{early.sum()} where it submitted 0.6 to 2 ms before"
    )


def _hosts(run: StoredRun, label: str) -> Iterator[str]:
    """Medians of the eager tenants alone, block by block: their host's speed at the time."""
    for name in (t.name for t in run.info.plan.tenants if t.name.startswith("eager")):
        medians = [
            f"{np.median(clock_ms(run.records(name, block.index), 'service')):.2f}"
            for block in run.blocks
            if run.info.plan.condition(block.condition).tenants == (name,)
        ]
        yield f"{label}, {name} alone, median of each block: {', '.join(medians)} ms"
