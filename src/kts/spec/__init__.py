"""Experiment files: YAML to a validated, frozen experiment.

Importing this loads neither pydantic nor PyYAML; the models are in `kts.spec.models`.
"""

from kts.spec.loader import LoadedExperiment, load, load_text, override
from kts.spec.ready_made import catalog, names, ready_made_text
from kts.spec.schema import json_schema

__all__ = [
    "LoadedExperiment",
    "catalog",
    "json_schema",
    "load",
    "load_text",
    "names",
    "override",
    "ready_made_text",
]
