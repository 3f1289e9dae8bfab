"""Runs of one experiment side by side: how much they differ, and what `kts compare` says of every two of them.

python examples/07_replicates.py            prints the tables
python examples/07_replicates.py --write    puts them into docs/measuring.md
python examples/07_replicates.py --check    exits 1 if docs/measuring.md holds other ones
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ending import mode, plain
from in_docs import put
from kts.errors import RefusalError
from kts.model.summary import Summary
from kts.physics.recorded import measured, solo
from kts.report import cells
from kts.stats import Comparison, analyse, compare
from kts.stats.comparison import pool
from kts.stats.dependence import student
from kts.stats.steadiness import since_ns
from kts.store import StoredRun, open_run

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "measuring.md"


@dataclass(frozen=True)
class Replicate:
    """One run. ``machine``: the GPU it was made on, by UUID. ``df99``: by tenant, response; also where a run by itself
    refuses it, because its iterations are worth too little for an interval."""

    summary: Summary
    machine: str
    df99: dict[str, float]


def replicates() -> dict[str, list[Replicate]]:
    """The runs in examples/replicates, or while there are none those in examples/results, by experiment and design;
    experiments with one run are left out."""
    folder = HERE / "replicates"
    found: dict[str, list[Replicate]] = {}
    for path in sorted((folder if folder.exists() else HERE / "results").rglob("run.json")):
        run = open_run(path.parent)
        machine = "+".join(sorted({worker.device.uuid for worker in run.info.workers}))
        name = run.info.plan.name if run.info.plan.design == "interleaved" else f"{run.info.plan.name}, classic"
        found.setdefault(name, []).append(Replicate(analyse(run).summary, machine, _df99(run)))
    return {name: runs for name, runs in found.items() if len(runs) > 1}


def _df99(run: StoredRun) -> dict[str, float]:
    steady_ns = since_ns(run)
    house = measured(run, steady_ns)["+".join(run.info.plan.full_house.tenants)]
    return {
        name: float(np.quantile(together.response_ms, 0.99) / np.quantile(solo(run, name, steady_ns).response_ms, 0.99))
        for name, together in house.items()
    }


def means_table(experiments: dict[str, list[Replicate]]) -> str:
    """DF99 of runs as they come, no use made of their own intervals: geometric mean with Student's t over the runs."""
    lines = [
        "| experiment | GPU | tenant | runs | DF99, mean of runs (95 %) | standard deviation | lowest, highest run |"
    ]
    lines.append("|---|---|---|---:|---:|---:|---:|")
    for name, runs in experiments.items():
        machines = by_machine(runs)
        for label, of in {**machines, f"{len(machines)} GPUs": runs}.items():
            for tenant in of[0].df99 if len(of) > 1 else ():
                logs = np.log([run.df99[tenant] for run in of])
                arm = student(len(logs) - 1, 0.95) * logs.std(ddof=1) / np.sqrt(len(logs))
                mean, lo, hi, least, most = np.exp([logs.mean(), logs.mean() - arm, logs.mean() + arm, *_ends(logs)])
                lines.append(
                    f"| {name} | {label} | {tenant} | {len(logs)} | {mean:.3f} ({lo:.3f}-{hi:.3f}) | "
                    f"{cells.percent(float(logs.std(ddof=1)))} | {least:.2f}, {most:.2f} |"
                )
    return "\n".join(lines) + "\n"


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def by_machine(runs: Sequence[Replicate]) -> dict[str, list[Replicate]]:
    """Numbered in the order of their first runs."""
    machines = list(dict.fromkeys(run.machine for run in runs))
    return {str(k): [run for run in runs if run.machine == machine] for k, machine in enumerate(machines, 1)}


def pooled_table(experiments: dict[str, list[Replicate]]) -> str:
    """DF99 on the response clock: of each machine with several runs, and over all."""
    lines = ["| experiment | GPU | tenant | runs | DF99, mean of runs (95 %) | between runs | lowest, highest run |"]
    lines.append("|---|---|---|---:|---:|---:|---:|")
    for name, runs in experiments.items():
        machines = by_machine(runs)
        sides = {k: of for k, of in machines.items() if len(of) > 1} if len(machines) > 1 else {}
        for label, of in {**sides, "all" if len(machines) > 1 else "1": runs}.items():
            label_of_all = f"{len(machines)} GPUs" if label == "all" else label
            lines += [f"| {name} | {label_of_all} | {row} |" for row in _pooled_rows(of)]
    return "\n".join(lines) + "\n"


def _pooled_rows(runs: Sequence[Replicate]) -> Iterator[str]:
    for one in pool([run.summary for run in runs]).figures:
        if (one.clock, one.figure) != ("response", "df"):
            continue
        each = [run.summary.tenants[one.tenant].response.df.p99.estimate for run in runs]
        there = [value for value in each if value is not None]
        ends = f"{cells.ratio(min(there))}, {cells.ratio(max(there))}" if there else "-"
        found = one.pooled
        yield " | ".join(
            [one.tenant, str(found.runs), cells.ratio_with_interval(found.estimate), cells.percent(found.between), ends]
        )


def pairs_table(experiments: dict[str, list[Replicate]]) -> str:
    """What compare says of every two runs, and of every two machines with several runs each."""
    lines = ["| experiment | compared | comparisons | with any difference | figures | differ | same | undetermined |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, runs in experiments.items():
        two = list(combinations(runs, 2))
        kinds: dict[str, list[tuple[list[Replicate], list[Replicate]]]] = {
            "two runs of one GPU": [([a], [b]) for a, b in two if a.machine == b.machine],
            "two runs of two GPUs": [([a], [b]) for a, b in two if a.machine != b.machine],
            "all runs of two GPUs": list(combinations([m for m in by_machine(runs).values() if len(m) > 1], 2)),
        }
        for kind, sides in kinds.items():
            told = [one for one in (_compared(a, b) for a, b in sides) if one is not None]
            if told:
                lines.append(f"| {name} | {kind} | {_counts(told)} |")
    return "\n".join(lines) + "\n"


def _compared(a: Sequence[Replicate], b: Sequence[Replicate]) -> Comparison | None:
    try:
        return compare([run.summary for run in a], [run.summary for run in b])
    except RefusalError:
        return None


def _counts(told: Sequence[Comparison]) -> str:
    def changes(test: Callable[[str], bool]) -> int:
        return sum(test(change.change) for one in told for change in one.changes)

    def alarm(one: Comparison) -> bool:
        return any(change.change in {"higher", "lower"} for change in one.changes)

    differ = changes(lambda kind: kind in {"higher", "lower"})
    same, undetermined = (changes(lambda kind, want=want: kind == want) for want in ("same", "undetermined"))  # type: ignore[misc]
    counts = [len(told), sum(map(alarm, told)), sum(one.family for one in told), differ, same, undetermined]
    return " | ".join(map(str, counts))


def main(asked: str) -> None:
    """Prints, writes or checks."""
    experiments = replicates()
    tables = {
        "replicate-means": means_table(experiments),
        "replicates": pooled_table(experiments),
        "replicate-pairs": pairs_table(experiments),
    }
    put(PAGE, tables, asked, slack=0.02)


if __name__ == "__main__":
    with plain():
        main(mode())
