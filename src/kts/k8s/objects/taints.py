"""Taints of a node that the pods of a run do not tolerate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kts.k8s.objects import Object, pods
from kts.k8s.objects.settings import ClusterSettings


def untolerated(node: Object, settings: ClusterSettings) -> list[str]:
    """Those that keep pods off, as ``--toleration`` takes them. Some clusters add a toleration by themselves, so that
    this is no reason to refuse."""
    taints = [t for t in node.get("spec", {}).get("taints") or () if t.get("effect") in ("NoSchedule", "NoExecute")]
    own = (settings.pod_template.get("spec") or {}).get("tolerations")
    tolerations = pods.tolerations(settings) if own is None else own
    left = [t for t in taints if not any(_tolerates(one, t) for one in tolerations)]
    return [f"{t['key']}{'=' + t['value'] if t.get('value') else ''}:{t['effect']}" for t in left]


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    same = toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")
    return (
        same
        and toleration.get("key") in (None, "", taint["key"])
        and toleration.get("effect") in (None, "", taint["effect"])
    )
