"""One tenant alone, for `kts profile`: a stretch without a tracer, a few cold iterations, a stretch with one.

All of it at the tenant's own pacing, by the loop that also measures runs.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np

from kts import files
from kts.arrivals import Closed
from kts.errors import DataError, SetupError, UsageError
from kts.model.records import clock_ms
from kts.model.run import DeviceInfo
from kts.wire.messages import SPEAK, Failed
from kts.wire.recording import Launches, Recording, Request, Stretch, format_result, packed
from kts.worker.devices.cuda import SmClock
from kts.worker.failures import failed
from kts.worker.iteration import Watch
from kts.worker.loop import exempt_from_collection
from kts.worker.program_profile import record_program, steady_part
from kts.worker.stretch import MOST, MOST_TRACED, KeepingOutlet, Stretches
from kts.worker.tenants import Runner, runner_for
from kts.worker.tenants.kernel import KernelTenant
from kts.worker.tenants.program import ProgramTenant
from kts.worker.traced import TraceError, launches_of

UNMARKED = 5
COLD = 5
COLD_MS = 1000.0
QUEUED_MS = 20.0
"""Iterations of about this length in all are handed over at once, and twice as many."""
_QUEUED_MOST = 64
_QUEUED_TIMES = 7
_SECONDS_PER_COLD = 2.0  # no cold iterations for those who want it quick


def profile(path: str) -> int:
    """Profiles the tenant of the request in the file at ``path`` and prints the result's line; the exit code."""
    request = _read(Path(path))
    name = request.tenant.name
    program = runner_for(request.tenant, request.device)
    result: Recording | Failed
    code = 0
    try:
        info = program.open()
        ready = program.calibrate(lambda: None)
        if ready.silence:
            raise SetupError(f"{name} has no iterations: {ready.silence}", SPEAK)
        exempt_from_collection()
        result = record(request, program, info, ready.size)
    except Exception as error:
        result = failed(name, error)
        print(f"kts.worker: {result.what}", file=sys.stderr, flush=True)
        code = SetupError.exit_code if result.kind == "setup" else 5
    finally:
        program.close()
    print(format_result(result), flush=True)
    return code


def record(request: Request, program: Runner, info: DeviceInfo, size: int | None) -> Recording:
    """The stretches of a tenant that is calibrated and warm."""
    tenant, seconds = request.tenant, request.seconds
    stretches = Stretches(tenant, seconds)
    if isinstance(program, ProgramTenant):
        return record_program(program, info, stretches)
    outlet = KeepingOutlet(seconds, SmClock(info.uuid) if info.kind == "cuda" else None)
    if not isinstance(program, KernelTenant):
        program.run(stretches.start(MOST, 0), outlet)
        rows, said = steady_part(stretches.whole(outlet))
        note = "; ".join(("its own iterations", *said))
        return Recording(tenant=tenant.name, device=info, size=size, plain=Stretch(records=rows.tobytes()), note=note)
    watch = Watch()
    program.run_watched(stretches.start(MOST, 0), outlet, watch)
    rows, said = steady_part(stretches.whole(outlet))
    plain = Stretch(records=rows.tobytes(), issue_ns=packed(watch.issue_ns[-len(rows) :]))
    queued_ms = _queued_ms(program, plain) if info.kind == "cuda" else None
    held = program.device.held_bytes()
    cold = _cold(program, stretches)
    traced, launches, note = _trace(program, stretches)
    return Recording(
        tenant=tenant.name,
        device=info,
        size=size,
        plain=plain,
        cold=cold,
        traced=traced,
        launches=launches,
        note="; ".join((note, *said)),
        queued_ms=queued_ms,
        held_bytes=held,
        sm_clock_mhz=statistics.median(outlet.clocks_mhz) if outlet.clocks_mhz else None,
    )


def _trace(program: KernelTenant, stretches: Stretches) -> tuple[Stretch | None, Launches | None, str]:
    """The traced stretch and its launches; without them, why there are none.

    Whatever fails in here is the tracer's fault, and costs the launches, not what was measured before.
    """
    tracer = program.device.tracer()
    if tracer is None:
        return None, None, f"{program.device.info().library} has no tracer here"
    watch, outlet = Watch(tracer), KeepingOutlet(stretches.seconds)
    try:
        with tracer:
            # The first ones load the tracer and take its buffers, which is slow: without a mark they do not count.
            program.run(stretches.start(UNMARKED, 1), KeepingOutlet(stretches.seconds))
            program.run_watched(stretches.start(MOST_TRACED, 2), outlet, watch)
        rows = outlet.rows
        if not len(rows):
            return None, None, "no iteration ended while it was traced"
        launches = launches_of(tracer.events(), watch.issue_ns)
    except TraceError as error:
        return None, None, f"the trace cannot be used: {error}"
    except Exception as error:
        return None, None, f"tracing failed: {type(error).__name__}: {error}".splitlines()[0]
    return Stretch(records=rows.tobytes(), issue_ns=packed(watch.issue_ns)), launches, tracer.name


def _queued_ms(program: KernelTenant, plain: Stretch) -> float:
    """Device time of an iteration among others that are handed over at once: what two lengths of queue differ by."""
    service_ms = float(np.median(clock_ms(plain.rows, "service")))
    n = min(max(round(QUEUED_MS / service_ms), 2), _QUEUED_MOST)
    once, twice = (statistics.median(program.queue_ms(count) for _ in range(_QUEUED_TIMES)) for count in (n, 2 * n))
    return max(twice - once, 0.0) / n


def _cold(program: KernelTenant, stretches: Stretches) -> Stretch | None:
    """Iterations a second apart, the first of which is left out: it follows others."""
    wanted = min(COLD, int(stretches.seconds / _SECONDS_PER_COLD))
    if not wanted:
        return None
    watch, outlet = Watch(), KeepingOutlet(1e9)
    seldom = Closed(think_ms=COLD_MS, jitter=0.0)
    program.run_watched(stretches.start(wanted + 1, 3), outlet, watch, seldom)
    return Stretch(records=outlet.rows[1:].tobytes(), issue_ns=packed(watch.issue_ns[1:]))


def _read(path: Path) -> Request:
    remedy = "--profile is used by kts profile"
    try:
        return files.decode(files.read(path, remedy), Request, str(path), "not a request", remedy)
    except DataError as error:
        raise UsageError(error.what, error.remedy) from error
