"""What telemetry costs DF99: one run whose blocks have it on or off, in turns.

A tenant of short iterations runs alone and beside a saturating neighbour, in every round once with all that a run
samples (CPU time of each iteration, what the host does, what the cores do, the GPU's sources, looks for strangers) and
once as `--no-telemetry` has it, in random order, in the same processes. DF99 of either comes from the analysis of a
report. Their ratio is that of shared p99, on over off, by that of solo p99; each is between the same rounds, so that
drift cancels. What a report makes of samples afterwards costs a run nothing; how long that takes is printed.

    python -m bench telemetry_df                            # on a GPU: about two minutes
    python -m bench telemetry_df --device cpu --seconds 20
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from kts import plan as planning
from kts import spec
from kts.backends.local import LocalBackend
from kts.conduct.course import Course
from kts.conduct.driver import conduct
from kts.conduct.machine import Machine
from kts.model.mode import SharingMode
from kts.model.neighbours import Look
from kts.model.plan import Block, Condition, Plan
from kts.model.reading import RunData
from kts.model.summary import Estimate
from kts.report import RichWatcher
from kts.stats import analyse
from kts.stats.degradation import degradation
from kts.stats.part import RunPart
from kts.stats.responses import Responses
from kts.stats.sample import make_sample, split_blocks
from kts.store import create, open_run
from kts.store.layout import LOGS
from kts.telemetry.choice import make_sampler
from kts.telemetry.sampler import Polling
from kts.telemetry.strangers import Strangers
from kts.worker.detect import resolved
from kts.worker.environment import environment
from kts.worker.sharing import before

BAR = 0.01
OFF = "-off"
"""Ends the names of conditions without telemetry."""
CONDITIONS = 4
"""Alone and shared, on and off."""


def plan_of(device: str, target_ms: float, neighbour_ms: float, seconds: float, rounds: int) -> Plan:
    """Every round holds the victim alone and beside its neighbour, each twice."""
    text = f"""
name: telemetry-df
device: {device}
rounds: {rounds}
precision: null
subject: victim
tenants:
  victim: {{workload: fft, target_ms: {target_ms}, seconds: {seconds / CONDITIONS}}}
  neighbour: {{workload: gemm, target_ms: {neighbour_ms}, seconds: {seconds / CONDITIONS}}}
"""
    plan = planning.build(spec.load_text(text, source="bench").experiment)
    off = tuple(Condition(name=one.name + OFF, tenants=one.tenants) for one in plan.conditions)
    return resolved(replace(plan, conditions=(*plan.conditions, *off)))


@contextlib.contextmanager
def switched() -> Iterator[Counter[str]]:
    """While it lasts, blocks of conditions that end in `OFF` have no telemetry: workers tell nothing, nobody polls.
    Gives how often somebody polled, by ``on`` and ``off``."""
    polls: Counter[str] = Counter()
    now = {"on": True}
    start, poll, look = Machine._start, Polling.poll, Strangers.look

    def starts(machine: Machine, course: Course, block: Block) -> None:
        machine._telemetry = now["on"] = not block.condition.endswith(OFF)
        start(machine, course, block)

    def polled(polling: Polling) -> Any:
        polls["on" if now["on"] else "off"] += 1
        return poll(polling) if now["on"] else ([], [])

    def looked(strangers: Strangers) -> Look | None:
        return look(strangers) if now["on"] else None

    with (
        patch.object(Machine, "_start", starts),
        patch.object(Polling, "poll", polled),
        patch.object(Strangers, "look", looked),
    ):
        yield polls


def measure(plan: Plan, directory: Path) -> RunData:
    """The run, whole."""
    mode: SharingMode = before(plan.device)
    writer = create(directory, plan=plan, backend="local", mode=mode, experiment_text="", environment=environment())
    with switched() as polls, RichWatcher() as watcher:
        sampler = make_sampler(plan, lambda _: None)
        outcome = conduct(plan, LocalBackend(directory / LOGS), writer, watcher, None, telemetry=sampler)
    if outcome.exit_code:
        sys.exit(f"error: {outcome.reason}; try: {outcome.remedy}")
    print(
        f"polled {polls['on']} times in blocks with telemetry; {polls['off']} times it was due in the others, and left"
    )
    return open_run(directory)


def arm(run: RunData, *, on: bool) -> RunPart:
    """The half of the run with telemetry, or without."""
    plan = run.info.plan
    conditions = tuple(one for one in plan.conditions if one.name.endswith(OFF) != on)
    return RunPart(run, replace(plan, conditions=conditions))


def timed(run: RunData, *, on: bool) -> int:
    """Iterations of the victim whose CPU time was told."""
    half = arm(run, on=on)
    records = [half.records("victim", block.index) for block in half.blocks]
    return sum(int((rows["cpu_ns"] >= 0).sum()) for rows in records if "cpu_ns" in (rows.dtype.names or ()))


def against(run: RunData, p: float, on: str, off: str) -> Estimate:
    """Quantile ``p`` of the victim in one condition over that in the other, same rounds."""
    responses = Responses({on, off}, run.info.plan.rounds)
    for block in run.blocks:
        if block.condition in (on, off):
            responses.take("victim", run.records("victim", block.index))
            responses.end(block)
    sides = [responses.blocks["victim", name] for name in (on, off)]
    split = split_blocks(*({number for number, _ in side} for side in sides))
    above, below = (make_sample(side, split=split) for side in sides)
    return degradation(above, below, p)


def ratio(top: Estimate, bottom: Estimate) -> Estimate:
    """Of two ratios of different blocks: arms add as squares on the log scale (Zou & Donner 2008)."""
    if top.refused or bottom.refused:
        return Estimate(estimate=None, lo=None, hi=None, refused=top.refused or bottom.refused)
    (lt, et, ut), (lb, eb, ub) = (tuple(math.log(x or 1.0) for x in (e.lo, e.estimate, e.hi)) for e in (top, bottom))
    return Estimate(
        estimate=math.exp(et - eb),
        lo=math.exp(et - eb - math.hypot(et - lt, ub - eb)),
        hi=math.exp(et - eb + math.hypot(ut - et, eb - lb)),
    )


def shown(name: str, found: Estimate, *, bar: bool = False) -> str:
    """A row."""
    if found.estimate is None or found.lo is None or found.hi is None:
        return f"  {name:<34} refused: {found.refused}"
    within = found.lo >= 1 - BAR and found.hi <= 1 + BAR
    over = found.lo > 1 + BAR or found.hi < 1 - BAR
    verdict = ("  ok" if within else "  over" if over else "  undecided") if bar else ""
    return f"  {name:<34} {found.estimate:8.4f}  [{found.lo:.4f}, {found.hi:.4f}]{verdict}"


def main(argv: Sequence[str] = ()) -> None:
    """Prints DF99 with telemetry, without, and their ratio; p50 and p99 alone and shared, on over off."""
    parser = argparse.ArgumentParser(prog="python -m bench telemetry_df")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--seconds", type=float, default=80.0, help="of measuring, without starting and calibrating")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--target-ms", type=float, default=1.0, help="of the victim's iterations, alone")
    parser.add_argument("--neighbour-ms", type=float, default=4.0)
    parser.add_argument("--out", type=Path, help="keep the run there")
    options = parser.parse_args(argv)
    plan = plan_of(options.device, options.target_ms, options.neighbour_ms, options.seconds, options.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        run = measure(plan, options.out or Path(scratch) / "run")
        print(
            f"telemetry on against off, on {run.info.workers[0].device.label}; {options.rounds} rounds; bar {BAR:.0%}"
        )
        print(f"  iterations with their CPU time: on {timed(run, on=True)}, off {timed(run, on=False)}")
        begun = time.monotonic()
        with_it, without = (analyse(arm(run, on=on)).summary.tenants["victim"].response for on in (True, False))
        took_s = time.monotonic() - begun
        for name, figures in (("on", with_it), ("off", without)):
            print(
                f"  {name}: {figures.solo.n} iterations alone, {figures.shared.n} shared; p50 and p99 alone "
                f"{figures.solo.p50.estimate:.4g} and {figures.solo.p99.estimate or math.nan:.4g} ms"
            )
            print(shown(f"DF99 {name}", figures.df.p99))
        solo, house = plan.conditions[0].name, plan.conditions[1].name
        rows = {
            f"{figure} {where}, on / off": against(run, p, name, name + OFF)
            for figure, p in (("p50", 0.5), ("p99", 0.99))
            for where, name in (("alone", solo), ("shared", house))
        }
        for name, found in rows.items():
            print(shown(name, found))
        for figure in ("p50", "p99"):
            both = ratio(rows[f"{figure} shared, on / off"], rows[f"{figure} alone, on / off"])
            print(shown(f"DF{figure[1:]} on / DF{figure[1:]} off", both, bar=True))
        print(f"  what a report makes of both halves: {took_s:.1f} s, after the run")


if __name__ == "__main__":
    main(sys.argv[1:])
