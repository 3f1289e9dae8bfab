"""How well sharing of programs is foretold, in turns and under MPS: errors and bands, all mixes of a run together.

python examples/modes_foretold.py RUN...                 from the profiles of examples/modes/h200-programs-8
python examples/modes_foretold.py RUN... --sealed FILE   what was sealed before: mps-MIX.json, turns-MIX.json

RUN, FILE: a folder, or packed as `10_modes.py mixes` does. Some minutes for the first way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import kts
from ending import plain
from kts.app.inputs import Given, Inputs, basis
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


def anew(runs: Sequence[kts.Run], profiles: Sequence[Path]) -> Iterator[tuple[int, str, Prediction]]:
    """Of each run, by its place: under MPS and in turns, as `kts predict` does without the run; then with it."""
    given: Given = {"profiles": profiles, "fingerprint": MACHINE / "fingerprint.json", "seconds": SECONDS}
    mixes = [mix for mix in runs[0].mixes if len(mix) > 1]
    for mode in (MPS, TIME_SLICING):
        one = _foretold(basis({**given, "mode": mode}), mixes)
        yield from ((place, "profiled", one) for place in range(len(runs)))
        for place, run in enumerate(runs):
            yield place, "the run's", _foretold(basis({**given, "mode": mode, "from_run": run}), mixes)


def _foretold(base: Inputs, mixes: Sequence[Sequence[str]]) -> Prediction:
    effort = replace(base.effort, iterations=1000, replicates=20)
    with threads() as pool:
        return Predictor(base.profiles, base.fingerprint, effort, base.error, each=pool.map).predict(mixes)


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
    with plain(), ExitStack() as stack:
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
        labels, loaded = list(runs), list(runs.values())
        for place, hosts, prediction in anew(loaded, files):
            print(row(labels[place], loaded[place], [prediction], hosts), flush=True)


if __name__ == "__main__":
    main()
