"""A worker by itself, as in the published system: iterations on a fixed pacing, one KTS_APP v1 line each."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO, TypeVar

import msgspec

from kts import __version__
from kts.arrivals import Closed, first_submission_ns
from kts.errors import KtsError, MeasurementError, SpecError
from kts.model.plan import DeviceChoice, Kernel, Library, Quota, SizedKernel
from kts.model.run import DeviceInfo
from kts.wire.logframe import Meta
from kts.worker.applog import AppLog, LinesOutlet
from kts.worker.calibrate import Bench, calibrate
from kts.worker.clocks import clock_pair, epoch_offset_ns
from kts.worker.detect import choose, visible_gpus
from kts.worker.devices import Device, open_device
from kts.worker.environment import environment
from kts.worker.failures import failed
from kts.worker.iteration import timed
from kts.worker.loop import BlockRun

WARMUP_CALLS = 5
SIZE = 4096
ITERATIONS = 800
_DEFAULT_SLEEP_MS = {"fft": 100.0, "gemm": 150.0}
_PHASE_CHARACTERS = 64
_APP = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_LOGS = {"": False, "plain": False, "framed": True}
_LONGEST_ECHO_S = 60.0

_Number = TypeVar("_Number", int, float)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment asks for.

    ``size`` None: calibrate for ``target_ms``. ``iterations`` None: as many as fit in ``seconds``. ``sleep_ms``: pause
    between iterations, uniform in ``sleep_ms * [1 - jitter, 1 + jitter]`` by ``seed``. ``phase``: last field of each
    line. ``app``: name in each line. ``framed``: header and trailer. ``echo_s``: each line again, so much later.
    """

    iterations: int | None
    size: int | None
    sleep_ms: float
    phase: str
    app: str
    target_ms: float | None = None
    seconds: float | None = None
    jitter: float = 0.0
    seed: int = 0
    warmup: int = WARMUP_CALLS
    framed: bool = False
    echo_s: float = 0.0


def read_settings(kernel: SizedKernel, env: Mapping[str, str]) -> Settings:
    """What these variables ask for. SpecError for a value that cannot be.

    In brackets: the value where the variable is unset or empty. ITERATIONS (800) or DURATION_S; MATRIX_SIZE (4096) or
    TARGET_MS; SLEEP_MS (100 for fft, 150 for gemm), SLEEP_JITTER (0), KTS_SEED (0), WARMUP (5), KTS_PHASE (empty),
    KTS_APP_NAME (the workload, in capitals), KTS_LOG (plain; or framed), KTS_ECHO_S (0: none).
    """
    phase, app = read_phase_and_app(kernel, env)
    log = env.get("KTS_LOG", "")
    if log not in _LOGS:
        raise SpecError(f"KTS_LOG={log!r} is neither plain nor framed", "for example KTS_LOG=framed")
    target_ms = _number(env, "TARGET_MS", 0.0, float, 1e-6) or None
    seconds = _number(env, "DURATION_S", 0.0, float, 1e-6) or None
    for one, other in (("MATRIX_SIZE", "TARGET_MS"), ("ITERATIONS", "DURATION_S")):
        if env.get(one) and env.get(other):
            raise SpecError(f"{one} and {other} are both given", "unset one of them")
    return Settings(
        iterations=None if seconds else _number(env, "ITERATIONS", ITERATIONS, int, 1),
        size=None if target_ms else _number(env, "MATRIX_SIZE", SIZE, int, 1),
        sleep_ms=_number(env, "SLEEP_MS", _DEFAULT_SLEEP_MS[kernel], float, 0.0),
        phase=phase,
        app=app,
        target_ms=target_ms,
        seconds=seconds,
        jitter=_number(env, "SLEEP_JITTER", 0.0, float, 0.0, most=1.0),
        seed=_number(env, "KTS_SEED", 0, int, 0),
        warmup=_number(env, "WARMUP", WARMUP_CALLS, int, 0),
        framed=_LOGS[log],
        echo_s=_number(env, "KTS_ECHO_S", 0.0, float, 0.0, most=_LONGEST_ECHO_S),
    )


def read_phase_and_app(workload: str, env: Mapping[str, str]) -> tuple[str, str]:
    """What KTS_PHASE and KTS_APP_NAME ask each line to say. SpecError for what a line cannot."""
    phase = env.get("KTS_PHASE", "")
    if len(phase) > _PHASE_CHARACTERS or any(c in ",\r\n" for c in phase):
        raise SpecError(
            f"KTS_PHASE={phase!r} has a comma, a line end or over {_PHASE_CHARACTERS} characters", "shorten it"
        )
    app = env.get("KTS_APP_NAME") or workload.upper()
    if not _APP.fullmatch(app):
        raise SpecError(
            f"KTS_APP_NAME={app!r} is not 1 to 64 of letters, digits, _ . -", "for example KTS_APP_NAME=FFT"
        )
    return phase, app


def run_alone(kernel: SizedKernel, device: DeviceChoice, library: Library, env: Mapping[str, str]) -> int:
    """Measures and prints; the exit code. SpecError or SetupError before measuring; later failures are printed."""
    settings = read_settings(kernel, env)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends us as it ends any filter
    opened = open_device(*choose(device, library))
    if not settings.framed:  # its header says the same
        print(f"kts.worker: {_words(kernel, settings, opened)}", file=sys.stderr)
    try:
        measure(kernel, settings, opened, sys.stdout)
    except Exception as error:
        if isinstance(error, KtsError):
            raise
        message = failed(kernel, error)
        raise MeasurementError(message.what, message.remedy) from error
    return 0


def measure(
    kernel: SizedKernel,
    settings: Settings,
    device: Device,
    out: TextIO,
    *,
    sleep: Callable[[float], None] = time.sleep,
    offset_ns: Callable[[], int] = epoch_offset_ns,
    now: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Warm-up, then a block by the loop that also measures runs; at least one flushed line per iteration to ``out``."""
    bench = Bench(device, kernel, pulse=lambda: None, sleep=sleep, now=now)
    solo_ms = None
    if settings.size is None:
        work = Kernel(workload=kernel, target_ms=settings.target_ms, warmup=settings.warmup)
        size, solo_ms, _ = calibrate(bench, work, settings.sleep_ms)
    else:
        size = settings.size
    operation = bench.prepare(size, settings.warmup)
    log = AppLog(settings.app, out, framed=settings.framed, echo_s=settings.echo_s, now=now)
    if settings.framed:
        log.begin(meta_of(kernel, settings.app, size, solo_ms, device.info()))
    pacing = Closed(think_ms=settings.sleep_ms, jitter=settings.jitter)
    start_ns = now()
    BlockRun(
        iterate=timed(device, operation, now),
        device_ms=device.device_ms,
        arrivals=pacing,
        quota=Quota(iterations=settings.iterations, seconds=settings.seconds, linger=False),
        start_ns=start_ns,
        first_ns=start_ns + _first_pause_ns(pacing, settings.seed),
        seed=settings.seed,
        outlet=LinesOutlet(log, settings.app, settings.phase, offset_ns),
        chunk=1,
        now=now,
        sleep=sleep,
    ).run()
    log.end(sleep)


def _first_pause_ns(pacing: Closed, seed: int) -> int:
    """Where think times are drawn: what is left of the one in which the loop is entered, so that none meet at once."""
    return first_submission_ns(pacing, 0, seed) if pacing.jitter and pacing.think_ms else 0


def meta_of(workload: str, app: str, size: int, solo_ms: float | None, device: DeviceInfo) -> Meta:
    """The header of a log that begins now."""
    return Meta(
        kts=__version__,
        app=app,
        workload=workload,
        size=size,
        solo_ms=solo_ms,
        device=device,
        clock=clock_pair(),
        pid=os.getpid(),
        hostname=socket.gethostname(),
        gpus=visible_gpus(),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        environment=environment(),
    )


def _words(kernel: SizedKernel, settings: Settings, device: Device) -> str:
    info = device.info()
    size = f"{settings.target_ms:g} ms" if settings.size is None else settings.size
    amount = f"{settings.seconds:g} s" if settings.iterations is None else f"{settings.iterations} iterations"
    return (
        f"{kernel} {size} on {info.label} ({info.library} {info.library_version}), "
        f"{amount}, {settings.sleep_ms:g} ms between iterations"
    )


def _number(
    env: Mapping[str, str],
    name: str,
    default: _Number,
    convert: Callable[[str], _Number],
    least: _Number,
    *,
    most: float = math.inf,
) -> _Number:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = convert(text)
        valid = math.isfinite(value) and least <= value <= most
    except (ValueError, OverflowError):
        valid = False
    if not valid:
        kind = "a whole number" if convert is int else "a number"
        limit = f" and at most {most:g}" if math.isfinite(most) else ""
        raise SpecError(
            f"{name}={text!r} is not {kind} of at least {least:g}{limit}", f"for example {name}={default or 1:g}"
        )
    return value
