"""Experiments on what misses: one part of the model left out, or one thing more known, at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from msgspec.structs import replace

from kts.model.records import clock_ms
from kts.physics.fitted import TRACED_GAP_MS
from kts.physics.kinds import KINDS
from kts.physics.values import Column, Profile
from kts.store import Run
from validation_data import (
    ALONE,
    DEVELOPMENT,
    EVALUATION,
    OTHER,
    SOLO,
    WAYS,
    Change,
    Machine,
    Way,
    errors_of,
    far,
    figures_of,
    middle,
    percent,
    predicted,
    scores,
    tenants_of,
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
    return replace(profile, duration=Column.of_ms(profile.iterations.duration_ms + TRACED_GAP_MS))


def _parts() -> Iterator[str]:
    """Errors with one part of the model left out, or with more that is known of the run."""
    tried: list[tuple[str, Machine, Way, Change | None]] = []
    for machine in (DEVELOPMENT, *EVALUATION):
        ways = (ALONE, SOLO) if machine == DEVELOPMENT else (OTHER, ALONE, SOLO)
        tried += [(way.label, machine, way, None) for way in ways]
        tried += [
            ("and in the order of opening", machine, replace_order(SOLO), None),
            ("and kernels as traced", machine, SOLO, as_traced),
            ("and a replayed graph settles nothing", machine, replace_order(SOLO), never),
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
            yield f"{machine.name}, {label}: {', '.join(cells)}"


def replace_order(way: Way) -> Way:
    """The same with the order of opening known."""
    return Way(way.label, other=way.other, with_solo=way.with_solo, in_order=True)


def _solo_sides() -> Iterator[str]:
    """What of DF99's error is that of the solo p99 it is divided by: predicted / measured - 1 of that, by kind."""
    for (machine, label), found in scores().items():
        if label == WAYS[-1].label:
            continue
        for kind in KINDS:
            shared = {(t.mix, t.tenant): t.figures for t in tenants_of([found], "response", kind=kind)}
            off: dict[str, float] = {}
            for t in tenants_of([found], "df", kind=kind):
                ratio = next((f.error for f in t.figures if f.figure == "p99"), None)
                time = next((f.error for f in shared[t.mix, t.tenant] if f.figure == "p99"), None)
                if ratio is not None and time is not None:
                    off[t.tenant] = (1 + time) / (1 + ratio) - 1
            each = ", ".join(f"{tenant} {100 * error:+.0f} %" for tenant, error in off.items())
            yield f"machine {machine}, {label}: solo p99 predicted / measured - 1, {kind}: {each}"


def _passed_over(run: Run) -> str:
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


def _hosts(run: Run, label: str) -> Iterator[str]:
    """Medians of the eager tenants alone, block by block: their host's speed at the time."""
    for name in (t.name for t in run.info.plan.tenants if t.name.startswith("eager")):
        medians = [
            f"{np.median(clock_ms(run.records(name, block.index), 'service')):.2f}"
            for block in run.blocks
            if run.info.plan.condition(block.condition).tenants == (name,)
        ]
        yield f"{label}, {name} alone, median of each block: {', '.join(medians)} ms"
