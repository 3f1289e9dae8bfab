"""Predicts mixes of programs, seals that before they run, and holds it against what they do.

python examples/09_programs.py seal FOLDER EXPERIMENT...    fingerprint, profiles and predictions here, and their hashes
(publish FOLDER/HASHES: a commit, a mail, a timestamping service)
python examples/09_programs.py run FOLDER EXPERIMENT...     measures the mixes
python examples/09_programs.py score FOLDER...              the tables, of one machine or several
python examples/09_programs.py host FOLDER...               the same, hosts as fast as in the run's own solo blocks
python examples/09_programs.py alone FOLDER...              each program alone before the mixes (--hosts) and among them
python examples/09_programs.py account FOLDER EXPERIMENT... whether the GPU's time adds up in each mix, kernel by kernel

The experiments are those of examples/programs: development.yaml to tune with, evaluation.yaml to be judged by. Its runs
on two machines lie in examples/programs/results, the predictions in that of the first.
--device cpu --seconds 2 rehearses it without a GPU. --predictions FOLDER scores by what another machine has predicted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import yaml

import kts
from ending import plain
from kts import files
from kts.physics.draws import sharing
from kts.physics.recorded import solo
from kts.physics.validate import MODEL, FigureScore, Score
from kts.store.fingerprints import read
from programs_account import accounts, measure, measured
from validation_data import errors_of, far, figures_of, held, middle, percent, share

HASHES = "HASHES"
TIMES = 2
"""What `--hosts` measures alone, over what the experiment does."""
RULES = ("df-1", "n-times-solo")
BARS = {"p99 median": 0.08, "p99 90 %": 0.25, "mean": 0.08}
BANDS = (0.85, 0.95)


def seal(folder: Path, experiments: Sequence[str], device: str, seconds: float, hosts: int = 0) -> None:
    """Everything that is known before the mixes run, in ``folder``, and its hashes in one file. A fingerprint that is
    there is taken. ``hosts``: rounds in which the programs, all alive, run each alone in turns: how fast their hosts
    are there is taken instead of how fast they were in the minute of their profile."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "fingerprint.json").exists():
        kts.probe(device, out=folder / "fingerprint.json", say=print)
    lines = []
    for file in experiments:
        plan = kts.preview(file, device=device).plan
        here = folder / plan.name
        kts.profile(file, here / "profiles", seconds=seconds, device=device, say=print)
        alone = kts.run(_in_turns(file, hosts), here / "hosts", device=device) if hosts else None
        kts.predict(
            [list(mix.tenants) for mix in plan.mixes],
            profiles=here / "profiles",
            from_run=alone,
            fingerprint=folder / "fingerprint.json",
            out=here / "prediction.json",
            seal=True,
            say=print,
        )
        digest = (here / "prediction.json.sha256").read_text(encoding="utf-8").split()[0]
        lines.append(f"{digest}  {plan.name}/prediction.json\n")
    (folder / HASHES).write_text("".join(lines), encoding="utf-8")
    print(f"publish {folder / HASHES} before the next step")


def _in_turns(file: str, rounds: int) -> str:
    """The experiment's programs each alone, and all at once: a run has one mix at least."""
    experiment = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    for tenant in experiment["tenants"].values():
        for amount in {"iterations", "seconds"} & tenant.keys():
            tenant[amount] *= TIMES
    changed = {"name": f"{experiment['name']}-hosts", "rounds": rounds, "mixes": "full"}
    return str(yaml.safe_dump({**experiment, **changed}))


def run(folder: Path, experiments: Sequence[str], device: str) -> None:
    """Measures each experiment."""
    for file in experiments:
        name = kts.preview(file, device=device).plan.name
        kts.run(file, folder / name / "run", device=device)
        print(f"measured {folder / name / 'run'}")


def added_up(folder: Path, experiments: Sequence[str], seconds: float, only: str = "") -> Iterator[str]:
    """A row per mix: the wall clock, its parts, by how much these are more than it; and how much fewer round trips each
    made while its kernels were traced than just before. What was measured before is taken, and nothing else shown."""
    how = sharing(read(folder / "fingerprint.json"))
    yield "| mix | wall clock | work | switches | idle | too much | traced kernel by kernel: slower by |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for file in experiments:
        plan = kts.preview(file).plan
        mixes = [list(mix.tenants) for mix in plan.mixes if not only or "+".join(mix.tenants) in only.split(",")]
        kept = folder / plan.name / "account"
        if not kept.exists():
            measure([[plan.tenant(name) for name in mix] for mix in mixes], seconds, kept)
        mixes = [mix for mix in mixes if measured(kept, mix)]
        for mix, one in accounts(mixes, how, kept):
            found = one.account
            parts = (found.wall_ms, sum(found.gpu_ms.values()), found.switch_ms, found.idle_ms)
            cells = [f"{ms / 1000:.3f} s" for ms in parts]
            slower = ", ".join(f"{name} {100 * (factor - 1):+.1f} %" for name, factor in one.slower.items())
            yield f"| {mix} | {' | '.join(cells)} | {100 * found.excess:+.2f} % | {slower} |"


def scored(folder: Path, predictions: Path) -> Iterator[Score]:
    """Each experiment of a machine, by the predictions whose hashes were published."""
    for digest, name in _sealed(predictions):
        yield kts.validate(predictions / name, folder / name.parent / "run", sealed=digest)


def with_its_hosts(folder: Path, predictions: Path) -> Iterator[Score]:
    """The same profiles, predicted anew after the run: its blocks alone say how fast each program's host was."""
    for _, name in _sealed(predictions):
        here = name.parent
        with tempfile.TemporaryDirectory() as scratch:
            kts.predict(
                from_run=folder / here / "run",
                profiles=predictions / here / "profiles",
                fingerprint=predictions / "fingerprint.json",
                out=Path(scratch) / "prediction.json",
            )
            yield kts.validate(Path(scratch) / "prediction.json", folder / here / "run")


def alone_twice(folder: Path) -> Iterator[str]:
    """A row per program: alone before the mixes (`--hosts`) and alone among them. No prediction of a host that was seen
    once can be nearer than these two are to each other."""
    yield "| program, alone | mean before | among the mixes | apart | p99 before | among the mixes | apart |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for _, name in _sealed(folder):
        before, among = (kts.load(folder / name.parent / which).data for which in ("hosts", "run"))
        for tenant in among.info.plan.tenants:
            pair = [solo(one, tenant.name).response_ms for one in (before, among)]
            cells = []
            for figure in (np.mean, lambda ms: np.percentile(ms, 99)):
                first, second = (float(figure(ms)) for ms in pair)
                cells += [f"{first:.2f} ms", f"{second:.2f} ms", f"{100 * (second / first - 1):+.0f} %"]
            yield f"| {tenant.name} | {' | '.join(cells)} |"


def _sealed(predictions: Path) -> Iterator[tuple[str, Path]]:
    """Each prediction's hash, and where it lies in that folder."""
    for line in files.read(predictions / HASHES, "seal it first").decode().splitlines():
        digest, name = line.split()
        yield digest, Path(name)


def tables(found: Sequence[Score]) -> str:
    """By program and in all; then what is above a bar, program by program."""
    heads = "mixes | mean: mean error | p99: median | p99: 90 % | bands | " + " | ".join(
        f"p99: {rule}" for rule in RULES
    )
    lines = [f"| program | {heads} |", "|---" + "|---:" * (5 + len(RULES)) + "|"]
    programs = sorted({tenant.tenant for one in found for tenant in one.tenants})
    for name in [*programs, ""]:
        mine = [_only(one, name) for one in found]
        mixes = len({(one.run, t.mix) for one in mine for t in one.tenants})
        p99 = figures_of(mine, "response", "p99")
        rules = [middle(errors_of(p99, rule)) for rule in RULES]
        errors, every = errors_of(p99), figures_of(mine, "response")
        cells = [str(mixes), _mean(mine), middle(errors), far(errors), share(every), *rules]
        lines.append(f"| {name or 'all'} | {' | '.join(cells)} |")
    seals = [f"{one.run}: {one.seal.sentence}" for one in found if one.seal is not None]
    return "\n".join([*lines, "", *missed(found, programs), "", *seals]) + "\n"


def missed(found: Sequence[Score], programs: Sequence[str]) -> Iterator[str]:
    """Bars that are not reached, and programs for which a simpler rule is better."""
    p99 = figures_of(found, "response", "p99")
    errors, means = errors_of(p99), errors_of(figures_of(found, "response", "mean"))
    if not len(errors):
        yield "No p99 could be scored."
        return
    reached = {"p99 median": float(_at(errors, 0.5)), "p99 90 %": float(_at(errors, 0.9)), "mean": float(means.mean())}
    for bar, most in BARS.items():
        yield f"{bar}: {percent(reached[bar])}, {'reached' if reached[bar] <= most else 'above'} {percent(most)}"
    inside, n = held(figures_of(found, "response"))
    if n:
        yield f"bands: {inside} of {n}, {'within' if BANDS[0] <= inside / n <= BANDS[1] else 'outside of'} 85 to 95 %"
    for name in programs:
        mine: list[FigureScore] = figures_of([_only(one, name) for one in found], "response", "p99")
        for rule in RULES:
            ours, theirs = errors_of(mine, MODEL), errors_of(mine, rule)
            if len(ours) and len(theirs) and _at(theirs, 0.5) <= _at(ours, 0.5):
                yield f"{name}: {rule} is better ({percent(_at(theirs, 0.5))} against {percent(_at(ours, 0.5))})"


def _only(one: Score, name: str) -> Score:
    tenants = tuple(t for t in one.tenants if name in ("", t.tenant))
    return msgspec.structs.replace(one, tenants=tenants)


def _lacking(one: Score, name: str) -> Score:
    """Without the mixes of that program."""
    tenants = tuple(t for t in one.tenants if name not in t.mix.split("+"))
    return msgspec.structs.replace(one, tenants=tenants)


def _mean(found: Sequence[Score]) -> str:
    errors = errors_of(figures_of(found, "response", "mean"))
    return percent(float(errors.mean())) if len(errors) else "-"


def _at(errors: np.ndarray, p: float) -> float:
    return float(np.quantile(errors, p))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("seal", "run", "score", "host", "alone", "account"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("more", nargs="*", help="experiments; of score and host, further folders")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--hosts", type=int, default=0, metavar="ROUNDS", help="of seal: first each alone in turns")
    parser.add_argument("--predictions", type=Path)
    parser.add_argument("--without", default="", metavar="PROGRAM", help="of score and host: leave out mixes with it")
    parser.add_argument("--only", default="", metavar="MIX,MIX", help="of account: these mixes, e.g. graph+resnet")
    asked = parser.parse_args()
    with plain():
        if asked.step == "seal":
            seal(asked.folder, asked.more, asked.device, asked.seconds, asked.hosts)
        elif asked.step == "run":
            run(asked.folder, asked.more, asked.device)
        elif asked.step == "account":
            for line in added_up(asked.folder, asked.more, asked.seconds, asked.only):
                print(line, flush=True)
        elif asked.step == "alone":
            for folder in [asked.folder, *map(Path, asked.more)]:
                print("\n".join(alone_twice(folder)))
        else:
            folders = [asked.folder, *map(Path, asked.more)]
            scores = scored if asked.step == "score" else with_its_hosts
            found = [score for one in folders for score in scores(one, asked.predictions or one)]
            print(tables([_lacking(one, asked.without) for one in found]), end="")


if __name__ == "__main__":
    main()
