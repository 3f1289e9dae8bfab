"""Records that cannot be true, and device times that are not there: counted, so that no part passes for the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kts.model.records import Records
from kts.stats.sample import FloatArray

MOST_GAPS = 0.01
"""With more device times missing than this, p99 of all iterations may lie anywhere."""


def sound(records: Records) -> tuple[Records, int]:
    """The records without those of a negative latency on any clock, and how many these are.

    No clock that runs on makes one: an iteration that retires before it was due or submitted is damage.
    """
    retire_ns = records["retire_ns"]
    bad = (retire_ns < records["submit_ns"]) | (retire_ns < records["due_ns"]) | (records["device_ms"] < 0)
    count = int(bad.sum())
    return (records[~bad], count) if count else (records, 0)


def device_gaps(device: Sequence[tuple[int, FloatArray]]) -> tuple[int, int]:
    """How many iterations have no device time, and how many there are. ``device``: ``(round, ms)`` per block."""
    return sum(int(np.isnan(ms).sum()) for _, ms in device), sum(len(ms) for _, ms in device)


def told_device(device: list[tuple[int, FloatArray]]) -> list[tuple[int, FloatArray]]:
    """The blocks, or none where over `MOST_GAPS` of the iterations have no device time."""
    missing, n = device_gaps(device)
    return [] if missing > MOST_GAPS * n else device


def gap_reason(device: Sequence[tuple[int, FloatArray]], side: str) -> str:
    """Why there are no figures on the device clock."""
    missing, n = device_gaps(device)
    return "no device stopwatch" if missing == n else f"{missing} of {n} {side} iterations have no device time"
