"""The objects of one tenant that runs alone in a pod, for its profile. Pure.

A ConfigMap holds what is asked, and owns a Secret and one Job of one pod. There is no conductor: the ConfigMap tells
the pod's worker what to do, and the worker prints what it recorded.
"""

from __future__ import annotations

from kts import __version__
from kts.k8s.objects import Object, manifests, merging, pods, runnames
from kts.k8s.objects.names import ANNOTATION_CREATED, ANNOTATION_VERSION
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan

ROLE = "profile"
_REQUEST = "request.json"
_VOLUME = "request"


def render(
    plan: Plan, request: str, *, run: str, token: str, settings: ClusterSettings, created: str
) -> tuple[Object, list[Object]]:
    """The owner, and what it owns, in the order in which they must be created.

    ``plan``: of the one tenant. ``request``: JSON of `kts.wire.recording.Request`. ``created``: RFC 3339.
    """
    (tenant,) = plan.tenants
    name = runnames.object_name(run)
    owner: Object = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": runnames.labels_of(run, ROLE),
            "annotations": {ANNOTATION_CREATED: created, ANNOTATION_VERSION: __version__},
        },
        "data": {_REQUEST: request},
    }
    asked = f"{pods.PLAN_MOUNT}/{_REQUEST}"
    job = pods.worker_job(
        plan,
        run,
        settings,
        name=runnames.job_name(run, tenant.name),
        tenant=tenant.name,
        command=["python3", "-P", "-m", "kts.worker", "--profile", asked],
    )
    mount = {"name": _VOLUME, "mountPath": pods.PLAN_MOUNT, "readOnly": True}
    reads = {
        "containers": [{"name": "worker", "volumeMounts": [mount]}],
        "volumes": [{"name": _VOLUME, "configMap": {"name": name}}],
    }
    return owner, [
        manifests.secret(run, token, settings),
        merging.merged(job, {"spec": {"template": {"spec": reads}}}),
    ]
