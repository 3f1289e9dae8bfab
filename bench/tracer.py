"""What the tracer costs a program: lives of it with the tracer and without, in turns; and each call by itself.

All lives of all programs are started at once, so that their starts overlap, run until they are warm, and are held
(SIGSTOP). Then one at a time runs alone for a stretch, untraced (U) and at level ``calls`` (C), in the order U C C U
..., and C U U C ... in the next round. An iteration is one of its KTS_APP lines; those count that lie in a stretch as a
whole, after its start. The cost is that of pairs of lives; bench/tracer_costs.py says how its 95 % interval is made.
The bar: at most 1 % of throughput and of p99 at level ``calls``, for iterations of 1 ms and more. What level
``kernels`` costs is told beside, without a verdict: it is for profiles, whose host times come from the other level.

The same iterations are told by the tracer, too, as round trips: p50 and p99 of both are laid beside each other.

The cost of one call is that of a program that makes asynchronous memsets and nothing else, through ctypes, whose own
cost is in both arms. Without a GPU, or with ``--standin``, a stand-in for one takes its place: its CUPTI does nothing
but call back, so the figures there are of our part alone.

    python -m bench tracer
    python -m bench tracer --lives 4 --rounds 6 -- python3 bench/tracer_programs/bert_lines.py
    python -m bench tracer --program "python3 a.py" --program "python3 b.py 22" --out tracer.json
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.tracer_costs import COSTS, FEWEST, Agreement, Cost, Times, agreement, costs, figures, order
from bench.tracer_lives import Company, Life
from bench.tracer_programs.calls import CALLS
from kts.errors import MeasurementError, SetupError
from kts.units import NS_PER_MS, NS_PER_S
from kts.worker.tracing.layout import Level

BAR, SHORTEST_MS = 0.01, 1.0
AGREE = 0.01
_CALLS = [sys.executable, str(Path(__file__).parent / "tracer_programs" / "calls.py")]
_CALL_STRETCH_S, _CALL_SKIP_S = 0.3, 0.05


@dataclass
class Lives:
    """Of one program: ``arms`` are its lives untraced, at ``calls`` and at ``kernels``."""

    argv: Sequence[str]
    arms: dict[Level | None, list[Life]]

    @property
    def all(self) -> list[Life]:
        """All of these."""
        return [life for arm in self.arms.values() for life in arm]

    @property
    def counts(self) -> dict[str, int]:
        """How many at each level."""
        return {level.name.lower() if level else "untraced": len(arm) for level, arm in self.arms.items()}

    def counted(self, level: Level | None, skip_ns: int) -> list[list[Times]]:
        """By life and stretch: the iterations that count."""
        return [[stretch.counted(life.times(), skip_ns) for stretch in life.stretches] for life in self.arms[level]]


def measure(company: Company, lives: Lives, rounds: int, stretch_s: float) -> None:
    """Gives all lives their turns, round by round; none where one has failed."""
    untraced, calls = lives.arms[None], lives.arms[Level.CALLS]
    for number in range(rounds):
        if any(life.failed for life in lives.all):
            return
        for traced, i in order(len(untraced), len(calls), number):
            company.turn((calls if traced else untraced)[i], stretch_s)
        for life in lives.arms[Level.KERNELS]:
            company.turn(life, stretch_s)


def told_of(lives: Lives, tell: Callable[[Lives], dict[str, Any]]) -> dict[str, Any]:
    """What ``tell`` does, or the ``error`` that kept it from it: other programs' figures stay."""
    try:
        if why := next((life.failed for life in lives.all if life.failed), ""):
            raise MeasurementError(why)
        return {"argv": list(lives.argv), **tell(lives)}
    except (ValueError, MeasurementError) as error:
        return {"argv": list(lives.argv), "error": str(error)}


def call_costs(lives: Lives) -> dict[str, Any]:
    """Nanoseconds of one call, and what each level adds."""
    skip_ns = int(_CALL_SKIP_S * NS_PER_S)
    bare = lives.counted(None, skip_ns)
    of = {"call": lambda ours, plain: (ours.p50_ms - plain.p50_ms) * NS_PER_MS / CALLS}
    told: dict[str, Any] = {
        "lives": lives.counts,
        "untraced_ns": float(np.mean([figures(life).p50_ms for life in bare])) * NS_PER_MS / CALLS,
    }
    for level in (Level.CALLS, Level.KERNELS):
        if lives.arms[level]:
            ours = lives.counted(level, skip_ns)
            told[level.name.lower()] = asdict(costs(ours, bare[: len(ours)], of)["call"])
    return told


def program_costs(lives: Lives, skip_ns: int) -> dict[str, Any]:
    """What is told of one program: values of JSON."""
    bare = lives.counted(None, skip_ns)
    if min(len(times) for life in bare for times in life) < FEWEST:
        raise ValueError(f"a stretch with fewer than {FEWEST} whole iterations: give a longer --stretch")
    each = [figures(life) for life in bare]
    told: dict[str, Any] = {
        "lives": lives.counts,
        "rounds": len(bare[0]),
        "iterations": sum(len(times) for life in bare for times in life),
        "untraced": {name: float(np.mean([one[name] for one in map(asdict, each)])) for name in asdict(each[0])},
        "each": {
            level.name.lower() if level else "untraced": [
                [asdict(figures([times])) for times in life if len(times) > 1] for life in lives.counted(level, skip_ns)
            ]
            for level in lives.arms
        },
        "costs": {},
    }
    unseen = any(life.tracing and life.tracing.unseen() for life in lives.arms[Level.CALLS])
    has_bar = told["untraced"]["p50_ms"] >= SHORTEST_MS and not unseen
    for level in (Level.CALLS, Level.KERNELS):
        if not lives.arms[level]:
            continue
        ours = lives.counted(level, skip_ns)
        found = costs(ours, bare[: len(ours)], COSTS)
        told["costs"][level.name.lower()] = {
            name: {**asdict(cost), "verdict": cost.verdict(BAR) if level is Level.CALLS and has_bar else ""}
            for name, cost in found.items()
        }
    compared, told["iteration"] = agree(lives.arms[Level.CALLS], skip_ns)
    told["agreement"] = asdict(compared)
    if not compared.why:
        p50, p99 = compared.differences()
        told["agreement"] |= {"p50": p50, "p99": p99, "verdict": "ok" if max(abs(p50), abs(p99)) <= AGREE else "over"}
    notes = {f"{life.level.name.lower()}: {note}" for life in lives.all if life.level for note in life.notes()}
    told["notes"] = sorted(notes)
    return told


def agree(traced: Sequence[Life], skip_ns: int) -> tuple[Agreement, str]:
    """(lines against round trips, all lives and stretches together; what an iteration is by round trips)."""
    lines, trips, words, irregular = [], [], "", ""
    for life in traced:
        times, (seen, words, sure) = life.times(), life.trips()
        irregular = irregular or ("" if sure else words)
        for stretch in life.stretches:
            lines.append(stretch.counted(times, skip_ns))
            trips.append(stretch.counted(seen, skip_ns))
    return agreement(np.concatenate(lines), np.concatenate(trips), irregular), words


def print_call(told: dict[str, Any]) -> None:
    """The cost of one call, a line each level."""
    if "error" in told:
        print(f"one call: not measured: {told['error']}")
        return
    print(f"one call: {told['untraced_ns']:.0f} ns untraced, ctypes' part included")
    for name in ("calls", "kernels"):
        if name in told:
            cost = Cost(**told[name])
            interval = f"[{cost.low:+.0f}, {cost.high:+.0f}]" if told["lives"][name] > 1 else "of one life"
            print(f"  {name:<8} {cost.estimate:+6.0f} ns {interval}")


def print_program(told: dict[str, Any]) -> None:
    """A program's table."""
    print(shlex.join(told["argv"]))
    if "error" in told:
        print(f"  not measured: {told['error']}")
        return
    plain = told["untraced"]
    print(
        f"  untraced p50 {plain['p50_ms']:.3f} ms, p99 {plain['p99_ms']:.3f} ms, {plain['rate']:.1f}/s; "
        f"{told['iterations']} iterations of {told['lives']['untraced']} lives x {told['rounds']} rounds"
    )
    for level, costs_of in told["costs"].items():
        for name, cost in costs_of.items():
            interval = f"[{cost['low']:+.2%}, {cost['high']:+.2%}]" if told["lives"][level] > 1 else "of one life"
            print(f"  {level:<8} {name:<11} {cost['estimate']:+7.2%}  {interval:<20} {cost['verdict']}".rstrip())
    compared = told["agreement"]
    if compared["why"]:
        print(f"  lines and round trips are not compared: {compared['why']}")
    else:
        for name in ("p50", "p99"):
            lines_ms, trips_ms = compared[f"{name}_ms"]
            print(f"  {name}: {lines_ms:.4f} ms by lines, {trips_ms:.4f} ms by round trips: {compared[name]:+.2%}")
        print(f"  {compared['verdict']} (bar {AGREE:.0%}); {told['iteration']}")
    for note in told["notes"]:
        print(f"  note: {note}")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench tracer")
    parser.add_argument("--lives", type=int, default=4, help="of each program, untraced and at level calls")
    parser.add_argument("--kernels", type=int, default=1, help="lives at level kernels")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each life")
    parser.add_argument("--stretch", type=float, default=1.0, help="seconds of a turn")
    parser.add_argument("--skip", type=float, default=0.2, help="seconds of each turn that do not count")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds from the first line until a life is held")
    parser.add_argument("--start-limit", type=float, default=90, help="seconds within which all are warm")
    parser.add_argument("--program", action="append", default=[], metavar="'PROGRAM ARGS'", help="one or several")
    parser.add_argument("--out", type=Path, help="a file for all figures, as JSON")
    parser.add_argument("--standin", action="store_true", help="take the stand-in although there is a GPU")
    parser.add_argument("argv", nargs="*", metavar="PROGRAM ARGS", help="one that prints KTS_APP lines, after --")
    options = parser.parse_args(argv)
    if min(options.lives, options.rounds) < 1 or not 0 <= options.kernels <= options.lives:
        parser.error("--lives and --rounds are at least 1, --kernels at most --lives")
    if options.skip >= options.stretch:
        parser.error("--skip is shorter than --stretch")
    return options


def main(argv: Sequence[str] = ()) -> None:
    """Prints what one call costs, and a table of costs of each program."""
    options, began = _options(argv), time.monotonic()
    env, programs = dict(os.environ), [shlex.split(text) for text in options.program]
    programs += [options.argv] if options.argv else []
    if options.standin or not _driver():
        from tests.helpers_tracer import standin

        made = standin()
        env |= {"LD_LIBRARY_PATH": str(made.cuda), "KTS_CUPTI": str(made.cupti), "STANDIN_CALL_NS": "3000"}
        shapes = ({"trips": "1,22", "kernel_us": 40}, {"trips": "200", "kernel_us": 5}, {"trips": "1", "kernel_us": 20})
        programs = programs or [made.argv(iterations=0, lines=1, **shape) for shape in shapes]
        print("tracer cost with a stand-in for the GPU, whose CUPTI costs next to nothing")
    elif not programs:
        print("give a program after --: only the cost of one call is measured")
    arms = {None: options.lives, Level.CALLS: options.lives, Level.KERNELS: options.kernels}
    told: dict[str, Any] = {"bar": BAR, "stretch_s": options.stretch, "skip_s": options.skip, "programs": []}
    company = Company()
    try:
        started = [
            Lives(words, {level: [company.add(words, env, level) for _ in range(n)] for level, n in arms.items()})
            for words in (_CALLS, *programs)
        ]
        company.warm(options.warm, options.start_limit)
        warm = sum(not life.failed for life in company.lives)
        print(f"{warm} of {len(company.lives)} lives are warm after {time.monotonic() - began:.0f} s", flush=True)
        for k, lives in enumerate(started):
            if k == 0:
                measure(company, lives, 1, _CALL_STRETCH_S)
                told["call"] = told_of(lives, call_costs)
            else:
                measure(company, lives, options.rounds, options.stretch)
                told["programs"].append(told_of(lives, partial(program_costs, skip_ns=int(options.skip * NS_PER_S))))
            company.drop(lives.all)
            if options.out:
                options.out.write_text(json.dumps(told, indent=1) + "\n")
    finally:
        company.drop(list(company.lives))
    print_call(told["call"])
    for program in told["programs"]:
        print_program(program)
    print(f"{time.monotonic() - began:.0f} s in all")


def _driver() -> bool:
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"error: {error}")
