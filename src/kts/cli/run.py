"""`kts run`: measure an experiment and report it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts import app
from kts.cli.cluster_options import PANEL, Context, RunPlace
from kts.cli.experiments import complete_name
from kts.cli.options import Dcgm, Json, NoFigures, Telemetry, checked_dcgm
from kts.cli.report import show_measured
from kts.errors import SetupError, UsageError

if TYPE_CHECKING:
    from kts.conduct.ports import Backend
    from kts.k8s.objects.settings import ClusterSettings
    from kts.model.plan import Plan
    from kts.model.provenance import Material
    from kts.model.run import Outcome

BACKENDS = ("local", "k8s", "replay")


def _choice(*words: str) -> Callable[[str], list[str]]:
    """Completes one of ``words`` in the shell; which are allowed is checked elsewhere."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


@dataclass(frozen=True)
class Setting:
    """All that is decided before measuring. ``make_backend`` is given the folder for what workers print."""

    backend: str
    make_backend: Callable[[Path], Backend]
    plan: Plan
    text: str
    mode: str
    environment: dict[str, str]
    made_from: tuple[Material, ...] = ()


def run(
    *,
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment file, or a name from `kts experiments`. With --on replay: a run directory.",
            autocompletion=complete_name,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run directory. Default: runs/TIME-NAME.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
    on: Annotated[
        str,
        typer.Option(
            help="local: processes on this machine; k8s: pods of a cluster; replay: a recorded run again.",
            metavar="BACKEND",
            autocompletion=_choice(*BACKENDS),
        ),
    ] = "local",
    design: Annotated[
        str | None,
        typer.Option(
            help="interleaved or classic.", autocompletion=_choice("interleaved", "classic"), show_default=False
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds always run.", show_default=False)] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Iterations per condition, of every tenant.", show_default=False)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Relative half-width of DF99's 95 % interval, e.g. 0.05, or none.", show_default=False),
    ] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Measure no longer than this.", show_default=False)] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cuda or cpu.", autocompletion=_choice("auto", "cuda", "cpu"), show_default=False),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            help="auto, torch, cupy or numpy.",
            autocompletion=_choice("auto", "torch", "cupy", "numpy"),
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Order of blocks and think times.", show_default=False)] = None,
    allow_different_gpus: Annotated[
        bool, typer.Option("--allow-different-gpus", help="Measure even if the tenants do not share one GPU.")
    ] = False,
    telemetry: Telemetry = True,
    dcgm: Dcgm = "",
    context: Context = None,
    place: RunPlace,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the run's objects in the cluster.", rich_help_panel=PANEL)
    ] = False,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Measure an experiment and report what sharing cost.

    Every tenant runs alone and all run together, in blocks; the report says how much slower sharing made each.
    """
    given = {
        "design": design,
        "rounds": rounds,
        "iterations": iterations,
        "max_seconds": max_seconds,
        "device": device,
        "library": library,
        "seed": seed,
        "allow_different_gpus": allow_different_gpus or None,
    }
    changes: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if precision is not None:
        changes["precision"] = _number_or_none(precision)
    if on not in BACKENDS:
        raise UsageError(f"--on: no backend {on!r}", f"known: {', '.join(BACKENDS)}")
    if on == "k8s":
        settings = place.run_settings(telemetry=telemetry, dcgm=dcgm)
        directory, outcome = _on_cluster(
            experiment, changes, _Cluster(place, settings, context, keep), out, overwrite=overwrite
        )
    else:
        if on == "replay" and dcgm:
            raise UsageError("--dcgm: a replay has no device to ask about", "leave it out")
        exporter = checked_dcgm(dcgm, telemetry=telemetry)
        setting = _replay(Path(experiment), changes) if on == "replay" else _local(experiment, changes)
        directory = out or _default_directory(setting.plan.name)
        sampled = telemetry and on != "replay"
        outcome = _measure(setting, directory, overwrite=overwrite, telemetry=sampled, dcgm=exporter)
    show_measured(app.finished(directory, outcome), figures=not no_figures, as_json=as_json)


def _local(experiment: str, changes: dict[str, object]) -> Setting:
    """The setting of an experiment on this machine."""
    from kts.plan import build
    from kts.spec import load, override
    from kts.worker.detect import resolved
    from kts.worker.environment import environment, sharing_mode

    loaded = load(experiment)
    plan = build(override(loaded.experiment, changes) if changes else loaded.experiment)
    if not sys.platform.startswith("linux"):
        raise SetupError(f"measuring needs Linux (this is {sys.platform}); reporting runs anywhere", "kts report DIR")
    from kts.backends.local import LocalBackend

    plan = resolved(plan)
    return Setting(
        backend=LocalBackend.name,
        make_backend=LocalBackend,
        plan=plan,
        text=loaded.text,
        mode=sharing_mode(plan.device),
        environment=environment(),
    )


@dataclass(frozen=True)
class _Cluster:
    """Where on a cluster, and what is left there."""

    place: RunPlace
    settings: ClusterSettings
    context: str | None
    keep: bool


def _on_cluster(
    experiment: str, changes: dict[str, object], cluster: _Cluster, out: Path | None, *, overwrite: bool
) -> tuple[Path, Outcome]:
    """Measures in pods; (the run directory, how it ended)."""
    import msgspec

    from kts.cli.on_k8s import conclude, decided, ensured_image, extra_from, start
    from kts.k8s.cluster.api import Api
    from kts.plan import build
    from kts.spec import load, override

    loaded = load(experiment)
    extra = extra_from(cluster.place.extra)
    plan = decided(build(override(loaded.experiment, changes) if changes else loaded.experiment), extra)
    api = Api.connect(cluster.context)
    settings = cluster.settings
    if cluster.place.image is None:
        settings = msgspec.structs.replace(settings, image=ensured_image(api, extra, None))
    directory = out or _default_directory(plan.name)
    _, session = start(api, plan, settings, loaded.text, directory, overwrite=overwrite)
    return directory, conclude(api, session, keep=cluster.keep)


def _replay(directory: Path, changes: dict[str, object]) -> Setting:
    """The setting of a recorded run, to be played again."""
    if changes:
        options = ", ".join("--" + key.replace("_", "-") for key in changes)
        raise UsageError(f"{options}: a replay is what was recorded and cannot be changed", "leave them out")
    from kts.backends.replay import ReplayBackend
    from kts.store import open_run, origin

    recorded = open_run(directory)
    backend, info = ReplayBackend(recorded), recorded.info
    return Setting(
        backend=ReplayBackend.name,
        make_backend=lambda _: backend,
        plan=backend.plan,
        text=info.experiment,
        mode=info.mode,
        environment=info.environment,
        made_from=origin.of_run(directory, info.created_ns or None),
    )


def _measure(setting: Setting, directory: Path, *, overwrite: bool, telemetry: bool, dcgm: str) -> Outcome:
    from kts.cli.output import console
    from kts.conduct.driver import conduct
    from kts.report import RichWatcher
    from kts.stats import PrecisionRule
    from kts.store import create
    from kts.store.layout import LOGS
    from kts.telemetry import make_sampler

    plan = setting.plan
    writer = create(
        directory,
        plan=plan,
        backend=setting.backend,
        mode=setting.mode,
        experiment_text=setting.text,
        environment=setting.environment,
        overwrite=overwrite,
        made_from=setting.made_from,
    )
    rule = PrecisionRule(plan, plan.precision) if plan.precision is not None else None
    with RichWatcher(console(stderr=True)) as watcher:
        sampler = make_sampler(dcgm) if telemetry else None
        return conduct(plan, setting.make_backend(directory / LOGS), writer, watcher, rule, telemetry=sampler)


def _number_or_none(text: str) -> object:
    """``none`` as None, a number as float; anything else as it is, for the checks to name."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _default_directory(name: str) -> Path:
    from datetime import UTC, datetime

    return Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
