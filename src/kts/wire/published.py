"""How a worker alone is told what to run: arguments and environment, as the published system has them. Pure."""

from __future__ import annotations

from kts.arrivals import Closed
from kts.model.plan import DeviceChoice, Kernel, Tenant


def arguments(tenant: Tenant, device: DeviceChoice) -> list[str]:
    """What follows ``python -m kts.worker``. Empty for a tenant that only a conductor can run."""
    work = tenant.work
    if not (isinstance(work, Kernel) and work.alone and isinstance(tenant.arrivals, Closed)):
        return []
    return [work.workload, "--device", device, "--library", work.library]


def variables(tenant: Tenant) -> dict[str, str]:
    """The environment that says the rest; empty where there are no `arguments`."""
    work, arrivals = tenant.work, tenant.arrivals
    if not isinstance(arrivals, Closed) or not arguments(tenant, "auto"):
        return {}
    seconds, target_ms = tenant.seconds, work.target_ms
    return {
        **({"ITERATIONS": str(tenant.iterations)} if seconds is None else {"DURATION_S": _text(seconds)}),
        **({"MATRIX_SIZE": str(work.size)} if target_ms is None else {"TARGET_MS": _text(target_ms)}),
        "SLEEP_MS": _text(arrivals.think_ms),
        **({"SLEEP_JITTER": _text(arrivals.jitter)} if arrivals.jitter and arrivals.think_ms else {}),
        "WARMUP": str(work.warmup),
    }


def _text(number: float) -> str:
    """The number without needless digits."""
    return f"{number:.12g}"
