"""The experiments that come with kts, by name."""

from __future__ import annotations

from importlib.resources import files

from kts.errors import SpecError


def names() -> list[str]:
    """Names of the ready-made experiments, sorted."""
    folder = files("kts.spec") / "catalog"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def ready_made_text(name: str) -> str:
    """The YAML of a ready-made experiment. SpecError if there is none of that name."""
    if name not in names():
        raise SpecError(f"no ready-made experiment {name!r}", f"ready-made ones: {', '.join(names())}")
    return (files("kts.spec") / "catalog" / f"{name}.yaml").read_text(encoding="utf-8")


def catalog() -> list[tuple[str, str]]:
    """(name, one-line description) of each ready-made experiment, sorted by name."""
    return [(name, _description(ready_made_text(name))) for name in names()]


def _description(text: str) -> str:
    import yaml

    return str(yaml.safe_load(text).get("description", ""))
