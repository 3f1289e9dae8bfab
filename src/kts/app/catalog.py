"""The ready-made experiments, and the JSON Schemas of what goes in and what comes out. Light: shells complete by it."""

from __future__ import annotations

import inspect
from typing import Any

from kts import spec
from kts.errors import UsageError


def experiments() -> dict[str, str]:
    """The ready-made experiments: descriptions by name."""
    return dict(spec.catalog())


def experiment_text(name: str) -> str:
    """The YAML of a ready-made experiment. SpecError if there is none of that name."""
    return spec.ready_made_text(name)


def schema(what: str = "experiment") -> dict[str, Any]:
    """The JSON Schema of experiment files, or of ``summary``: summary.json. UsageError for anything else."""
    if what == "experiment":
        return spec.json_schema()
    if what == "summary":
        return _summary_schema()
    raise UsageError(f"no schema of {what!r}", "known: experiment, summary")


def _summary_schema() -> dict[str, Any]:
    """Descriptions are the docstrings of `kts.model.summary`."""
    import msgspec  # the shell completes without it

    from kts.model.summary import Summary

    schema = msgspec.json.schema(Summary)
    for described in schema["$defs"].values():
        if "description" in described:  # Python 3.13 strips the indentation of docstrings, older ones keep it
            described["description"] = inspect.cleandoc(described["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "summary.json of kts", **schema}
