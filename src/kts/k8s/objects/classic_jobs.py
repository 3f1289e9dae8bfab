"""The classic design as Kubernetes objects: a Job per tenant and block, as the published system has them. Pure.

Each tenant alone, then together. A Job's worker is told its work and prints KTS_APP v1 lines as a worker alone does,
and joins the run's conductor for its block: without KTS_CONDUCTOR it is the published Job.
"""

from __future__ import annotations

from kts.errors import UsageError
from kts.k8s.objects import Object, manifests, pods, runnames
from kts.k8s.objects.names import LABEL_BLOCK
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import SharingMode
from kts.model.plan import Block, Plan
from kts.plan import block_seed, blocks_of_round
from kts.wire import published


def check(settings: ClusterSettings) -> None:
    """UsageError for what the classic design on a cluster does not do."""
    if settings.pull_policy != "Never":
        raise UsageError(
            f"--pull-policy {settings.pull_policy}: the classic design never pulls its image",
            "load it on the node (kts k8s image), or choose --design interleaved",
        )


def blocks(plan: Plan) -> tuple[Block, ...]:
    """The blocks, in the order in which they are to be run."""
    return tuple(block for number in range(plan.rounds) for block in blocks_of_round(plan, number))


def job_name(plan: Plan, block: Block, tenant: str, run: str) -> str:
    """Name of the Job of a tenant in a block, e.g. ``kts-ID-0-solo-fft``."""
    return runnames.job_name(run, f"{block.index}-{_kind(plan, block)}-{tenant}")


def jobs(plan: Plan, block: Block, run: str, settings: ClusterSettings) -> list[Object]:
    """The Jobs of one block, a tenant each."""
    return [_job(plan, block, tenant, run, settings) for tenant in block.tenants]


def _job(plan: Plan, block: Block, tenant: str, run: str, settings: ClusterSettings) -> Object:
    arguments = published.arguments(plan.tenant(tenant), plan.device)
    seed = {"KTS_SEED": str(block_seed(plan, block, tenant))}
    lines = {"KTS_PHASE": _kind(plan, block), "KTS_APP_NAME": tenant.upper(), "KTS_LOG": "framed"}
    variables = {
        **published.variables(plan.tenant(tenant)),
        **({**seed, **lines} if arguments else {}),
        "KTS_BLOCK": str(block.index),
    }
    return pods.worker_job(
        plan,
        run,
        settings,
        name=job_name(plan, block, tenant, run),
        tenant=tenant,
        command=["python3", "-P", "-m", "kts.worker"],
        args=arguments or ["--join"],
        env=variables,
        extra_labels={LABEL_BLOCK: str(block.index)},
    )


def all_names(plan: Plan, run: str) -> list[str]:
    """Names of all Jobs of a run, in whichever design."""
    if not manifests.is_classic(plan):
        return [runnames.job_name(run, tenant.name) for tenant in plan.tenants]
    return [job_name(plan, block, tenant, run) for block in blocks(plan) for tenant in block.tenants]


def stages(
    plan: Plan,
    *,
    run: str,
    token: str,
    settings: ClusterSettings,
    experiment_text: str,
    created: str,
    mode: SharingMode | None = None,
) -> list[tuple[str, list[Object]]]:
    """(what it is, its objects) in the order in which they are to be applied, each once the one before is over.

    The Jobs of all but the first block are suspended, so that applying everything at once runs the first alone. In
    another design there is one stage.
    """
    whole = manifests.render(
        plan, run=run, token=token, settings=settings, experiment_text=experiment_text, created=created, mode=mode
    )
    found = [("the run", whole)]
    for block in blocks(plan) if manifests.is_classic(plan) else ():
        made = jobs(plan, block, run, settings)
        if block.index:
            made = [{**job, "spec": {"suspend": True, **job["spec"]}} for job in made]
        found.append((f"block {block.index + 1}: {block.condition}", made))
    return found


def _kind(plan: Plan, block: Block) -> str:
    return "solo" if plan.condition(block.condition).is_solo else "shared"
