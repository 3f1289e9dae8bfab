"""The user's pod template, checked: what is merged into every pod must leave it kts's, and a pod. Pure."""

from __future__ import annotations

from typing import Any

from kts.errors import UsageError
from kts.k8s.objects import rules
from kts.k8s.objects.names import LABEL_APP

OURS = (LABEL_APP, "app.kubernetes.io/managed-by", "app.kubernetes.io/component")
PREFIX = "kts.dev/"
"""Of labels and annotations by which kts looks up what belongs to a run."""
_OF_OWNERS = frozenset(
    [
        "backoffLimit",
        "completionMode",
        "completions",
        "jobTemplate",
        "minReadySeconds",
        "parallelism",
        "progressDeadlineSeconds",
        "replicas",
        "revisionHistoryLimit",
        "schedule",
        "selector",
        "serviceName",
        "strategy",
        "suspend",
        "template",
        "ttlSecondsAfterFinished",
        "updateStrategy",
        "volumeClaimTemplates",
    ]
)
"""What the specs of Deployments, Jobs and the like have, and a Pod's has not."""
_SHAPE = "give metadata (labels, annotations) and spec, as in a Job's spec.template"


def checked(content: object) -> dict[str, Any]:
    """``content``, as YAML gives it, without what is empty. UsageError naming the field that cannot be."""
    if not isinstance(content, dict) or not content.keys() <= {"metadata", "spec"}:
        raise UsageError("is no pod template", _SHAPE)
    template = {part: _mapping(content, part) for part in content if content[part] is not None}
    _check_metadata(template.get("metadata", {}))
    _check_spec(template.get("spec", {}))
    return template


def _check_metadata(metadata: dict[str, Any]) -> None:
    for field in metadata:
        if field not in ("labels", "annotations"):
            raise UsageError(f"metadata.{field} cannot be changed: kts names the pods", _SHAPE)
    for part in metadata:
        for key, value in _mapping(metadata, part).items():
            place = f"metadata.{part}: {key!r}"
            if not isinstance(key, str) or not rules.is_key(key):
                raise UsageError(f"{place} is no name of a label or annotation", "for example example.com/team")
            if key in OURS or key.startswith(PREFIX):
                raise UsageError(f"{place} is kts's own, by which it looks up the run", "choose another name")
            if not isinstance(value, str):
                raise UsageError(f"{place} has a value that is no text: {value!r}", f"write it in quotes: '{value}'")
            if part == "labels" and not rules.is_value(value):
                raise UsageError(f"{place} has the value {value!r}", rules.VALUE)


def _check_spec(spec: dict[str, Any]) -> None:
    for field in spec:
        if field in _OF_OWNERS:
            raise UsageError(
                f"spec.{field} is no field of a Pod's spec, but of what makes pods",
                "give what stands under its spec.template, metadata and spec" if field == "template" else _SHAPE,
            )
    if spec.get("restartPolicy", "Never") != "Never":
        raise UsageError("spec.restartPolicy cannot be changed: a tenant that died must not come back", "leave it out")
    for part in ("containers", "initContainers", "volumes"):
        if part not in spec:
            continue
        items = spec[part]
        if not isinstance(items, list) or not all(
            isinstance(i, dict) and isinstance(i.get("name"), str) for i in items
        ):
            raise UsageError(f"spec.{part} is no list of items with a name", "kts's containers: worker, conductor")


def _mapping(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent[key]
    if not isinstance(value, dict):
        raise UsageError(f"{key} is no mapping", _SHAPE)
    return value
