"""A run that goes on in the cluster, found again by whoever has its name."""

from __future__ import annotations

from pathlib import Path

from kts.errors import UsageError
from kts.k8s.cluster.api import Api
from kts.k8s.follow import stored
from kts.k8s.follow.session import Session
from kts.k8s.objects import fleet, manifests, podstate, runnames
from kts.k8s.objects.names import ENVIRONMENT_RUN, LABEL_JOB, LABEL_ROLE, LABEL_RUN
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import SharingMode
from kts.model.plan import Plan
from kts.store import layout, runfile
from kts.store.mirror import Mirror


def attach(api: Api, run: str, namespace: str, directory: Path) -> Session:
    """The session of a run that goes on in the cluster. SetupError if there is no such run, UsageError if ``directory``
    holds another one."""
    owner = stored.owner_of(api, "run", run, namespace)
    if podstate.labelled(owner, LABEL_ROLE) == fleet.ROLE:
        raise UsageError(f"{run} is a fleet, not one run", f"kts attach {run}; of a node: kts collect {run}-0")
    token = stored.token_of(api, "run", run, namespace)
    with stored.readable("run", run):
        plan = stored.decoded(owner, "plan.json", Plan)
        settings = stored.decoded(owner, "settings.json", ClusterSettings)
        text, uid = owner["data"].get("experiment.yaml", ""), owner["metadata"]["uid"]
        created_s = podstate.created_s(owner)
    if not (directory / layout.RUN).exists():
        environment = {ENVIRONMENT_RUN: run}
        mirror = Mirror.create(directory, plan=plan, mode=SharingMode(), experiment_text=text, environment=environment)
    elif runfile.read(directory).environment.get(ENVIRONMENT_RUN) != run:
        raise UsageError(f"{directory}: holds another run", "choose another directory with --out")
    else:
        mirror = Mirror.resume(directory)
    session = Session(api, run, plan=plan, settings=settings, uid=uid, token=token, mirror=mirror, created_s=created_s)
    jobs = api.list("Job", namespace, {LABEL_RUN: run})
    session.expect(podstate.name(job) for job in jobs if podstate.untried(job))
    session.lacks(_lacking(api, run, namespace, plan, {podstate.name(job) for job in jobs}))
    return session


def _lacking(api: Api, run: str, namespace: str, plan: Plan, jobs: set[str]) -> list[str]:
    """What the run cannot do without and is not there, as "Kind name": whoever began it may have been ended in the
    middle. Later blocks' Jobs of the classic design are made when their turn comes."""
    pods = api.list("Pod", namespace, {LABEL_RUN: run})
    jobs |= {podstate.labelled(pod, LABEL_JOB) for pod in pods}
    wanted = [] if manifests.is_classic(plan) else [runnames.job_name(run, tenant.name) for tenant in plan.tenants]
    conductor = runnames.conductor_name(run)
    there = any(podstate.name(pod) == conductor for pod in pods)
    return [*([] if there else [f"Pod {conductor}"]), *(f"Job {job}" for job in wanted if job not in jobs)]
