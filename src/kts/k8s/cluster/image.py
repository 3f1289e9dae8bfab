"""Images of the workers and of the whole kts: built once per content, and brought to the cluster by whatever way."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from kts import __version__
from kts.errors import SetupError
from kts.k8s.cluster import engine as engines
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.engine import Say
from kts.k8s.objects import Object
from kts.k8s.objects.names import DEFAULT_REPOSITORY, FULL_REPOSITORY
from kts.k8s.objects.settings import Extra
from kts.store.origin import git

DEFAULT_BASE = "docker.io/library/python:3.12-slim"
STAYS_OUT = frozenset({"cli", "report", "spec"})
"""Subpackages that no worker needs; Containerfile leaves them out, too. A change of them makes no new image of it."""
COMPILER = "requirements/cc.txt"
"""The compiler of the worker's image's build, within the checkout."""
TELLS_S = 90.0
"""For a kubelet to tell of an image that was loaded."""
MOST_TOLD = 50
"""A kubelet tells of so many images, the largest (nodeStatusMaxImages)."""
_PAUSE_S = 0.5
_HASH_DIGITS = 12


@dataclass(frozen=True)
class Recipe:
    """What an image is made of. ``full``: the whole kts, which starts pods of the worker's image of this variant."""

    extra: Extra
    base: str
    full: bool = False

    @property
    def worker(self) -> Recipe:
        """Of the workers' image that it starts, or is."""
        return replace(self, full=False)

    @property
    def repository(self) -> str:
        """Its name without a tag."""
        return FULL_REPOSITORY if self.full else DEFAULT_REPOSITORY

    @property
    def containerfile(self) -> str:
        """What it is built by, within the checkout."""
        return "Containerfile.kts" if self.full else "Containerfile"

    @property
    def requirements(self) -> str:
        """The file with its pins and hashes, within the checkout."""
        if self.full:
            return "requirements/kts.txt"
        return "requirements/image.txt" if self.extra == "cpu" else f"requirements/image-{self.extra}.txt"

    @property
    def stays_out(self) -> frozenset[str]:
        """Subpackages of kts that it does not hold."""
        return frozenset() if self.full else STAYS_OUT


def told_by(node: Object) -> list[list[str]]:
    """The images that a node has, each by all its names, as far as its kubelet tells."""
    return [list(image.get("names") or ()) for image in (node.get("status") or {}).get("images") or ()]


def has(node: Object, names: Collection[str]) -> bool:
    """Whether the node tells of one image that has all these names."""
    return any(set(names) <= set(told) for told in told_by(node))


def names_on(node: Object) -> list[str]:
    """The names of the images that a node has, as far as its kubelet tells."""
    return [name for told in told_by(node) for name in told]


def checkout() -> Path:
    """The project's folder, of which the image is made. SetupError where kts was installed without it."""
    root = Path(__file__).resolve().parents[4]
    if not (root / "Containerfile").exists():
        raise SetupError(
            "this kts was installed without its sources, and an image is made of those",
            "run it from a clone of the project, or name an image that the cluster can get: --image",
        )
    return root


def content_tag(root: Path, recipe: Recipe) -> str:
    """The image's name with the hash of all that goes into it; that of the whole kts names the worker's before."""
    digest = hashlib.sha256(f"{recipe.extra}\n{recipe.base}\n".encode())
    before = f"{content_tag(root, recipe.worker).partition(':')[2]}" if recipe.full else recipe.extra
    digest.update(f"{before}\n".encode())
    package = root / "src" / "kts"
    out = recipe.stays_out | {"__pycache__"}
    sources = [p for p in sorted(package.rglob("*")) if p.is_file() and not out & set(p.relative_to(package).parts)]
    own = [recipe.containerfile, ".dockerignore", recipe.requirements, *([] if recipe.full else [COMPILER])]
    for path in (*(root / name for name in own), *sources):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{recipe.repository}:{before}-{digest.hexdigest()[:_HASH_DIGITS]}"


def build(recipe: Recipe, say: Say) -> str:
    """Builds the image unless the engine has it; its name. SetupError with the build's last lines.

    KTS_BUILD_ARGS: further arguments of the engine's ``build``, as a shell would read them.
    """
    root, tool = checkout(), engines.engine()
    name = content_tag(root, recipe)
    if engines.succeeds([tool, "image", "inspect", name]):
        return name
    say(f"building {name} with {tool}; the first time takes minutes")
    further = engines.split("KTS_BUILD_ARGS", os.environ.get("KTS_BUILD_ARGS", ""))
    found = labels(root)
    told = {"BASE": recipe.base, "EXTRA": recipe.extra, "CONTENT": name.split(":")[-1]}
    told["REVISION"] = found.get("revision", "")
    if recipe.full:
        told["WORKER"] = content_tag(root, recipe.worker)
    arguments = [f"--build-arg={key}={value}" for key, value in told.items()]
    arguments += [f"--label=org.opencontainers.image.{key}={value}" for key, value in found.items()]
    what = ["--tag", name, "--file", str(root / recipe.containerfile), str(root)]
    command = [tool, "build", *further, *arguments, *what]
    remedy = "see the lines above; KTS_BUILD_ARGS adds arguments to the build"
    engines.run(command, "the image could not be built", remedy, limit_s=engines.BUILD_S, say=say)
    if content_tag(root, recipe) != name:
        engines.succeeds([tool, "rmi", name])  # its name would say what it does not hold
        raise SetupError("the sources changed while the image was built of these", "try again")
    return name


def labels(root: Path) -> dict[str, str]:
    """Version, and where git can tell, commit and address of the sources; without their prefix, none that is unknown.

    A commit that was changed before the image was made is marked ``-modified``. An address is told if it is a plain
    web address; what stands before its host (a name, a password) is left out.
    """
    found = {"version": __version__}
    commit = git(root, "rev-parse", "HEAD")
    if commit:
        changed = git(root, "status", "--porcelain", "--", "Containerfile*", "requirements", "src")
        found["revision"] = commit if changed == "" else f"{commit}-modified"
    address = urlsplit(git(root, "remote", "get-url", "origin") or "")
    if address.scheme == "https" and address.hostname:
        found["source"] = f"https://{address.hostname}{address.path}"
    return found


def ensure(recipe: Recipe, present: Callable[[Collection[str]], bool], say: Say, tag: str = "") -> list[str]:
    """The image's names, built and loaded only where it is not there; ``tag``: another name to load it under, the last.

    ``present``: whether the cluster has one image of all these names.
    """
    name = content_tag(checkout(), recipe)
    names = [name, *([tag] if tag else [])]
    if not present(names):
        build(recipe, say)
        if tag:
            tool = engines.engine()
            what = f"{tool} could not name the image {tag}"
            engines.run([tool, "tag", name, tag], what, "see the lines above", limit_s=engines.ASK_S, say=say)
        engines.load(names, say)
    return names


def wait_for_nodes(
    api: Api,
    names: Collection[str],
    say: Say,
    *,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until a node tells that it has one image of all ``names``: a loader may have brought it elsewhere.

    A kubelet tells within a minute, and of MOST_TOLD images at most. ``say``: is told which nodes have it if not all
    do. SetupError if none tells after TELLS_S.
    """
    began, told, name = now(), False, ", ".join(sorted(names))
    while True:
        nodes = api.list("Node")
        having = [node["metadata"]["name"] for node in nodes if has(node, names)]
        full = [node for node in nodes if len(told_by(node)) >= MOST_TOLD]
        if having or full or not nodes:
            break
        if now() - began > TELLS_S:
            raise SetupError(
                f"{name} was loaded, and {TELLS_S:.0f} s later no node tells that it has it",
                "see where the loader puts it: containerd keeps images for Kubernetes in its namespace k8s.io",
            )
        if not told:
            say(f"waiting until a node tells that it has {name}: a minute at most")
            told = True
        pause(_PAUSE_S)
    if having and len(having) < len(nodes):
        say(f"{name} is on {', '.join(having)}, not on all {len(nodes)} nodes: kts run --node says where to run")
