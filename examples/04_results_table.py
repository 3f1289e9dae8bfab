"""Makes README's table from the runs in examples/results: every run that is there, none left out.

python examples/04_results_table.py            prints the table
python examples/04_results_table.py --write    puts it into README.md
python examples/04_results_table.py --check    exits 1 if README.md holds another one
"""

from __future__ import annotations

import sys
from pathlib import Path

from in_docs import put
from kts.model.summary import Summary
from kts.report.cells import dimmed, ratio_with_interval
from kts.stats import analyse
from kts.store import open_run

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
PUBLISHED = "| *published, GTX 1080* | agents, classic, in pods | *not measured* | 1.66 | *not measured* | 1.18 | 800 |"
TENANTS = ("fft", "gemm")
WHERE = {"local": "as processes", "k8s": "in pods"}


def row(name: str, summary: Summary) -> str:
    """One run: DF99 of both tenants on both clocks."""
    drift = "; no drift in the intervals" if dimmed(summary) else ""
    what = f"{summary.experiment}, {summary.design}, {WHERE[summary.backend]}{drift}"
    cells = [f"[{name}](examples/results/{name})", what]
    for tenant in TENANTS:
        figures = summary.tenants[tenant]
        cells += [f"**{ratio_with_interval(figures.response.df.p99)}**", ratio_with_interval(figures.device.df.p99)]
    cells.append(" / ".join(str(summary.tenants[tenant].response.shared.n) for tenant in TENANTS))
    return "| " + " | ".join(cells) + " |"


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| run | what | fft DF99, response | fft, device | gemm DF99, response | gemm, device | n shared |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    runs = sorted(path.parent for path in RESULTS.glob("*/run.json"))
    lines += [row(directory.name, analyse(open_run(directory)).summary) for directory in runs]
    return "\n".join([*lines, PUBLISHED]) + "\n"


if __name__ == "__main__":
    put(README, {"results": table()}, sys.argv[1] if len(sys.argv) > 1 else "")
