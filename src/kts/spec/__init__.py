"""Experiment files: YAML to a validated, frozen experiment.

Importing this loads neither pydantic nor PyYAML; the models are in `kts.spec.models`.
"""

from kts.spec.beside import COPY, beside, program_name
from kts.spec.loader import LoadedExperiment, load, load_text, override
from kts.spec.ready_made import catalog, names, ready_made_text
from kts.spec.schema import json_schema

__all__ = [
    "COPY",
    "LoadedExperiment",
    "beside",
    "catalog",
    "json_schema",
    "load",
    "load_text",
    "names",
    "override",
    "program_name",
    "ready_made_text",
]
