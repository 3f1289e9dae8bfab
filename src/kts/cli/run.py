"""`kts run`: measure an experiment and report it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from kts import app
from kts.cli.cluster_options import PANEL, Context, FleetOptions, RunPlace
from kts.cli.experiments import complete_name
from kts.cli.options import Dcgm, Json, NoFigures, Telemetry
from kts.cli.output import console, present, say
from kts.cli.program import Program, ProgramImage, TakesProgram
from kts.cli.report import show_fleet, show_measured
from kts.errors import UsageError

BACKENDS = ("local", "k8s", "replay")
COMMAND = TakesProgram
Keep = Annotated[bool, typer.Option("--keep", help="Leave the run's objects in the cluster.", rich_help_panel=PANEL)]


def _choice(*words: str) -> Callable[[str], list[str]]:
    """Completes one of ``words`` in the shell; which are allowed is checked elsewhere."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


@dataclass(frozen=True, kw_only=True)
class ChangeOptions:
    """Keys of the experiment that are set anew. Each field is an option; see `kts.cli.groups`."""

    design: Annotated[
        str | None, typer.Option(help="interleaved or classic.", autocompletion=_choice("interleaved", "classic"))
    ] = None
    rounds: Annotated[int | None, typer.Option(help="Rounds always run.")] = None
    iterations: Annotated[int | None, typer.Option(help="Iterations per condition, of every tenant.")] = None
    precision: Annotated[
        str | None, typer.Option(help="Relative half-width of DF99's 95 % interval, e.g. 0.05, or none.")
    ] = None
    max_seconds: Annotated[float | None, typer.Option(help="Measure no longer than this.")] = None
    device: Annotated[
        str | None, typer.Option(help="auto, cuda or cpu.", autocompletion=_choice("auto", "cuda", "cpu"))
    ] = None
    library: Annotated[
        str | None,
        typer.Option(help="auto, torch, cupy or numpy.", autocompletion=_choice("auto", "torch", "cupy", "numpy")),
    ] = None
    seed: Annotated[int | None, typer.Option(help="Order of blocks and think times.")] = None
    allow_different_gpus: Annotated[
        bool, typer.Option("--allow-different-gpus", help="Measure even if the tenants do not share one GPU.")
    ] = False
    keep_values: Annotated[
        bool,
        typer.Option(
            "--keep-values", help="Keep programs' arguments and values of env with the run. Default: masked there."
        ),
    ] = False

    def given(self) -> app.Changes:
        """Those that were given, as the API takes them."""
        given = {name: value for name, value in vars(self).items() if value is not None and value is not False}
        if self.precision is not None:
            given["precision"] = _number_or_none(self.precision)
        return cast("app.Changes", given)


Foretell = Annotated[
    bool,
    typer.Option("--predict", help="Of a program: predict instead, from profiles of it and its neighbours alone."),
]


@dataclass(frozen=True, kw_only=True)
class ModeOptions:
    """Ways to share that are held against each other. Each field is an option; see `kts.cli.groups`."""

    modes: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Ways to share, measured in turns in one run: exclusive, time-slicing, mps, mps:50 (% of threads), "
            "streams, streams:priority, mig. With --on k8s one, to which the node is set.",
        ),
    ] = ""
    try_isolation: Annotated[
        bool,
        typer.Option(
            "--try-isolation",
            help="Of each mode: who else falls when a tenant is killed, takes all memory, faults? For a GPU of yours.",
        ),
    ] = False

    allow_reconfigure: Annotated[
        bool,
        typer.Option(
            "--allow-reconfigure",
            help="For mig: may make MIG devices on a GPU in MIG mode that has none, and takes them away afterwards.",
        ),
    ] = False

    def check(self, on: str, *, foretells: bool, many: bool) -> None:
        """UsageError for what is no run in modes. ``foretells``: from profiles; ``many``: on many nodes."""
        if self.modes and (on == "replay" or many or foretells):
            raise UsageError("--modes: one run measures them", "leave --on replay, --nodes and --predict out")
        if self.try_isolation and not self.modes:
            raise UsageError("--try-isolation: of which modes?", "--modes time-slicing,mps")
        if self.allow_reconfigure and (on != "local" or not self.modes):
            raise UsageError("--allow-reconfigure: of a GPU of this machine, for the mode mig", "--modes exclusive,mig")
        if self.try_isolation and on == "k8s":
            raise UsageError("--try-isolation: of processes of this machine", "leave --on out")


def run(
    *,
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="An experiment file, or a name from `kts experiments`. With --on replay: a run directory.",
            autocompletion=complete_name,
        ),
    ] = None,
    program: Program = None,
    foretell: Foretell = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure nothing: say what would be, and what its time could decide.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="The run directory. Default: runs/TIME-NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
    on: Annotated[
        str,
        typer.Option(
            help="local: processes on this machine; k8s: pods of a cluster; replay: a recorded run again.",
            metavar="BACKEND",
            autocompletion=_choice(*BACKENDS),
        ),
    ] = "local",
    changes: ChangeOptions,
    sharing: ModeOptions,
    telemetry: Telemetry = True,
    dcgm: Dcgm = "",
    context: Context = None,
    place: RunPlace,
    program_image: ProgramImage = "",
    fleet: FleetOptions,
    keep: Keep = False,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Measure an experiment and report what sharing cost.

    Every tenant runs alone and all run together, in blocks; the report says how much slower sharing made each. A
    program of yours runs alone, beside a light neighbour, beside a heavy one, and beside a copy of itself."""
    asked, wanted = _asked(experiment, program, program_image, on), changes.given()
    sharing.check(on, foretells=foretell, many=fleet.nodes is not None)
    if dry_run:
        present(_preview(asked, wanted, on, sharing.modes), as_json=as_json)
        return
    if foretell:
        present(_foretell(asked, wanted, on, out, overwrite=overwrite), as_json=as_json)
        return
    fleet.check(on, overwrite=overwrite)
    pods = _Pods(place=place, context=context, telemetry=telemetry, dcgm=dcgm, keep=keep)
    if fleet.nodes is not None:
        show_fleet(pods.of_nodes(fleet.nodes, fleet, asked, out, wanted), figures=not no_figures, as_json=as_json)
        return
    if on == "k8s":
        measured = pods.of_run(asked, out, wanted, sharing.modes, overwrite=overwrite)
    elif on == "replay":
        measured = _again(_recorded(asked, wanted, dcgm), out, overwrite=overwrite)
    else:
        measured = _here(asked, out, wanted, overwrite=overwrite, telemetry=telemetry, dcgm=dcgm, sharing=sharing)
    show_measured(measured, figures=not no_figures, as_json=as_json)


def _here(
    asked: str | list[str],
    out: Path | None,
    wanted: app.Changes,
    *,
    overwrite: bool,
    telemetry: bool,
    dcgm: str,
    sharing: ModeOptions,
) -> app.Run:
    return app.run(
        asked,
        out,
        overwrite=overwrite,
        progress=console(stderr=True),
        telemetry=telemetry,
        dcgm=dcgm,
        modes=sharing.modes,
        try_isolation=sharing.try_isolation,
        allow_reconfigure=sharing.allow_reconfigure,
        **wanted,
    )


def _again(recorded: str, out: Path | None, *, overwrite: bool) -> app.Run:
    return app.replay(recorded, out, overwrite=overwrite, progress=console(stderr=True))


@dataclass(frozen=True, kw_only=True)
class _Pods:
    """Where and how pods measure."""

    place: RunPlace
    context: str | None
    telemetry: bool
    dcgm: str
    keep: bool

    def of_nodes(
        self, nodes: str, fleet: FleetOptions, asked: str | list[str], out: Path | None, wanted: app.Changes
    ) -> app.FleetRun:
        """A run on each of the nodes."""
        return app.run_fleet(
            asked,
            nodes,
            self.place.run_settings(telemetry=self.telemetry, dcgm=self.dcgm),
            out,
            at_once=fleet.at_once,
            queue=fleet.queue,
            image=self.place.image,
            full_image=fleet.full_image,
            extra=self.place.extra,
            context=self.context,
            keep=self.keep,
            progress=console(stderr=True),
            say=say,
            **wanted,
        )

    def of_run(
        self, asked: str | list[str], out: Path | None, wanted: app.Changes, modes: str, *, overwrite: bool
    ) -> app.Run:
        """One run. ``modes``: empty, or the one that the node or the claim is set to."""
        return app.run_on_cluster(
            asked,
            self.place.run_settings(telemetry=self.telemetry, dcgm=self.dcgm),
            out,
            image=self.place.image,
            extra=self.place.extra,
            context=self.context,
            modes=modes,
            keep=self.keep,
            overwrite=overwrite,
            progress=console(stderr=True),
            say=say,
            **wanted,
        )


def _asked(experiment: str | None, program: list[str] | None, program_image: str, on: str) -> str | list[str]:
    """The experiment, or the program. UsageError without one of them, with both, and for no backend."""
    if experiment is not None and program is not None:
        raise UsageError(f"{experiment} and a program: which of the two?", "leave one out")
    if program is None and experiment is None:
        raise UsageError("what shall run?", "kts run EXPERIMENT, or kts run -- PROGRAM ARGS; kts run --help")
    if on not in BACKENDS:
        raise UsageError(f"--on: no backend {on!r}", f"known: {', '.join(BACKENDS)}")
    asked = experiment if program is None else program
    assert asked is not None
    return _in_image(asked, program_image, on) if program_image else asked


def _in_image(asked: str | list[str], image: str, on: str) -> str:
    """The experiment of a program in that image. UsageError where it is none, or no cluster runs it."""
    if isinstance(asked, str):
        raise UsageError("--program-image: of a program behind two dashes", "an experiment's tenants say it: image:")
    if on != "k8s":
        raise UsageError("--program-image needs a cluster", "kts run --on k8s --program-image IMAGE -- PROGRAM ARGS")
    return app.experiment_of(asked, image)


def _preview(asked: str | list[str], wanted: app.Changes, on: str, modes: str) -> object:
    """What an experiment would do; nothing is written. UsageError for what is no experiment."""
    if on == "replay":
        raise UsageError("--dry-run --on replay: what was recorded is no plan", "kts report DIR")
    return app.preview(asked, modes=modes, **wanted)


def _foretell(asked: str | list[str], wanted: app.Changes, on: str, out: Path | None, *, overwrite: bool) -> object:
    """What the run would measure, predicted. UsageError for what a prediction does not have."""
    if isinstance(asked, str):
        raise UsageError(
            f"--predict: of a program behind two dashes, not of {asked}",
            f"kts profile {asked}, then kts predict --profiles DIR",
        )
    if on != "local":
        raise UsageError(f"--predict --on {on}: profiles are measured on this machine", "leave --on out")
    if others := [f"--{key.replace('_', '-')}" for key in wanted if key not in {"device", "library"}]:
        raise UsageError(f"{', '.join(others)}: for a run, and --predict measures none", "leave one of both out")
    return app.predict_beside(
        asked, out, device=wanted.get("device"), library=wanted.get("library"), overwrite=overwrite, say=say
    )


def _recorded(asked: str | list[str], changes: app.Changes, dcgm: str) -> str:
    """The run to play again. UsageError for what a replay cannot change, and for a program."""
    if dcgm:
        raise UsageError("--dcgm: a replay has no device to ask about", "leave it out")
    if changes:
        options = ", ".join("--" + key.replace("_", "-") for key in changes)
        raise UsageError(f"{options}: a replay is what was recorded and cannot be changed", "leave them out")
    if not isinstance(asked, str):
        raise UsageError("--on replay: of a program there is nothing to play again", "kts run DIR --on replay")
    return asked


def _number_or_none(text: str) -> object:
    """``none`` as None, a number as float; anything else as it is, for the checks to name."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return float(text)
    except ValueError:
        return text
