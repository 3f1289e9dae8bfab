"""Makes the tables of the runs in examples/results: every run that is there, none left out.

python examples/04_results_table.py            prints the tables
python examples/04_results_table.py --write    puts them into README.md and examples/results/README.md
python examples/04_results_table.py --check    exits 1 if these hold other ones
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ending import mode, plain
from in_docs import put
from kts.model.summary import Summary
from kts.report.cells import dimmed, ratio_with_interval
from kts.stats import analyse
from kts.store import open_run

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
STATIONARY_SINCE = 2
"""Schema of the first runs whose tenants enter a block in their stationary phase."""
TOGETHER = "-together-"
"""In the names of runs that an older kts made beside them, on the same machine."""
PUBLISHED = "| *published, GTX 1080* | agents, classic, in pods | *not measured* | 1.66 | *not measured* | 1.18 | 800 |"
TENANTS = ("fft", "gemm")
WHERE = {"local": "as processes", "k8s": "in pods"}


def row(name: str, summary: Summary, folder: str) -> str:
    """One run: DF99 of both tenants on both clocks."""
    drift = "; no drift in the intervals" if dimmed(summary) else ""
    began = "; began together" if TOGETHER in name else ""
    what = f"{summary.experiment}, {summary.design}, {WHERE[summary.backend]}{drift}{began}"
    cells = [f"[{name}]({folder}{name})", what]
    for tenant in TENANTS:
        figures = summary.tenants[tenant]
        cells += [f"**{ratio_with_interval(figures.response.df.p99)}**", ratio_with_interval(figures.device.df.p99)]
    cells.append(" / ".join(str(summary.tenants[tenant].response.shared.n) for tenant in TENANTS))
    return "| " + " | ".join(cells) + " |"


def tables() -> tuple[str, str]:
    """README's table: runs whose tenants entered blocks in their stationary phase, and those made beside them. And that
    of the runs before."""
    new, old = [], []
    for directory in sorted(path.parent for path in RESULTS.glob("*/run.json")):
        run = open_run(directory)
        shown = run.info.schema >= STATIONARY_SINCE or TOGETHER in directory.name
        (new if shown else old).append((directory.name, analyse(run).summary))
    return _table(new, "examples/results/", PUBLISHED), _table(old, "")


def _table(runs: Sequence[tuple[str, Summary]], folder: str, *more: str) -> str:
    lines = [
        "| run | what | fft DF99, response | fft, device | gemm DF99, response | gemm, device | n shared |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [row(name, summary, folder) for name, summary in runs]
    return "\n".join([*lines, *more]) + "\n"


if __name__ == "__main__":
    with plain():
        asked = mode()
        new, old = tables()
        put(README, {"results": new}, asked)
        put(RESULTS / "README.md", {"earlier": old}, asked)
