"""A run's objects, shown to the API server without being created (a dry run): what a quota, a LimitRange, a policy or
a webhook says of the very objects, and what they would make of them."""

from __future__ import annotations

from collections.abc import Iterator

from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden, Missing, NotYet, Refused
from kts.k8s.objects import Object, classic_jobs, podstate
from kts.k8s.objects.changes import changes
from kts.k8s.objects.names import LABEL_ROLE
from kts.k8s.objects.needs import UNKNOWN, Need
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan

RUN = "doctor"
_NAME = "admission"


def rehearse(api: Api, plan: Plan, settings: ClusterSettings) -> list[Need]:
    """What the cluster says of the objects of a run of ``plan``, one line per refusal; nothing is created.

    A Job is taken without its pod, which its controller makes later; so a tenant's pod is shown, too.
    """
    needs = list(dict.fromkeys(_refusals(api, plan, settings)))
    return needs or [Need(_NAME, "ok", "the server takes the objects of a run as they are (dry run)")]


def _refusals(api: Api, plan: Plan, settings: ClusterSettings) -> Iterator[Need]:
    for obj in _objects(plan, settings):
        what = f"{obj['kind']} of {podstate.labelled(obj, LABEL_ROLE)}"
        try:
            made = api.create(obj, dry_run=True)
        except Missing:
            yield Need(_NAME, "note", f"{UNKNOWN}: there is no namespace {settings.namespace} to try it in")
            return
        except Forbidden:
            yield Need(_NAME, "note", f"{what}: {UNKNOWN}, as it may not be created")
        except (Refused, NotYet) as error:
            yield Need(_NAME, "missing", f"{what}: {error.what}", error.remedy)
        except SetupError as error:
            yield Need(_NAME, "note", f"{what}: could not be tried: {error.what}", error.remedy)
        else:
            if podstate.tenant(obj) and obj["kind"] == "Pod" and (how := changes(obj["spec"], made)):
                yield Need(
                    _NAME,
                    "note",
                    f"tenants' pods would not be as asked: {', '.join(how)}; then no verdict of a run is decided",
                    f"ask who sets it: kubectl describe limitrange --namespace {settings.namespace}; or try another",
                )


def _objects(plan: Plan, settings: ClusterSettings) -> Iterator[Object]:
    """All of a run, but for its namespace; of the Jobs, and of their pods, one of each."""
    stages = classic_jobs.stages(
        plan, run=RUN, token="none", settings=settings, experiment_text="", created="2000-01-01T00:00:00Z"
    )
    objects = [obj for _, stage in stages[:2] for obj in stage if obj["kind"] != "Namespace"]
    job = next(obj for obj in objects if obj["kind"] == "Job")
    yield from (obj for obj in objects if obj["kind"] != "Job")
    yield job
    template = job["spec"]["template"]
    meta = {**template["metadata"], "name": podstate.name(job), "namespace": settings.namespace}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
