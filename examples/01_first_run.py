"""From an experiment to verdicts, in Python: what `kts run` does, without files to write and tables to print.

    python examples/01_first_run.py [FOLDER]

Two small tenants share whatever there is: a GPU, or one CPU core. Takes a few seconds.
"""

from __future__ import annotations

import sys
import tempfile

import kts
from ending import plain

EXPERIMENT = """
name: first
rounds: 4
precision: null
tenants:
  small: {workload: fft, size: 64, think_ms: 1, iterations: 400}
  heavy: {workload: gemm, size: 128, think_ms: 1, iterations: 400}
"""


def main(folder: str) -> None:
    """Measures into ``folder`` and prints one sentence per tenant."""
    run = kts.run(EXPERIMENT, folder, overwrite=True)
    if run.failure:
        sys.exit(f"error: {run.failure}")
    print(run.summary.device)
    for tenant in run.summary.tenants.values():
        print(tenant.verdict.sentence)


if __name__ == "__main__":
    with plain(), tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/run")
