"""What a run makes of a cluster, without running it: its objects, and the workers' image. Light: measures nothing."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import msgspec

from kts.app.plans import Changes, planned
from kts.app.printing import Say, silent
from kts.errors import UsageError
from kts.k8s.cluster import image as images
from kts.k8s.cluster.api import Api
from kts.k8s.follow.session import new_run_id
from kts.k8s.objects import classic_jobs, manifests
from kts.k8s.objects.settings import ClusterSettings, Extra
from kts.model.plan import Plan
from kts.spec import LoadedExperiment

IMAGE_BASE = "KTS_IMAGE_BASE"


@dataclass(frozen=True)
class Rendered:
    """The objects of a run as YAML, stage by stage, each with what it is; one stage but in the classic design."""

    run: str
    plan: Plan
    stages: tuple[tuple[str, str], ...]


def render(
    experiment: str | Path,
    settings: ClusterSettings,
    *,
    created: str,
    extra: str = "torch",
    run_id: str | None = None,
    token: str | None = None,
    design: str | None = None,
) -> Rendered:
    """The objects of a run. ``created``: RFC 3339; with it, ``run_id`` and ``token`` two outputs are the same."""
    changes: Changes = {"design": design} if design else {}
    loaded, plan = planned_in_pods(experiment, changes, extra_from(extra))
    run = run_id or new_run_id(plan.name)
    if settings.runtime_class is None:  # no cluster is asked which it has
        settings = msgspec.structs.replace(settings, runtime_class=manifests.DEFAULT_RUNTIME_CLASS)
    if manifests.is_classic(plan):
        classic_jobs.check(settings)
    stages = classic_jobs.stages(
        plan,
        run=manifests.checked_run_id(run),
        token=token or secrets.token_urlsafe(32),
        settings=settings,
        experiment_text=loaded.text,
        created=created,
    )
    return Rendered(run, plan, tuple((what, manifests.to_yaml(objects)) for what, objects in stages))


def planned_in_pods(experiment: str | Path, changes: Changes, extra: Extra) -> tuple[LoadedExperiment, Plan]:
    """As `planned`, with the device decided by what the image holds; in a pod nothing is chosen by chance."""
    loaded, plan = planned(experiment, changes)
    if plan.device == "auto":
        plan = msgspec.structs.replace(plan, device="cpu" if extra == "cpu" else "cuda")
    return loaded, plan


def extra_from(text: str) -> Extra:
    """The image's variant. UsageError if there is none of that name."""
    if text not in get_args(Extra):
        raise UsageError(f"--extra: no variant {text!r}", f"known: {', '.join(get_args(Extra))}")
    return cast("Extra", text)


def image_name(extra: str = "torch", base: str | None = None, *, full: bool = False) -> str:
    """The name of the image of this very kts; ``full``: of the one that holds all of it, not the workers'."""
    return images.content_tag(images.checkout(), images.Recipe(extra_from(extra), _base(base), full))


def build_image(
    context: str | None = None,
    extra: str = "torch",
    base: str | None = None,
    say: Say = silent,
    *,
    full: bool = False,
) -> str:
    """The name of the image, once it is on the cluster's nodes; built and loaded only if it is not there.

    ``full``: the image of the whole kts, and that of the workers which it starts.
    """
    variant = extra_from(extra)
    api = Api.connect(context)
    name = ensured(api, variant, base, say)
    return ensured(api, variant, base, say, full=True) if full else name


def ensured(api: Api, extra: Extra, base: str | None, say: Say, *, full: bool = False) -> str:
    """As `build_image`, on a cluster that is connected."""

    def present(name: str) -> bool:
        nodes = api.list("Node")
        return bool(nodes) and all(name in images.names_on(node) for node in nodes)

    return images.ensure(images.Recipe(extra, _base(base), full), present, say)


def _base(given: str | None) -> str:
    return given or os.environ.get(IMAGE_BASE) or images.DEFAULT_BASE
