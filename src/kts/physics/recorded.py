"""What a recorded run says: profiles from its solo blocks, and what was measured in its shared ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kts.errors import RefusalError
from kts.model.plan import PROGRAM
from kts.model.reading import RunData
from kts.model.records import CLOCKS, Records, clock_ms
from kts.physics.values import Floats, Gpu, Profile, bursts, make_profile
from kts.stats.block import counting
from kts.stats.quantiles import QUANTILES, refusal
from kts.stats.steadiness import since_ns

MOST = 4000
"""Iterations kept in a profile: enough for a p99.9 of the mix, small enough to share."""


@dataclass(frozen=True, eq=False)
class MeasuredTenant:
    """One tenant's iterations since all were steady, in order of time (ms); NaN: no stopwatch. In a mix: those that
    overlapped every neighbour."""

    response_ms: Floats
    service_ms: Floats
    device_ms: Floats


def profile_of(run: RunData, tenant: str, steady_ns: Mapping[str, int] | None = None) -> Profile:
    """A profile from the tenant's solo blocks: each iteration a single burst of its device time.

    ``steady_ns``: see `solo`.
    The rest of the service time is taken to lie after the kernel; a run does not say how much of it
    lies before. RefusalError if the tenant has no iterations alone.
    """
    plan = run.info.plan.tenant(tenant)
    alone = solo(run, tenant, steady_ns)
    service, device = alone.service_ms, alone.device_ms
    if not len(service):
        raise RefusalError(
            f"{run.info.id}: {tenant} has no iterations alone", "run it alone first: mixes need solo blocks"
        )
    check_sample(f"{run.info.id}: {tenant}", service)
    gpu = gpu_of(run, tenant)
    burst = burst_ms(service, device, whole=host_is_device(gpu.kind, plan.work.workload))
    kept = slice(0, MOST)
    return make_profile(
        tenant,
        bursts(burst[kept], (service - burst)[kept]),
        gpu,
        arrivals=plan.arrivals,
        workload=plan.work.workload,
        size=plan.work.size,
        deadline_ms=plan.slo.deadline_ms,
        solo_service_ms=service,
        solo_device_ms=device if np.isfinite(device).all() else (),
        kts=run.info.kts,
        how=f"single bursts from the solo blocks of run {run.info.id}",
    )


def check_sample(whose: str, service_ms: Floats) -> None:
    """RefusalError where iterations alone support no quantile of any mix: too few, or of no time."""
    if reason := refusal(len(service_ms), QUANTILES["p50"], 0.95):
        raise RefusalError(f"{whose} alone: nothing can be predicted from it: {reason}", "measure it alone for longer")
    if not np.median(service_ms) > 0:
        raise RefusalError(
            f"{whose} alone: its iterations take no time, so that nothing can be predicted from it",
            "print times with more digits: a stopwatch of whole milliseconds shows 0",
        )


def host_is_device(kind: str, workload: str) -> bool:
    """True where the very thread that submits does the work, and the rest too, without leaving the core: on the CPU
    device. But a program of the user's own may know better what of its time is work."""
    return kind == "cpu" and workload != PROGRAM


def burst_ms(service_ms: Floats, device_ms: Floats, *, whole: bool) -> Floats:
    """How long each iteration takes the device, if it is one launch: its device time, at most its service time.

    All of its service time where there is no stopwatch (NaN), or with ``whole``, where the host is the device.
    """
    timed = np.isfinite(device_ms) & (not whole)
    return np.asarray(np.where(timed, np.minimum(device_ms, service_ms), service_ms))


def solo(run: RunData, tenant: str, steady_ns: Mapping[str, int] | None = None) -> MeasuredTenant:
    """The iterations of its solo blocks that count; empty arrays if there are none.

    ``steady_ns``: the run's `kts.stats.steadiness.since_ns`, which reads all of it, for who asks several times.
    """
    return _in_condition(run, (tenant,), since_ns(run) if steady_ns is None else steady_ns)[tenant]


def gpu_of(run: RunData, tenant: str | None = None) -> Gpu:
    """The device of a tenant's worker, or of the first one."""
    for worker in run.info.workers:
        if tenant in (None, worker.tenant):
            device = worker.device
            return Gpu.of(device)
    return Gpu(kind="other", label="unknown device")


def measured(run: RunData, steady_ns: Mapping[str, int] | None = None) -> dict[str, dict[str, MeasuredTenant]]:
    """Mixes by the name a prediction gives them (tenants joined by +), and their tenants; ``steady_ns``: see `solo`."""
    steady_ns = since_ns(run) if steady_ns is None else steady_ns
    return {"+".join(mix.tenants): _in_condition(run, mix.tenants, steady_ns) for mix in run.info.plan.mixes}


def mix_seconds(run: RunData) -> dict[str, float]:
    """How long each mix was measured, all rounds together."""
    return {
        "+".join(mix.tenants): sum(b.end_ns - b.start_ns for b in run.blocks if b.valid and b.condition == mix.name)
        / 1e9
        for mix in run.info.plan.mixes
    }


def _in_condition(run: RunData, tenants: tuple[str, ...], steady_ns: Mapping[str, int]) -> dict[str, MeasuredTenant]:
    """By tenant, all iterations that count of the blocks in which just these tenants were active."""
    parts: dict[str, list[Records]] = {name: [] for name in tenants}
    for block in run.blocks:
        if block.valid and run.info.plan.condition(block.condition).tenants == tenants:
            for name, rows in counting(run, block, tenants, steady_ns).items():
                parts[name].append(rows)
    return {
        name: MeasuredTenant(
            *(np.concatenate([np.empty(0), *(clock_ms(rows, clock) for rows in found)]) for clock in CLOCKS)
        )
        for name, found in parts.items()
    }
