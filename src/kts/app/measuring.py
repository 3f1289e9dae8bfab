"""An experiment measured on this machine, or a recorded run played again."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from rich.console import Console

from kts import plan as planning
from kts import sharing
from kts.app.exporter import exporter_here, exporter_url
from kts.app.handle import Run, finished, load
from kts.app.plans import Asked, Changes, planned
from kts.backends.replay import ReplayBackend
from kts.conduct.driver import conduct
from kts.errors import Interrupted, SetupError, UsageError
from kts.model.mode import SharingMode
from kts.model.neighbours import Look, Neighbours
from kts.model.plan import Plan
from kts.model.provenance import Material
from kts.model.sharing_facts import SHARING_VERSION, SharingFacts, Trial
from kts.report import RichWatcher
from kts.sharing import isolation, probed, state
from kts.stats import Foretelling, PrecisionRule
from kts.stats.modes import ModesRule
from kts.stats.pair_gate import PairRule
from kts.store import create, origin
from kts.store.layout import LOGS
from kts.store.sharingfile import write_sharing
from kts.telemetry.choice import make_sampler
from kts.worker.detect import cuda_devices, resolved
from kts.worker.environment import environment
from kts.worker.sharing import before

if TYPE_CHECKING:
    from kts.conduct.ports import Backend, StopRule, Telemetry


@dataclass(frozen=True)
class Setting:
    """All that is decided before measuring. ``make_backend`` is given the folder for what workers print."""

    backend: str
    make_backend: Callable[[Path], Backend]
    plan: Plan
    text: str
    mode: SharingMode
    environment: dict[str, str]
    made_from: tuple[Material, ...] = ()


def run(
    experiment: Asked,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    telemetry: bool = True,
    dcgm: str = "",
    modes: str = "",
    try_isolation: bool = False,
    allow_reconfigure: bool = False,
    progress: Console | None = None,
    **changes: Unpack[Changes],
) -> Run:
    """Measures an experiment on this machine, and returns the run: every tenant alone and all together, in blocks.

    ``experiment``: a file, the name of a ready-made one, or YAML text of several lines; or a program and its arguments,
    as a list: it runs alone and beside ready-made neighbours. ``out``: the run directory; by default
    ``runs/TIME-NAME``. ``overwrite``: replace a run that is there. ``telemetry``: sample the device and the CPU
    scheduler meanwhile; ``dcgm``: scrape this dcgm-exporter, too, or the one that ``auto`` finds. ``modes``: ways
    to share the device, measured in turns in one run, such as ``exclusive,time-slicing,mps,mps:50``; then `Run.modes`
    says what each comes to. ``try_isolation``: afterwards one tenant comes to harm in each of them beside another, and
    it is told who else falls; nobody else may compute on the GPU. ``allow_reconfigure``: for the mode ``mig``, MIG
    devices may be made on a GPU in MIG mode that has none, and are taken away afterwards. ``progress``: where to show
    how far it is. ``changes``: keys of the experiment to set anew, see `Changes`.

    What is measured is kept whatever happens: `Run.outcome` says how it ended. Raises where nothing of it can be
    read: SpecError for mistakes in the experiment, SetupError for what this machine lacks, UsageError, DataError.
    """
    loaded, plan = planned(experiment, changes)
    if modes:
        plan = planning.in_modes(plan, sharing.parse(modes))
    elif try_isolation:
        raise UsageError("--try-isolation: of which modes?", "--modes time-slicing,mps")
    return measured(
        plan,
        loaded.text,
        out,
        overwrite=overwrite,
        telemetry=telemetry,
        dcgm=dcgm,
        try_isolation=try_isolation,
        allow_reconfigure=allow_reconfigure,
        progress=progress,
    )


def measured(
    plan: Plan,
    text: str,
    out: str | Path | None,
    *,
    overwrite: bool,
    telemetry: bool = True,
    dcgm: str = "",
    try_isolation: bool = False,
    allow_reconfigure: bool = False,
    progress: Console | None = None,
) -> Run:
    """The run of a plan on this machine; ``text``: what it was made of. Arguments and errors as of `run`."""
    exporter = exporter_url(dcgm, telemetry=telemetry)
    if not sys.platform.startswith("linux"):
        raise SetupError(f"measuring needs Linux (this is {sys.platform}); reporting runs anywhere", "kts report DIR")
    from kts.backends.local import LocalBackend, placed  # needs Linux

    with sharing.reconfigured(plan, allowed=allow_reconfigure) as made:
        plan = resolved(plan)
        sharing.check(plan)
        uuids = [gpu.uuid for gpu in cuda_devices()] if exporter and plan.device == "cuda" else []
        trials: dict[str, tuple[Trial, ...]] = {}
        stopped = ""
        with exporter_here(exporter, uuids) as found, sharing.prepared(plan) as held:
            if try_isolation:
                isolation.check_alone(held.before)
            setting = Setting(
                backend=LocalBackend.name,
                make_backend=lambda folder: LocalBackend(
                    folder, env=held.env, trouble=lambda: (*made.notes, *held.trouble())
                ),
                plan=plan,
                text=text,
                mode=before(plan.device),
                environment=environment() | {"kts_cores": ",".join(map(str, placed(plan).conductor))},
            )
            say = (progress or Console(quiet=True)).print
            turns = probed.looked(plan, held, say)
            sampler = (lambda told: make_sampler(plan, told, *found)) if telemetry else None
            late: list[str] = []
            run = _measured(setting, out, overwrite=overwrite, make_sampler=sampler, progress=progress, late=late)
            if try_isolation and run.outcome.kind in ("complete", "undetermined"):
                trials, stopped = isolation.tried(plan, held, say, stopped="".join(late[:1]))
    if held.before is not None:
        facts = SharingFacts(
            schema=SHARING_VERSION,
            before=made.before or held.before,
            after=state.look(plan.device),
            trials=trials,
            turns=turns,
        )
        write_sharing(run.directory, facts)
    if stopped == isolation.STOPPED:
        raise Interrupted(
            f"interrupted while isolation was tried; {run.directory} has all that was measured",
            f"kts report {run.directory}",
        )
    return run


def replay(
    recorded: str | Path | Run,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Console | None = None,
) -> Run:
    """Plays a recorded run through the conductor again, and returns the new run; arguments as of `run`."""
    original = load(recorded)
    backend = ReplayBackend(original.data)
    setting = Setting(
        backend=ReplayBackend.name,
        make_backend=lambda _: backend,
        plan=backend.plan,
        text=original.info.experiment,
        mode=original.info.sharing,
        environment=original.info.environment,
        made_from=origin.of_run(original.directory, original.info.created_ns or None),
    )
    return _measured(setting, out, overwrite=overwrite, make_sampler=None, progress=progress)


def default_directory(name: str) -> Path:
    """``runs/TIME-NAME``, the time now."""
    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"


def _measured(
    setting: Setting,
    out: str | Path | None,
    *,
    overwrite: bool,
    make_sampler: Callable[[Callable[[Look], None]], Telemetry] | None,
    progress: Console | None,
    late: list[str] | None = None,
) -> Run:
    plan = setting.plan
    directory = default_directory(plan.name) if out is None else Path(out)
    writer = create(
        directory,
        plan=plan,
        backend=setting.backend,
        mode=setting.mode,
        experiment_text=setting.text,
        environment=setting.environment,
        overwrite=overwrite,
        made_from=setting.made_from,
        neighbours=Neighbours() if setting.backend == "local" and plan.device == "cuda" else None,
    )
    looks: deque[Look] = deque()
    with RichWatcher(progress or Console(quiet=True)) as watcher:
        sampler = make_sampler(looks.append) if make_sampler else None
        backend = setting.make_backend(directory / LOGS)
        outcome = conduct(
            plan,
            backend,
            writer,
            watcher,
            _rule(plan),
            telemetry=sampler,
            looks=looks,
            foreteller=Foretelling(),
            late=late,
        )
    return finished(directory, outcome)


def _rule(plan: Plan) -> StopRule | None:
    if plan.pair is not None:
        return PairRule(plan)
    if plan.precision is None:
        return None
    return ModesRule(plan, plan.precision) if plan.modes else PrecisionRule(plan, plan.precision)
