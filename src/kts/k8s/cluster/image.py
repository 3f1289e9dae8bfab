"""Images of the workers and of the whole kts: built once per content, and brought to the cluster by whatever way."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from kts import __version__
from kts.errors import SetupError
from kts.k8s.objects import Object
from kts.k8s.objects.names import DEFAULT_REPOSITORY, FULL_REPOSITORY
from kts.k8s.objects.settings import Extra
from kts.store.origin import git

ENGINES = ("podman", "docker", "nerdctl")
DEFAULT_BASE = "docker.io/library/python:3.12-slim"
STAYS_OUT = frozenset({"cli", "report", "spec"})
"""Subpackages that no worker needs; Containerfile leaves them out, too. A change of them makes no new image of it."""
_HASH_DIGITS = 12
_TAIL_LINES = 12

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What an image is made of. ``full``: the whole kts, which starts pods of the worker's image of this variant."""

    extra: Extra
    base: str
    full: bool = False

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


def names_on(node: Object) -> list[str]:
    """The names of the images that a node has, as far as its kubelet tells."""
    told = (node.get("status") or {}).get("images") or ()
    return [name for image in told for name in image.get("names") or ()]


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
    """The image's name with the hash of all that goes into it."""
    digest = hashlib.sha256(f"{recipe.extra}\n{recipe.base}\n".encode())
    if recipe.full:
        digest.update(f"{content_tag(root, replace(recipe, full=False))}\n".encode())
    package = root / "src" / "kts"
    out = recipe.stays_out | {"__pycache__"}
    sources = [p for p in sorted(package.rglob("*")) if p.is_file() and not out & set(p.relative_to(package).parts)]
    for path in (root / recipe.containerfile, root / ".dockerignore", root / recipe.requirements, *sources):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{recipe.repository}:{recipe.extra}-{digest.hexdigest()[:_HASH_DIGITS]}"


def engine() -> str:
    """The first container engine that is installed. SetupError if there is none."""
    for name in ENGINES:
        if shutil.which(name):
            return name
    raise SetupError(
        f"no container engine is installed (looked for {', '.join(ENGINES)})",
        "install podman, or name an image that the cluster can get: --image",
    )


def build(recipe: Recipe, say: Say) -> str:
    """Builds the image unless it is there; its name. The tag ``v1`` follows. SetupError with the build's last lines.

    KTS_BUILD_ARGS: further arguments of the engine's ``build``, as a shell would read them.
    """
    root, tool = checkout(), engine()
    name = content_tag(root, recipe)
    if _quiet([tool, "image", "inspect", name]):
        return name
    say(f"building {name} with {tool}")
    further = shlex.split(os.environ.get("KTS_BUILD_ARGS", ""))
    found = labels(root)
    told = {"BASE": recipe.base, "EXTRA": recipe.extra, "CONTENT": name.split(":")[-1]}
    told["REVISION"] = found.get("revision", "")
    if recipe.full:
        told["WORKER"] = content_tag(root, replace(recipe, full=False))
    arguments = [f"--build-arg={key}={value}" for key, value in told.items()]
    arguments += [f"--label=org.opencontainers.image.{key}={value}" for key, value in found.items()]
    tags = ["--tag", name, "--tag", f"{recipe.repository}:v1"]
    command = [tool, "build", *further, *arguments, *tags, "--file", str(root / recipe.containerfile), str(root)]
    _run(command, "the image could not be built", "see the lines above; KTS_BUILD_ARGS adds arguments to the build")
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


def loader(engine_name: str) -> Callable[[str], Sequence[Sequence[str]]]:
    """How an image archive gets into the cluster here: commands for a given file. SetupError if no way is known."""
    own = os.environ.get("KTS_IMAGE_LOADER", "")
    if own:
        return lambda archive: [[*shlex.split(own), archive]]
    if shutil.which("k3s"):
        return lambda archive: [["k3s", "ctr", "images", "import", archive]]
    if shutil.which("kind"):
        return lambda archive: [["kind", "load", "image-archive", archive]]
    if shutil.which("ctr"):
        return lambda archive: [["ctr", "-n", "k8s.io", "images", "import", archive]]
    raise SetupError(
        f"{engine_name} has the image, and there is no known way into the cluster (no k3s, kind or ctr here)",
        "set KTS_IMAGE_LOADER to a command that takes an image archive, or push it and give --image",
    )


def load(name: str, say: Say) -> None:
    """Brings the image from the engine to the cluster. SetupError if that fails."""
    tool = engine()
    commands = loader(tool)
    say(f"loading {name}")
    with tempfile.TemporaryDirectory(prefix="kts-image-") as folder:
        archive = str(Path(folder) / "image.tar")
        form = ["--format", "docker-archive"] if tool == "podman" else []
        _run([tool, "save", *form, "--output", archive, name], f"{tool} could not save {name}", "see the lines above")
        for command in commands(archive):
            _run(command, f"{command[0]} could not load the image", "see the lines above; it may need root")


def ensure(recipe: Recipe, present: Callable[[str], bool], say: Say) -> str:
    """The image's name, built and loaded only where it is not there. ``present``: whether the cluster has a name."""
    name = content_tag(checkout(), recipe)
    if not present(name):
        build(recipe, say)
        load(name, say)
    return name


def _quiet(command: Sequence[str]) -> bool:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _run(command: Sequence[str], what: str, remedy: str) -> None:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise SetupError(f"{what}: {command[0]}: {error.strerror}", remedy) from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-_TAIL_LINES:])
        raise SetupError(f"{what} (exit code {done.returncode})\n{tail}", remedy)
