"""What a run asks of a cluster by name, looked at in one request each: for `kts run` before it creates anything, and
for `kts doctor`. What may not be read is no reason to refuse: the cluster's own events tell it then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from msgspec.structs import replace

from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden, Missing
from kts.k8s.objects import Object, manifests, pods, quotas
from kts.k8s.objects.needs import UNKNOWN, Need
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan

NVIDIA = pods.DEFAULT_RUNTIME_CLASS
DEFAULT_RUNTIME = (
    f"there is no RuntimeClass {NVIDIA}, so none is asked for: the cluster's default runtime must be NVIDIA's"
)


def chosen_runtime_class(api: Api, settings: ClusterSettings) -> tuple[ClusterSettings, Need]:
    """(the settings with the RuntimeClass that is to be asked for, what a user must know of it).

    Where none is given it is ``nvidia`` if the cluster has that, else none: there NVIDIA's runtime is the default.
    """
    name = NVIDIA if settings.runtime_class is None else settings.runtime_class
    what, named = "runtime class", replace(settings, runtime_class=name)
    if not name:
        return named, Need(what, "ok", "none asked for: the cluster's default")
    try:
        found = api.get("RuntimeClass", name)
    except Forbidden:
        ask = "a run needs not read it; ask: kubectl get runtimeclass"
        return named, Need(what, "note", f"{name}: {UNKNOWN}", ask)
    if found is not None:
        return named, Need(what, "ok", f"{name}, handler {found.get('handler', 'not told')}")
    if settings.runtime_class is None:
        remedy = "where it is not, install NVIDIA's container toolkit and a RuntimeClass"
        return replace(settings, runtime_class=""), Need(what, "note", DEFAULT_RUNTIME, remedy)
    there = "name one that is there (kubectl get runtimeclass), or none: --runtime-class ''"
    return named, Need(what, "missing", f"there is no RuntimeClass {name}", there)


def claim(api: Api, settings: ClusterSettings) -> list[Need]:
    """Nothing where none is used."""
    if not settings.claim:
        return []
    where = f"ResourceClaim {settings.claim} in namespace {settings.namespace}"
    remedy = "create it; it needs Kubernetes 1.34 and a DRA driver"
    try:
        found = api.get("ResourceClaim", settings.claim, settings.namespace)
    except Forbidden:
        ask = "a run needs not read it; ask: kubectl get resourceclaim"
        return [Need("claim", "note", f"{settings.claim}: {UNKNOWN}", ask)]
    if found is None:
        return [Need("claim", "missing", f"there is no {where}", remedy)]
    return [Need("claim", "ok", where)]


def quota(api: Api, namespace: str, wanted: quotas.Amounts) -> Need:
    """Whether the namespace's ResourceQuotas leave room for ``wanted`` (`kts.k8s.objects.quotas.asked`)."""
    look = f"kubectl describe resourcequota --namespace {namespace}"
    try:
        found = api.list("ResourceQuota", namespace)
    except (Forbidden, Missing):
        return Need("quota", "note", UNKNOWN, f"a run needs not read it; ask: {look}")
    if short := quotas.lacking(found, wanted):
        remedy = f"have it raised ({look}), run fewer or smaller tenants, or choose another --namespace"
        return Need("quota", "missing", "; ".join(short), remedy)
    names = ", ".join(one["metadata"]["name"] for one in found)
    return Need("quota", "ok", f"{names} leaves room for a run" if names else "none in the namespace")


def of_run(plan: Plan, settings: ClusterSettings) -> quotas.Amounts:
    """What the pods of a run that are there at once ask of a quota."""
    return _of_pods(manifests.pod_specs(plan, settings))


def of_tenants(count: int, plan: Plan, settings: ClusterSettings) -> quotas.Amounts:
    """The same for ``count`` tenants of the plan's kind, with the run's other objects."""
    conductor, tenant = manifests.pod_specs(plan, settings)[:2]
    return _of_pods([conductor, *[tenant] * count])


def _of_pods(specs: Sequence[Object]) -> quotas.Amounts:
    """Of the conductor's, and of the tenants' with their Jobs."""
    one = ("configmaps", "secrets", "services", "count/networkpolicies.networking.k8s.io")
    ones = {key: Decimal(1) for name in one for key in (name, f"count/{name.removeprefix('count/')}")}
    return {**ones, "count/jobs.batch": Decimal(len(specs) - 1), **quotas.asked(specs)}


def refuse(needs: Iterable[Need]) -> None:
    """SetupError for the first that is missing."""
    for need in needs:
        if need.status == "missing":
            raise SetupError(need.found, need.remedy)
