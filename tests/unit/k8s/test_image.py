"""The worker's image, with stand-ins for container engines and cluster tools: scripts that write down how they ran."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import pytest
from tests.helpers_wait import until

import kts
from kts.errors import SetupError, UsageError
from kts.k8s.cluster import engine, image
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.engine import ENGINES
from kts.k8s.cluster.image import DEFAULT_BASE, Recipe, content_tag, labels
from kts.k8s.objects import Object, imagenames
from kts.k8s.objects.names import ENV_EXTRA, ENV_WORKER_IMAGE
from kts.k8s.objects.settings import Extra
from kts.store.origin import REVISION

ROOT = Path(__file__).parents[3]
CPU = Recipe("cpu", DEFAULT_BASE)
FULL = Recipe("cpu", DEFAULT_BASE, full=True)
ENGINE = """#!/bin/sh
echo "{name} $*" >> "{log}"
file() {{ echo "{images}/$(echo "$1" | {tr} /: __)"; }}
test "$1 $2" = "image inspect" && {{ test -e "$(file "$3")"; exit; }}
for word in "$@"; do
    case "$1 $last" in
        "build --tag") : > "$(file "$word")" ;;
        "save --output") echo image > "$word" ;;
    esac
    last=$word
done
"""
TOOL = """#!/bin/sh
echo "{name} $*" >> "{log}"
for word in "$@"; do :; done
test -s "$word" || {{ echo "no archive $word"; exit 9; }}
"""
FAILING = """#!/bin/sh
echo "{name} $*" >> "{log}"
test "$1 $2" = "image inspect" && exit 1
echo first line; echo 'no space left on device'; exit 7
"""
HANGING = """#!/bin/sh
echo "{name} $*" >> "{log}"
test "$1" = image && exit 1
test "$1" = "$HANGS" || exit 0
printf 'copying \\033[31mlayers\\033[0m\\a\\n'
{sleep} 600 &
echo $! > "{log}.child"
wait
"""


class Machine:
    """A PATH with these commands alone, and a checkout of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.images, self.log, self.root = (folder / name for name in ("bin", "images", "log", "checkout"))
        self.bin.mkdir()
        self.images.mkdir()
        self.said: list[str] = []
        sources(self.root)
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.delenv("KTS_IMAGE_LOADER", raising=False)
        monkeypatch.delenv("KTS_BUILD_ARGS", raising=False)
        monkeypatch.setattr(image, "checkout", lambda: self.root)
        monkeypatch.delenv(engine.LIMIT, raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        self.tmp = folder / "tmp"
        self.tmp.mkdir()
        self._tools = {name: shutil.which(name, path=os.defpath) for name in ("tr", "sleep")}

    def install(self, script: str, *names: str) -> None:
        """Commands of these names."""
        for name in names:
            text = script.format(name=name, log=self.log, images=self.images, **self._tools)
            (self.bin / name).write_text(text, encoding="utf-8")
            (self.bin / name).chmod(0o755)

    def ran(self) -> list[str]:
        """Commands since the last call, without their looking for images."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if " image inspect " not in line]

    def ensure(self, *, present: bool, tag: str = "") -> str:
        """As `kts run` does it."""
        return image.ensure(CPU, lambda names: bool(names) and present, self.said.append, tag)[-1]

    def left(self) -> list[str]:
        """What was written and is still there, once what was started has ended."""
        child = int(self.log.with_suffix(".child").read_text(encoding="utf-8"))
        until(lambda: not _alive(child), "what was started ends")
        return [path.name for path in self.tmp.iterdir()]


def _alive(process: int) -> bool:
    """Whether it is there, and not only for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def sources(root: Path) -> None:
    """A small checkout."""
    for name in (
        *(
            "Containerfile",
            "Containerfile.kts",
            ".dockerignore",
            "README.md",
            "pyproject.toml",
            "tests/test_x.py",
            "src/kts/__init__.py",
        ),
        *(
            "requirements/cc.txt",
            "requirements/image.txt",
            "requirements/image-torch.txt",
            "requirements/image-cupy.txt",
        ),
        "requirements/kts.txt",
        *("src/kts/worker/loop.py", "src/kts/worker/kernel.cu", "src/kts/cli/main.py", "src/kts/report/page.html"),
        *("src/kts/spec/catalog/demo.yaml", "src/kts/worker/__pycache__/loop.cpython-312.pyc"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n", encoding="utf-8")


@pytest.mark.parametrize("installed", [ENGINES, ENGINES[1:], ENGINES[2:]])
def test_the_first_engine_that_is_installed_is_taken(installed: tuple[str, ...], machine: Machine) -> None:
    """Else an image would be built by one engine and looked for in another."""
    machine.install(ENGINE, *installed)
    assert engine.engine() == installed[0]


def test_no_engine_is_named_with_what_to_do(machine: Machine) -> None:
    """Else the user would learn of a missing program by its name alone."""
    assert machine.ran() == []
    with pytest.raises(SetupError, match="podman, docker, nerdctl") as refused:
        machine.ensure(present=False)
    assert "--image" in refused.value.remedy


@pytest.mark.parametrize(
    ("installed", "own", "expected"),
    [
        (("k3s", "kind", "ctr"), "", "k3s ctr images import FILE"),
        (("kind", "ctr"), "", "kind load image-archive FILE"),
        (("ctr",), "", "ctr -n k8s.io images import FILE"),
        (("k3s", "kind", "ctr", "mine"), "mine --node 'a b'", "mine --node a b FILE"),
    ],
)
def test_the_way_into_the_cluster_is_found(
    installed: tuple[str, ...], own: str, expected: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else users of one of these clusters would have to load each image by hand."""
    machine.install(ENGINE, "podman")
    machine.install(TOOL, *installed)
    if own:
        monkeypatch.setenv("KTS_IMAGE_LOADER", own)
    engine.load(["localhost/kts-worker:x"], machine.said.append)
    *_, loading = machine.ran()
    assert re.fullmatch(re.escape(expected).replace("FILE", r"/\S+/image\.tar"), loading)


def test_where_no_way_is_known_a_registry_is_named(machine: Machine) -> None:
    """Else a user of a managed cluster would not learn how an image gets there."""
    machine.install(ENGINE, "podman")
    with pytest.raises(SetupError) as refused:
        engine.load(["localhost/kts-worker:x"], machine.said.append)
    assert "KTS_IMAGE_LOADER" in refused.value.remedy
    assert "push" in refused.value.remedy


@pytest.mark.parametrize(("tool", "form"), [("podman", "--format docker-archive "), ("docker", ""), ("nerdctl", "")])
def test_each_engine_saves_what_every_loader_reads(tool: str, form: str, machine: Machine) -> None:
    """Else podman would write a format that older containerd and kind do not take."""
    machine.install(ENGINE, tool)
    machine.install(TOOL, "kind")
    engine.load(["localhost/kts-worker:x"], machine.said.append)
    saved = machine.ran()[0]
    assert saved.startswith(f"{tool} save {form}--output ")
    assert saved.endswith(" localhost/kts-worker:x")


@pytest.mark.parametrize("extra", ["cpu", "torch", "cupy"])
@pytest.mark.parametrize("full", [False, True])
def test_the_tag_follows_all_that_goes_in_and_nothing_else(extra: Extra, full: bool, tmp_path: Path) -> None:
    """Else a pod would run old code under a new name, or every edit of the docs would build an image."""
    sources(tmp_path)
    recipe, worker = Recipe(extra, DEFAULT_BASE, full), Recipe(extra, DEFAULT_BASE)
    goes_in = {"Containerfile", ".dockerignore", worker.requirements, "requirements/cc.txt"}
    goes_in |= {"src/kts/__init__.py", "src/kts/worker/loop.py", "src/kts/worker/kernel.cu"}
    if full:
        goes_in |= {"Containerfile.kts", "requirements/kts.txt"}
        goes_in |= {"src/kts/cli/main.py", "src/kts/report/page.html", "src/kts/spec/catalog/demo.yaml"}
    before = content_tag(tmp_path, recipe)
    whole = rf"localhost/kts:{content_tag(tmp_path, worker).partition(':')[2]}-[0-9a-f]{{12}}"
    assert re.fullmatch(whole if full else rf"localhost/kts-worker:{extra}-[0-9a-f]{{12}}", before)
    assert imagenames.is_ours(before)
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        kept = path.read_bytes()
        path.write_bytes(kept + b"more\n")
        changed = content_tag(tmp_path, recipe) != before
        assert changed == (path.relative_to(tmp_path).as_posix() in goes_in), path
        path.write_bytes(kept)
    assert content_tag(tmp_path, recipe) == before
    assert content_tag(tmp_path, Recipe(extra, "other/base:1", full)) != before
    (tmp_path / "src/kts/worker/loop.py").rename(tmp_path / "src/kts/worker/loops.py")
    assert content_tag(tmp_path, recipe) != before


WORKER_NEEDS = ["requirements/image*.txt", "requirements/cc.txt"]


@pytest.mark.parametrize("recipe", [CPU, FULL], ids=["worker", "full"])
def test_what_the_tag_leaves_out_the_build_leaves_out_too(recipe: Recipe) -> None:
    """Else two images of different content would have one name."""
    text = (ROOT / recipe.containerfile).read_text(encoding="utf-8")
    removed = re.search(r"cd /own/kts && rm -r (.*)$", text, re.MULTILINE)
    assert set(removed[1].split() if removed else ()) == recipe.stays_out
    sources = re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE)
    copied = [path for path in sources if not path.startswith("src/kts/")]
    assert copied == ["requirements/kts.txt", "src/kts"] if recipe.full else [*WORKER_NEEDS, "src/kts"]
    admitted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(admitted)


def test_the_full_image_names_the_worker_s_of_the_same_sources(machine: Machine) -> None:
    """Else a pod of it, which cannot build, would start workers of another kts, or none."""
    machine.install(ENGINE, "podman")
    image.build(FULL, machine.said.append)
    (line,) = machine.ran()
    assert f" --build-arg=WORKER={content_tag(machine.root, CPU)} " in line
    assert f" --file {machine.root / 'Containerfile.kts'} " in line
    text = (ROOT / "Containerfile.kts").read_text(encoding="utf-8")
    assert f"{ENV_WORKER_IMAGE}=${{WORKER}} {ENV_EXTRA}=${{EXTRA}}" in text


def test_nothing_is_built_or_loaded_twice(machine: Machine) -> None:
    """Else every run would begin with minutes of building."""
    machine.install(ENGINE, "podman")
    machine.install(TOOL, "kind")
    name = machine.ensure(present=False)
    assert [line.split()[1] for line in machine.ran()] == ["build", "save", "load"]
    assert machine.ensure(present=False) == name  # the engine has it, the cluster has lost it
    assert [line.split()[1] for line in machine.ran()] == ["save", "load"]
    assert machine.ensure(present=True) == name
    assert machine.ran() == []


def test_a_cluster_that_has_the_image_needs_no_engine(machine: Machine) -> None:
    """Else a run would be refused for a program that it does not use."""
    assert machine.ensure(present=True) == content_tag(machine.root, CPU)


def test_the_build_is_told_all_that_it_must_know(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the image would be another variant than its name says, or hide what it is made of."""
    machine.install(ENGINE, "podman")
    monkeypatch.setenv("KTS_BUILD_ARGS", "--volume '/a b:/c:ro'")
    name = image.build(Recipe("torch", "example.org/python:3.12"), machine.said.append)
    (line,) = machine.ran()
    for part in (
        "--volume /a b:/c:ro",
        "--build-arg=BASE=example.org/python:3.12",
        "--build-arg=EXTRA=torch",
        f"--build-arg=CONTENT={name.split(':')[-1]}",
        "--build-arg=REVISION= ",
        f"--label=org.opencontainers.image.version={kts.__version__}",
        f"--tag {name} --file {machine.root / 'Containerfile'} {machine.root}",
    ):
        assert f" {part}" in line


def test_a_build_that_fails_shows_its_last_lines(machine: Machine) -> None:
    """Else the user would see an exit code where the engine said what is wrong."""
    machine.install(FAILING, "podman")
    with pytest.raises(SetupError, match=r"could not be built \(exit code 7\)\nfirst line\nno space left on device"):
        machine.ensure(present=False)


@pytest.mark.parametrize(
    ("own", "words"), [("kind load", "no space left on device"), ("/not/there", "No such file or directory")]
)
def test_a_loader_that_fails_is_named(own: str, words: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else pods would wait for an image that never came."""
    machine.install(ENGINE, "podman")
    machine.install(FAILING, "kind")
    monkeypatch.setenv("KTS_IMAGE_LOADER", own)
    with pytest.raises(SetupError, match=words) as refused:
        machine.ensure(present=False)
    assert f"{own.split(maxsplit=1)[0]} could not load the image" in refused.value.what


@pytest.mark.parametrize("hangs", ["build", "save", "load"])
def test_a_command_that_hangs_is_ended_at_its_limit(
    hangs: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run would wait for ever, and what a loader started would go on after it."""
    machine.install(HANGING, "podman", "kind")
    monkeypatch.setenv("HANGS", hangs)
    monkeypatch.setenv(engine.LIMIT, "0.5")
    with pytest.raises(SetupError) as refused:
        engine.load(["x"], machine.said.append) if hangs != "build" else image.build(CPU, machine.said.append)
    what, last = refused.value.what.splitlines()
    assert re.search(rf"did not end within 0\.5 s: \S+ {hangs} ", what)
    assert last == "copying layers\\x07"
    assert f"{engine.LIMIT}=1 " in refused.value.remedy
    assert machine.left() == []


def test_ctrl_c_ends_what_was_started_and_leaves_no_archive(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a build would go on behind the user's back, or gigabytes would stay in /tmp."""
    machine.install(HANGING, "podman", "kind")
    monkeypatch.setenv("HANGS", "load")
    monkeypatch.setattr(engine, "TOLD_EVERY_S", 0.2)

    def say(line: str) -> None:
        if line.startswith("still running kind load, ") and line.endswith(": copying layers\\x07"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        engine.load(["x"], say)
    assert machine.left() == []


def test_a_full_disk_is_named_with_what_frees_it(machine: Machine) -> None:
    """Else the user would look at the image for what is wrong with the disk."""
    machine.install(FAILING, "podman")
    machine.install(TOOL, "kind")
    with pytest.raises(SetupError, match="could not save") as refused:
        engine.load(["x"], machine.said.append)
    assert "--prune" in refused.value.remedy
    assert "TMPDIR" in refused.value.remedy
    assert list(machine.tmp.iterdir()) == []


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a typo would mean no limit, or end every build at once."""
    monkeypatch.setenv(engine.LIMIT, text)
    with pytest.raises(UsageError, match=engine.LIMIT):
        engine.limit(1.0)


def test_a_loader_may_ask_for_a_password() -> None:
    """Else `sudo k3s ctr images import` would be stopped at its prompt, until the limit."""
    ours, theirs = pty.openpty()
    asks = "read word < /dev/tty; echo told $word; exit 3"
    code = f"from kts.k8s.cluster.engine import run; run(['sh', '-c', {asks!r}], 'W', 'R', limit_s=20, say=print"
    shell = f'exec "$0" -c "$1" < {os.ttyname(theirs)}'  # a session's first terminal becomes its own
    process = subprocess.Popen(
        ["sh", "-c", shell, sys.executable, f"{code}, lends_terminal=True)"],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(ours, b"secret\n")
    _, errors = process.communicate(timeout=180)
    os.close(ours)
    os.close(theirs)
    assert "W (exit code 3)\ntold secret" in errors


def test_sources_that_change_during_the_build_are_noticed(machine: Machine) -> None:
    """Else an image would hold other code than its name says, for every later run of the code of before."""
    machine.install(ENGINE, "podman")
    loop = machine.root / "src/kts/worker/loop.py"
    with pytest.raises(SetupError, match="changed while the image was built"):
        image.build(CPU, lambda line: loop.write_text(line, encoding="utf-8") and None)
    assert machine.ran()[-1].startswith("podman rmi localhost/kts-worker:cpu-")


def test_another_name_is_given_and_loaded_too(machine: Machine) -> None:
    """Else the published Jobs, which name an image of their own, would not start."""
    machine.install(ENGINE, "podman")
    machine.install(TOOL, "kind")
    tag = "localhost/kts-worker:v1"
    assert machine.ensure(present=False, tag=tag) == tag
    name = content_tag(machine.root, CPU)
    _, tagged, saved, _ = machine.ran()
    assert tagged == f"podman tag {name} {tag}"
    assert saved.endswith(f" {name} {tag}")


class Nodes:
    """A cluster whose nodes tell of these images, each after so many looks."""

    def __init__(self, *told: tuple[int, list[list[str]]]) -> None:
        self._told, self.looks = told, 0

    def list(self, kind: str) -> list[Object]:
        assert kind == "Node"
        self.looks += 1
        return [
            {
                "metadata": {"name": f"n{number}"},
                "status": {"images": [{"names": names} for names in images] if self.looks > after else []},
            }
            for number, (after, images) in enumerate(self._told)
        ]


def waited_for(nodes: Nodes, *names: str) -> list[str]:
    """What the user is told while nodes are waited for; time passes with each look."""
    said: list[str] = []
    image.wait_for_nodes(cast(Api, nodes), names, said.append, now=lambda: nodes.looks * 1.0, pause=lambda _: None)
    return said


def test_a_loader_that_loads_elsewhere_is_noticed() -> None:
    """Else pods would fail for want of an image of which kts said that it is loaded."""
    with pytest.raises(SetupError, match="a:1 was loaded, and 90 s later no node tells"):
        waited_for(Nodes((0, [["other:1"]])), "a:1")
    (line,) = waited_for(Nodes((3, [["a:1"]])), "a:1")
    assert "waiting until a node tells" in line


def test_a_name_that_is_still_an_older_image_s_is_not_enough() -> None:
    """Else pods would run the code of before, under the name that was just loaded."""
    with pytest.raises(SetupError):
        waited_for(Nodes((0, [["a:v1"], ["a:new"]])), "a:v1", "a:new")
    assert waited_for(Nodes((0, [["a:v1", "a:new"]])), "a:v1", "a:new") == []


def test_nodes_without_the_image_are_told_of_and_a_cut_list_proves_nothing() -> None:
    """Else a loader that serves one node of many would fail a run that needs only that one."""
    (line,) = waited_for(Nodes((0, [["a:1"]]), (99, [])), "a:1")
    assert "is on n0, not on all 2 nodes" in line
    assert waited_for(Nodes((0, [[f"x:{number}"] for number in range(50)])), "a:1") == []


def git(root: Path, *arguments: str) -> str:
    """As a user without a configuration."""
    own = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *arguments],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_labels_tell_where_the_sources_are_from_but_no_password(tmp_path: Path) -> None:
    """Else an image could not be traced to its sources, or would publish a credential."""
    sources(tmp_path)
    assert labels(tmp_path) == {"version": kts.__version__}
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert labels(tmp_path) == {"version": kts.__version__, "revision": commit}
    git(tmp_path, "remote", "add", "origin", "https://me:secret@example.org/kts.git")
    (tmp_path / "README.md").write_text("not in the image\n", encoding="utf-8")
    assert labels(tmp_path) == {
        "version": kts.__version__,
        "revision": commit,
        "source": "https://example.org/kts.git",
    }
    (tmp_path / "src/kts/worker/loop.py").write_text("changed\n", encoding="utf-8")
    assert labels(tmp_path)["revision"] == f"{commit}-modified"
    git(tmp_path, "remote", "set-url", "origin", "/home/me/kts")
    assert "source" not in labels(tmp_path)


@pytest.mark.parametrize("recipe", [CPU, FULL], ids=["worker", "full"])
def test_the_image_knows_its_commit_under_the_name_that_is_read(recipe: Recipe) -> None:
    """Else runs in pods, where there is no git, would be of an unknown commit."""
    text = (ROOT / recipe.containerfile).read_text(encoding="utf-8")
    assert re.search(rf'"\$\{{REVISION\}}" > /own/kts/{REVISION}$', text, re.MULTILINE)


FILES = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_hashed_and_tells_no_address(path: Path) -> None:
    """Else an image could hold other code than was reviewed, or the file would name somebody's mirror."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"://|index-url|find-links|trusted-host", text)
    entries = re.split(r"\n(?=\S)(?!#)", text.replace("\\\n", " "))
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) >= 1
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==[0-9][^ ]* .*--hash=sha256:[0-9a-f]{64}", entry.replace("\n", " ")), entry


@pytest.mark.parametrize("extra", ["torch", "cupy"])
def test_the_variants_agree_with_the_plain_image(extra: Extra) -> None:
    """Else the same tenant would run on other versions of numpy and kts's own needs."""
    plain, variant = (pins(ROOT / Recipe(name, DEFAULT_BASE).requirements) for name in ("cpu", extra))
    assert plain <= variant
    assert variant - plain


def test_the_full_image_holds_what_the_tests_ran_with() -> None:
    """Else a pod would report with other versions than those that were tested, or lack one."""
    tested, worker, full = (pins(ROOT / "requirements" / name) for name in ("all.txt", "image.txt", "kts.txt"))
    assert worker <= full <= tested


def pins(path: Path) -> set[str]:
    """Lines that name a version, with their conditions."""
    return set(re.findall(r"^[a-z0-9.-]+==.*?(?= \\$)", path.read_text(encoding="utf-8"), re.MULTILINE))
