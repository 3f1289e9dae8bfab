"""The JSON Schema of summary.json."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from kts.model.summary import Summary


def summary_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of summary.json; descriptions are the docstrings of `kts.model.summary`."""
    schema = msgspec.json.schema(Summary)
    for described in schema["$defs"].values():
        if "description" in described:  # Python 3.13 strips the indentation of docstrings, older ones keep it
            described["description"] = inspect.cleandoc(described["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "summary.json of kts", **schema}
