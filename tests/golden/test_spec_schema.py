"""The published JSON Schema of experiment files. Write it anew with `kts schema experiment > FILE` and review it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from kts.spec import json_schema, names, ready_made_text

GOLDEN = Path(__file__).parent / "experiment.schema.json"


def test_the_published_schema_changes_only_on_purpose() -> None:
    """Else editors and other programs that rely on the schema would break unnoticed."""
    assert json_schema() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", names())
def test_ready_made_experiments_fit_the_schema(name: str) -> None:
    """Else the schema would reject files that kts accepts."""
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    validator.validate(yaml.safe_load(ready_made_text(name)))


@pytest.mark.parametrize(
    "tenant",
    [{"workload": "gem"}, {"workload": "fft", "size": 0}, {"workload": "fft", "think": 1}, {"workload": "command"}],
)
def test_the_schema_refuses_common_mistakes(tenant: dict[str, object]) -> None:
    """Else an editor would show no mistake where kts finds one."""
    experiment = {"tenants": {"a": {"workload": "fft"}, "b": tenant}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(experiment, json_schema())
