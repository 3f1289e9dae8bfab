"""Changes from the command line, checked like the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kts.errors import UsageError

if TYPE_CHECKING:
    from kts.spec.models import Experiment


def override(experiment: Experiment, changes: Mapping[str, object]) -> Experiment:
    """The experiment with top-level keys replaced, validated anew.

    The key ``iterations`` sets the amount of every tenant (and drops its ``seconds``); ``library``
    also replaces what tenants name themselves. UsageError with one line per mistake if the result
    is not valid.
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
        if key == "library":
            for tenant in data["tenants"].values():
                tenant.pop("library", None)
        data[key] = value
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        lines = []
        for path, message in explain(error, data):
            key = show_path(path[-1:]).replace("_", "-")
            line = f"--{key}: {message}" if key else message
            if line not in lines:
                lines.append(line)
        raise UsageError("\n".join(lines), "see `kts run --help`") from error
