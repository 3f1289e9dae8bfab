"""Finds the dcgm-exporters of a cluster, and that of a run's node."""

from __future__ import annotations

import contextlib

import msgspec

from kts.errors import KtsError
from kts.k8s.cluster.api import Api, Forbidden
from kts.k8s.objects import exporters
from kts.k8s.objects.exporters import AUTO, NAMESPACES, SELECTORS, Exporter
from kts.k8s.objects.settings import ClusterSettings


def find(api: Api, namespace: str) -> tuple[list[Exporter], str]:
    """(exporters that run in the cluster, as far as this user may list pods; where they were looked for). In order of
    their names. KtsError."""
    try:
        return _labelled(api, None), "all namespaces"
    except Forbidden:
        asked, found = [], []
        for one in dict.fromkeys((namespace, *NAMESPACES)):
            try:
                found += _labelled(api, one)
                asked.append(one)
            except Forbidden:
                continue
    if not asked:
        return [], "no namespace: this user may list no pods"
    return found, f"namespace {', '.join(asked)}: this user may not list the pods of all"


def with_exporter(api: Api, settings: ClusterSettings) -> ClusterSettings:
    """The settings of a placed run with its node's exporter in place of ``auto``, or with why there is none. Raises
    nothing: a run goes on without."""
    if settings.dcgm != AUTO or not settings.telemetry:
        return settings
    try:
        found, where = find(api, settings.namespace)
    except KtsError as error:
        return _without(settings, error.what)
    here = [one for one in found if one.node == settings.node] if settings.node else found
    if not here:
        others = ", ".join(sorted({one.node for one in found}))
        on = f" on node {settings.node}" + (f", but on {others}" if others else "") if settings.node else ""
        return _without(settings, f"no dcgm-exporter runs{on} (looked in {where})")
    if len({one.node for one in here}) > 1:
        return _without(settings, "the scheduler chooses the run's node, and exporters run on several: give --node")
    return msgspec.structs.replace(settings, dcgm=" ".join(_ways(api, here[0])))


def _ways(api: Api, one: Exporter) -> list[str]:
    """To its pod, and to the pod that comes after it."""
    with contextlib.suppress(KtsError):
        if later := exporters.service_url(one, api.list("Service", one.namespace)):
            return [one.url, later]
    return [one.url]


def _without(settings: ClusterSettings, why: str) -> ClusterSettings:
    return msgspec.structs.replace(settings, dcgm="", dcgm_missing=f"--dcgm auto: {why}")


def _labelled(api: Api, namespace: str | None) -> list[Exporter]:
    return exporters.exporters(pod for selector in SELECTORS for pod in api.list("Pod", namespace, {selector: ""}))
