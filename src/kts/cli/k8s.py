"""`kts k8s`: what a run makes of a cluster, without running it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from kts.cli.cluster_options import Context, Extra, RunPlace
from kts.cli.experiments import complete_name
from kts.cli.groups import grouped
from kts.cli.k8s_time_slicing import time_slicing
from kts.cli.options import Dcgm, Telemetry
from kts.errors import UsageError

EPOCH = "SOURCE_DATE_EPOCH"
_LAST_EPOCH = 253_402_300_799
"""The last second that RFC 3339 can name."""

app = typer.Typer(
    name="k8s", help="Objects and image of runs on Kubernetes.", rich_markup_mode=None, add_completion=False
)
app.command("time-slicing")(time_slicing)


@app.command()
@grouped
def render(
    *,
    experiment: Annotated[
        str,
        typer.Argument(help="An experiment file, or a name from `kts experiments`.", autocompletion=complete_name),
    ],
    design: Annotated[str | None, typer.Option(help="interleaved or classic. Default: the experiment's.")] = None,
    place: RunPlace,
    telemetry: Telemetry = True,
    dcgm: Dcgm = "",
    run_id: Annotated[str | None, typer.Option(help="ID of the run. Default: a new one.")] = None,
    token: Annotated[str | None, typer.Option(help="The run's token. Default: a new one.")] = None,
) -> None:
    """Print the objects of a run, for review or GitOps; `kubectl apply -f -` of them runs it.

    `kts attach ID` then fetches and reports it. With --run-id and SOURCE_DATE_EPOCH in the environment, two outputs
    differ in the token alone. In the classic design only the Jobs of the first block start by themselves:
    `kts attach ID` runs the others in turn.
    """
    import secrets

    from kts.cli.on_k8s import decided, extra_from
    from kts.k8s.follow.session import new_run_id
    from kts.k8s.objects import classic_jobs, manifests
    from kts.plan import build
    from kts.spec import load, override

    settings = place.run_settings(telemetry=telemetry, dcgm=dcgm)
    loaded = load(experiment)
    changed = override(loaded.experiment, {"design": design}) if design else loaded.experiment
    plan = decided(build(changed), extra_from(place.extra))
    run = run_id or new_run_id(plan.name)
    if manifests.is_classic(plan):
        classic_jobs.check(settings)
    stages = classic_jobs.stages(
        plan,
        run=manifests.checked_run_id(run),
        token=token or secrets.token_urlsafe(32),
        settings=settings,
        experiment_text=loaded.text,
        created=_created(os.environ.get(EPOCH, "")),
    )
    sys.stdout.write(f"# Run {run} of {plan.name}. Holds the run's token (Secret): keep it out of public places.\n")
    if len(stages) == 1:
        sys.stdout.write(f"# Afterwards: kts attach {run} --namespace {place.namespace}\n")
        sys.stdout.write(manifests.to_yaml(stages[0][1]))
        return
    sys.stdout.write("# Block by block: applied at once, only the first runs.\n")
    sys.stdout.write(f"# The rest, and the report: kts attach {run} --namespace {place.namespace}\n")
    for what, objects in stages:
        sys.stdout.write(f"---\n# {what}\n{manifests.to_yaml(objects)}")


def _created(epoch: str) -> str:
    """Now, or what reproducible-builds.org has as the time of everything that is made."""
    from datetime import UTC, datetime

    if not epoch:
        return datetime.now(UTC).isoformat(timespec="seconds")
    if not (epoch.isascii() and epoch.isdecimal()) or int(epoch) > _LAST_EPOCH:
        raise UsageError(f"{EPOCH}={epoch!r} is not a time in seconds since 1970", f"unset it, or {EPOCH}=$(date +%s)")
    return datetime.fromtimestamp(int(epoch), UTC).isoformat(timespec="seconds")


@app.command()
def image(
    extra: Extra = "torch",
    base: Annotated[
        str | None, typer.Option(help="Base image with Python 3.11 or newer. Default: $KTS_IMAGE_BASE, or Debian's.")
    ] = None,
    context: Context = None,
    name_only: Annotated[bool, typer.Option("--name", help="Print the image's name, and build nothing.")] = False,
) -> None:
    """Build the worker's image and load it into the cluster, where it is not there yet; print its name."""
    from kts.cli.on_k8s import IMAGE_BASE, ensured_image, extra_from
    from kts.k8s.cluster.api import Api
    from kts.k8s.cluster.image import DEFAULT_BASE, checkout, content_tag

    variant = extra_from(extra)
    if name_only:
        name = content_tag(checkout(), variant, base or os.environ.get(IMAGE_BASE) or DEFAULT_BASE)
    else:
        name = ensured_image(Api.connect(context), variant, base)
    sys.stdout.write(f"{name}\n")
