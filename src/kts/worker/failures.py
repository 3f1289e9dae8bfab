"""Why a worker cannot go on: exceptions of libraries and of our own, turned into one `Failed` message. Pure."""

from __future__ import annotations

from kts.errors import KtsError, MeasurementError, SetupError
from kts.wire.messages import Failed, FailureKind

_OUT_OF_MEMORY = ("out of memory", "outofmemory", "alloc_failed", "unable to allocate", "memoryallocation")
_DEVICE_LOST = (
    "device lost",
    "devicesunavailable",
    "devices unavailable",
    "busy or unavailable",
    "cudaerrorunknown",
    "cuda error: unknown error",
    "unspecified launch failure",
    "launchfailure",
    "launch failed",
    "illegal address",
    "illegaladdress",
    "illegal memory access",
    "misaligned address",
    "hardware stack error",
    "illegal instruction",
    "uncorrectable ecc",
    "eccuncorrectable",
    "uncorrectable nvlink",
    "fallen off the bus",
    "no cuda-capable device",
    "nodevice",
    "xid",
)


class OutOfMemoryError(MeasurementError):
    """The device has no room for the work."""


class CommandError(MeasurementError):
    """The user's own program cannot be started or died."""


class BesideError(MeasurementError):
    """The container beside the worker's, in which the program runs, is gone or never came. Why, the cluster knows."""


def kind_of(error: BaseException) -> FailureKind:
    """Which kind of failure an exception is, by its type where it is ours and by its text where it is a library's."""
    if isinstance(error, CommandError):
        return "program"
    if isinstance(error, SetupError):
        return "setup"
    if isinstance(error, OutOfMemoryError | MemoryError):
        return "out-of-memory"
    text = f"{type(error).__name__} {error}".lower()
    if any(sign in text for sign in _OUT_OF_MEMORY):
        return "out-of-memory"
    if any(sign in text for sign in _DEVICE_LOST):
        return "device-lost"
    return "internal"


def failed(tenant: str, error: BaseException) -> Failed:
    """The message that tells the conductor. ``what`` is one line and names the tenant."""
    kind = kind_of(error)
    remedy = error.remedy if isinstance(error, KtsError) else ""
    text = first_line(error)
    if kind == "device-lost":
        what = f"tenant {tenant}: the device is lost: {text}"
        remedy = remedy or "look at nvidia-smi and dmesg (Xid); the GPU may need a reset; then run again"
    elif kind == "out-of-memory":
        what = f"tenant {tenant}: {text}" if isinstance(error, KtsError) else f"tenant {tenant}: out of memory: {text}"
        remedy = remedy or "choose a smaller size or target_ms, or fewer tenants"
    elif kind == "internal":
        what = f"tenant {tenant}: {type(error).__name__}: {text}"
        remedy = remedy or "set KTS_DEBUG=1 for the traceback, and report it"
    else:
        what = f"tenant {tenant}: {text}"
    return Failed(kind=kind, what=what, remedy=remedy)


def first_line(error: BaseException) -> str:
    """The first line of the exception's text: libraries append pages of advice."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no further text")
