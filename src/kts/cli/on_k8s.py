"""What the commands that work on a cluster share: from options to a session, and from a session to a report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from kts.errors import KtsError, UsageError

if TYPE_CHECKING:
    from kts.k8s.cluster.api import Api
    from kts.k8s.follow.session import Session
    from kts.k8s.objects.settings import ClusterSettings, Extra
    from kts.model.plan import Plan
    from kts.model.run import Outcome

IMAGE_BASE = "KTS_IMAGE_BASE"


def extra_from(text: str) -> Extra:
    """The image's variant. UsageError if there is none of that name."""
    from kts.k8s.objects.settings import Extra

    if text not in get_args(Extra):
        raise UsageError(f"--extra: no variant {text!r}", f"known: {', '.join(get_args(Extra))}")
    return cast("Extra", text)


def decided(plan: Plan, extra: Extra) -> Plan:
    """The plan with its device decided by what the image holds; in a pod nothing is chosen by chance."""
    import msgspec

    if plan.device != "auto":
        return plan
    return msgspec.structs.replace(plan, device="cpu" if extra == "cpu" else "cuda")


def ensured_image(api: Api, extra: Extra, base: str | None) -> str:
    """The image of this very kts, on the cluster's nodes; built and loaded only if it is not there."""
    from kts.cli.output import say
    from kts.k8s.cluster.image import DEFAULT_BASE, ensure

    def present(name: str) -> bool:
        nodes = api.list("Node")
        return bool(nodes) and all(_has_image(node, name) for node in nodes)

    return ensure(extra, base or os.environ.get(IMAGE_BASE) or DEFAULT_BASE, present, say)


def _has_image(node: dict[str, object], name: str) -> bool:
    status = cast("dict[str, list[dict[str, list[str]]]]", node["status"])
    return any(name in (image.get("names") or ()) for image in status.get("images") or ())


def start(
    api: Api, plan: Plan, settings: ClusterSettings, text: str, directory: Path, *, overwrite: bool
) -> tuple[str, Session]:
    """(the run's ID, its session), with one line for the user on how to find it again."""
    from kts.cli.output import say
    from kts.k8s.follow import session

    run = session.new_run_id(plan.name)
    started = session.start(api, plan, settings, text, directory, run=run, overwrite=overwrite)
    say(f"run {run} in namespace {settings.namespace} (if this is closed: kts attach {run})")
    return run, started


def conclude(api: Api, session: Session, *, keep: bool) -> Outcome:
    """Follows the session to its end, fetches everything, and leaves nothing in the cluster unless ``keep``."""
    from kts.cli.output import console, say
    from kts.k8s.cluster.creation import clean
    from kts.report import RichWatcher

    run, namespace = session.run, session.settings.namespace
    try:
        with RichWatcher(console(stderr=True)) as watcher:
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
            clean(api, run, namespace, told=say)
        except KtsError as error:
            say(f"not everything could be removed: {error.what}")
            say(f"  try: {error.remedy}")
    return info.outcome
