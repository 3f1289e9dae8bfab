"""From a file or a ready-made name, and changes of it, to a validated experiment; every mistake with its line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kts.errors import SpecError, UsageError
from kts.opening import opened
from kts.shown import named, shown, visible, without_mark
from kts.spec.ready_made import names, ready_made_text

if TYPE_CHECKING:
    from kts.spec.explain import Mistakes
    from kts.spec.models import Experiment
    from kts.spec.yamltree import Tree

MAX_BYTES = 1 << 20
MOST_MISTAKES = 40
"""That are told at once."""
OWN = "x-"
_SEE = "see docs/experiments.md for the keys, or `kts schema experiment` for the JSON Schema"


@dataclass(frozen=True)
class LoadedExperiment:
    """A validated experiment, its text as given, and where that came from (a path, or ``ready-made NAME``)."""

    experiment: Experiment
    text: str
    source: str


def load(path_or_name: str) -> LoadedExperiment:
    """The experiment in a file, or the ready-made one of that name (a file of that name wins).

    SpecError if it cannot be read or holds mistakes: one line per mistake, ``FILE:LINE: key: what is wrong``.
    """
    path = Path(path_or_name)
    if path_or_name in names() and not path.is_file():
        return load_text(ready_made_text(path_or_name), source=f"ready-made {path_or_name}", default_name=path_or_name)
    text = _read(path, path_or_name)
    return load_text(text, source=path_or_name, default_name=path.stem, folder=path.parent)


def load_text(text: str, *, source: str, default_name: str = "experiment", folder: Path = Path()) -> LoadedExperiment:
    """The experiment in ``text``; ``source`` stands in messages where a file name would. SpecError as `load`.

    Files that it names are sought in ``folder``.
    """
    from pydantic import ValidationError

    from kts.spec.explain import explain
    from kts.spec.models import Experiment
    from kts.spec.yamltree import TreeError, parse

    try:
        tree = parse(text)
    except TreeError as error:
        place = f":{error.line}:{error.column}" if error.column else f":{error.line}" if error.line else ""
        raise SpecError(f"{source}{place}: not YAML: {error.message}", "mind indentation, ':' and quotes") from error
    if tree.data is None:
        raise SpecError(f"{source}: the file is empty", f"start from `kts experiments {names()[0]}`")
    if not isinstance(tree.data, dict):
        raise SpecError(f"{source}:1: must be a mapping of keys to values, with name and tenants", _SEE)
    _refuse_others(tree.data, source)
    _drop_own_keys(tree.data)
    tree.data.setdefault("name", _usable_name(default_name))
    mistakes = _own_mistakes(tree) + _read_traces(tree, folder)
    experiment = None
    try:
        experiment = Experiment.model_validate(tree.data)
    except ValidationError as error:
        unknown, others = explain(error, tree.data)
        if any(path[:-1] == ("tenants",) for path, _, _ in tree.repeated):
            # tenants of one name count as one; that they do is said already
            others = [(place_of, message) for place_of, message in others if place_of != ("tenants",)]
        mistakes = [*sorted(_placed(unknown, tree)), *sorted(mistakes + _placed(others, tree))]
    if mistakes or experiment is None:
        lines = [f"{source}:{line}: {message}" for line, message in mistakes[:MOST_MISTAKES]]
        more = [f"{source}: and {len(mistakes) - MOST_MISTAKES} more"] if len(mistakes) > MOST_MISTAKES else []
        raise SpecError("\n".join(lines + more), _SEE)
    return LoadedExperiment(experiment=experiment, text=text, source=source)


def override(experiment: Experiment, changes: Mapping[str, object]) -> Experiment:
    """The experiment with top-level keys replaced, validated anew.

    The key ``iterations`` sets the amount of every tenant (and drops its ``seconds``); ``library``
    also replaces what tenants name themselves; ``keep_values`` is set for every program. UsageError with
    one line per mistake if the result is not valid.
    """
    from pydantic import ValidationError

    from kts.spec.explain import explain, show_path
    from kts.spec.models import Experiment

    data = experiment.model_dump(exclude_unset=True)
    for key, value in changes.items():
        if key == "iterations":
            for tenant in data["tenants"].values():
                tenant.pop("seconds", None)
                tenant["iterations"] = value
            continue
        if key == "keep_values":
            for tenant in data["tenants"].values():
                if tenant["workload"] == "command":
                    tenant[key] = value
            continue
        if key == "library":
            for tenant in data["tenants"].values():
                tenant.pop("library", None)
        data[key] = value
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        lines = []
        for path, message in itertools.chain(*explain(error, data)):
            key = show_path(path[-1:]).replace("_", "-")
            line = f"--{key}: {message}" if key else message
            if line not in lines:
                lines.append(line)
        raise UsageError("\n".join(lines), "see `kts run --help`") from error


def _refuse_others(data: dict[str, Any], source: str) -> None:
    """SpecError for what is written for another program."""
    if "tenants" in data:
        return
    if "kind" in data and ("apiVersion" in data or "metadata" in data or "spec" in data):
        raise SpecError(
            f"{source}: is a Kubernetes object (kind {shown(data['kind'])}), not an experiment of kts",
            "kts makes the objects of a run itself: kts run EXPERIMENT --on k8s, or kts k8s render EXPERIMENT",
        )
    if isinstance(data.get("services"), dict):
        raise SpecError(f"{source}: is a compose file (services), not an experiment of kts", _SEE)


def _drop_own_keys(data: dict[str, Any]) -> None:
    """Keys that begin with ``x-`` are the user's own, as in compose files: a place for what ``<<`` merges."""
    tenants = data.get("tenants")
    holders = [data, *(tenants.values() if isinstance(tenants, dict) else ())]
    holders += [holder["slo"] for holder in holders if isinstance(holder, dict) and "slo" in holder]
    for holder in holders:
        for key in [key for key in holder if key.startswith(OWN)] if isinstance(holder, dict) else ():
            del holder[key]


def _own_mistakes(tree: Tree) -> list[tuple[int, str]]:
    """What the models cannot see: keys given twice, and names of tenants."""
    from kts.spec.models import TENANT_NAME

    mistakes = []
    for path, first, second in tree.repeated:
        what = "tenant" if len(path) == 2 and path[0] == "tenants" else "key"
        mistakes.append((second, f"{what} {shown(path[-1])} is given twice: lines {first} and {second}"))
    tenants: Any = tree.data.get("tenants")
    for name in tenants if isinstance(tenants, dict) else ():
        if not TENANT_NAME.fullmatch(name):
            rule = "1 to 40 lower-case letters, digits or '-', with a letter or digit at both ends"
            said = f"{visible(f'tenants.{name}')}: a tenant's name must be {rule}{named(name)}"
            mistakes.append((tree.line(("tenants", name)), said))
    return mistakes


def _placed(mistakes: Mistakes, tree: Tree) -> list[tuple[int, str]]:
    """(line, what is said)."""
    from kts.spec.explain import show_path

    return [
        (tree.line(path), f"{shown_path}: {message}" if (shown_path := show_path(path)) else message)
        for path, message in mistakes
    ]


def _read_traces(tree: Tree, folder: Path) -> list[tuple[int, str]]:
    """Puts due times in place of the names of the files that hold them; a mistake where that cannot be."""
    mistakes = []
    tenants: Any = tree.data.get("tenants")
    for name, tenant in tenants.items() if isinstance(tenants, dict) else ():
        if isinstance(tenant, dict) and isinstance(file := tenant.get("due_ms"), str):
            try:
                times = _times_in(folder / file)
            except (OSError, ValueError) as error:
                times = [0.0, 1.0]  # stands in, so that nothing else is said of it
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                mistakes.append(
                    (tree.line(("tenants", name, "due_ms")), f"{visible(f'tenants.{name}.due_ms: {file}')}: {why}")
                )
            tenant["due_ms"] = times
    return mistakes


def _times_in(path: Path) -> list[float]:
    """Numbers between white space or commas. OSError or ValueError, to be told with the file's name."""
    with opened(path, pipes=True) as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    times = []
    for number, line in enumerate(without_mark(raw).decode(errors="replace").splitlines(), start=1):
        for word in re.split(r"[\s,]+", line.strip()):
            try:
                times += [float(word)] if word else []
            except ValueError:
                raise ValueError(f"line {number}: {shown(word)} is not a time (ms)") from None
    return times


def _read(path: Path, given: str) -> str:
    try:
        with opened(path, pipes=True) as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise SpecError(f"{given}: no such file, and no ready-made experiment of that name", _nearest(given)) from error
    except IsADirectoryError as error:
        raise SpecError(f"{given}: is a directory, not an experiment file", _hint_for_directory(path)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpecError(f"{given}: cannot be read: {reason}", "give a file that you may read") from error
    if len(raw) > MAX_BYTES:
        raise SpecError(f"{given}: larger than {MAX_BYTES >> 20} MiB: not an experiment file", _SEE)
    try:
        return without_mark(raw).decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{given}:{line}: not UTF-8 text", "save the file as UTF-8") from error


def _nearest(given: str) -> str:
    near = get_close_matches(Path(given).stem, names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}ready-made ones: {', '.join(names())}"


def _hint_for_directory(path: Path) -> str:
    if (path / "run.json").exists():
        return f"`kts report {path}` reports a run; `kts run {path} --on replay` replays it"
    return "give a file, or a name from `kts experiments`"


def _usable_name(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", stem)[:60].strip("-") or "experiment"
