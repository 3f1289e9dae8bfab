"""Predicts the mixes in examples/validation from how each tenant behaves alone, and scores that by what was measured.

python examples/06_validate.py            prints the tables
python examples/06_validate.py --write    puts them into docs/physics.md, and the pictures into docs/images
python examples/06_validate.py --check    exits 1 if docs/physics.md holds other ones
python examples/06_validate.py --why      what each part of the model is worth, and what the host did meanwhile
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from in_docs import put
from kts import __version__
from kts.model.records import clock_ms
from kts.physics.files import decode_profile
from kts.physics.fitted import MODEL_ERROR
from kts.physics.forecast import ModelError
from kts.physics.predict import Effort, Predictor
from kts.physics.profiling import recalibrated
from kts.physics.recorded import mix_seconds, solo
from kts.physics.validate import MODEL, SCORED, Score, TenantScore, score
from kts.physics.values import Column, Profile
from kts.store import Run, open_run
from kts.store.fingerprints import read
from kts.store.opening import opening_order

HERE = Path(__file__).parent / "validation"
PAGE = Path(__file__).parents[1] / "docs" / "physics.md"
IMAGES = PAGE.parent / "images"
PAIR = ("graph-s", "eager-s")
TRIED = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05)
Change = Callable[[Profile], Profile]


@dataclass(frozen=True)
class Machine:
    """One folder: a fingerprint, profiles and a run, all of one GPU on one day."""

    folder: Path

    @property
    def run(self) -> Run:
        """Its run."""
        return open_run(self.folder / "run")

    @property
    def profiles(self) -> dict[str, Profile]:
        """By tenant."""
        files = sorted((self.folder / "profiles").glob("*.profile.json"))
        found = [decode_profile(file.read_bytes(), file.name) for file in files]
        return {profile.tenant: profile for profile in found}


DEVELOPMENT = Machine(HERE / "development" / "h200-0")
EVALUATION = {"1": Machine(HERE / "evaluation" / "h200-1"), "2": Machine(HERE / "evaluation" / "h200-2")}


@cache
def scored(machine: Machine, *, with_solo: bool = True, error: ModelError = MODEL_ERROR) -> Score:
    """As `kts predict --profiles P [--from-run R]` and `kts validate` would."""
    return predicted(machine, machine.profiles, with_solo=with_solo, error=error)


def predicted(
    machine: Machine,
    profiles: Mapping[str, Profile],
    *,
    with_solo: bool = True,
    error: ModelError = MODEL_ERROR,
    in_order: bool = True,
    replicates: int = 100,
) -> Score:
    """The run's mixes. ``with_solo``: host times from its solo blocks; ``in_order``: of opening, else the file's."""
    run = machine.run
    if with_solo:
        alone = {name: solo(run, name) for name in profiles}
        profiles = {n: recalibrated(p, alone[n].service_ms, alone[n].device_ms) for n, p in profiles.items()}
    order = opening_order(machine.folder / "run")
    mixes = [tuple(sorted(mix.tenants, key=order.index)) if in_order else mix.tenants for mix in run.info.plan.mixes]
    measured_for = mix_seconds(run)
    seconds = [round(measured_for["+".join(mix.tenants)], 1) for mix in run.info.plan.mixes]
    mark = read(machine.folder / "fingerprint.json")
    predictor = Predictor(profiles, mark, Effort(replicates=replicates), error, order_known=in_order)
    return score(predictor.predict(mixes, seconds=seconds), run)


def summary_table() -> str:
    """One row per machine and rule: errors over all tenants of all mixes, and how many bands hold."""
    lines = ["| machine | rule | tenants | mean: mean error | p50: median | p95: median | p99: median | p99: 90 % |"]
    lines[0] += " bands that hold: all | of p99 |"
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    both: list[Score] = []
    for name, machine in EVALUATION.items():
        whole = scored(machine)
        both.append(whole)
        lines.append(_row(name, "profiles and solo blocks", whole, MODEL))
        lines.append(_row(name, "profiles alone", scored(machine, with_solo=False), MODEL))
        lines += [_row(name, rule, whole, rule) for rule in ("df-1", "n-times-solo", "single-burst")]
    hold = {name: [f for one in both for f in _figures(one, name)] for name in SCORED}
    every = [f.inside for figures in hold.values() for f in figures]
    tail = [f.inside for f in hold["p99"]]
    lines += ["", f"Bands of both machines, profiles and solo blocks: {sum(map(bool, every))} of {len(every)} hold, "]
    lines[-1] += f"of p99 {sum(map(bool, tail))} of {len(tail)}."
    return "\n".join(lines) + "\n"


def _row(machine: str, rule: str, found: Score, key: str) -> str:
    errors = {name: _errors(found, name, key) for name in SCORED}
    cells = [f"{len(errors['mean'])}", _percent(errors["mean"].mean())]
    cells += [_percent(np.median(errors[name])) for name in ("p50", "p95", "p99")]
    cells.append(_percent(np.quantile(errors["p99"], 0.9)))
    if key == MODEL:
        held = [f.inside for name in SCORED for f in _figures(found, name)]
        tail = [f.inside for f in _figures(found, "p99")]
        cells += [f"{100 * np.mean(held):.0f} %", f"{100 * np.mean(tail):.0f} %"]
    else:
        cells += ["", ""]
    return f"| {machine} | {rule} | " + " | ".join(cells) + " |"


def _figures(found: Score, name: str) -> list:  # type: ignore[type-arg]
    return [f for t in found.tenants if t.clock == "response" for f in t.figures if f.figure == name]


def _errors(found: Score, name: str, rule: str = MODEL) -> np.ndarray:
    figures = _figures(found, name)
    if rule == MODEL:
        return np.array([abs(f.error) for f in figures])
    return np.array([abs(f.rules[rule]) for f in figures if rule in f.rules])


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value < 10 else f"over {100 * 10:.0f} %"


def mixes_table() -> str:
    """One row per mix: the error of each tenant's p99 on both machines."""
    scores = {name: scored(machine) for name, machine in EVALUATION.items()}
    lines = ["| mix | error of p99, machine 1 / machine 2 |", "|---|---|"]
    for mix in next(iter(EVALUATION.values())).run.info.plan.mixes:
        cells = [f"{name} {' / '.join(_p99(scores[m], mix.tenants, name) for m in scores)}" for name in mix.tenants]
        label = " + ".join(mix.tenants) if len(mix.tenants) < 12 else "all 12"
        lines.append(f"| {label} | {', '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _p99(found: Score, mix: Sequence[str], tenant: str) -> str:
    one = next(
        t for t in found.tenants if t.clock == "response" and t.tenant == tenant and set(t.mix.split("+")) == set(mix)
    )
    figure = next((f for f in one.figures if f.figure == "p99"), None)
    return "-" if figure is None else f"{100 * figure.error:+.1f} %"


def fit_table() -> str:
    """How many bands hold on the development set, by the model error that is added."""
    lines = ["| model error | mean | p50 | p95 | p99 | all |", "|---|---:|---:|---:|---:|---:|"]
    for relative in TRIED:
        found = scored(DEVELOPMENT, error=ModelError(relative=relative, source="given"))
        held = {name: [f.inside for f in _figures(found, name)] for name in SCORED}
        every = [inside for them in held.values() for inside in them]
        cells = [f"{sum(map(bool, them))} of {len(them)}" for them in held.values()]
        lines.append(f"| {100 * relative:g} % | {' | '.join(cells)} | {100 * np.mean(every):.0f} % |")
    return "\n".join(lines) + "\n"


def why() -> str:
    """What the parts of the model are worth, one left out at a time; and how fast the host was."""

    def never(profile: Profile) -> Profile:
        return replace(profile, settles_next=False)

    lines = []
    for label, machine in {"development": DEVELOPMENT, **EVALUATION}.items():
        kept = machine.profiles
        for what, change, how in (
            ("whole", None, {}),
            ("tenants in the file's order", None, {"in_order": False}),
            ("a replayed graph settles nothing", never, {}),
            ("host times of the profile", None, {"with_solo": False}),
        ):
            found = predicted(machine, {n: change(p) if change else p for n, p in kept.items()}, replicates=2, **how)
            mean, p99 = _errors(found, "mean"), _errors(found, "p99")
            lines.append(
                f"{label}, {what}: mean {_percent(mean.mean())}, p99 {_percent(np.median(p99))} (median), "
                f"{_percent(np.quantile(p99, 0.9))} (90 %), {_percent(p99.max())} (worst)"
            )
        lines += _hosts(machine.run, label)
        if label in EVALUATION:
            lines.append(_small_kernels(machine, label))
    return "\n".join([*lines, _passed_over(DEVELOPMENT.run)])


def _small_kernels(machine: Machine, label: str) -> str:
    """The eager decoder's kernels are those of the graph, whose GPU time is known without a tracer: as long as that."""
    kept = machine.profiles
    gap_ms = read(machine.folder / "fingerprint.json").launch_gap_ms.value
    whole_ms = float(np.median(kept["graph-s"].iterations.busy_ms))

    def shorter(profile: Profile) -> Profile:
        them = profile.iterations
        gaps_ms = gap_ms * (float(np.median(np.diff(them.first))) - 1)
        factor = (whole_ms - gaps_ms) / float(np.median(them.busy_ms))
        return replace(profile, duration=Column.of_ms(them.duration_ms * factor))

    changed = {name: shorter(p) if name.startswith("eager") else p for name, p in kept.items()}
    return "\n".join(
        f"{label}, eager kernels {what}: mean {_percent(_errors(found, 'mean').mean())}, p99 "
        f"{_percent(np.median(_errors(found, 'p99')))} (median), graph-s beside eager-s {_p99(found, PAIR, 'graph-s')}"
        for what, found in (
            ("as traced", predicted(machine, kept, replicates=2)),
            ("as long as in the graph", predicted(machine, changed, replicates=2)),
        )
    )


def _passed_over(run: Run) -> str:
    """graph-p comes behind graph-s in the circle of all nine tenants: when must it have submitted to be next?"""
    lead_ms, then_ms = [], []
    for block in run.blocks:
        if len(run.info.plan.condition(block.condition).tenants) < len(run.info.plan.tenants):
            continue
        before = run.records("graph-s", block.index)["retire_ns"]
        for row in run.records("graph-p", block.index):
            k = int(np.searchsorted(before, row["submit_ns"]))
            if k < len(before):
                lead_ms.append((int(before[k]) - int(row["submit_ns"])) / 1e6)
                then_ms.append((int(row["retire_ns"]) - int(before[k])) / 1e6)
    lead, following = np.array(lead_ms), np.array(then_ms) < 0.5
    late, early = lead < 0.6, (lead >= 0.6) & (lead < 2.0)
    return (
        f"development, all nine: graph-p followed graph-s at once in {(following & late).sum()} of {late.sum()} cases "
        f"where it submitted less than 0.6 ms before graph-s was done, and in {(following & early).sum()} of "
        f"{early.sum()} where it submitted 0.6 to 2 ms before"
    )


def _hosts(run: Run, label: str) -> list[str]:
    """Medians of the eager tenants alone, block by block: their host's speed at the time."""
    lines = []
    for name in (t.name for t in run.info.plan.tenants if t.name.startswith("eager")):
        medians = [
            f"{np.median(clock_ms(run.records(name, block.index), 'service')):.2f}"
            for block in run.blocks
            if run.info.plan.condition(block.condition).tenants == (name,)
        ]
        lines.append(f"{label}, {name} alone, median of each block: {', '.join(medians)} ms")
    return lines


def pictures() -> dict[Path, bytes]:
    """Predicted against measured, a picture per machine and theme."""
    from kts.report.charts_forecast import draw_score

    drawn: dict[Path, bytes] = {}
    for name, machine in EVALUATION.items():
        found = scored(machine)
        shown = replace(found, tenants=tuple(_short(t) for t in found.tenants), run=f"evaluation, machine {name}")
        figure = draw_score(shown, machine.run.info.workers[0].device.label, __version__)
        drawn |= {
            IMAGES / f"validation-h200-{name}-{file}": data
            for file, data in figure.rendered().items()
            if file.endswith(".png")
        }
    return drawn


def _short(tenant: TenantScore) -> TenantScore:
    n = len(tenant.mix.split("+"))
    return tenant if n < 5 else replace(tenant, mix=f"{n} tenants")


def main(mode: str) -> None:
    """Prints, writes or checks."""
    if mode == "--why":
        print(why())
        return
    made = {"validation": summary_table(), "validation-mixes": mixes_table(), "model-error": fit_table()}
    put(PAGE, made, mode, slack=0.3)
    if mode == "--write":
        IMAGES.mkdir(exist_ok=True)
        for path, data in pictures().items():
            path.write_bytes(data)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
