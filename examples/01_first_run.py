"""From an experiment to verdicts, in Python: what `kts run` does, without files to write and tables to print.

    python examples/01_first_run.py [FOLDER]

Two small tenants share whatever there is: a GPU, or one CPU core. Takes a few seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from kts.backends.local import LocalBackend
from kts.conduct.driver import conduct
from kts.model.mode import SharingMode
from kts.plan import build
from kts.report import RichWatcher
from kts.spec import load_text
from kts.stats import analyse
from kts.store import create, open_run

EXPERIMENT = """
name: first
rounds: 4
precision: null
tenants:
  small: {workload: fft, size: 64, think_ms: 1, iterations: 400}
  heavy: {workload: gemm, size: 128, think_ms: 1, iterations: 400}
"""


def main(folder: Path) -> None:
    """Measures into ``folder`` and prints one sentence per tenant."""
    plan = build(load_text(EXPERIMENT, source="first").experiment)
    sink = create(
        folder,
        plan=plan,
        backend="local",
        mode=SharingMode(),
        experiment_text=EXPERIMENT,
        environment={},
        overwrite=True,
    )
    with RichWatcher() as watcher:
        outcome = conduct(plan, LocalBackend(folder / "logs"), sink, watcher, None)
    if outcome.exit_code:
        sys.exit(f"{outcome.kind}: {outcome.reason}")
    summary = analyse(open_run(folder)).summary
    print(summary.device)
    for tenant in summary.tenants.values():
        print(tenant.verdict.sentence)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "run")
