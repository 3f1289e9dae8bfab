"""The classic design as Kubernetes objects: a Job per tenant and block, as the published system has them. Pure.

A run is a ConfigMap that owns one Job per tenant of every block: each tenant alone, then together. Nobody conducts.
A worker prints KTS_APP v1 lines, framed and each of them twice (`kts.wire.logframe`), and whoever follows its pod's log
has the records.
"""

from __future__ import annotations

from kts.errors import UsageError
from kts.k8s.objects import Object, manifests
from kts.k8s.objects.names import ANNOTATION_BLOCKS, LABEL_BLOCK
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import SIZED, Block, Closed, Kernel, Plan, Tenant
from kts.plan import block_seed, blocks_of_round

ECHO_S = 3.3
"""How much later a line is printed again. Longer than a rotation takes, shorter than the time from one to the next
(the kubelet looks every 10 s, at most every 3 s), and no divisor of that, lest a line and its echo fall into two."""


def check(plan: Plan, settings: ClusterSettings) -> None:
    """UsageError for what the classic design on a cluster cannot do honestly."""
    for tenant in plan.tenants:
        if not tenant.work.in_thread:
            raise UsageError(
                f"tenant {tenant.name}: in the classic design on k8s a command's records cannot be known to be whole",
                "choose --design interleaved, or run it --on local",
            )
        if not tenant.work.alone:
            raise UsageError(
                f"tenant {tenant.name}: the classic design on k8s has {' and '.join(SIZED)}, "
                f"not {tenant.work.workload}",
                "choose --design interleaved, or run it --on local",
            )
        pacing(tenant)
    if settings.pull_policy != "Never":
        raise UsageError(
            f"--pull-policy {settings.pull_policy}: the classic design never pulls its image",
            "load it on the node (kts k8s image), or choose --design interleaved",
        )


def pacing(tenant: Tenant) -> Closed:
    """How a tenant paces itself. UsageError in an open loop, whose due times its lines do not tell."""
    if isinstance(tenant.arrivals, Closed):
        return tenant.arrivals
    raise UsageError(
        f"tenant {tenant.name}: KTS_APP lines of the classic design on k8s hold no due times for an open loop",
        "choose --design interleaved, or run it --on local",
    )


def blocks(plan: Plan) -> tuple[Block, ...]:
    """The blocks, in the order in which they are to be run."""
    return tuple(block for number in range(plan.rounds) for block in blocks_of_round(plan, number))


def job_name(plan: Plan, block: Block, tenant: str, run: str) -> str:
    """Name of the Job of a tenant in a block, e.g. ``kts-ID-0-solo-fft``."""
    return manifests.job_name(run, f"{block.index}-{_kind(plan, block)}-{tenant}")


def owner(plan: Plan, run: str, settings: ClusterSettings, experiment_text: str, created: str) -> Object:
    """The run's ConfigMap."""
    annotations = {ANNOTATION_BLOCKS: str(len(blocks(plan)))}
    return manifests.owner_object(plan, run, settings, experiment_text, created=created, extra_annotations=annotations)


def job(plan: Plan, block: Block, tenant: str, run: str, settings: ClusterSettings) -> Object:
    """The Job of one tenant in one block. Where ``plan`` has no size yet its worker finds one for ``target_ms``."""
    work, arrivals, quota = plan.tenant(tenant).work, pacing(plan.tenant(tenant)), block.quotas[tenant]
    assert isinstance(work, Kernel)  # see `check`
    amount = {"ITERATIONS": quota.iterations} if quota.seconds is None else {"DURATION_S": _text(quota.seconds)}
    size = {"MATRIX_SIZE": work.size} if work.size is not None else {"TARGET_MS": _text(work.target_ms or 0)}
    jitter = {"SLEEP_JITTER": _text(arrivals.jitter), "KTS_SEED": block_seed(plan, block, tenant)}
    variables = {
        **amount,
        **size,
        "SLEEP_MS": _text(arrivals.think_ms),
        **(jitter if arrivals.jitter and arrivals.think_ms else {}),
        "WARMUP": work.warmup,
        "KTS_PHASE": _kind(plan, block),
        "KTS_APP_NAME": tenant.upper(),
        "KTS_LOG": "framed",
        "KTS_ECHO_S": _text(ECHO_S),
    }
    return manifests.worker_job(
        plan,
        run,
        settings,
        name=job_name(plan, block, tenant, run),
        tenant=tenant,
        command=["python3", "-m", "kts.worker"],
        args=[work.workload, "--device", plan.device, "--library", work.library],
        env=[{"name": name, "value": str(value)} for name, value in variables.items()],
        extra_labels={LABEL_BLOCK: str(block.index)},
    )


def stages(
    plan: Plan, *, run: str, settings: ClusterSettings, experiment_text: str, created: str
) -> list[tuple[str, list[Object]]]:
    """(what it is, its objects) in the order in which they are to be applied, each once the one before is over.

    The Jobs of all but the first block are suspended, so that applying everything at once runs the first alone.
    """
    first = [manifests.namespace_object(settings)] if settings.create_namespace else []
    found = [("the run", [*first, owner(plan, run, settings, experiment_text, created)])]
    for block in blocks(plan):
        jobs = [job(plan, block, tenant, run, settings) for tenant in block.tenants]
        if block.index:
            jobs = [{**one, "spec": {"suspend": True, **one["spec"]}} for one in jobs]
        found.append((f"block {block.index + 1}: {block.condition}", jobs))
    return found


def _kind(plan: Plan, block: Block) -> str:
    return "solo" if plan.condition(block.condition).is_solo else "shared"


def _text(number: float) -> str:
    """The number without needless digits."""
    return f"{number:.12g}"
