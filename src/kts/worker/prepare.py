"""What must be settled before numpy is imported: the CPU cores of this process and the threads of its libraries."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from kts.errors import SetupError, UsageError

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def parse_cores(text: str) -> frozenset[int]:
    """The core numbers in ``text``, e.g. ``1`` or ``2,3``. UsageError if it is not such a list."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise UsageError(f"KTS_CORES={text!r} is not a list of core numbers", "give numbers, e.g. KTS_CORES=2,3")
    return frozenset(int(part) for part in parts)


SPARE_CORES = "KTS_SPARE_CORES"
"""Names the variable with the cores that no tenant has; absent where there are none."""


def leave_cores(env: Mapping[str, str]) -> None:
    """Moves all threads of this process to `SPARE_CORES`, if there are any, so that its work does not land in the tail
    of a program that it has started on the tenant's cores."""
    if not (wanted := env.get(SPARE_CORES, "")):
        return
    cores = parse_cores(wanted)
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended, or cores that were taken away
            os.sched_setaffinity(int(thread.name), cores)


def pin(cores: frozenset[int]) -> None:
    """Moves the calling thread to ``cores``. SetupError where the system has no such core, or does not give it."""
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError) as error:
        wanted, allowed = (",".join(map(str, sorted(some))) for some in (cores, os.sched_getaffinity(0)))
        raise SetupError(f"KTS_CORES={wanted}: {error}", f"choose among the cores {allowed}") from error


MEMBERS = "KTS_MEMBERS"
"""Names the variable with the tenants of a process that carries several: JSON, a list of `CrewMember`."""
LAST_CORE = "last"
"""Value of KTS_CORES where nobody outside knows the cores (a pod): the highest that this process may use."""


def prepare(env: MutableMapping[str, str]) -> tuple[int, ...]:
    """Pins the process to KTS_CORES (if set) and gives numeric libraries one thread per core.

    KTS_CORES is a list of core numbers, or `LAST_CORE`. Thread counts that are already set in ``env`` are
    respected. Returns the cores, in order.
    UsageError for a bad list, SetupError where the system has no such core or is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise SetupError(f"measuring needs Linux; this is {sys.platform}", "measure on Linux, report anywhere")
    if wanted := env.get("KTS_CORES", ""):
        pin(frozenset({max(os.sched_getaffinity(0))}) if wanted == LAST_CORE else parse_cores(wanted))
    allowed_cores = tuple(sorted(os.sched_getaffinity(0)))
    for variable in THREAD_VARIABLES:
        env.setdefault(variable, str(len(allowed_cores)))
    return allowed_cores
