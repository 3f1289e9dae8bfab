"""From a plan to Kubernetes objects. Pure: the same arguments give the same objects.

A run is a ConfigMap that owns the rest (`owned`), a Secret with the run's token, a Service, the conductor's Pod,
one Job per tenant and a NetworkPolicy. In the classic design there is a Job per tenant and block
(`kts.k8s.objects.classic_jobs`). Tenants find the conductor by the Service's environment variable, which needs neither
DNS nor the pod's address, so that ``kubectl apply`` of the objects alone runs the experiment.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kts import __version__
from kts.k8s.objects import Object, egress, sharingmode
from kts.k8s.objects.names import (
    ANNOTATION_BLOCKS,
    ANNOTATION_CREATED,
    ANNOTATION_EXPERIMENT,
    ANNOTATION_VERSION,
    LABEL_ROLE,
    LABEL_RUN,
    STATUS_PORT,
    WORKER_PORT,
)
from kts.k8s.objects.pods import conductor, worker_job
from kts.k8s.objects.runnames import job_name, labels_of, meta, object_name
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import SharingMode
from kts.model.plan import Plan


def render(
    plan: Plan,
    *,
    run: str,
    token: str,
    settings: ClusterSettings,
    experiment_text: str,
    created: str,
    mode: SharingMode | None = None,
) -> list[Object]:
    """All objects of a run, in the order in which they must be created; the first of kind ConfigMap is the owner.

    In the classic design without its Jobs, which come block by block: `kts.k8s.objects.classic_jobs`.
    ``plan.device`` must be decided (cpu or cuda). ``created``: RFC 3339, kept as an annotation.
    """
    objects = [namespace_object(settings)] if settings.create_namespace else []
    objects += [
        _owner(plan, run, settings, experiment_text, created),
        secret(run, token, settings),
        _service(run, settings),
        *_network_policies(run, settings),
        conductor(plan, run, settings, mode or sharingmode.asked(plan, settings)),
    ]
    command = ["python3", "-P", "-m", "kts.worker", "--join"]
    names = () if is_classic(plan) else tuple(tenant.name for tenant in plan.tenants)
    jobs = (worker_job(plan, run, settings, name=job_name(run, n), tenant=n, command=command) for n in names)
    return [*objects, *jobs]


def is_classic(plan: Plan) -> bool:
    """True where each block has Jobs of its own."""
    return plan.design == "classic"


def owned(objects: Sequence[Object], uid: str) -> list[Object]:
    """The objects without Namespace and owner, each owned by the run's ConfigMap of that ``uid``."""
    owner = next(o for o in objects if o["kind"] == "ConfigMap")
    rest = [o for o in objects if o["kind"] != "Namespace" and o is not owner]
    return [owned_by(o, owner["metadata"]["name"], uid) for o in rest]


def owned_by(obj: Object, owner: str, uid: str) -> Object:
    """The object, owned by the ConfigMap of that name and ``uid``."""
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


def to_yaml(objects: Sequence[Object]) -> str:
    """The objects as one YAML stream for ``kubectl apply -f -``."""
    import yaml

    return yaml.safe_dump_all(objects, sort_keys=False, width=120)


def namespace_object(settings: ClusterSettings) -> Object:
    """The namespace of the run."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace}}


def _owner(plan: Plan, run: str, settings: ClusterSettings, text: str, created: str) -> Object:
    """The ConfigMap that holds what the run is, and owns all that it is made of."""
    about = meta(object_name(run), run, "owner", settings)
    about["annotations"] = {
        ANNOTATION_CREATED: created,
        ANNOTATION_EXPERIMENT: plan.name,
        ANNOTATION_VERSION: __version__,
        **({ANNOTATION_BLOCKS: str(plan.rounds * len(plan.conditions))} if is_classic(plan) else {}),
    }
    data = {
        "plan.json": msgspec.json.encode(plan).decode(),
        "experiment.yaml": text,
        "settings.json": msgspec.json.encode(settings).decode(),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def secret(run: str, token: str, settings: ClusterSettings) -> Object:
    """The Secret with the run's token."""
    about = meta(object_name(run), run, "token", settings)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": "Opaque", "stringData": {"token": token}}


def _service(run: str, settings: ClusterSettings) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(object_name(run), run, "service", settings),
        "spec": {
            "selector": {LABEL_RUN: run, LABEL_ROLE: "conductor"},
            "ports": [{"name": "worker", "port": WORKER_PORT, "targetPort": WORKER_PORT}],
            "publishNotReadyAddresses": True,
        },
    }


def _network_policies(run: str, settings: ClusterSettings) -> list[Object]:
    """Only the run's tenants reach the workers' port. The API server's address is unknown, so the token guards the
    other port. What the pods may reach is said where others restrict it: `kts.k8s.objects.egress`."""
    tenants = {"podSelector": {"matchLabels": {LABEL_RUN: run, LABEL_ROLE: "tenant"}}}
    spec: Object = {
        "podSelector": {"matchLabels": {LABEL_RUN: run, LABEL_ROLE: "conductor"}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [tenants], "ports": [{"protocol": "TCP", "port": WORKER_PORT}]},
            {"ports": [{"protocol": "TCP", "port": STATUS_PORT}]},
        ],
    }
    policies = [_network_policy(object_name(run), run, settings, spec)]
    if settings.egress:
        asks_api = bool(settings.service_account)
        spec["policyTypes"] = ["Ingress", "Egress"]
        spec["egress"] = egress.of_conductor(run, exporter=settings.dcgm, asks_api=asks_api)
        reached: Object = {**tenants, "policyTypes": ["Egress"], "egress": egress.of_tenants(run)}
        policies.append(_network_policy(f"{object_name(run)}-tenants", run, settings, reached))
    return policies


def _network_policy(name: str, run: str, settings: ClusterSettings, spec: Object) -> Object:
    about = meta(name, run, "policy", settings)
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": about, "spec": spec}


def pod_labels(plan: Plan, settings: ClusterSettings, run: str) -> list[dict[str, str]]:
    """Labels of the pods that a run has: the conductor's, and each tenant's."""
    given = (settings.pod_template.get("metadata") or {}).get("labels") or {}
    tenants = (labels_of(run, "tenant", tenant.name) for tenant in plan.tenants)
    return [{**given, **labels} for labels in (labels_of(run, "conductor"), *tenants)]


def pod_specs(plan: Plan, settings: ClusterSettings) -> list[Object]:
    """Specs of the pods that a run has at once, at most: the conductor's, and each tenant's in the plan's order."""
    jobs = [worker_job(plan, "r", settings, name=t.name, tenant=t.name, command=[]) for t in plan.tenants]
    conducting = conductor(plan, "r", settings, sharingmode.asked(plan, settings))
    return [conducting["spec"], *(job["spec"]["template"]["spec"] for job in jobs)]
