"""A worker by itself, as in the published system: iterations on a fixed pacing, one KTS_APP v1 line each."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO, TypeVar

import msgspec

from kts.errors import KtsError, MeasurementError, SpecError
from kts.model.plan import DeviceChoice, Library
from kts.wire.appline import AppLine, format_line
from kts.worker.calibrate import Bench
from kts.worker.detect import choose
from kts.worker.devices import Device, open_device
from kts.worker.failures import failed
from kts.worker.workloads import KernelName

WARMUP_CALLS = 5
_DEFAULT_SLEEP_MS = {"fft": 100.0, "gemm": 150.0}
_PHASE_CHARACTERS = 64

_Number = TypeVar("_Number", int, float)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment asks for. ``sleep_ms``: pause between iterations. ``phase``: last field of each line."""

    iterations: int
    size: int
    sleep_ms: float
    phase: str


def read_settings(kernel: KernelName, env: Mapping[str, str]) -> Settings:
    """From ITERATIONS (800), MATRIX_SIZE (4096), SLEEP_MS (100 for fft, 150 for gemm) and KTS_PHASE (empty).

    In brackets: the value where the variable is unset or empty. SpecError for a value that cannot be.
    """
    phase = env.get("KTS_PHASE", "")
    if len(phase) > _PHASE_CHARACTERS or any(c in ",\r\n" for c in phase):
        raise SpecError(
            f"KTS_PHASE={phase!r} has a comma, a line end or over {_PHASE_CHARACTERS} characters", "shorten it"
        )
    return Settings(
        iterations=_number(env, "ITERATIONS", 800, int, 1),
        size=_number(env, "MATRIX_SIZE", 4096, int, 1),
        sleep_ms=_number(env, "SLEEP_MS", _DEFAULT_SLEEP_MS[kernel], float, 0.0),
        phase=phase,
    )


def run_alone(kernel: KernelName, device: DeviceChoice, library: Library, env: Mapping[str, str]) -> int:
    """Measures and prints; the exit code. SpecError or SetupError before measuring; later failures are printed."""
    settings = read_settings(kernel, env)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `... | head` ends us as it ends any filter
    opened = open_device(*choose(device, library))
    info = opened.info()
    print(
        f"kts.worker: {kernel} {settings.size} on {info.label} ({info.library} {info.library_version}), "
        f"{settings.iterations} iterations, {settings.sleep_ms:g} ms between them",
        file=sys.stderr,
    )
    try:
        measure(kernel, settings, opened, sys.stdout)
    except Exception as error:
        if isinstance(error, KtsError):
            raise
        message = failed(kernel, error)
        raise MeasurementError(message.what, message.remedy) from error
    return 0


def measure(
    kernel: KernelName,
    settings: Settings,
    device: Device,
    out: TextIO,
    *,
    sleep: Callable[[float], None] = time.sleep,
    epoch_ns: Callable[[], int] = time.time_ns,
) -> None:
    """Warm-up, then the timed loop; one flushed line per iteration to ``out``."""
    operation = Bench(device, kernel, pulse=lambda: None).prepare(settings.size, WARMUP_CALLS)
    for i in range(settings.iterations):
        if i and settings.sleep_ms:
            sleep(settings.sleep_ms / 1000)
        start_ns = epoch_ns()
        device.begin()
        operation()
        device.end()
        device.wait()
        end_ns = epoch_ns()
        line = AppLine(
            app=kernel.upper(),
            i=i,
            start_ns=start_ns,
            end_ns=end_ns,
            device_ms=device.device_ms(),
            phase=settings.phase,
        )
        print(format_line(line), file=out, flush=True)


def _number(
    env: Mapping[str, str], name: str, default: _Number, convert: Callable[[str], _Number], least: _Number
) -> _Number:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = convert(text)
    except ValueError:
        value = least - 1
    if not (math.isfinite(value) and value >= least):
        kind = "a whole number" if convert is int else "a number"
        raise SpecError(f"{name}={text!r} is not {kind} of at least {least:g}", f"for example {name}={default:g}")
    return value
