"""A run on a cluster is begun: its objects are made there, whole or not at all."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from kts.conduct.stop import BY_USER
from kts.errors import SetupError
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import create, create_namespace, prepared, shared, with_egress
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.removal import remove
from kts.k8s.follow.session import Session
from kts.k8s.objects import classic_jobs, manifests, podstate
from kts.k8s.objects.names import ENVIRONMENT_RUN
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.model.run import Outcome
from kts.store.mirror import Mirror


def new_run_id(name: str) -> str:
    """A DNS label of at most 30 characters, unique enough for a cluster."""
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")[:12].strip("-")
    return f"{plain or 'run'}-{datetime.now(UTC):%m%d-%H%M%S}-{secrets.token_hex(2)}"


def start(
    api: Api,
    plan: Plan,
    settings: ClusterSettings,
    experiment_text: str,
    directory: Path,
    *,
    run: str,
    overwrite: bool,
    image: Callable[[], str] | None = None,
    interrupts: Interrupts | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Session:
    """Creates the run's objects, in the classic design the first block's Jobs among them; on failure, or interrupted,
    none of them is left, or ``told`` is told which. Errors name what was refused and why.

    ``image``: called for the image's name once nothing else is missing, which takes its time; else it is in
    ``settings``. ``told`` is given a line of what is waited for.
    """
    interrupts = interrupts or Interrupts()
    if manifests.is_classic(plan):
        classic_jobs.check(settings)
    settings, notes = prepared(api, plan, settings, told=told)
    mode = shared(api, plan, settings)
    if image is not None:
        settings = msgspec.structs.replace(settings, image=image())
    settings = with_egress(api, plan, settings, run)
    mirror = Mirror.create(
        directory,
        plan=plan,
        mode=mode,
        experiment_text=experiment_text,
        environment={ENVIRONMENT_RUN: run},
        overwrite=overwrite,
    )
    for text in notes:
        mirror.note(text)
    token = secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    stages = classic_jobs.stages(
        plan, run=run, token=token, settings=settings, experiment_text=experiment_text, created=created, mode=mode
    )
    objects = [obj for _, stage in stages[:2] for obj in stage]
    began = time.monotonic()
    try:
        if settings.create_namespace:
            create_namespace(api, objects[0], interrupts.pause)
        interrupts.check()
        owner = next(o for o in objects if o["kind"] == "ConfigMap")
        uid = api.create(owner)["metadata"]["uid"]
        for obj in manifests.owned(objects, uid):
            interrupts.check()
            create(api, obj, interrupts.pause)
    except BaseException as error:
        reason = str(error) or type(error).__name__
        failed = Outcome(kind="failed", reason=reason, exit_code=SetupError.exit_code)
        mirror.finish(BY_USER if isinstance(error, KeyboardInterrupt) else failed)
        mirror.close()
        remove(api, run, settings.namespace, interrupts, told)
        raise
    session = Session(api, run, plan=plan, settings=settings, uid=uid, token=token, mirror=mirror, began=began)
    session.expect(podstate.name(obj) for obj in objects if obj["kind"] == "Job")
    return session
