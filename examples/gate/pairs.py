"""Real A/A pairs: an experiment against itself, as `kts check --pair` measures it, many times on this machine.

Every fail is a false one, and every interval should hold 1. Each pair is added to the file at once, with what else the
machine had to do, so that it may be stopped and gone on with.

    python examples/gate/pairs.py --pairs 36 --out examples/gate/aa-cpu.json
    python examples/gate/pairs.py --show --out examples/gate/aa-cpu.json    # --write: into docs/gate.md
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import kts

sys.path.insert(0, str(Path(__file__).parents[1]))
from in_docs import put

DOCS = Path(__file__).parents[2] / "docs" / "gate.md"
EXPERIMENTS = {
    "fft beside gemm": """\
name: fft-gemm
tenants:
  fft: {workload: fft, size: 64, think_ms: 1}
  gemm: {workload: gemm, size: 64, think_ms: 1}
""",
    "tiny beside fft": """\
name: tiny-fft
tenants:
  tiny: {workload: tiny, think_ms: 0.5}
  fft: {workload: fft, size: 128, think_ms: 4}
""",
    "Poisson gemm beside a decoder": """\
name: gemm-decode
tenants:
  gemm: {workload: gemm, size: 48, arrivals: poisson, rate_hz: 300}
  decode: {workload: decode, layers: 1, d_model: 64, context: 64, think_ms: 2}
""",
}


def measured(number: int, seconds: float, device: str) -> dict[str, object]:
    """One pair, condensed."""
    name = list(EXPERIMENTS)[number % len(EXPERIMENTS)]
    text = f"seed: {number + 1}\n{EXPERIMENTS[name]}"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        run = kts.check_pair(text, text, Path(folder) / "run", max_seconds=seconds, device=device, telemetry=False)
        if run.failure is not None:
            raise run.failure
        gate = kts.check(run)
        made_by = run.info.provenance
    return {
        "number": number,
        "experiment": name,
        "judgement": gate.judgement,
        "seconds": round(gate.measured_s or 0.0, 2),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "cores": os.cpu_count(),
        "commit": None if made_by is None else made_by.commit,
        "criteria": [
            {
                "tenant": one.tenant,
                "judgement": one.judgement,
                "ratio": [one.measured.estimate, one.measured.lo, one.measured.hi],
                "why": one.why,
            }
            for one in gate.criteria
        ],
    }


def table(pairs: list[dict]) -> str:
    """What became of them, by experiment."""
    lines = [
        "| experiment | pairs | fail | pass | inconclusive | intervals that hold 1 | seconds |",
        "|---|" + "---:|" * 6,
    ]
    for name in (*EXPERIMENTS, "all"):
        some = [one for one in pairs if name in (one["experiment"], "all")]
        if not some:
            continue
        answers = Counter(one["judgement"] for one in some)
        ratios = [c["ratio"] for one in some for c in one["criteria"] if c["ratio"][1] is not None]
        held = sum(lo <= 1 <= hi for _, lo, hi in ratios)
        seconds = sum(one["seconds"] for one in some) / len(some)
        counts = " | ".join(str(answers[kind]) for kind in ("fail", "pass", "inconclusive"))
        lines.append(f"| {name} | {len(some)} | {counts} | {held} of {len(ratios)} | {seconds:.1f} |")
    loads = [load for one in pairs for load in one["load"]]
    return "\n".join([*lines, "", f"Load of the machine's {pairs[0]['cores']} cores: {min(loads)} to {max(loads)}."])


def main() -> int:
    """Measures, or shows what was measured; exit code 1 where more than one in a hundred failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=36, help="how many there shall be in the file")
    parser.add_argument("--seconds", type=float, default=12.0, help="of measuring each, at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-most", type=int, default=10**6, help="how many to measure now")
    parser.add_argument("--show", action="store_true", help="measure none")
    parser.add_argument("--write", action="store_true", help="measure none, and write the table into docs/gate.md")
    options = parser.parse_args()
    pairs = json.loads(options.out.read_text()) if options.out.exists() else []
    first = len(pairs)
    while not (options.show or options.write) and len(pairs) < min(options.pairs, first + options.at_most):
        pairs.append(measured(len(pairs), options.seconds, options.device))
        options.out.write_text("[\n" + ",\n".join(map(json.dumps, pairs)) + "\n]\n")
        print(f"{len(pairs)} of {options.pairs}: {pairs[-1]['judgement']}", file=sys.stderr)
    put(DOCS, {"pairs": table(pairs) + "\n"}, "--write" if options.write else "")
    return int(sum(one["judgement"] == "fail" for one in pairs) > len(pairs) / 100)


if __name__ == "__main__":
    sys.exit(main())
