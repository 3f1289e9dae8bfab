"""Runs in the pods of a cluster: measured, listed, followed, fetched and removed."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Unpack

from msgspec.structs import replace
from rich.console import Console

from kts import sharing
from kts.app.handle import Run, finished
from kts.app.images import ensured, extra_from, planned_in_pods
from kts.app.measuring import default_directory
from kts.app.plans import Asked, Changes
from kts.app.printing import Say, silent
from kts.app.profiles import profiles_of
from kts.conduct.ports import Watcher
from kts.errors import Interrupted, KtsError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import attach as attaching
from kts.k8s.follow import begin
from kts.k8s.follow import fleet as fleets
from kts.k8s.follow.alone import record_in_pod
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.removal import left_over, remove
from kts.k8s.follow.runs import RunState
from kts.k8s.follow.runs import runs as runs_in
from kts.k8s.follow.session import Session
from kts.k8s.objects.names import DEFAULT_NAMESPACE
from kts.k8s.objects.settings import ClusterSettings
from kts.model.run import Outcome
from kts.physics.values import Profile
from kts.report import RichWatcher
from kts.wire.recording import Recording, Request


def run_on_cluster(
    experiment: Asked,
    settings: ClusterSettings,
    out: str | Path | None = None,
    *,
    image: str | None = None,
    extra: str = "torch",
    context: str | None = None,
    modes: str = "",
    keep: bool = False,
    overwrite: bool = False,
    progress: Console | None = None,
    say: Say = silent,
    **changes: Unpack[Changes],
) -> Run:
    """As `kts.run`, in pods. ``image``: by default this kts's, built and loaded in the variant ``extra``. ``context``:
    of the kubeconfig. ``modes``: the one way to share that the node or the claim must be set to; SetupError where it
    says another, UsageError for several. ``keep``: leave the run's objects in the cluster."""
    if modes:
        settings = replace(settings, mode=sharing.in_pods(modes))
    variant = extra_from(extra)
    loaded, plan = planned_in_pods(experiment, changes, variant)
    api = Api.connect(context)
    directory = default_directory(plan.name) if out is None else Path(out)
    run = begin.new_run_id(plan.name)
    with _interruptible(run, settings.namespace, say) as interrupts:
        session = begin.start(
            api,
            plan,
            settings,
            loaded.text,
            directory,
            run=run,
            overwrite=overwrite,
            image=(lambda: ensured(api, variant, None, say)) if image is None else None,
            interrupts=interrupts,
            told=say,
        )
        say(f"run {run} in namespace {settings.namespace} (if this is closed: kts attach {run})")
        outcome = concluded(api, session, interrupts, shown(progress), keep=keep, say=say)
    return finished(directory, outcome)


def profile_on_cluster(
    experiment: Asked,
    settings: ClusterSettings,
    out: str | Path | None = None,
    *,
    tenants: Sequence[str] = (),
    seconds: float = 20.0,
    image: str | None = None,
    extra: str = "torch",
    context: str | None = None,
    overwrite: bool = False,
    say: Say = silent,
    **changes: Unpack[Changes],
) -> list[Profile]:
    """As `kts.profile`, each tenant in a pod. ``image``, ``extra``, ``context``: as for `run_on_cluster`."""
    variant = extra_from(extra)
    loaded, plan = planned_in_pods(experiment, changes, variant)
    api = Api.connect(context)
    made = None if image is not None else functools.cache(lambda: ensured(api, variant, None, say))

    def record(request: Request) -> tuple[Recording, list[str]]:
        run = begin.new_run_id(request.tenant.name)
        with _interruptible(run, settings.namespace, say) as interrupts:
            return record_in_pod(api, request, settings, run=run, image=made, interrupts=interrupts, told=say)

    return profiles_of(loaded, plan, record, out, tenants=tenants, seconds=seconds, overwrite=overwrite, say=say)


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
    with _left_alone(run, "attach"):
        session = attaching.attach(api, run, namespace, directory)
    with _interruptible(run, namespace, say) as interrupts:
        outcome = concluded(api, session, interrupts, shown(progress), keep=keep, say=say)
    return finished(directory, outcome)


def collect(
    run: str, out: str | Path | None = None, *, namespace: str = DEFAULT_NAMESPACE, context: str | None = None
) -> Run:
    """Fetches what a run in a cluster has so far. It is left as it is, and goes on."""
    directory = Path(out or Path("runs") / run)
    with _left_alone(run, "collect"):
        session = attaching.attach(Api.connect(context), run, namespace, directory)
        try:
            info = session.collect()
        finally:
            session.close()
    return finished(directory, info.outcome)


def clean(run: str, *, namespace: str = DEFAULT_NAMESPACE, context: str | None = None, say: Say = silent) -> int:
    """Removes a run, or a fleet with all its runs, from a cluster; returns how many objects there were of it."""
    try:
        return fleets.clean(Api.connect(context), run, namespace, told=say)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; not all of run {run} is gone", f"kts clean {run} again") from None


def cluster_runs(namespace: str | None = None, *, context: str | None = None) -> list[RunState]:
    """The runs that are in a namespace of a cluster; None: in any."""
    return list(runs_in(Api.connect(context), namespace))


def shown(progress: Console | None) -> RichWatcher:
    """A watcher that shows a run's progress there, or nowhere."""
    return RichWatcher(progress or Console(quiet=True))


def concluded(
    api: Api,
    session: Session,
    interrupts: Interrupts,
    watching: AbstractContextManager[Watcher],
    *,
    keep: bool,
    say: Say,
) -> Outcome:
    """Follows the session to its end, fetches everything, and leaves nothing in the cluster unless ``keep``."""
    run, namespace = session.run, session.settings.namespace
    try:
        with watching as watcher:
            outcome = session.follow(watcher, interrupts)
        info = session.finish(outcome, interrupts)
    except KtsError:
        say(left_over(run, namespace))
        raise
    finally:
        session.close()
    session.done()
    if keep:
        say(f"kept in the cluster: kts clean {run} removes it")
    removed = not keep and remove(api, run, namespace, interrupts, say)
    if interrupts.came:
        whole = sum(block.valid for block in info.blocks)
        kept = f"whole blocks kept in {session.directory}: {whole}" if whole else "no whole block was measured"
        say(f"interrupted: {kept}{'; nothing is left in the cluster' if removed else ''}")
        if info.outcome.exit_code == 0:
            raise Interrupted(
                f"interrupted when the run was over: {info.outcome.kind}", f"kts report {session.directory}"
            )
    return info.outcome


@contextmanager
def _interruptible(run: str, namespace: str, say: Say) -> Iterator[Interrupts]:
    """Who insists is told what may be left."""
    with Interrupts() as interrupts:
        try:
            yield interrupts
        except KeyboardInterrupt:
            if interrupts.insisted:
                say(left_over(run, namespace))
            raise


@contextmanager
def _left_alone(run: str, command: str) -> Iterator[None]:
    """What does nothing to a run says so where it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; run {run} goes on in the cluster", f"kts {command} {run} again") from None
