"""The machines in examples/validation, and how their runs are predicted and scored in several ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path

import numpy as np

from in_docs import LEFT_OUT
from kts.physics.files import decode_profile
from kts.physics.fitted import MODEL_ERROR
from kts.physics.forecast import ModelError, Prediction
from kts.physics.predict import Effort, Predictor
from kts.physics.profiling import recalibrated
from kts.physics.recorded import mix_seconds, solo
from kts.physics.validate import MODEL, FigureScore, Score, TenantScore, score
from kts.physics.values import Profile
from kts.stats.steadiness import since_ns
from kts.store import StoredRun, open_run
from kts.store.fingerprints import read
from kts.store.reader import opening_order

HERE = Path(__file__).parent / "validation"
Change = Callable[[Profile], Profile]


@dataclass(frozen=True)
class Machine:
    """One folder: a fingerprint, profiles and a run, all of one GPU on one day."""

    name: str
    folder: Path

    @property
    def run(self) -> StoredRun:
        """Its run."""
        return open_run(self.folder / "run")

    @property
    def profiles(self) -> dict[str, Profile]:
        """By tenant."""
        files = sorted((self.folder / "profiles").glob("*.profile.json"))
        found = [decode_profile(file.read_bytes(), file.name) for file in files]
        return {profile.tenant: profile for profile in found}


DEVELOPMENT = Machine("development", HERE / "development" / "h200-0")
EVALUATION = tuple(Machine(name, HERE / "evaluation" / f"h200-{name}") for name in ("1", "2"))


@dataclass(frozen=True)
class Way:
    """How a run is predicted: from whose profiles and fingerprint, and with what of the run itself."""

    label: str
    other: bool = False  # profiles and fingerprint of the other machine
    with_solo: bool = False  # host times of the run's own solo blocks
    in_order: bool = False  # the tenants in the order in which the run's opened the GPU


OTHER = Way("profiles of the other machine", other=True)
ALONE = Way("profiles of the same machine")
SOLO = Way("profiles and the run's solo blocks", with_solo=True)
WAYS = (OTHER, ALONE, SOLO)
"""From the least that is known of the run to the most."""


def predicted(
    machine: Machine,
    way: Way = ALONE,
    *,
    error: ModelError = MODEL_ERROR,
    change: Change | None = None,
    replicates: int = 100,
) -> Score:
    """As `kts predict --profiles P --fingerprint F [--from-run R]` and `kts validate` would, for as long as each mix
    was measured. ``change``: of every profile, for experiments."""
    return score(_prediction(machine, way, error, change, replicates), machine.run, _steady_ns(machine))


def _prediction(
    machine: Machine, way: Way, error: ModelError = MODEL_ERROR, change: Change | None = None, replicates: int = 100
) -> Prediction:
    source = _other(machine) if way.other else machine
    run, profiles = machine.run, source.profiles
    if change is not None:
        profiles = {name: change(profile) for name, profile in profiles.items()}
    if way.with_solo:
        profiles = _as_alone(profiles, machine)
    order = opening_order(machine.folder / "run") if way.in_order else ()
    mixes = [tuple(sorted(mix.tenants, key=order.index)) if order else mix.tenants for mix in run.info.plan.mixes]
    measured_for = mix_seconds(run)
    seconds = [round(measured_for["+".join(mix.tenants)], 1) for mix in run.info.plan.mixes]
    mark = read(source.folder / "fingerprint.json")
    predictor = Predictor(profiles, mark, Effort(replicates=replicates), error, order_known=way.in_order)
    return predictor.predict(mixes, seconds=seconds)


def _other(machine: Machine) -> Machine:
    return next(m for m in EVALUATION if m != machine)


def _as_alone(profiles: Mapping[str, Profile], machine: Machine) -> dict[str, Profile]:
    alone = {name: solo(machine.run, name, _steady_ns(machine)) for name in profiles}
    return {n: recalibrated(p, alone[n].service_ms, alone[n].device_ms) for n, p in profiles.items()}


@cache
def _steady_ns(machine: Machine) -> Mapping[str, int]:
    return since_ns(machine.run)


@cache
def scores(banded: tuple[Way, ...] = WAYS) -> dict[tuple[str, str], Score]:
    """Of every evaluation machine and way, by name and label; two processes side by side. ``banded``: the ways that
    get bands, which are most of the work."""
    with ProcessPoolExecutor(2) as pool:
        return dict(chain(*pool.map(partial(_from_profiles, banded), EVALUATION)))


def _from_profiles(banded: tuple[Way, ...], source: Machine) -> list[tuple[tuple[str, str], Score]]:
    """What the profiles of one machine foretell: of its own run, in two ways, and of the other's. Without bands a
    prediction does not ask how long a run is, so one serves both runs: their mixes are the same."""
    many = {way: 100 if way in banded else 0 for way in WAYS}
    own = _prediction(source, ALONE, replicates=many[ALONE])
    as_own = not many[ALONE] and not many[OTHER]
    other = own if as_own else _prediction(_other(source), OTHER, replicates=many[OTHER])
    known = _prediction(source, SOLO, replicates=many[SOLO])
    each = ((source, ALONE, own), (_other(source), OTHER, other), (source, SOLO, known))
    return [((machine.name, way.label), score(told, machine.run, _steady_ns(machine))) for machine, way, told in each]


def tenants_of(found: Iterable[Score], clock: str, *, kind: str = "") -> Iterator[TenantScore]:
    """One per tenant and mix on a clock."""
    for one in found:
        yield from (t for t in one.tenants if t.clock == clock and kind in ("", t.kind))


def figures_of(found: Iterable[Score], clock: str, name: str = "", *, kind: str = "") -> list[FigureScore]:
    """All of one figure, or of every figure."""
    return [f for t in tenants_of(found, clock, kind=kind) for f in t.figures if name in ("", f.figure)]


def errors_of(figures: Iterable[FigureScore], rule: str = MODEL) -> np.ndarray:
    """Absolute relative errors of the prediction, or of a simpler rule."""
    if rule == MODEL:
        return np.array([abs(f.error) for f in figures])
    return np.array([abs(f.rules[rule]) for f in figures if rule in f.rules])


def held(figures: Iterable[FigureScore]) -> tuple[int, int]:
    """How many bands hold, of how many."""
    inside = [f.inside for f in figures if f.inside is not None]
    return sum(inside), len(inside)


def percent(value: float) -> str:
    """``2.7 %``."""
    return f"{100 * value:.1f} %" if value < 10 else f"over {100 * 10:.0f} %"


def share(figures: Iterable[FigureScore]) -> str:
    """The bands that hold, as ``88 %``."""
    figures = list(figures)
    inside, n = held(figures)
    return f"{100 * inside / n:.0f} %" if n else LEFT_OUT if figures else "-"


def middle(errors: np.ndarray) -> str:
    """Median; ``-`` of none."""
    return percent(float(np.median(errors))) if len(errors) else "-"


def far(errors: np.ndarray) -> str:
    """90th percentile; ``-`` of none."""
    return percent(float(np.quantile(errors, 0.9))) if len(errors) else "-"
