"""One tenant alone in a pod of a cluster, for its profile: start it, wait, read what it found, leave nothing behind."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.cluster.creation import create, create_namespace, prepared
from kts.k8s.follow import ends
from kts.k8s.follow.interrupts import Interrupts
from kts.k8s.follow.podwatch import PodWatch
from kts.k8s.follow.removal import remove
from kts.k8s.follow.session import PATIENCE_S, POLL_S
from kts.k8s.objects import Object, alone, manifests, podstate
from kts.k8s.objects.settings import ClusterSettings
from kts.wire.recording import Recording, Request, recording_in


def record_in_pod(
    api: Api,
    request: Request,
    settings: ClusterSettings,
    *,
    run: str,
    image: Callable[[], str] | None,
    interrupts: Interrupts,
    told: Callable[[str], None],
) -> tuple[Recording, list[str]]:
    """As `kts.backends.alone.record_alone`, in a pod. Nothing is left in the cluster, or ``told`` is told what is.

    ``image``: called for the image's name once nothing else is missing; None: it is in ``settings``.
    """
    plan = request.plan
    settings, notes = prepared(api, plan, settings, told=told, pause=interrupts.pause)
    if image is not None:
        settings = msgspec.structs.replace(settings, image=image())
    owner, objects = alone.render(
        plan,
        msgspec.json.encode(request).decode(),
        run=run,
        token=secrets.token_urlsafe(32),
        settings=settings,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        if settings.create_namespace:
            create_namespace(api, manifests.namespace_object(settings), interrupts.pause)
        uid = api.create(owner)["metadata"]["uid"]
        for obj in objects:
            interrupts.check()
            create(api, manifests.owned_by(obj, podstate.name(owner), uid), interrupts.pause)
        watch = PodWatch(api, run, settings, told)
        watch.expect(podstate.name(objects[-1]))
        pod = _ended(watch, interrupts)
        found, worse = _read(api, pod, request)
    finally:
        remove(api, run, settings.namespace, interrupts, told)
    return found, [*notes, *worse]


def _ended(watch: PodWatch, interrupts: Interrupts) -> Object:
    """The pod, once it has ended. SetupError if it never starts, MeasurementError if it was deleted."""
    last_answer = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            watch.look(now)
            last_answer = now
        except Unavailable:
            if now - last_answer > PATIENCE_S:
                raise
        if watch.verdict is not None:
            raise SetupError(watch.verdict.reason, watch.verdict.remedy)
        for name, pod in watch.pods.items():
            if podstate.ended(pod) and name not in watch.gone:
                return pod
            if name in watch.gone:
                raise MeasurementError(f"pod {name} was deleted before its profile was read", "run it again")
        interrupts.pause(POLL_S)


def _read(api: Api, pod: Object, request: Request) -> tuple[Recording, list[str]]:
    container = podstate.main_container(pod)
    text = b"".join(api.logs(podstate.name(pod), pod["metadata"]["namespace"], container=container))
    reason, code = "", 0
    if podstate.phase(pod) != "Succeeded":
        reason, code = ends.why(api, pod, "", request.plan).reason, 1
    lines = text.decode(errors="replace").splitlines()
    return recording_in(lines, request.tenant.name, reason or "its log has no profile", code)
