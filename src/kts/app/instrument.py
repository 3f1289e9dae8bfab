"""Does the instrument hold on this machine? A run of equal tenants with known delays, and the clocks read."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from kts.app.printing import Say, elements, silent
from kts.arrivals import Closed
from kts.backends.local import LocalBackend
from kts.conduct.driver import conduct
from kts.errors import MeasurementError, SetupError
from kts.model.mode import SharingMode
from kts.model.plan import Condition, DeviceChoice, Kernel, Plan, Tenant
from kts.model.reading import RunData
from kts.model.records import CPU_TIMES
from kts.model.run import WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.plan.blocks import blocks_of_round
from kts.report import RichWatcher
from kts.report.selfcheck import instrument_elements
from kts.stats.block import counting, valid_blocks
from kts.stats.instrument import (
    InstrumentCheck,
    InstrumentPart,
    alike,
    clock_parts,
    observed,
    on_quiet,
    recovered,
    stopwatch_parts,
)
from kts.stats.sample import Blocks
from kts.stats.steadiness import since_ns
from kts.store import create, open_run, origin
from kts.telemetry.choice import polled_sources
from kts.telemetry.sampler import Sampler
from kts.telemetry.source import Source
from kts.wire.messages import Heartbeat
from kts.worker.detect import resolved
from kts.worker.environment import environment
from kts.worker.instrument import Delays, Timers, TimerTask
from kts.worker.interpreter import module
from kts.worker.prepare import LAST_CORE

_, CPU_WAIT_NS = CPU_TIMES
FIRST, SECOND, IDLE = "first", "second", "idle"
TARGET_MS, THINK_MS, SETTLE_S = 2.0, 1.0, 3.0
IDLE_MS = 200.0
EACH_MS, TAIL_MS, SHARE = 1.0, 4.0, 0.03
QUICK, FULL = (8, 100), (12, 250)
"""Rounds, and iterations of a block."""
TIMER_S = 120.0

elements.register(InstrumentCheck, instrument_elements)


def selfcheck_here(
    *,
    quick: bool = False,
    device: DeviceChoice = "auto",
    seed: int = 1,
    say: Say = silent,
    progress: Console | None = None,
) -> InstrumentCheck:
    """Checks the instrument on this machine and its device, in about a minute; ``quick``: in a third of it.

    Two equal tenants must not differ; known delays in iterations must be found in p50, p95 and p99 within the interval
    of DF; clock and stopwatch must be fine enough and cheap; rounds with telemetry must not be slower than those
    without. `InstrumentCheck.passed` says that nothing is off; what the machine is too busy to tell is undecided.
    Raises SetupError for what this machine lacks, MeasurementError where the run fails.
    """
    begun = time.monotonic()
    say("clocks: reading")
    told = _timers(device)
    plan = resolved(_plan(*(QUICK if quick else FULL), device, told.size, seed))
    late = _late_blocks(plan)
    delays = Delays(tenant=FIRST, blocks=late, each_ms=EACH_MS, tail_ms=TAIL_MS, share=SHARE, seed=seed)
    with tempfile.TemporaryDirectory(prefix="kts-selfcheck-") as folder:
        say("equal tenants, delays and telemetry: measuring")
        run = _measured(plan, delays, Path(folder) / "run", progress)
        parts = [*_figures(run), *clock_parts(told), *stopwatch_parts(told)]
    labels = sorted({worker.device.label for worker in run.info.workers})
    return InstrumentCheck(
        device=", ".join(labels),
        is_gpu=all(worker.device.kind == "cuda" for worker in run.info.workers),
        seconds=time.monotonic() - begun,
        seed=seed,
        passed=all(part.state != "failed" for part in parts),
        parts=tuple(parts),
        provenance=origin.here(),
    )


def _plan(rounds: int, iterations: int, device: DeviceChoice, size: int, seed: int) -> Plan:
    """Two equal tenants, each alone, and the first beside one that hardly does anything."""
    work = Kernel(workload="gemm", size=size, settle_seconds=SETTLE_S)
    equal = [
        Tenant(name=name, work=work, arrivals=Closed(think_ms=THINK_MS), iterations=rounds * iterations)
        for name in (FIRST, SECOND)
    ]
    idle = Kernel(workload="tiny", size=1024, settle_seconds=0.0)
    beside = Tenant(name=IDLE, work=idle, arrivals=Closed(think_ms=IDLE_MS), iterations=rounds)
    return Plan(
        name="selfcheck",
        design="interleaved",
        tenants=(*equal, beside),
        conditions=(
            Condition(name=f"solo-{FIRST}", tenants=(FIRST,)),
            Condition(name=f"solo-{SECOND}", tenants=(SECOND,)),
            Condition(name=f"shared-{FIRST}+{IDLE}", tenants=(FIRST, IDLE)),
        ),
        rounds=rounds,
        max_rounds=rounds,
        device=device,
        seed=seed,
    )


def _late_blocks(plan: Plan) -> tuple[int, ...]:
    """Numbers of the blocks in company."""
    blocks = [block for number in range(plan.rounds) for block in blocks_of_round(plan, number)]
    return tuple(block.index for block in blocks if not plan.condition(block.condition).is_solo)


def reads_telemetry(number: int) -> bool:
    """Whether telemetry is read in that round: on, off, off, on, so that a drift is in both alike."""
    return number % 4 in {0, 3}


class Gated:
    """A source that is asked nothing while ``closed`` says so."""

    def __init__(self, source: Source, closed: Callable[[], bool]) -> None:
        self.name, self.remote = source.name, source.remote
        self._source, self._closed = source, closed

    def open(self, uuid: str) -> SourceState:
        """See Source."""
        return self._source.open(uuid)

    def sample(self) -> list[Sample]:
        """See Source."""
        return [] if self._closed() else self._source.sample()

    def state(self) -> SourceState:
        """See Source."""
        return self._source.state()

    def close(self) -> None:
        """See Source."""
        self._source.close()


class GatedTelemetry:
    """Implements `kts.conduct.ports.Telemetry`: the sampler, in the rounds in which it is to read."""

    def __init__(self, plan: Plan) -> None:
        self._per_round, self._blocks = len(plan.conditions), 0
        self._sampler = Sampler(lambda tenants: [Gated(one, self._closed) for one in polled_sources(tenants)])

    def _closed(self) -> bool:
        return not reads_telemetry(self._blocks // self._per_round)

    def worker(self, info: WorkerInfo) -> None:
        """See Telemetry."""
        self._sampler.worker(info)

    def heartbeat(self, tenant: str, beat: Heartbeat) -> None:
        """See Telemetry."""
        self._sampler.heartbeat(tenant, beat)

    def block_over(self) -> None:
        """See Telemetry."""
        self._blocks += 1
        self._sampler.block_over()

    def drain(self) -> tuple[list[SourceState], list[Sample]]:
        """See Telemetry."""
        return self._sampler.drain()

    def close(self) -> None:
        """See Telemetry."""
        self._sampler.close()


def _measured(plan: Plan, delays: Delays, directory: Path, progress: Console | None) -> RunData:
    worker = (*module("kts.worker.instrument"), "--join", msgspec.json.encode(delays).decode())
    backend = LocalBackend(directory / "logs", worker=worker)
    writer = create(
        directory,
        plan=plan,
        backend=LocalBackend.name,
        mode=SharingMode(),
        experiment_text="",
        environment=environment(),
    )
    with RichWatcher(progress or Console(quiet=True)) as watcher:
        outcome = conduct(plan, backend, writer, watcher, None, telemetry=GatedTelemetry(plan))
    if outcome.kind != "complete":
        raise MeasurementError(f"the self-check's run is {outcome.kind}: {outcome.reason}", outcome.remedy)
    return open_run(directory)


def _figures(run: RunData) -> Sequence[InstrumentPart]:
    """What the run must show."""
    steady_ns = since_ns(run)
    service: dict[tuple[str, str], Blocks] = {}
    waits_ns = times_ns = 0.0
    for block in valid_blocks(run):
        condition = run.info.plan.condition(block.condition)
        for name, rows in counting(run, block, condition.tenants, steady_ns).items():
            times_ms = (rows["retire_ns"] - rows["submit_ns"]) / 1e6
            if name != IDLE and CPU_WAIT_NS in (rows.dtype.names or ()):
                told = rows[CPU_WAIT_NS] >= 0
                waits_ns += float(rows[CPU_WAIT_NS][told].sum())
                times_ns += float(times_ms[told].sum() * 1e6)
            if len(times_ms):
                service.setdefault((name, block.condition), []).append((block.round, times_ms))
    first, second = (service.get((name, f"solo-{name}"), []) for name in (FIRST, SECOND))
    late = service.get((FIRST, f"shared-{FIRST}+{IDLE}"), [])
    on, off = ([one for one in (*first, *second) if reads_telemetry(one[0]) == read] for read in (True, False))
    polled = [one.source for one in run.info.telemetry if one.polls and not one.missing]
    parts = [*alike(first, second), *recovered(first, late, EACH_MS, TAIL_MS, SHARE), *observed(on, off, polled)]
    return list(on_quiet(parts, waits_ns / times_ns if times_ns else None))


def _timers(device: DeviceChoice) -> Timers:
    """Reads the clocks, and finds a size, in a process of its own on a core that a tenant will have: the last."""
    task = TimerTask(device=device, target_ms=TARGET_MS)
    command = [sys.executable, *module("kts.worker.instrument"), "--timer", msgspec.json.encode(task).decode()]
    env = {**os.environ, "KTS_CORES": LAST_CORE}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, encoding="utf-8", errors="replace", timeout=TIMER_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"the clocks were not read in {TIMER_S:g} s", "kts doctor") from error
    try:
        return msgspec.json.decode(done.stdout.strip().rpartition("\n")[2], type=Timers)
    except msgspec.DecodeError:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SetupError(f"the clocks could not be read: {why.removeprefix('error: ')}", "kts doctor") from None
