"""`kts runs`, `kts attach`, `kts collect`, `kts clean`: runs that are in a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kts import app
from kts.cli.cluster_options import Context, Namespace
from kts.cli.options import Json, NoFigures
from kts.cli.report import show_measured
from kts.errors import UsageError
from kts.k8s.objects.names import DEFAULT_NAMESPACE

RunId = Annotated[str, typer.Argument(help="A run's ID, from `kts runs --on k8s`.")]
Out = Annotated[Path | None, typer.Option(help="The run directory. Default: runs/ID.")]


def runs(
    on: Annotated[str, typer.Option(help="k8s.", metavar="BACKEND")] = "k8s",
    namespace: Annotated[str, typer.Option(help="Namespace; '' for all.")] = DEFAULT_NAMESPACE,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """List the runs that are in a cluster."""
    from kts.cli.output import print_plain_json
    from kts.k8s.cluster.api import Api
    from kts.k8s.follow.runs import runs as runs_in

    if on != "k8s":
        raise UsageError(f"--on: runs of {on!r} are not listed", "local runs are folders under runs/")
    found = runs_in(Api.connect(context), namespace or None)
    if as_json:
        import msgspec

        print_plain_json([msgspec.structs.asdict(state) for state in found])
        return
    if not found:
        sys.stdout.write(f"no runs in {f'namespace {namespace}' if namespace else 'any namespace'}\n")
    for state in found:
        sys.stdout.write(f"{state.run:<30} {state.experiment:<16} {state.state:<22} {state.age_s / 60:.0f} min old\n")


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
    from kts.cli.on_k8s import conclude
    from kts.k8s.cluster.api import Api
    from kts.k8s.follow import session

    api = Api.connect(context)
    directory = out or Path("runs") / run
    outcome = conclude(api, session.attach(api, run, namespace, directory), keep=keep)
    show_measured(app.finished(directory, outcome), figures=not no_figures, as_json=as_json)


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
    from kts.k8s.cluster.api import Api
    from kts.k8s.follow import session

    api = Api.connect(context)
    directory = out or Path("runs") / run
    attached = session.attach(api, run, namespace, directory)
    try:
        info = attached.collect()
    finally:
        attached.close()
    show_measured(app.finished(directory, info.outcome), figures=not no_figures, as_json=as_json)


def clean(
    run: RunId,
    namespace: Namespace = DEFAULT_NAMESPACE,
    context: Context = None,
) -> None:
    """Remove a run from a cluster.

    What was fetched of it stays.
    """
    from kts.cli.output import say
    from kts.errors import SetupError
    from kts.k8s.cluster import creation
    from kts.k8s.cluster.api import Api

    removed = creation.clean(Api.connect(context), run, namespace, told=say)
    if not removed:
        raise SetupError(f"no run {run} in namespace {namespace}", "kts runs --on k8s lists the runs that are there")
    sys.stdout.write(f"{run}: {removed} objects removed, nothing is left\n")
