"""One iteration, as measured: the record type and the clocks derived from it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Clock = Literal["response", "service", "device"]
CLOCKS: tuple[Clock, ...] = get_args(Clock)

RECORD = np.dtype(
    [
        ("i", "<u4"),  # number of the iteration within its tenant and block, from 0
        ("due_ns", "<i8"),  # when the arrival process wanted it (closed loop: = submit_ns)
        ("submit_ns", "<i8"),  # work handed to the device
        ("retire_ns", "<i8"),  # completion observed by the host
        ("device_ms", "<f8"),  # the device's own stopwatch; NaN where there is none
    ]
)
"""36 bytes, packed, little-endian. All ``_ns`` are CLOCK_MONOTONIC of the worker's host."""

Records = NDArray[np.void]
"""A 1-D structured array of dtype ``RECORD``."""


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
