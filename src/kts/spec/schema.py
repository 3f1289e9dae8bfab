"""The published JSON Schema of experiment files."""

from __future__ import annotations

from typing import Any


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of an experiment file, for editors and for `kts schema experiment`.

    It is a little wider than the checks of `kts.spec.load`: rules between keys, such as "size or
    target_ms", are in the descriptions only.
    """
    from kts.spec.models import MAX_TENANTS, TENANT_NAME, Experiment

    schema = Experiment.model_json_schema(mode="validation")
    tenants = schema["properties"]["tenants"]
    tenants |= {
        "minProperties": 1,  # one tenant with replicas will do
        "maxProperties": MAX_TENANTS,
        "propertyNames": {"pattern": f"^{TENANT_NAME.pattern}$"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "kts experiment"}
