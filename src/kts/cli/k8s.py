"""`kts k8s`: what a run makes of a cluster, without running it."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from kts import app as parts
from kts.cli.cluster_options import Context, Extra, RunPlace
from kts.cli.experiments import complete_name
from kts.cli.groups import grouped
from kts.cli.k8s_time_slicing import time_slicing
from kts.cli.k8s_watch import app as watch
from kts.cli.options import Dcgm, Telemetry
from kts.cli.output import say
from kts.errors import UsageError
from kts.k8s.objects import rules

EPOCH = "SOURCE_DATE_EPOCH"
_LAST_EPOCH = 253_402_300_799
"""The last second that RFC 3339 can name."""

app = typer.Typer(
    name="k8s", help="Objects and image of runs on Kubernetes.", rich_markup_mode=None, add_completion=False
)
app.command("time-slicing")(time_slicing)
app.add_typer(watch)


@app.command()
@grouped
def render(
    *,
    experiment: Annotated[
        str, typer.Argument(help="An experiment file, or a name from `kts experiments`.", autocompletion=complete_name)
    ],
    design: Annotated[str | None, typer.Option(help="interleaved or classic. Default: the experiment's.")] = None,
    place: RunPlace,
    telemetry: Telemetry = True,
    dcgm: Dcgm = "",
    run_id: Annotated[str | None, typer.Option(help="ID of the run. Default: a new one.")] = None,
    token: Annotated[str | None, typer.Option(help="The run's token. Default: a new one.")] = None,
    without_namespace: Annotated[
        bool, typer.Option("--without-namespace", help="Leave the Namespace out: it is there.")
    ] = False,
) -> None:
    """Print the objects of a run, for review or GitOps; `kubectl apply -f -` of them runs it.

    Their image is the one that `kts k8s image` loads, of these very sources, unless --image names another.
    `kts attach ID` then fetches and reports it. With --run-id and SOURCE_DATE_EPOCH in the environment, two outputs
    differ in the token alone. In the classic design only the Jobs of the first block start by themselves:
    `kts attach ID` runs the others in turn.
    """
    settings = place.run_settings(telemetry=telemetry, dcgm=dcgm)
    rendered = parts.render(
        experiment,
        msgspec.structs.replace(settings, create_namespace=not without_namespace),
        image=place.image,
        created=_created(os.environ.get(EPOCH, "")),
        extra=place.extra,
        run_id=run_id,
        token=token,
        design=design,
    )
    run, afterwards = rendered.run, f"kts attach {rendered.run} --namespace {place.namespace}"
    beforehand = f"kts k8s image --extra {place.extra}"
    sys.stdout.write(
        f"# Run {run} of {rendered.plan.name}. Holds the run's token (Secret): keep it out of public places.\n"
    )
    if not place.image:
        sys.stdout.write(f"# Its image is {rendered.image}. If it is not on the nodes yet: {beforehand}\n")
    if len(rendered.stages) == 1:
        sys.stdout.write(f"# Afterwards: {afterwards}\n{rendered.stages[0][1]}")
        return
    sys.stdout.write("# Block by block: applied at once, only the first runs.\n")
    sys.stdout.write(f"# The rest, and the report: {afterwards}\n")
    for what, objects in rendered.stages:
        sys.stdout.write(f"---\n# {what}\n{objects}")


def _created(epoch: str) -> str:
    """Now, or what reproducible-builds.org has as the time of everything that is made."""
    if not epoch:
        return datetime.now(UTC).isoformat(timespec="seconds")
    if not (epoch.isascii() and epoch.isdecimal()) or int(epoch) > _LAST_EPOCH:
        raise UsageError(f"{EPOCH}={epoch!r} is not a time in seconds since 1970", f"unset it, or {EPOCH}=$(date +%s)")
    return datetime.fromtimestamp(int(epoch), UTC).isoformat(timespec="seconds")


@app.command()
def image(
    *,
    extra: Extra = "torch",
    full: Annotated[
        bool, typer.Option("--full", help="The whole kts in an image of its own, and the workers' that it starts.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Base image with Python 3.11 or newer. Default: $KTS_IMAGE_BASE, or Debian's.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="Another name to load it under, e.g. localhost/kts-worker:v1.")
    ] = None,
    context: Context = None,
    name_only: Annotated[bool, typer.Option("--name", help="Print the image's name, and build nothing.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Build nothing: remove images of older sources that nobody uses.")
    ] = False,
) -> None:
    """Build the worker's image and load it into the cluster, where it is not there yet; print its name."""
    if prune:
        parts.prune_images(context, base, say)
        return
    tag = rules.loadable("--tag", tag) if tag else None
    if name_only:
        name = tag or parts.image_name(extra, base, full=full)
    else:
        name = parts.build_image(context, extra, base, say, full=full, tag=tag)
    sys.stdout.write(f"{name}\n")
