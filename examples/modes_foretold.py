"""How well sharing of programs is foretold, in turns and under MPS: errors and bands, all mixes of a run together.

python examples/modes_foretold.py RUN...                 from the profiles of examples/modes/h200-programs-8
python examples/modes_foretold.py RUN... --sealed FILE   what was sealed before: mps-MIX.json, turns-MIX.json

RUN, FILE: a folder, or packed as `10_modes.py mixes` does. Four minutes on two cores for the first way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import kts
from kts.app.inputs import basis
from kts.app.predictions import threads
from kts.model.mode import MPS, TIME_SLICING
from kts.physics.files import decode_prediction
from kts.physics.forecast import Prediction
from kts.physics.predict import Predictor
from kts.physics.rules import PROCESSOR_SHARING
from kts.physics.validate import MODEL, TenantScore, coverage_of, errors_of
from modes_data import unpacked

MACHINE = Path(__file__).parent / "modes" / "h200-programs-8"
SECONDS = 6.0
"""As long as each mix was measured there."""
HEAD = """\
| run | shared | hosts | mean | p50 | p95 | p99 | DF99 | bands | of DF | processor sharing: mean | p99 |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def anew(run: kts.Run, profiles: Sequence[Path]) -> Iterator[tuple[str, Prediction]]:
    """Under MPS; in turns with hosts as profiled, then as they are in runs: as `kts predict` and `kts choose` do."""
    given = basis({"profiles": profiles, "fingerprint": MACHINE / "fingerprint.json", "seconds": SECONDS})
    slower = given.as_in_a_run()
    for base, hosts in ((slower.in_mode(MPS), "in runs"), (given, "profiled"), (slower, "in runs")):
        with threads() as pool:
            predictor = Predictor(base.profiles, base.fingerprint, base.effort, base.error, each=pool.map)
            yield hosts, predictor.predict([mix for mix in run.mixes if len(mix) > 1])


def row(label: str, run: kts.Run, of: Sequence[Prediction], hosts: str) -> str:
    """Absolute errors of all tenants of these predictions, median and 90th percentile, and how many bands hold."""
    tenants: tuple[TenantScore, ...] = ()
    for prediction in of:
        tenants += kts.validate(prediction, run).tenants
    cells = [label, of[0].fingerprint.mode, hosts]
    for clock, rule, figure in (
        *(("response", MODEL, name) for name in ("mean", "p50", "p95", "p99")),
        ("df", MODEL, "p99"),
    ):
        one = errors_of(tenants, clock)[rule][figure]
        cells.append(f"{100 * one.median:.0f}, {100 * one.p90:.0f} %")
    for clock in ("response", "df"):
        held = [one for name, one in coverage_of(tenants, clock).items() if name != "p999"]
        cells.append(f"{sum(one.inside for one in held)} of {sum(one.n for one in held)}")
    for figure in ("mean", "p99"):
        one = errors_of(tenants, "response")[PROCESSOR_SHARING][figure]
        cells.append(f"{100 * one.median:.0f}, {100 * one.p90:.0f} %")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--sealed", type=Path)
    asked = parser.parse_args()
    with ExitStack() as stack:
        runs = {
            path.name.partition(".")[0]: kts.load(stack.enter_context(unpacked(path)) / "run") for path in asked.runs
        }
        print(HEAD)
        if asked.sealed is not None:
            files = sorted(stack.enter_context(unpacked(asked.sealed)).rglob("*-*.json"))
            sealed = [decode_prediction(file.read_bytes(), file.name) for file in files]
            for label, run in runs.items():
                for mode in (MPS, TIME_SLICING):
                    print(
                        row(label, run, [one for one in sealed if one.fingerprint.mode == mode], "as sealed"),
                        flush=True,
                    )
            return
        packed = [stack.enter_context(unpacked(MACHINE / f"profiles-{k}.tar.xz")) for k in (1, 2)]
        files = [file for folder in packed for file in sorted(folder.rglob("*.profile.json"))]
        for hosts, prediction in anew(next(iter(runs.values())), files):
            for label, run in runs.items():
                print(row(label, run, [prediction], hosts), flush=True)


if __name__ == "__main__":
    main()
