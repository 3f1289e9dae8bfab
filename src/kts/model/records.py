"""One iteration, as measured: the record type and the clocks derived from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Clock = Literal["response", "service", "device"]
CLOCKS: tuple[Clock, ...] = get_args(Clock)

RECORD = np.dtype(
    [
        ("i", "<u4"),  # number of the iteration within its tenant and block, from 0, in order of submission
        ("due_ns", "<i8"),  # when the arrival process wanted it (closed loop: = submit_ns)
        ("submit_ns", "<i8"),  # work handed to the device
        ("retire_ns", "<i8"),  # completion observed by the host
        ("device_ms", "<f8"),  # the device's own stopwatch; NaN where there is none
    ]
)
"""36 bytes, packed, little-endian. All ``_ns`` are CLOCK_MONOTONIC of the worker's host.

Iterations of a tenant may overlap: nothing says that one retires before the next is submitted, or before it retires.
"""

LAUNCHES = "launches"
WAITS = "waits"
COUNTS = (LAUNCHES, WAITS)
"""Optional columns: launches of the iteration, and how often the host waited in it for the device; uint32, 0 where they
were not counted."""

CPU_TIMES = ("cpu_ns", "cpu_wait_ns")
"""Optional columns: CPU time that the measuring thread used during the iteration, and its time ready but without a
core; int64, `NOT_TOLD` where the kernel does not tell."""

WAITED = "waited_ns"
"""Optional column: how long the host waited for the device in the iteration, in calls that wait or ask; int64,
`NOT_TOLD` where that was not seen. The rest of the service time it was busy, or held up, by itself."""

MARK = "mark."
"""Optional columns: ``mark.first_token`` and the like, int64, CLOCK_MONOTONIC of a moment within the iteration."""

NOT_TOLD = NO_MARK_NS = -1
"""Value of a time that is not told, or of a mark that an iteration does not have."""

MOST_OPTIONAL = 16
_MARK = re.compile(r"mark\.[a-z][a-z0-9_]{0,31}", re.ASCII)
_MISSING = {"<u4": 0, "<i8": NOT_TOLD}

Records = NDArray[np.void]
"""A 1-D structured array: of dtype ``RECORD``, or of `record_dtype`."""


@functools.cache
def record_dtype(optional: tuple[str, ...]) -> np.dtype[Any]:
    """`RECORD`, and behind it a column for each name in ``optional``. ValueError for names that are none, or twice."""
    if len(optional) > MOST_OPTIONAL or len(set(optional)) < len(optional):
        raise ValueError(f"optional columns {', '.join(optional)}: over {MOST_OPTIONAL}, or one twice")
    for name in optional:
        if name not in (*COUNTS, *CPU_TIMES, WAITED) and not _MARK.fullmatch(name):
            raise ValueError(f"{name!r} is no optional column of a record")
    return np.dtype([*RECORD.descr, *((name, _type_of(name)) for name in optional)]) if optional else RECORD


def optional_columns(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """The optional columns of records of ``dtype``. ValueError where it is no dtype of records."""
    optional = (dtype.names or ())[len(RECORD.names or ()) :]
    if dtype != record_dtype(optional):
        raise ValueError(f"records of dtype {dtype}")
    return optional


def joined(parts: Iterable[Records]) -> Records:
    """One after the other, with the optional columns of all of them: 0 or `NOT_TOLD` where a part has none."""
    parts = list(parts)
    columns = tuple(dict.fromkeys(name for part in parts for name in optional_columns(part.dtype)))
    dtype = record_dtype(columns)
    whole = np.empty(sum(map(len, parts)), dtype)
    at = 0
    for part in parts:
        target = whole[at : at + len(part)]
        for name in dtype.names or ():
            target[name] = part[name] if name in (part.dtype.names or ()) else _MISSING[_type_of(name)]
        at += len(part)
    return whole


def _type_of(optional: str) -> str:
    return "<u4" if optional in COUNTS else "<i8"


def clock_ms(records: Records, clock: Clock) -> NDArray[np.float64]:
    """One latency per record, in milliseconds, shape ``(n,)``.

    response = retire - due; service = retire - submit; device = the device's stopwatch
    (NaN where the tenant has none).
    """
    if clock == "device":
        return np.ascontiguousarray(records["device_ms"])
    begin = records["due_ns"] if clock == "response" else records["submit_ns"]
    return np.asarray((records["retire_ns"] - begin) / 1e6, dtype=np.float64)


def wait_ms(records: Records) -> NDArray[np.float64]:
    """Wait before start, in milliseconds: service - device. NaN where there is no device stopwatch."""
    return np.asarray(clock_ms(records, "service") - clock_ms(records, "device"), dtype=np.float64)
