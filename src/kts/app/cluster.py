"""Runs in the pods of a cluster: measured, listed, followed, fetched and removed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Unpack

from rich.console import Console

from kts.app.handle import Run, finished
from kts.app.images import ensured, extra_from, planned_in_pods
from kts.app.measuring import default_directory
from kts.app.plans import Changes
from kts.app.printing import Say, silent
from kts.conduct.ports import Watcher
from kts.errors import KtsError
from kts.k8s.cluster import creation
from kts.k8s.cluster.api import Api
from kts.k8s.follow import fleet as fleets
from kts.k8s.follow import session as sessions
from kts.k8s.follow.runs import RunState
from kts.k8s.follow.runs import runs as runs_in
from kts.k8s.follow.session import Session
from kts.k8s.objects.names import DEFAULT_NAMESPACE
from kts.k8s.objects.settings import ClusterSettings
from kts.model.run import Outcome
from kts.report import RichWatcher


def run_on_cluster(
    experiment: str | Path,
    settings: ClusterSettings,
    out: str | Path | None = None,
    *,
    image: str | None = None,
    extra: str = "torch",
    context: str | None = None,
    keep: bool = False,
    overwrite: bool = False,
    progress: Console | None = None,
    say: Say = silent,
    **changes: Unpack[Changes],
) -> Run:
    """As `kts.run`, in pods. ``image``: by default this kts's, built and loaded in the variant ``extra``. ``context``:
    of the kubeconfig. ``keep``: leave the run's objects in the cluster."""
    variant = extra_from(extra)
    loaded, plan = planned_in_pods(experiment, changes, variant)
    api = Api.connect(context)
    directory = default_directory(plan.name) if out is None else Path(out)
    run = sessions.new_run_id(plan.name)
    session = sessions.start(
        api,
        plan,
        settings,
        loaded.text,
        directory,
        run=run,
        overwrite=overwrite,
        image=(lambda: ensured(api, variant, None, say)) if image is None else None,
        told=say,
    )
    say(f"run {run} in namespace {settings.namespace} (if this is closed: kts attach {run})")
    return finished(directory, concluded(api, session, shown(progress), keep=keep, say=say))


def attach(
    run: str,
    out: str | Path | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    context: str | None = None,
    keep: bool = False,
    progress: Console | None = None,
    say: Say = silent,
) -> Run:
    """Follows and fetches a run that is in a cluster, by its ID."""
    api = Api.connect(context)
    directory = Path(out or Path("runs") / run)
    session = sessions.attach(api, run, namespace, directory)
    return finished(directory, concluded(api, session, shown(progress), keep=keep, say=say))


def collect(
    run: str, out: str | Path | None = None, *, namespace: str = DEFAULT_NAMESPACE, context: str | None = None
) -> Run:
    """Fetches what a run in a cluster has so far. It is left as it is, and goes on."""
    directory = Path(out or Path("runs") / run)
    session = sessions.attach(Api.connect(context), run, namespace, directory)
    try:
        info = session.collect()
    finally:
        session.close()
    return finished(directory, info.outcome)


def clean(run: str, *, namespace: str = DEFAULT_NAMESPACE, context: str | None = None, say: Say = silent) -> int:
    """Removes a run, or a fleet with all its runs, from a cluster; returns how many objects there were of it."""
    return fleets.clean(Api.connect(context), run, namespace, told=say)


def cluster_runs(namespace: str | None = None, *, context: str | None = None) -> list[RunState]:
    """The runs that are in a namespace of a cluster; None: in any."""
    return list(runs_in(Api.connect(context), namespace))


def shown(progress: Console | None) -> RichWatcher:
    """A watcher that shows a run's progress there, or nowhere."""
    return RichWatcher(progress or Console(quiet=True))


def concluded(
    api: Api, session: Session, watching: AbstractContextManager[Watcher], *, keep: bool, say: Say
) -> Outcome:
    """Follows the session to its end, fetches everything, and leaves nothing in the cluster unless ``keep``."""
    run, namespace = session.run, session.settings.namespace
    try:
        with watching as watcher:
            outcome = session.follow(watcher)
        info = session.finish(outcome)
    except (KeyboardInterrupt, KtsError):
        say(f"run {run} is still in the cluster: kts attach {run} goes on, kts clean {run} removes it")
        raise
    finally:
        session.close()
    session.done()
    if keep:
        say(f"kept in the cluster: kts clean {run} removes it")
    else:
        try:
            creation.clean(api, run, namespace, told=say)
        except KtsError as error:
            say(f"not everything could be removed: {error.what}")
            say(f"  try: {error.remedy}")
    return info.outcome
