"""What a run makes of a cluster, without running it: its objects, and the workers' image. Light: measures nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast, get_args

import msgspec

from kts.app.plans import Asked, Changes, planned
from kts.app.printing import Say, silent
from kts.errors import SetupError, UsageError
from kts.k8s.cluster import image as images
from kts.k8s.cluster import prune
from kts.k8s.cluster.api import Api
from kts.k8s.follow.begin import new_run_id
from kts.k8s.objects import classic_jobs, manifests, pods, runnames
from kts.k8s.objects.exporters import AUTO
from kts.k8s.objects.settings import ClusterSettings, Extra
from kts.model.plan import Plan
from kts.spec import LoadedExperiment

IMAGE_BASE = "KTS_IMAGE_BASE"


@dataclass(frozen=True)
class Rendered:
    """The objects of a run as YAML, stage by stage, each with what it is; one stage but in the classic design.
    ``image``: what its pods are of."""

    run: str
    plan: Plan
    image: str
    stages: tuple[tuple[str, str], ...]


def render(
    experiment: Asked,
    settings: ClusterSettings,
    *,
    created: str,
    image: str | None = None,
    extra: str = "torch",
    run_id: str | None = None,
    token: str | None = None,
    design: str | None = None,
) -> Rendered:
    """The objects of a run. ``image``: by default this kts's in the variant ``extra``, as `build_image` loads it.
    ``created``: RFC 3339; with it, ``run_id`` and ``token`` two outputs are the same. UsageError for an exporter that
    is to be looked for: no cluster is asked."""
    if settings.dcgm == AUTO:
        raise UsageError("--dcgm auto: rendering asks no cluster", "give the address of the node's exporter")
    changes: Changes = {"design": design} if design else {}
    loaded, plan = planned_in_pods(experiment, changes, extra_from(extra))
    settings = msgspec.structs.replace(settings, image=image or image_name(extra))
    run = run_id or new_run_id(plan.name)
    if settings.runtime_class is None:  # no cluster is asked which it has
        settings = msgspec.structs.replace(settings, runtime_class=pods.DEFAULT_RUNTIME_CLASS)
    if manifests.is_classic(plan):
        classic_jobs.check(settings)
    stages = classic_jobs.stages(
        plan,
        run=runnames.checked_run_id(run),
        token=token or secrets.token_urlsafe(32),
        settings=settings,
        experiment_text=loaded.text,
        created=created,
    )
    return Rendered(run, plan, settings.image, tuple((what, manifests.to_yaml(objects)) for what, objects in stages))


def planned_in_pods(experiment: Asked, changes: Changes, extra: Extra) -> tuple[LoadedExperiment, Plan]:
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
    tag: str | None = None,
) -> str:
    """The name of the image, once the cluster's nodes tell that they have it; built and loaded only if they do not.

    ``full``: the image of the whole kts, and that of the workers which it starts. ``tag``: another name for it, which
    is then returned. SetupError if no node has it afterwards.
    """
    variant = extra_from(extra)
    api = Api.connect(context)
    wanted = [(False, "" if full else tag or ""), *([(True, tag or "")] if full else [])]
    found = [_ensured(api, variant, base, say, full=whole, tag=name) for whole, name in wanted]
    for names in found:
        images.wait_for_nodes(api, names, say)
    return found[-1][-1]


def prune_images(context: str | None = None, base: str | None = None, say: Say = silent) -> None:
    """Removes images of older sources from the engine here, and from the cluster's nodes where there is a way.

    ``say``: is told each. What the cluster's pods, Jobs and CronJobs name is kept.
    """
    try:
        api = Api.connect(context)
    except SetupError as error:
        if context is not None:
            raise
        say(f"on nodes nothing is removed: {error.what}")
        api = None
    prune.prune(_base(base), api, say)


def ensured(api: Api, extra: Extra, base: str | None, say: Say, *, full: bool = False) -> str:
    """As `build_image`, on a cluster that is connected, and without waiting for what its nodes tell."""
    return _ensured(api, extra, base, say, full=full, tag="")[0]


def _ensured(api: Api, extra: Extra, base: str | None, say: Say, *, full: bool, tag: str) -> list[str]:
    looked: list[bool] = []

    def present(names: Collection[str]) -> bool:
        nodes = api.list("Node")
        looked.append(bool(nodes) and all(images.has(node, names) for node in nodes))
        return looked[-1]

    names = images.ensure(images.Recipe(extra, _base(base), full), present, say, tag)
    if not all(looked):
        prune.hint(_base(base), say)
    return names


def _base(given: str | None) -> str:
    return given or os.environ.get(IMAGE_BASE) or images.DEFAULT_BASE
