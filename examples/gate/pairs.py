"""Real A/A pairs: an experiment against itself, as `kts check --pair` measures it, many times on this machine.

Every fail is a false one, and every interval should hold 1. Each pair is added to the file at once, with what else the
machine had to do, so that it may be stopped and gone on with. With --requests tenants are requests to a stand-in for a
GPU (stand_in.py), which a minute can decide; every fourth pair has a B whose kernels are all 10 % longer.

    python examples/gate/pairs.py --pairs 36 --out examples/gate/aa-cpu.json
    python examples/gate/pairs.py --show --out examples/gate/aa-cpu.json    # --write: into docs/gate.md
    python examples/gate/pairs.py --requests --pairs 66 --seconds 60 --out examples/gate/requests-cpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import kts
from kts.model.gate import Judgement
from kts.stats.proportions import clopper_pearson

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.injectors.cgroups import favoured

from ending import plain
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
STAND_IN = Path(__file__).with_name("stand_in.py")
SCALES = (1.0, 1.0, 1.0, 1.1)
"""Of B's kernels over A's, pair by pair."""


def requests(scale: float, queue: Path) -> str:
    """Two tenants that share a stand-in for a GPU, whose queue is in that file."""
    one = {"workload": "command", "command": [sys.executable, str(STAND_IN)]}
    one["env"] = {"REQUEST_SCALE": str(scale), "REQUEST_DEVICE": str(queue)}
    return json.dumps({"name": "requests", "tenants": {"one": one, "two": one}}, indent=1)  # YAML, in lines


def measured(number: int, seconds: float, device: str, *, of_requests: bool, weight: int) -> dict[str, object]:
    """One pair, condensed. ``weight``: of all that is measured, where others on the machine have 1."""
    name = "requests" if of_requests else list(EXPERIMENTS)[number % len(EXPERIMENTS)]
    scale = SCALES[number % len(SCALES)] if of_requests else 1.0
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        if of_requests:
            a, b = (requests(times, Path(folder) / side) for side, times in (("a", 1.0), ("b", scale)))
        else:
            a = b = f"seed: {number + 1}\n{EXPERIMENTS[name]}"
        with favoured(f"kts-{os.getpid()}", weight) if weight > 1 else nullcontext():
            run = kts.check_pair(a, b, Path(folder) / "run", max_seconds=seconds, device=device, telemetry=False)
        if run.failure is not None:
            raise run.failure
        gate = kts.check(run)
        info = run.info
    return {
        "number": number,
        "experiment": name,
        "scale": scale,
        "weight": weight,
        "judgement": gate.judgement,
        "seconds": round(gate.measured_s or 0.0, 2),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "cores": os.cpu_count(),
        "commit": None if info.provenance is None else info.provenance.commit,
        "rounds": len({block.round for block in info.blocks}),
        "criteria": [
            {
                "tenant": one.tenant,
                "judgement": one.judgement,
                "ratio": [one.measured.estimate, one.measured.lo, one.measured.hi],
                "why": one.why,
                "foretold": [
                    [told.after_rounds, ratio.passes, ratio.fails]
                    for told in info.foretold
                    for ratio in told.ratios
                    if ratio.tenant == one.tenant and told.after_rounds
                ],
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


def decided(pairs: list[dict]) -> str:
    """What became of pairs of requests, by how much longer B's kernels are, and by their weight."""
    lines = [
        "| B's kernels | weight | load | pairs | fail | pass | inconclusive | intervals hold the truth | seconds |",
        "|---" * 3 + "|" + "---:|" * 6,
    ]
    for scale in sorted(set(SCALES)):
        same = [one for one in pairs if one["scale"] == scale]
        weights = sorted({one["weight"] for one in same})
        lines += [_row(scale, str(each), [one for one in same if one["weight"] == each]) for each in weights]
        lines += [_row(scale, "all", same)] if len(weights) > 1 else []
    return "\n".join(lines)


def _row(scale: float, weight: str, some: list[dict]) -> str:
    answers = Counter(one["judgement"] for one in some)
    ratios = [c["ratio"] for one in some for c in one["criteria"] if c["ratio"][1] is not None]
    held = sum(lo <= scale <= hi for _, lo, hi in ratios)
    loads = sorted(load for one in some for load in one["load"])
    cells = [
        "as A's" if scale == 1 else f"times {scale:g}",
        weight,
        f"{loads[0]:.1f} to {loads[-1]:.1f}, median {loads[len(loads) // 2]:.1f}",
        str(len(some)),
        *(_share(answers[kind], len(some)) for kind in ("fail", "pass", "inconclusive")),
        f"{held} of {len(ratios)}",
        f"{sum(one['seconds'] for one in some) / len(some):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _share(hits: int, count: int) -> str:
    lo, hi = clopper_pearson(hits, count)
    return f"{hits} ({100 * lo:.0f} to {100 * hi:.0f} %)"


def foretelling(pairs: list[dict]) -> str:
    """What was foretold of tenants, after the first rounds and as last told, by what came. A tenant that was open when
    another one failed says nothing: its run was over before its time."""
    lines = ["| told | foretold | fail | pass | inconclusive |", "|---|---|" + "---:|" * 3]
    for place, when in ((0, "after the first four rounds"), (-1, "as last told")):
        came = Counter((_foretold(one["ratio"][0], one["foretold"][place]), one["judgement"]) for one in _over(pairs))
        for told in ("fail", "pass", "inconclusive"):
            cells = [str(came[told, kind]) for kind in ("fail", "pass", "inconclusive")]
            lines.append(f"| {when} | {told} | {' | '.join(cells)} |")
        right = sum(n for (told, kind), n in came.items() if told == kind)
        lines.append(f"| {when} | right | {right} of {sum(came.values())} | | |")
    return "\n".join(lines)


def _over(pairs: list[dict]) -> list[dict]:
    """Tenants that had their time, a ratio, and something foretold."""
    return [
        one
        for pair in pairs
        for one in pair["criteria"]
        if one["ratio"][0] is not None and one["foretold"] and all(told[1] is not None for told in one["foretold"])
        if one["judgement"] != "inconclusive" or pair["judgement"] != "fail"
    ]


def _foretold(ratio: float, told: list) -> Judgement:
    """What a tenant whose ratio came was told to be."""
    _, passes, fails = told
    return "pass" if ratio <= passes else "fail" if fails is not None and ratio >= fails else "inconclusive"


def main() -> int:
    """Measures, or shows what was measured; exit code 1 where more than one in a hundred failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=36, help="how many there shall be in the file")
    parser.add_argument("--seconds", type=float, default=12.0, help="of measuring each, at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-most", type=int, default=10**6, help="how many to measure now")
    parser.add_argument("--requests", action="store_true", help="of requests to a stand-in for a GPU")
    parser.add_argument("--weight", type=int, default=1, help="N times others' share of the CPU, on a busy machine")
    parser.add_argument("--show", action="store_true", help="measure none")
    parser.add_argument("--write", action="store_true", help="measure none, and write the table into docs/gate.md")
    options = parser.parse_args()
    shown = options.show or options.write
    pairs = json.loads(options.out.read_text()) if shown or options.out.exists() else []
    first = len(pairs)
    while not shown and len(pairs) < min(options.pairs, first + options.at_most):
        asked = (len(pairs), options.seconds, options.device)
        pairs.append(measured(*asked, of_requests=options.requests, weight=options.weight))
        options.out.write_text("[\n" + ",\n".join(map(json.dumps, pairs)) + "\n]\n")
        print(f"{len(pairs)} of {options.pairs}: {pairs[-1]['judgement']}", file=sys.stderr)
    tables = (
        {"decided": decided(pairs), "foretelling": foretelling(pairs)} if options.requests else {"pairs": table(pairs)}
    )
    put(DOCS, {name: f"{text}\n" for name, text in tables.items()}, "--write" if options.write else "")
    same = [one["judgement"] for one in pairs if one.get("scale", 1.0) == 1]
    return int(same.count("fail") > len(same) / 100)


if __name__ == "__main__":
    with plain():
        sys.exit(main())
