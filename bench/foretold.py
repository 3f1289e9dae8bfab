"""How often a run refuses what it foretold that it would, and no more: recorded runs, cut short.

Each run of `examples/` is cut in time: its blocks to a part of their windows, its rounds by a limit. What is left is
foretold from the run's calibration, and after its first rounds, as `kts run` does it; then the same iterations are
analysed. A tenant in a condition is right where each of p50, p95, p99, p99.9 and DF99 is refused exactly as foretold.

    python -m bench foretold
    python -m bench foretold --runs examples/results/h200-agents-4 --parts 0.1 --limits 0.55
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from kts.errors import KtsError
from kts.model.foretold import Foretold
from kts.model.plan import Tenant
from kts.model.reading import RunData
from kts.model.records import RECORD, Records
from kts.model.run import BlockOutcome, RunInfo
from kts.stats import analyse
from kts.stats.came import came
from kts.stats.foretold import Foretelling
from kts.stats.modes import views
from kts.store import open_run
from kts.units import NS_PER_S

EXAMPLES = Path(__file__).parents[1] / "examples"
BREAK_NS = 300_000_000
"""Between two blocks."""


@dataclass
class CutRun:
    """A `kts.model.reading.RunData` whose blocks end early."""

    whole: RunData
    info: RunInfo
    blocks: Sequence[BlockOutcome]
    shift_ns: dict[int, int] = field(default_factory=dict)
    """By block, how much earlier it is."""
    damage: Sequence[str] = ()

    def records(self, tenant: str, block: int) -> Records:
        outcome = next((one for one in self.blocks if one.index == block), None)
        if outcome is None:
            return np.zeros(0, dtype=RECORD)
        records = self.whole.records(tenant, block)
        if shift_ns := self.shift_ns.get(block, 0):
            records = records.copy()
            for name in ("due_ns", "submit_ns", "retire_ns"):
                records[name] -= shift_ns
        return records[records["submit_ns"] <= outcome.end_ns]

    def portions(self, tenant: str, block: int) -> Iterator[Records]:
        yield self.records(tenant, block)

    @property
    def cluster(self) -> None:
        """None."""

    def telemetry(self) -> tuple[()]:
        """None."""
        return ()


def cut(run: RunData, part: float, limit: float) -> CutRun:
    """``part`` of each block's window, in ``limit`` of the time that all rounds then take; 1: no limit."""
    info = run.info
    whole = [block for block in run.blocks if block.valid and block.window_ns is not None]
    blocks = _one_after_the_other([_shortened(block, part) for block in whole])
    shift_ns = {old.index: old.start_ns - new.start_ns for old, new in zip(whole, blocks, strict=True)}
    took_s = [(block.end_ns - block.start_ns + BREAK_NS) / NS_PER_S for block in blocks]
    each = len(info.plan.conditions)
    rounds = len(blocks) // each
    limit_s = limit * sum(took_s[: rounds * each])
    done = rounds if limit >= 1 else min(rounds, 2)
    while done < rounds and (elapsed_s := sum(took_s[: done * each])) + elapsed_s / done <= limit_s:
        done += 1
    plan = replace(
        info.plan,
        tenants=tuple(_wanting(tenant, part * rounds / info.plan.rounds, rounds) for tenant in info.plan.tenants),
        precision=None,
        rounds=rounds,
        max_rounds=rounds,
        max_seconds=limit_s if limit < 1 else None,
    )
    short = CutRun(run, info, blocks[: done * each], shift_ns)
    kept = [
        replace(block, counts={name: len(short.records(name, block.index)) for name in block.counts})
        for block in short.blocks
    ]
    return CutRun(run, replace(info, plan=plan, blocks=tuple(kept)), kept, shift_ns)


def _one_after_the_other(blocks: Sequence[BlockOutcome]) -> list[BlockOutcome]:
    moved: list[BlockOutcome] = []
    for block in blocks:
        earlier = block.start_ns - (moved[-1].end_ns + BREAK_NS) if moved else 0
        assert block.window_ns is not None
        opened, closed = block.window_ns
        moved.append(
            replace(
                block,
                start_ns=block.start_ns - earlier,
                end_ns=block.end_ns - earlier,
                window_ns=(opened - earlier, closed - earlier),
            )
        )
    return moved


def _wanting(tenant: Tenant, times: float, rounds: int) -> Tenant:
    """So many times as much of it."""
    if tenant.iterations is None:
        return replace(tenant, seconds=(tenant.seconds or 0.0) * times)
    return replace(tenant, iterations=rounds * max(1, round(tenant.iterations * times / rounds)))


def _shortened(block: BlockOutcome, part: float) -> BlockOutcome:
    assert block.window_ns is not None
    opened, closed = block.window_ns
    closes = opened + round((closed - opened) * part)
    return replace(block, window_ns=(opened, closes), end_ns=min(block.end_ns, closes))


def foretold(run: CutRun) -> list[Foretold]:
    """All that is told, in order."""
    foreteller = Foretelling()
    solo_ms = {worker.tenant: worker.solo_ms for worker in run.info.workers}
    told = [foreteller.begin(run.info.plan, solo_ms, {})]
    for block in run.blocks:
        for name in run.info.plan.condition(block.condition).tenants:
            foreteller.take(name, run.records(name, block.index))
        told.append(foreteller.end(block))
    return [one for one in told if one is not None]


def judged(run: CutRun, tally: Counter[str], wrong: list[str]) -> None:
    """Adds what was foretold, and what came, to the tally."""
    told = foretold(run)
    if not told:
        return
    if not run.info.plan.modes:
        _judged(run, told, tally, wrong)
    for name, view in views(run).items():
        _judged(view, [one.in_mode(name) for one in told], tally, wrong)


def _judged(run: RunData, told: Sequence[Foretold], tally: Counter[str], wrong: list[str]) -> None:
    summary = analyse(run).summary
    mixes = () if summary.mixes is UNSET else summary.mixes
    for when, one in (("start", told[0]), ("last", told[-1])):
        found = came(one, summary.tenants, mixes, run.info.plan.full_house.name)
        off = {(o.tenant, o.condition) for o in found.otherwise}
        tally[f"{when} places"] += len(one.expected)
        tally[f"{when} right"] += len(one.expected) - len(off)
        tally[f"{when} figures"] += found.figures
        tally[f"{when} figures right"] += found.figures - len(found.otherwise)
        tally[f"{when} open"] += sum(len(each.open) for each in one.expected)
        tally[f"{when} refused"] += sum(len(each.refused) for each in one.expected)
        wrong += [
            f"{when}: {o.tenant} {o.condition} {o.figure}: {o.expected_n} foretold, {o.n} came {o.refused}"
            for o in found.otherwise
        ]


def main(argv: Sequence[str] = ()) -> None:
    """Prints how many were right."""
    parser = argparse.ArgumentParser(prog="python -m bench foretold")
    parser.add_argument("--runs", nargs="*", type=Path, help="run directories; by default all of examples/")
    parser.add_argument("--parts", nargs="*", type=float, default=[0.05, 0.1, 0.2, 0.4, 1.0])
    parser.add_argument("--limits", nargs="*", type=float, default=[0.55, 1.0])
    parser.add_argument("--wrong", action="store_true", help="name those that came otherwise")
    options = parser.parse_args(argv)
    directories = options.runs or sorted(path.parent for path in EXAMPLES.glob("**/records.parquet"))
    tally: Counter[str] = Counter()
    wrong: list[str] = []
    for directory in directories:
        try:
            run = open_run(directory)
        except KtsError as error:
            print(f"{directory}: {error.what}", file=sys.stderr)
            continue
        if run.info.plan.design == "interleaved" and all(b.window_ns for b in run.blocks if b.valid):
            tally["runs"] += 1
            for part in options.parts:
                for limit in options.limits:
                    before = len(wrong)
                    judged(cut(run, part, limit), tally, wrong)
                    wrong[before:] = [f"{directory.name} {part:g} {limit:g} {line}" for line in wrong[before:]]
    print(f"{tally['runs']} recorded runs, each cut {len(options.parts) * len(options.limits)} times")
    for when, words in (("start", "at the start"), ("last", "as last told")):
        places, figures = tally[f"{when} places"], tally[f"{when} figures"]
        right, refused = tally[f"{when} right"], tally[f"{when} refused"]
        print(
            f"{words}: {right} of {places} tenants in conditions right ({right / max(places, 1):.1%}); of {figures} "
            f"figures ({refused} foretold to be refused) {tally[f'{when} figures right'] / max(figures, 1):.1%}; "
            f"{tally[f'{when} open']} left open"
        )
    if options.wrong:
        print("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
