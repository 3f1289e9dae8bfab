"""One experiment on many nodes of a cluster: begun, followed, fetched and removed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Unpack

from msgspec.structs import replace
from rich.console import Console

from kts.app.cluster import shown
from kts.app.fleets import FleetRun, load_fleet
from kts.app.images import ensured, extra_from, planned_in_pods
from kts.app.measuring import default_directory
from kts.app.plans import Asked, Changes
from kts.app.printing import Say, silent
from kts.errors import KtsError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import fleet as fleets
from kts.k8s.follow.begin import new_run_id
from kts.k8s.follow.fleet import FleetSession
from kts.k8s.follow.removal import saying
from kts.k8s.objects import classic_jobs, manifests, runnames, selector
from kts.k8s.objects.fleet import FleetSpec, check, chosen
from kts.k8s.objects.names import DEFAULT_NAMESPACE
from kts.k8s.objects.settings import ClusterSettings


def run_fleet(
    experiment: Asked,
    nodes: str,
    settings: ClusterSettings,
    out: str | Path | None = None,
    *,
    at_once: int = 1,
    queue: str = "",
    image: str | None = None,
    full_image: str | None = None,
    extra: str = "torch",
    context: str | None = None,
    keep: bool = False,
    progress: Console | None = None,
    say: Say = silent,
    **changes: Unpack[Changes],
) -> FleetRun:
    """As `run_on_cluster`, once on each node whose labels match ``nodes``, a selector as kubectl takes it.

    ``at_once``: so many nodes at a time. ``queue``: Kueue's LocalQueue that admits the fleet's Job. ``full_image``:
    holds the whole kts; by default built and loaded here, as is ``image``. ``FleetRun.failure`` says whether all nodes
    are complete; SetupError where no node can be measured on.
    """
    variant = extra_from(extra)
    check(settings, at_once)
    selector.parsed(nodes)
    loaded, plan = planned_in_pods(experiment, changes, variant)
    if manifests.is_classic(plan):
        classic_jobs.check(settings)
    api = Api.connect(context)
    fit, skipped = chosen(api.list("Node"), nodes, settings)
    fleets.check_account(api, settings.namespace)
    if image is None:
        settings = replace(settings, image=ensured(api, variant, None, say))
    if full_image is None:
        full_image = ensured(api, variant, None, say, full=True)
    spec = FleetSpec(
        id=new_run_id("fleet"),
        experiment=plan.name,
        selector=nodes,
        created_ns=time.time_ns(),
        nodes=fit,
        skipped=skipped,
        settings=settings,
        image=full_image,
        at_once=at_once,
        queue=queue,
    )
    for node in skipped:
        say(f"skipped: {node.node}: {node.reason}")
    directory = default_directory(f"{plan.name}-fleet") if out is None else Path(out)
    session = fleets.start(api, spec, plan, loaded.text, directory)
    say(f"fleet {spec.id} in namespace {settings.namespace} (if this is closed: kts attach {spec.id})")
    return _concluded(api, session, keep=keep, progress=progress, say=say)


def attach_fleet(
    fleet: str,
    out: str | Path | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    context: str | None = None,
    keep: bool = False,
    progress: Console | None = None,
    say: Say = silent,
) -> FleetRun:
    """Follows and fetches a fleet that is in a cluster, by its ID."""
    api = Api.connect(context)
    session = fleets.attach(api, fleet, namespace, Path(out or Path("runs") / fleet))
    return _concluded(api, session, keep=keep, progress=progress, say=say)


def fleet_in_cluster(name: str, *, namespace: str = DEFAULT_NAMESPACE, context: str | None = None) -> bool:
    """Whether what has that ID in the cluster is a fleet."""
    api = Api.connect(context)
    try:
        owner = api.get("ConfigMap", runnames.object_name(name), namespace)
    finally:
        api.close()
    return owner is not None and fleets.is_fleet(owner)


def _concluded(api: Api, session: FleetSession, *, keep: bool, progress: Console | None, say: Say) -> FleetRun:
    """Follows the fleet to its end, and leaves nothing in the cluster unless ``keep``."""
    name, namespace = session.spec.id, session.spec.settings.namespace
    try:
        with shown(progress) as watcher:
            session.follow(watcher)
    except (KeyboardInterrupt, KtsError):
        say(f"fleet {name} is still in the cluster: kts attach {name} goes on, kts clean {name} removes it")
        raise
    finally:
        session.close()
    if keep:
        say(f"kept in the cluster: kts clean {name} removes it")
    else:
        with saying(say):
            fleets.clean(api, name, namespace, told=say)
    return load_fleet(session.directory)
