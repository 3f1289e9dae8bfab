"""`kts runs`, `kts attach`, `kts collect`, `kts clean`: runs that are in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kts import app
from kts.cli.cluster_options import Context, Namespace
from kts.cli.options import Json, NoFigures
from kts.cli.output import console, fields, print_plain_json, say, tell
from kts.cli.report import show_fleet, show_measured
from kts.errors import SetupError, UsageError
from kts.k8s.objects.names import DEFAULT_NAMESPACE

RunId = Annotated[str, typer.Argument(help="A run's or fleet's ID, from `kts runs --on k8s`.")]
Out = Annotated[Path | None, typer.Option(help="The run directory. Default: runs/ID.")]


def runs(
    on: Annotated[str, typer.Option(help="k8s.", metavar="BACKEND")] = "k8s",
    namespace: Annotated[str, typer.Option(help="Namespace; '' for all.")] = DEFAULT_NAMESPACE,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """List the runs that are in a cluster."""
    if on != "k8s":
        raise UsageError(f"--on: runs of {on!r} are not listed", "local runs are folders under runs/")
    there = app.cluster_runs(namespace or None, context=context)
    if as_json:
        print_plain_json([fields(state) for state in there])
        return
    if not there:
        tell(f"no runs in {f'namespace {namespace}' if namespace else 'any namespace'}")
    for state in there:
        tell(f"{state.run:<30} {state.experiment:<16} {state.state:<22} {state.age_s / 60:.0f} min old")


def attach(  # noqa: PLR0917 - typer turns parameters into options
    run: RunId,
    out: Out = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the run's objects in the cluster.")] = False,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Follow, fetch and report a run in a cluster."""
    progress = console(stderr=True)
    if app.fleet_in_cluster(run, namespace=namespace, context=context):
        fleet = app.attach_fleet(run, out, namespace=namespace, context=context, keep=keep, progress=progress, say=say)
        show_fleet(fleet, figures=not no_figures, as_json=as_json)
        return
    measured = app.attach(run, out, namespace=namespace, context=context, keep=keep, progress=progress, say=say)
    show_measured(measured, figures=not no_figures, as_json=as_json)


def collect(  # noqa: PLR0917 - as above
    run: RunId,
    out: Out = None,
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = None,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Report what a run in a cluster has so far.

    The run is left as it is, and goes on.
    """
    fetched = app.collect(run, out, namespace=namespace, context=context)
    show_measured(fetched, figures=not no_figures, as_json=as_json)


def clean(run: RunId, namespace: Namespace = DEFAULT_NAMESPACE, context: Context = None) -> None:
    """Remove a run from a cluster.

    What was fetched of it stays.
    """
    removed = app.clean(run, namespace=namespace, context=context, say=say)
    if not removed:
        raise SetupError(f"no run {run} in namespace {namespace}", "kts runs --on k8s lists the runs that are there")
    tell(f"{run}: {removed} objects removed, nothing is left")
