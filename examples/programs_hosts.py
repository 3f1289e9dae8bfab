"""How far a program's host in a run is from that in its profile, machine by machine, and what it does to predictions.

python examples/programs_hosts.py hosts                what the runs' solo blocks say: seconds
python examples/programs_hosts.py predictions          errors and bands of turns, hosts as profiled and 1.3 times as
                                                       slow, from every profile that is kept; a quarter of an hour
python examples/programs_hosts.py predictions 3 7      of these machines' profiles only
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.stats import t

import kts
from ending import plain
from kts.errors import UsageError
from kts.model.reading import RunData
from kts.physics.files import decode_prediction, decode_profile
from kts.physics.fitted import MODEL_ERROR, hosts_profiled
from kts.physics.kinds import host_share
from kts.physics.predict import Effort, Predictor
from kts.physics.profiling import recalibrated
from kts.physics.recorded import mix_seconds, solo
from kts.physics.validate import MODEL, TenantScore, coverage_of, errors_of, score
from kts.physics.values import Profile
from kts.stats.steadiness import since_ns
from kts.store.fingerprints import read

HERE = Path(__file__).parent
FIRST, SECOND = "programs-evaluation", "programs-evaluation-2"
MADE_FOR = {
    "1": ("1", "2"),
    "3": ("3", "4"),
    "5": ("5",),
    "6": ("6",),
    "7": ("7",),
    "llama": ("llama",),
    "8": ("8", "9", "12", "13"),
}
"""The runs that each machine's profiles foretell: its own, and those of machines without any."""
LOST = "4"
"""Its profiles are not kept; what they said of its programs alone is in its sealed prediction."""
LEAST = 0.2
"""A program whose kernels are more of it than the rest says little of its host."""
SLOWER = 1.3
SHORT = Effort(iterations=1000, replicates=20)
"""Less than `kts predict` does: what is compared here are errors of 5 % and more."""
FIGURES = {"mean": ("response", "mean"), "p50": ("response", "p50"), "p99": ("response", "p99"), "DF99": ("df", "p99")}


@dataclass(frozen=True)
class Moved:
    """One program's host in the run over that in the profile: natural logarithm."""

    profiled: str
    run: str
    program: str
    log: float


def unpacked(file: Path, into: Path) -> Path:
    """The folder that a packed one became."""
    with tarfile.open(file) as tar:
        tar.extractall(into / file.name, filter="data")
    return into / file.name


def results(machine: str) -> Path:
    """What `09_programs.py` left of a machine."""
    folder = HERE / "programs" / "results" / (machine if machine == "llama" else f"h200-{machine}")
    return next((folder / name for name in (FIRST, SECOND) if (folder / name / "run").exists()), folder)


def run_of(machine: str, scratch: Path) -> kts.Run:
    """Its run, in turns."""
    packed = HERE / "modes" / f"h200-programs-{machine}.tar.xz"
    if packed.exists():
        return kts.load(unpacked(packed, scratch) / "run").shared_as("time-slicing")
    return kts.load(results(machine) / "run")


def profiles_of(machine: str, scratch: Path) -> dict[str, Profile]:
    """Its profiles by program."""
    folders = [results(machine) / "profiles"]
    if machine == "8":
        folders = [unpacked(HERE / "modes" / "h200-programs-8" / f"profiles-{k}.tar.xz", scratch) for k in (1, 2)]
    files = [file for folder in folders for file in sorted(folder.rglob("*.profile.json"))]
    return {one.tenant: one for one in (decode_profile(file.read_bytes(), file.name) for file in files)}


def fingerprint_of(machine: str) -> Path:
    """Beside its profiles."""
    folder = HERE / "modes" / "h200-programs-8" if machine == "8" else results(machine)
    files = (one / "fingerprint.json" for one in (folder, folder.parent))
    return next(file for file in files if file.exists())


def moved(scratch: Path) -> Iterator[Moved]:
    """Of every program that is more host than kernels, by means of what is alone in the run and in the profile."""
    shares: dict[str, float] = {}
    for machine, runs in MADE_FOR.items():
        profiles = profiles_of(machine, scratch)
        for name in runs:
            alone = alone_ms(run_of(name, scratch))
            for program in sorted(profiles.keys() & alone.keys()):
                profile = profiles[program]
                busy_ms = (1 - host_share(profile)) * float(np.median(profile.solo_service.ms))
                if host_share(profile) < LEAST or (machine, program) == ("1", "streams"):  # its threads were not told
                    continue
                before_ms = float(profile.solo_service.ms.mean())
                shares[program] = busy_ms / before_ms
                yield Moved(machine, name, program, float(np.log((alone[program] - busy_ms) / (before_ms - busy_ms))))
    sealed = results(LOST) / "prediction.json"
    told = {
        name: tenant.solo.mean
        for mix in decode_prediction(sealed.read_bytes(), str(sealed)).mixes
        for name, tenant in mix.tenants.items()
    }
    for program, after_ms in alone_ms(run_of(LOST, scratch)).items():
        if (before_ms := told[program]) is not None:
            busy_ms = shares[program] * before_ms
            yield Moved(LOST, LOST, program, float(np.log((after_ms - busy_ms) / (before_ms - busy_ms))))


def alone_ms(run: kts.Run) -> dict[str, float]:
    """Mean of each program's iterations in the run's solo blocks."""
    steady_ns = since_ns(run.data)
    return {one.name: float(solo(run.data, one.name, steady_ns).service_ms.mean()) for one in run.info.plan.tenants}


def spread(found: Sequence[Moved]) -> tuple[float, float, float]:
    """Of the logarithms: mean of the machines that profiled, how far these are apart, and how far a program of yet
    another machine is from the mean (deviations). Each machine counts once, whatever it foretold."""
    machines, within = [], []
    for _, of_machine in groupby(found, lambda one: one.profiled):
        runs = [[one.log for one in of_run] for _, of_run in groupby(of_machine, lambda one: one.run)]
        machines.append(np.mean([np.mean(logs) for logs in runs]))
        within.append(np.mean([np.var(logs, ddof=1) for logs in runs]))
    apart = float(np.var(machines, ddof=1))
    another = apart * (1 + 1 / len(machines)) + float(np.mean(within))
    return float(np.mean(machines)), apart**0.5, another**0.5


def hosts(scratch: Path) -> Iterator[str]:
    """A row per run; then what the other machines say of each."""
    found = list(moved(scratch))
    yield "| profiles of machine | run of machine | host in the run over that in the profile, by program | mean |"
    yield "|---|---|---|---:|"
    for (machine, run), them in groupby(found, lambda one: (one.profiled, one.run)):
        ours = list(them)
        each = ", ".join(f"{one.program} {np.exp(one.log):.2f}" for one in ours)
        yield f"| {machine} | {run} | {each} | {np.exp(np.mean([one.log for one in ours])):.2f} |"
    yield "\n| but for machine | host in the run over that in the profile | 95 % interval | of another: deviation |"
    yield "|---|---:|---:|---:|"
    for without in ("", *dict.fromkeys(one.profiled for one in found)):
        kept = [one for one in found if without not in (one.profiled, one.run)]
        mean, apart, another = spread(kept)
        n = len({one.profiled for one in kept})
        wide = float(t.ppf(0.975, n - 1)) * apart / n**0.5
        interval = f"{np.exp(mean - wide):.2f} to {np.exp(mean + wide):.2f}"
        yield f"| {without or 'none'} | {np.exp(mean):.2f} | {interval} | {100 * another:.0f} % |"


def slower(profile: Profile) -> Profile:
    """The profile with a host `SLOWER` times as slow."""
    alone = profile.solo_service.ms * (1 + host_share(profile) * (SLOWER - 1))
    return recalibrated(profile, alone, np.full(len(alone), np.nan))


def predictions(machines: Sequence[str], scratch: Path) -> Iterator[str]:
    """A row per run: errors with hosts as profiled, and `SLOWER` times as slow; how many bands hold of the former."""
    yield f"| profiles of machine | run of machine | {' | '.join(FIGURES)} | bands | of DF |"
    yield "|---|---|" + "---:|" * (len(FIGURES) + 2)
    for machine in machines:
        profiles = profiles_of(machine, scratch)
        mark = read(fingerprint_of(machine))
        for name in MADE_FOR[machine]:
            data = run_of(name, scratch).data
            errors, held = [], []
            for them in (profiles, {key: slower(one) for key, one in profiles.items()}):
                effort = SHORT if them is profiles else replace(SHORT, replicates=0)
                found = foretold(Predictor(them, mark, effort, hosts_profiled(MODEL_ERROR)), data)
                errors.append([errors_of(found, clock)[MODEL][of].median for clock, of in FIGURES.values()])
                for clock in ("response", "df") if them is profiles else ():
                    bands = [one for figure, one in coverage_of(found, clock).items() if figure != "p999"]
                    held.append(f"{sum(one.inside for one in bands)} of {sum(one.n for one in bands)}")
            cells = [f"{100 * ours:.0f} %, {100 * theirs:.0f} %" for ours, theirs in zip(*errors, strict=True)]
            yield f"| {machine} | {name} | {' | '.join([*cells, *held])} |"


def foretold(predictor: Predictor, data: RunData) -> tuple[TenantScore, ...]:
    """Every mix of the run, for as long as it was measured, held against it."""
    lasted = mix_seconds(data)
    mixes = [one.tenants for one in data.info.plan.mixes if lasted["+".join(one.tenants)] > 0]
    seconds = [round(lasted["+".join(mix)], 1) for mix in mixes]
    return score(predictor.predict(mixes, seconds=seconds), data).tenants


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("hosts", "predictions"))
    parser.add_argument("machines", nargs="*", metavar="MACHINE", default=list(MADE_FOR))
    asked = parser.parse_args()
    with plain(), tempfile.TemporaryDirectory() as scratch:
        if unknown := set(asked.machines).difference(MADE_FOR):
            raise UsageError(f"no such machine: {', '.join(sorted(unknown))}", f"those of {', '.join(MADE_FOR)}")
        rows = hosts(Path(scratch)) if asked.what == "hosts" else predictions(asked.machines, Path(scratch))
        for line in rows:
            print(line, flush=True)


if __name__ == "__main__":
    main()
