"""From a worker's recording of a tenant alone to its profile: what the tracer added is taken out again.

A tracer slows the host, but not the kernels. So the kernels' durations are taken from the traced iterations, and all
else from the untraced ones: a traced iteration gets the launch times and the service time of the untraced one that is
slower than as many others as it is itself among the traced. The profile, simulated alone, then takes as long as the
tenant did without a tracer, its slow iterations included. docs/physics.md says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as with_columns

import numpy as np
from msgspec.structs import replace

from kts.errors import DataError
from kts.model.plan import PROGRAM, Tenant
from kts.model.records import clock_ms
from kts.model.run import DeviceInfo
from kts.physics.alone import alone, ends_ms
from kts.physics.alone import service_ms as service_alone_ms
from kts.physics.programs import joined, partners, pauses_ms
from kts.physics.recorded import MOST, burst_ms, host_is_device
from kts.physics.values import (
    EMPTY,
    Floats,
    Gpu,
    Iterations,
    Packed,
    Profile,
    bursts,
    make_profile,
    packed,
)
from kts.wire.recording import Launches, Recording, Stretch, unpacked

BUSY = 0.8
"""From this share of an iteration on, its kernels are what it takes, and not the host."""


@dataclass(frozen=True, eq=False)
class Times:
    """Iterations of a stretch, milliseconds, shape ``(n,)``. ``issue``: empty where nobody can tell."""

    service: Floats
    device: Floats
    issue: Floats

    @classmethod
    def of(cls, stretch: Stretch) -> Times:
        """Those of a stretch."""
        rows = stretch.rows
        return cls(clock_ms(rows, "service"), clock_ms(rows, "device"), stretch.issue_ms)


def profile_of_recording(recording: Recording, tenant: Tenant, kts: str = "") -> Profile:
    """The profile of ``tenant``. DataError where the recording's times cannot be."""
    plain = Times.of(recording.plain)
    inflation = 1.0
    pause: Floats = np.empty(0)
    thread = process = np.empty(0, np.int64)
    how = f"{len(plain.service)} iterations alone at its own pacing; "
    if recording.plain.calls is not None and recording.traced is not None and recording.launches is not None:
        found = joined(
            recording.plain, recording.plain.calls, recording.traced, recording.launches, recording.processes
        )
        iterations, pause, inflation = found.iterations, found.pause_ms, found.inflation
        thread, process = found.thread, found.process
        how += f"launches and waits of {iterations.n} more from the {recording.note}"
        if len(process):
            how += f"; {len(process)} threads make its iterations, each has a host of its own"
    elif recording.traced is not None and recording.launches is not None:
        traced = Times.of(recording.traced)
        iterations = untraced(plain, traced, listed(recording.launches), recording.queued_ms)
        inflation = float(np.median(traced.issue) / np.median(plain.issue))
        how += f"launches of {len(traced.service)} more from the {recording.note}"
    else:
        iterations = as_bursts(plain, recording.device, tenant.work.workload)
        if tenant.work.workload == PROGRAM:
            pause = pauses_ms(recording.plain.rows)[: iterations.n]
        how += f"single bursts: {recording.note}"
    device = recording.device
    gpu = Gpu.of(device)
    try:
        made = make_profile(
            tenant.name,
            iterations,
            gpu,
            arrivals=tenant.arrivals,
            workload=tenant.work.workload,
            size=recording.size,
            deadline_ms=tenant.slo.deadline_ms,
            solo_service_ms=plain.service,
            solo_device_ms=plain.device if np.isfinite(plain.device).all() else (),
            kts=kts,
            how=how,
        )
    except ValueError as error:
        raise DataError(f"tenant {tenant.name}: the recording makes no profile: {error}", "profile it again") from error
    return replace(
        made,
        pause=Packed.of_ms(pause),
        thread=Packed.of_ns(thread),
        process=Packed.of_ns(process),
        method="burst" if recording.launches is None else "launches",
        stopwatch_waits=recording.launches is None or recording.launches.stopwatch_waits,
        settles_next=tenant.work.graph or (recording.launches is not None and recording.launches.graph),
        tracer_inflation=inflation,
        host_warm_ms=host_ms(recording.plain, device),
        host_cold_ms=None if recording.cold is None else host_ms(recording.cold, device),
        memory_bytes=recording.held_bytes,
        sm_clock_mhz=recording.sm_clock_mhz,
    )


def listed(launches: Launches) -> Iterations:
    """The launches as they were traced, without retire delays."""
    counts = unpacked(launches.counts)
    return Iterations(
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        offset_ms=unpacked(launches.offset_ns) / 1e6,
        duration_ms=unpacked(launches.duration_ns) / 1e6,
        retire_ms=np.zeros(len(counts)),
    )


def untraced(plain: Times, traced: Times, seen: Iterations, queued_ms: float | None = None) -> Iterations:
    """The traced launches ``seen`` as they would have been without the tracer.

    Launch times shrink, iteration by iteration, by the time that the partner's host took over what this one's did.
    Durations are kept, except where the tracer lengthened them (it keeps a replayed graph's kernels apart): they do
    not add up to more than ``queued_ms``, what an iteration without it takes of the GPU (median). The retire delay is
    what is missing to the partner's service time, and not below 0.
    """
    partner = partners(plain.service, traced.service)
    each = np.repeat(np.arange(seen.n), np.diff(seen.first))
    offset = seen.offset_ms * (plain.issue[partner] / traced.issue)[each]
    duration = seen.duration_ms
    busy_ms = float(np.median(seen.busy_ms))
    if queued_ms and busy_ms > 0:
        duration = duration * min(1.0, queued_ms / busy_ms)
    shrunk = Iterations(seen.first, offset, duration, seen.retire_ms)
    retire = np.maximum(plain.service[partner] - ends_ms(shrunk), 0.0)
    return Iterations(seen.first, offset, duration, retire)


def queued_kernels(profile: Profile, more_ms: float) -> Profile:
    """The profile with every traced kernel ``more_ms`` shorter, as it is when it runs right behind another.

    A tracer's record of a kernel begins and ends outside of it and holds a part of what a fingerprint counts as the
    gap between two kernels. Replayed graphs, whose time is known without the tracer, and single bursts stay.
    """
    if profile.method != "launches" or profile.settles_next or more_ms <= 0:
        return profile
    them = profile.iterations
    less = more_ms if them.apart is None else np.where(them.apart, 0.0, more_ms)
    return profile.lasting(np.maximum(them.duration_ms - less, 0.0))


def events_at_once(profile: Profile) -> Profile:
    """The profile with every launch of no duration (a recorded event) apart: without turns nothing holds one up but the
    launches before it in its lane."""
    them = profile.iterations
    events = them.duration_ms == 0
    if not events.any():
        return profile
    return profile.with_apart(events if them.apart is None else them.apart | events)


def recalibrated(profile: Profile, service_ms: Floats, device_ms: Floats) -> Profile:
    """The profile with its host as fast as in newer iterations alone, which nobody traced.

    ``service_ms``, ``device_ms``, shape ``(n,)``: of those, at the same pacing; NaN: no stopwatch. Quantile by
    quantile as in `untraced`. Where kernels are what an iteration takes, launch times stay. What it waits for in the
    middle is the GPU's, and stays as it is. On a CPU the host is the device: the burst is as long as the newer
    iteration.
    """
    if not len(service_ms):
        return profile
    them = profile.iterations
    before, waited = service_alone_ms(them), alone(them).waited_ms
    now = service_ms[partners(service_ms, before)]
    moved = them
    if float(np.median(them.busy_ms)) < BUSY * float(np.median(before)):
        factor = np.maximum(now - waited, 0.0) / np.maximum(before - waited, 1e-6)
        moved = with_columns(them.slower_host(factor), retire_ms=them.retire_ms)
    if host_is_device(profile.gpu.kind, profile.workload):
        moved = bursts(now, 0.0)
    moved = with_columns(moved, retire_ms=np.maximum(now - ends_ms(moved), 0.0))
    return replace(
        profile,
        **packed(moved),
        solo_service=Packed.of_ms(service_ms),
        solo_device=Packed.of_ms(device_ms) if np.isfinite(device_ms).all() else EMPTY,
        how=f"{profile.how}; host times of {len(service_ms)} newer iterations alone",
    )


def as_bursts(plain: Times, device: DeviceInfo, workload: str = "") -> Iterations:
    """Every iteration as one launch, as long as `burst_ms` says.

    What the host takes besides lies in part before the launch, in part after it. Before it lies no more than the time
    until all was handed over; half of that is taken, as nothing tells how much.
    """
    kept = slice(0, MOST)
    service = plain.service[kept]
    burst = burst_ms(service, plain.device[kept], whole=host_is_device(device.kind, workload))
    rest = service - burst
    before = np.zeros(len(service))
    if device.kind == "cuda" and len(plain.issue):
        before = np.minimum(plain.issue[kept], rest) / 2
    return bursts(burst, rest - before, before)


def host_ms(stretch: Stretch, device: DeviceInfo) -> float | None:
    """What an iteration takes of the host, median: until all was handed over; on the CPU device, what service takes
    beyond the thread's CPU time."""
    times = Times.of(stretch)
    if not len(times.service):
        return None
    if device.kind == "cuda":
        return float(np.median(times.issue)) if len(times.issue) else None
    rest = times.service - times.device
    return float(np.median(rest)) if np.isfinite(rest).all() else None
