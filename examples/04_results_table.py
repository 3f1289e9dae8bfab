"""Makes README's table from the runs in examples/results: every run that is there, none left out.

python examples/04_results_table.py            prints the table
python examples/04_results_table.py --write    puts it into README.md
python examples/04_results_table.py --check    exits 1 if README.md holds another one
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from kts.model.summary import Summary
from kts.report.cells import ratio_with_interval
from kts.stats import analyse
from kts.store import open_run

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
BETWEEN = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- /results -->)", re.DOTALL)
PUBLISHED = {"fft": ("3.68", "6.10", "1.66"), "gemm": ("21.0", "24.7", "1.18")}  # GTX 1080, device time


def rows(summary: Summary) -> list[str]:
    """One row per tenant."""
    lines = []
    for name, tenant in summary.tenants.items():
        response, device = tenant.response, tenant.device
        times = [f"{f.estimate:.2f}" if f.estimate else "-" for f in (response.solo.p99, response.shared.p99)]
        cells = [
            f"[{summary.run}](examples/results/{summary.run})",
            name,
            *times,
            f"**{ratio_with_interval(response.df.p99)}**",
        ]
        cells += [ratio_with_interval(device.df.p99), f"{response.solo.n} / {response.shared.n}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| run (number: which H200) | tenant | solo p99 ms | shared p99 ms | DF99, response | DF99, device | n |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for directory in sorted(path.parent for path in RESULTS.glob("*/run.json")):
        lines += rows(analyse(open_run(directory)).summary)
    for name, (solo, shared, df) in PUBLISHED.items():
        lines.append(f"| *published, GTX 1080, device time* | {name} | {solo} | {shared} | *not measured* | {df} | |")
    return "\n".join(lines) + "\n"


def main(mode: str) -> None:
    """Prints, writes or checks."""
    if mode == "":
        print(table(), end="")
        return
    text = README.read_text(encoding="utf-8")
    made = BETWEEN.sub(lambda _: table(), text)
    if mode == "--write":
        README.write_text(made, encoding="utf-8")
    elif made != text:
        sys.exit(
            "README.md does not hold the table of examples/results; run: python examples/04_results_table.py --write"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
