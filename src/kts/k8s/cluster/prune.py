"""Old images of kts: each change of the sources leaves one behind, on the builder and on the nodes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import get_args

from kts.errors import KtsError, SetupError
from kts.k8s.cluster import engine as engines
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.engine import Say
from kts.k8s.cluster.image import Recipe, checkout, content_tag, told_by
from kts.k8s.objects import imagenames
from kts.k8s.objects.settings import Extra

REMOVER = "KTS_IMAGE_REMOVER"
_LABEL = "dev.kts.content"
MANY = 5
"""From so many old images on, a build says that they are there."""
_SIZE = re.compile(r"([0-9.]+)\s*([kKMGT]?)i?B")
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Built:
    """An image of kts's that the engine has. ``names``: none for what a build left between its stages."""

    id: str
    names: tuple[str, ...]
    size_bytes: float


def current(base: str) -> set[str]:
    """Names of the images of these very sources, in every variant."""
    root = checkout()
    return {content_tag(root, Recipe(extra, base, full)) for extra in get_args(Extra) for full in (False, True)}


def built(tool: str, content: str = "") -> list[Built]:
    """Images of kts's that the engine has (of that content), by their label. SetupError if it does not tell."""
    label = f"label={_LABEL}={content}" if content else f"label={_LABEL}"
    rows = "{{.ID}}\t{{.Repository}}:{{.Tag}}\t{{.Size}}"
    found: dict[str, Built] = {}
    for line in engines.told([tool, "images", "--filter", label, "--format", rows], f"{tool} does not tell its images"):
        identity, name, size = [*line.split("\t"), "", ""][:3]
        before = found.get(identity, Built(identity, (), _bytes(size)))
        names = before.names if "<none>" in name else (*before.names, name)
        found[identity] = Built(identity, names, before.size_bytes)
    return list(found.values())


def old(tool: str, needed: Collection[str]) -> list[Built]:
    """Images of kts's that the engine has and nobody needs, those without a name last: these were made before."""
    images = built(tool)
    unneeded = imagenames.unneeded((image.names for image in images), needed)
    named = [image for image in images if sorted(image.names) in unneeded]
    nameless = [image for image in images if not image.names]
    kept = {image.id for name in needed if nameless for image in built(tool, name.partition(":")[2])}
    return [*named, *(image for image in nameless if image.id not in kept)]


def prune(base: str, api: Api | None, say: Say) -> None:
    """Removes old images from the engine here, and where there is a way from the nodes. ``say``: is told each.

    What pods, Jobs and CronJobs of the cluster name is kept, and so is what the engine or a runtime says is in use.
    ``api``: None where there is no cluster.
    """
    needed, seen = current(base), api is not None
    if api is not None:
        try:
            needed |= imagenames.named_in(obj for kind in ("Pod", "Job", "CronJob") for obj in api.list(kind))
        except KtsError as error:
            seen = False
            say(f"on nodes nothing is removed, since it is not known what is in use: {error.what}")
    tool = engines.engine()
    gone = [image for image in old(tool, needed) if _removed([tool, "rmi"], [*image.names] or [image.id], say)]
    size = f", {sum(image.size_bytes for image in gone) / 1e9:.1f} GB with the layers that they share" if gone else ""
    say(f"{tool}: {len(gone)} old image{'' if len(gone) == 1 else 's'} of kts removed{size}")
    if api is not None and seen:
        _prune_nodes(api, needed, say)


def hint(base: str, say: Say) -> None:
    """A line where MANY old images or more lie in the engine."""
    try:
        tool = engines.engine()
        found = old(tool, current(base))
    except SetupError:
        return
    if len(found) >= MANY:
        size = sum(image.size_bytes for image in found) / 1e9
        say(f"{tool} has {len(found)} older images of kts ({size:.1f} GB): kts k8s image --prune removes them")


def remover() -> Callable[[str], Sequence[Sequence[str]]] | None:
    """How an image of a given name is removed from the nodes here: commands, of which each must succeed. None if no
    way is known."""
    own = os.environ.get(REMOVER, "")
    if own:
        command = engines.split(REMOVER, own)
        return lambda name: [[*command, name]]
    if os.environ.get("KTS_IMAGE_LOADER"):
        return None  # the nodes are not where these tools would look
    if shutil.which("k3s"):
        return lambda name: [["k3s", "crictl", "rmi", name]]
    if shutil.which("kind") and shutil.which("docker"):
        nodes = engines.told(["kind", "get", "nodes"], "kind does not tell its nodes")
        return lambda name: [["docker", "exec", node, "crictl", "rmi", name] for node in nodes]
    if shutil.which("crictl"):
        return lambda name: [["crictl", "rmi", name]]
    return None


def _prune_nodes(api: Api, needed: Collection[str], say: Say) -> None:
    found = [names for node in api.list("Node") for names in imagenames.unneeded(told_by(node), needed)]
    names = sorted({names[0] for names in found})  # a runtime removes an image under all its names
    if not names:
        say("nodes: they tell of no old image of kts")
        return
    commands = remover()
    if commands is None:
        say(f"nodes: {len(names)} old images of kts, and no known way to remove them: {', '.join(names)}")
        say(f"  try: {REMOVER}='crictl rmi', or whatever command takes a name there")
        return
    gone = sum(
        max([_removed(command[:-1], [name], say) for command in commands(name)], default=False) for name in names
    )
    say(f"nodes: {gone} old image{'' if gone == 1 else 's'} of kts removed")


def _removed(command: Sequence[str], names: Sequence[str], say: Say) -> bool:
    """Whether that worked; ``say`` is told either way."""
    shown = ", ".join(names)
    try:
        engines.run([*command, *names], f"kept {shown}", "", limit_s=engines.ASK_S, say=say)
    except SetupError as error:
        say(" ".join(error.what.split()))
        return False
    say(f"removed {shown}")
    return True


def _bytes(text: str) -> float:
    found = _SIZE.search(text)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0
