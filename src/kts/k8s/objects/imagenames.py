"""Names of kts's own images: which sources one is of, which others it needs, and which nobody needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from kts.k8s.objects import Object
from kts.k8s.objects.names import DEFAULT_REPOSITORY, FULL_REPOSITORY

_WORKER = re.compile(rf"{re.escape(DEFAULT_REPOSITORY)}:(cpu|torch|cupy)-[0-9a-f]{{12}}")
_FULL = re.compile(rf"{re.escape(FULL_REPOSITORY)}:((?:cpu|torch|cupy)-[0-9a-f]{{12}})-[0-9a-f]{{12}}")


def is_ours(name: str) -> bool:
    """Whether kts made this name of what goes into the image. Any other name of it was given by a user."""
    return bool(_WORKER.fullmatch(name) or _FULL.fullmatch(name))


def named_in(objects: Iterable[Object]) -> set[str]:
    """Images of pods, of Jobs that are not over, and of CronJobs, as these name them."""
    return {image for obj in objects if not _over(obj) for image in _images(obj)}


def unneeded(told: Iterable[Collection[str]], needed: Collection[str]) -> list[list[str]]:
    """Images, each by its names, that have names of ours alone, none of which is ``needed``, and that no image of the
    whole kts would start that is needed, or has a name of a user's."""
    images = [{name for name in names if "@" not in name} for names in told]  # the rest are digests
    stay = [names for names in images if names & set(needed) or not all(map(is_ours, names))]
    kept = set(needed).union(*stay)
    kept |= {f"{DEFAULT_REPOSITORY}:{found[1]}" for name in kept if (found := _FULL.fullmatch(name))}
    return [sorted(names) for names in images if names and not names & kept]


def _over(obj: Object) -> bool:
    status = obj.get("status") or {}
    done = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    return status.get("phase") in ("Succeeded", "Failed") or bool(done & {"Complete", "Failed"})


def _images(obj: Object) -> Iterator[str]:
    spec = obj.get("spec") or {}
    for inner in (spec.get("jobTemplate"), spec.get("template")):
        if inner:
            yield from _images(inner)
    for containers in (spec.get("containers"), spec.get("initContainers")):
        yield from (container["image"] for container in containers or () if container.get("image"))
