"""Whether a tenant's worker was let do its work as the run asked: not throttled by a limit, not beside a container that
somebody added."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.run import RunInfo

WHOLE_CPU = 1.0
"""What the thread that drives a GPU needs at most."""


def unfit(info: RunInfo, tenant: str) -> str:
    """What held the tenant back, or a neighbour, and cannot be told from sharing; empty if nothing did."""
    own = [text for _, _, text in reasons(info, tenant)]
    names = [other.name for other in info.plan.tenants if other.name != tenant]
    beside = [f"of its neighbour {name}: {text}" for name in names for _, _, text in reasons(info, name)]
    return "; ".join(own or beside)


def reasons(info: RunInfo, tenant: str) -> Iterator[tuple[str, str, str]]:
    """(a caution's code, its figure, its text) of each that held the tenant back."""
    if changed := info.altered.get(tenant):
        yield "not-as-asked", ", ".join(changed), f"its pod was not as the run asked: {', '.join(changed)}"
    for worker in info.workers:
        needs = float(len(worker.cores)) if worker.device.kind == "cpu" else WHOLE_CPU
        if worker.tenant == tenant and worker.cpu_limit is not None and worker.cpu_limit < needs:
            text = (
                f"a CPU limit of {worker.cpu_limit:g} CPUs held it back: who has used it up waits, which looks like "
                "sharing"
            )
            yield "cpu-limit", f"CPU limit {worker.cpu_limit:g}", text
            return
