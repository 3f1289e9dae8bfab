"""The user's own program as a tenant.

It runs all the time and is held outside the blocks in which it is active (`OwnProgram.pause`). Its iterations are the
lines that it prints, its NVTX ranges, or its round trips (`kts.worker.tenants.sources`). A program that tells of none
serves as a neighbour: it has no records, and its quota counts as reached at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from kts.errors import SetupError
from kts.model.plan import PROGRAM, DeviceChoice, Program, Ranges, Tenant
from kts.model.run import DeviceInfo
from kts.shown import shown
from kts.units import s_to_ns
from kts.wire.messages import Ready, Start
from kts.worker.detect import choose_kind
from kts.worker.failures import CommandError
from kts.worker.host import Container
from kts.worker.launcher.gpus import gpu_of
from kts.worker.launcher.remote import Launcher, at_hand
from kts.worker.loop import LeftOut, Outlet
from kts.worker.prepare import SPARE_CORES, leave_cores
from kts.worker.tenants.first_lines import check_first
from kts.worker.tenants.hearing import Hearing
from kts.worker.tenants.own_program import OwnProgram
from kts.worker.tenants.process import ChildProcess, Process
from kts.worker.tenants.program_block import LISTEN_S, ProgramBlock
from kts.worker.tenants.sources import FromRanges
from kts.worker.tenants.tracer import ProgramTracer, tracer_for
from kts.worker.tracing.kept import Kept
from kts.worker.tracing.reader import Tracing

STOPWATCH = "as the program reports it"
LONGEST_START_S = 60.0
"""So long a program is waited for before anything is calibrated, or its settling time, if that is shorter."""
_OTHERS = 5
_ALWAYS = "it never waits for all of its work, so something of its own is always in flight: name ranges, or print lines"
_NOT_ITS_BUSINESS = ("KTS_TOKEN", "KTS_CONDUCTOR", SPARE_CORES)


class ProgramTenant:
    """Implements `kts.worker.tenants.Runner`."""

    def __init__(self, tenant: Tenant, choice: DeviceChoice) -> None:
        assert isinstance(tenant.work, Program)
        self._work = tenant.work
        self._choice = choice
        self._launcher: Launcher | None = None
        self._program: OwnProgram | None = None
        self._hearing: Hearing | None = None
        self._tracer = ProgramTracer()
        self._env: dict[str, str] = {}
        self._cores: frozenset[int] = frozenset()
        self._failed_first = ""

    @property
    def container(self) -> Container | None:
        """See Runner."""
        return self._launcher.container if self._launcher is not None else None

    def open(self) -> DeviceInfo:
        """The device that the program is taken to use: the first GPU, or these cores.

        A program that the tracer can hold is started already, so that all tenants start at the same time: it waits at
        the first work that it would hand to the GPU until `calibrate` lets it go on, which this waits for. BesideError
        where the program's container did not come, CommandError where it cannot be started.
        """
        if self._work.image:
            self._launcher = at_hand(os.environ)
            self._launcher.join()
        info = self._device()
        self._env, self._cores = self._environment(), frozenset(os.sched_getaffinity(0))
        self._tracer = tracer_for(self._work, on_gpu=self._on_gpu, given=self._env, beside=self._launcher is not None)
        if self._tracer.holds:
            self._start_held()
        return info

    def _device(self) -> DeviceInfo:
        if self._launcher is not None and self._choice != "cpu":
            return gpu_of(self._launcher.gpus, STOPWATCH)
        if choose_kind(self._choice) == "cuda":
            from kts.worker.devices.cuda import cuda_info

            return cuda_info(PROGRAM, "", STOPWATCH)
        from kts.worker.devices.cpu import cpu_info

        return cpu_info(PROGRAM, STOPWATCH)

    def calibrate(self, pulse: Callable[[], None], size: int | None = None) -> Ready:
        """Starts the program, or lets it go on; ready when its iterations are steady, or when it has lived for the
        settling time without any.

        CommandError if it cannot be started, dies, prints only broken lines, or has no iterations of the kind that was
        asked for.
        """
        del size  # its own business
        work = self._work
        settle_ns = s_to_ns(settle_s := _settle_s(work))
        tracer = self._tracer
        if self._program is not None:
            self._program.begin()
        program = self._program or self._start()
        hearing = self._hearing = Hearing(program, work.iteration, work.warmup, settle_s)
        begun_ns = time.monotonic_ns()
        while not hearing.enough() and time.monotonic_ns() < (hearing.begun_ns or begun_ns) + settle_ns:
            pulse()
            hearing.read(LISTEN_S)
        program.pause()
        hearing.drain()
        check_first(work.command[0], program, hearing.lines)
        hearing.decide()
        self._check_asked(hearing, tracer)
        solo_ms, cycle_ms = hearing.usual_ms()
        return Ready(
            size=None,
            solo_ms=solo_ms,
            cycle_ms=cycle_ms,
            notes=self._notes(hearing, tracer),
            settled=hearing.settled(settle_s),
        )

    @property
    def _on_gpu(self) -> bool:
        return self._choice != "cpu" if self._launcher is not None else choose_kind(self._choice) == "cuda"

    @property
    def tracing(self) -> Tracing | None:
        """Where its calls to the GPU are seen, once it is calibrated; None where it is not traced."""
        return self._tracer.tracing

    def unseen(self) -> str:
        """Why no call of it to the GPU is seen; empty where some are."""
        return self._tracer.unseen()

    def keep(self, kept: Kept | None) -> None:
        """All that is seen of it goes there, too, from now on."""
        assert self._program is not None
        self._program.kept = kept

    def _check_asked(self, hearing: Hearing, tracer: ProgramTracer) -> None:
        """CommandError where the program has no iterations of the kind that was asked for."""
        asked = self._work.iteration
        if asked is None or not asked.needs_tracer or hearing.speaks:
            return
        what, remedy = "no round trips", "see whether it waits for the GPU at all"
        why = tracer.unseen() or (_ALWAYS if hearing.unfinished else "") or f"none within {_settle_s(self._work):g} s"
        if isinstance(asked, Ranges):
            what, remedy = f"no NVTX range named {shown(asked.name)}", "see whether it is built with NVTX"
            others = list(hearing.source.others) if isinstance(hearing.source, FromRanges) else []
            if tracer.tracing is not None and tracer.tracing.why_no_ranges:
                why = tracer.tracing.why_no_ranges
            elif others:
                remedy = f"name one that it has: {', '.join(map(shown, others[:_OTHERS]))}"
        if why.startswith("none within"):
            remedy += ", or give it longer: settle_seconds"
        raise CommandError(f"command {self._work.command[0]} has {what}: {why}", remedy)

    def _notes(self, hearing: Hearing, tracer: ProgramTracer) -> tuple[str, ...]:
        """What its iterations are, and why its launches are not seen where they were looked for."""
        said = [hearing.source.words()] if hearing.source is not None and hearing.speaks else []
        if not hearing.speaks and hearing.unfinished:
            said.append(f"it has no round trips: {_ALWAYS}")
        if self._failed_first:
            said.append(f"it was started again at its calibration, since before that {self._failed_first}")
        return (*said, *self._unseen(tracer))

    def _unseen(self, tracer: ProgramTracer) -> tuple[str, ...]:
        """What is not seen of it, where it was looked for."""
        looked = self._work.trace == "calls" or (self._work.trace == "auto" and self._on_gpu)
        return tracer.notes() if looked else ()

    def _start(self) -> OwnProgram:
        work, tracer = self._work, self._tracer
        self._program = OwnProgram(work.command, {**self._env, **tracer.env}, self._launch, tracer.tracing)
        leave_cores(os.environ)
        return self._program

    def _start_held(self) -> None:
        assert self._tracer.tracing is not None
        self._tracer.tracing.gate(closed=True)
        program = self._start()
        try:
            program.until_held(min(_settle_s(self._work), LONGEST_START_S))
        except CommandError as error:  # it may need a neighbour that is calibrated before it
            program.end()
            self._program, self._failed_first = None, error.what

    def _environment(self) -> dict[str, str]:
        """Of the program; on top of its container's, where it has one."""
        own = os.environ if self._launcher is None else self._launcher.environment
        env = {key: value for key, value in own.items() if key not in _NOT_ITS_BUSINESS}
        return env | {"PYTHONUNBUFFERED": "1"} | self._work.env

    def _launch(self, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        if self._launcher is not None:
            return self._launcher(argv, env)
        return ChildProcess(argv, env, self._work.workdir or None, self._cores)

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        """Runs one block; returns how many iterations were not wholly inside it, and how many could not be read."""
        assert self._program is not None
        assert self._hearing is not None
        left = ProgramBlock(self._program, self._hearing, start, outlet).run()
        source = self._hearing.source
        return left._replace(notes=(*self._unseen(self._tracer), *(source.notes if source is not None else ())))

    def close(self) -> None:
        """Ends the program and its process group, and its container."""
        if self._program is not None:
            self._program.end()
        if self._tracer.tracing is not None:
            self._tracer.tracing.close()
        if self._launcher is not None:
            self._launcher.close()


make = ProgramTenant


def _settle_s(work: Program) -> float:
    """How long it may take to be steady, or must live in silence to count as ready; KTS_SETTLE_S in the tenant's env,
    else in that of the worker, replaces ``settle_seconds``."""
    text = (os.environ | work.env).get("KTS_SETTLE_S", str(work.settle_seconds))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise SetupError(f"KTS_SETTLE_S={text!r} is not a number of seconds above 0", "for example KTS_SETTLE_S: '20'")
    return seconds
